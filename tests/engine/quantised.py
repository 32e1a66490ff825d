"""Tensors of every kind of ggml, made without its quantisers: most exist in C alone."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quantize

from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.engine.weights.gguf_formats import FLOAT_KINDS

_FACTORS = {
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_1": (0, 2),
    "Q4_K": (0, 2),
    "Q5_1": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
"""Bytes of a block where its float16 factors begin; 0 for kinds that are not named."""


def block_len(kind: str) -> int:
    """Values of a block."""
    size: int = GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0]
    return size


def random_tensor(
    kind: str, num_rows: int, num_columns: int, *, size: float = 0.05, seed: int = 0
) -> GGUFTensor:
    """Any values that a block can hold, times factors that give weights of about this size."""
    generator = np.random.default_rng(seed)
    if kind in FLOAT_KINDS:
        return float_tensor(kind, generator.normal(size=(num_rows, num_columns)) * size)
    blocks = generator.integers(0, 256, _shape(kind, num_rows, num_columns), dtype=np.uint8)
    num_factors = len(_FACTORS.get(kind, (0,)))
    factors = generator.normal(size=(num_factors, *blocks.shape[:2]))
    unscaled = _tensor(kind, blocks, factors)
    return _tensor(kind, blocks, factors * size / unscaled.dequantized().std())


def filled_tensor(kind: str, num_rows: int, num_columns: int, byte: int) -> GGUFTensor:
    """All values and small factors at their largest (255) or least (0), or between them."""
    if kind in FLOAT_KINDS:
        return float_tensor(kind, np.full((num_rows, num_columns), (byte - 128) * 0.01))
    blocks = np.full(_shape(kind, num_rows, num_columns), byte, dtype=np.uint8)
    return _tensor(kind, blocks, np.full((2, *blocks.shape[:2]), 0.01))


def float_tensor(kind: str, values: npt.NDArray[Any]) -> GGUFTensor:
    data = quantize(values.astype(np.float32), GGMLQuantizationType[kind])
    return GGUFTensor(kind, values.shape, data.view(np.uint8))


def _shape(kind: str, num_rows: int, num_columns: int) -> tuple[int, int, int]:
    num_values, num_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return num_rows, num_columns // num_values, num_bytes


def _tensor(
    kind: str, blocks: npt.NDArray[np.uint8], factors: npt.NDArray[np.float64]
) -> GGUFTensor:
    blocks = blocks.copy()
    if kind == "MXFP4":  # half a power of two, whose exponent is a byte
        blocks[..., 0] = np.clip(np.round(np.log2(np.abs(factors[0]) + 1e-30)) + 128, 1, 254)
        factors = factors[:0]
    for place, own in zip(_FACTORS.get(kind, (0,)), factors, strict=False):
        blocks[..., place : place + 2] = own.astype(np.float16)[..., None].view(np.uint8)
    num_rows, num_blocks, _ = blocks.shape
    shape = (num_rows, num_blocks * block_len(kind))
    return GGUFTensor(kind, shape, blocks.reshape(num_rows, -1))
