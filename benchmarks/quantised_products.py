"""Up to how many rows of a pass a product with a quantised tensor is bound by memory.

    python benchmarks/quantised_products.py [--kinds Q4_K,Q6_K] [--rows 1,2,4,5,8] [--json]

Multiplies on one thread with a matrix that no cache holds, in each build of the kernels that this
processor can run. Numbers of rows take turns. Nanoseconds of processor time for 16 x 32 numbers of
the matrix, medians; the first number of rows is what the others are compared with.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from forethought.engine.linear.quant_linear import QuantLinear
from forethought.engine.native import kernels
from forethought.engine.weights.gguf_file import GGUFTensor

NUM_ROWS, NUM_COLUMNS = 65_536, 1_536


def matrix(kind: str) -> QuantLinear:
    """Of bytes that are all alike: no factor that they make is large."""
    num_values, num_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    row = NUM_COLUMNS // num_values * num_bytes
    data = np.full((NUM_ROWS, row), 0x12, dtype=np.uint8)
    return QuantLinear([GGUFTensor(kind, (NUM_ROWS, NUM_COLUMNS), data)])


def measure(kind: str, rows: list[int], num_repeats: int) -> dict[int, float]:
    """Nanoseconds by the number of rows."""
    linear = matrix(kind)
    num_groups = NUM_ROWS * NUM_COLUMNS // (16 * 32)
    times: dict[int, list[float]] = {each: [] for each in rows}
    for _ in range(num_repeats + 1):
        for each, own in times.items():
            x = torch.randn(each, NUM_COLUMNS)
            start = time.thread_time_ns()
            linear(x)
            own.append((time.thread_time_ns() - start) / num_groups)
    # The first calls warm up.
    return {each: statistics.median(own[1:]) for each, own in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="Q4_K,Q6_K")
    parser.add_argument("--rows", default="1,2,3,4,5,8")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not kernels.are_built:
        parser.error("the C extension is not built, and there is nothing to measure")
    torch.set_num_threads(1)
    rows = [int(each) for each in arguments.rows.split(",")]
    results = []
    for build in kernels.builds_for_this_machine():
        kernels.native = kernels.load_build(build)
        for kind in arguments.kinds.split(","):
            times = measure(kind, rows, arguments.repeats)
            results.append({"build": build, "kind": kind, "ns_by_rows": times})
            if not arguments.json:
                words = (
                    f"{each}: {ns:5.1f} ({ns / times[rows[0]]:.2f})" for each, ns in times.items()
                )
                print(f"{build:12} {kind:5}", *words, flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
