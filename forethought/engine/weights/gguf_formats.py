"""The number format of a GGUF file as a whole, from those of its tensors."""

import torch

from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.weight_groups import INT4_KINDS, INT8_KINDS

QUANTISED_KINDS = (
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "IQ4_NL",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_XS",
)
"""That are computed as they are stored, in the order of `QuantKind` in quants.h."""


def packed_format(file: GGUFFile) -> str | None:
    """int4 or int8 if all matrices of the layers are in such groups; stored if all are of some
    quantised kinds."""
    kinds = {
        tensor.kind
        for name, tensor in file.tensors.items()
        if name.startswith("blk.") and len(tensor.shape) > 1
    }
    for name, known in (("int4", INT4_KINDS), ("int8", INT8_KINDS), ("stored", QUANTISED_KINDS)):
        if kinds.issubset(known):
            return name
    return None


def gguf_dtype(file: GGUFFile) -> torch.dtype:
    """The number format of the matrices; vectors are float32 in every file."""
    kinds = {tensor.kind for tensor in file.tensors.values() if len(tensor.shape) > 1}
    return {"F32": torch.float32, "F16": torch.float16}.get(" ".join(kinds), torch.bfloat16)
