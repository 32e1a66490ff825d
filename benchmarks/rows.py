"""What a row of the vocabulary costs on its way from logits to a draft or to evidence.

    python benchmarks/rows.py [--vocab-size 49152] [--rows 1,5,8,40] [--num-threads 2] [--json]

Times the two halves, `shape` and then `measure` (target) or `draw` (draft), in process, with the C
kernels and with torch alone, in turns; `coupled` are the same two for coupled sessions.
Microseconds a row, medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from forethought.engine.native import kernels
from forethought.engine.rows.coupling import draw_coupled, measure_coupled
from forethought.engine.rows.draws import draw_drafts, measure
from forethought.engine.rows.filters import ShapedRows, shape_rows
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import coupling_key

M = 32
SETTINGS = {
    "temperature 0": SamplingParams(temperature=0),
    "temperature 1": SamplingParams(),
    "temperature 0.7, top-p 0.9": SamplingParams(temperature=0.7, top_p=0.9),
    "top-k 50": SamplingParams(top_k=50),
    "min-p 0.05": SamplingParams(min_p=0.05),
}


@contextmanager
def computed_by(name: str) -> Iterator[None]:
    kernels.are_built = name == "C"
    try:
        yield
    finally:
        kernels.are_built = True


def steps(
    num_rows: int, vocab_size: int, params: SamplingParams
) -> dict[str, Callable[[], object]]:
    """The steps on the same rows, which are as peaked as those of a language model."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_rows, vocab_size, generator=generator) * 3
    sessions = [ShapedRows(num_rows, params)]
    probs = shape_rows(logits, sessions)
    supports = probs.topk(M)[1].tolist()
    uniforms = torch.rand(num_rows, generator=generator).tolist()
    keys = [coupling_key(2**64 - 1, position) for position in range(num_rows)]
    guesses = [support[:1] for support in supports]
    return {
        "shape": lambda: shape_rows(logits, sessions),
        "measure": lambda: measure(probs, supports, uniforms),
        "draw": lambda: draw_drafts(probs, M, uniforms),
        "coupled measure": lambda: measure_coupled(probs, guesses, keys),
        "coupled draw": lambda: draw_coupled(probs, keys),
    }


def time_in_turns(step: Callable[[], object], num_repeats: int, num_rows: int) -> dict[str, float]:
    """Median microseconds a row, by who computes."""
    times: dict[str, list[float]] = {"C": [], "torch": []}
    for _ in range(num_repeats + 2):
        for name, own in times.items():
            with computed_by(name):
                start = time.perf_counter()
                step()
                own.append(time.perf_counter() - start)
    # The first calls warm caches and threads.
    return {name: statistics.median(own[2:]) / num_rows * 1e6 for name, own in times.items()}


def in_words(result: tuple[str, dict[str, float]]) -> str:
    step, times = result
    return f"  {step} {times['C']:4.0f} us (torch {times['torch']:4.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab-size", type=int, default=49_152)
    parser.add_argument("--rows", default="1,5,8,40")
    parser.add_argument("--num-threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not kernels.are_built:
        parser.error("the C extension is not built, and there is nothing to compare")
    torch.set_num_threads(arguments.num_threads)
    results = []
    for name, params in SETTINGS.items():
        for num_rows in map(int, arguments.rows.split(",")):
            result_of = {
                step: time_in_turns(call, arguments.repeats, num_rows)
                for step, call in steps(num_rows, arguments.vocab_size, params).items()
            }
            results.append({"setting": name, "rows": num_rows, "us_a_row": result_of})
            if not arguments.json:
                print(f"{name:27} {num_rows:3d} rows", *map(in_words, result_of.items()))
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
