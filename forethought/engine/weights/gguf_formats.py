"""The number format of a GGUF file as a whole, from those of its tensors."""

import torch

from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.weight_groups import INT4_KINDS, INT8_KINDS

FLOAT_KINDS = ("F16", "BF16", "F32")
STORED_KINDS = (
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
    "MXFP4",
    *FLOAT_KINDS,
)
"""That are computed as they are stored, in the order of `QuantKind` in quants.h."""


def packed_format(file: GGUFFile) -> str | None:
    """int4 or int8 if all matrices of the layers are in such groups; stored if all are of kinds
    that are computed as they are stored, and some in the file are quantised."""
    matrices = {name: each for name, each in file.tensors.items() if len(each.shape) > 1}
    in_layers = {each.kind for name, each in matrices.items() if name.startswith("blk.")}
    for name, known in (("int4", INT4_KINDS), ("int8", INT8_KINDS)):
        if in_layers.issubset(known):
            return name
    are_floats = {each.kind for each in matrices.values()}.issubset(FLOAT_KINDS)
    return None if are_floats or not in_layers.issubset(STORED_KINDS) else "stored"


def gguf_dtype(file: GGUFFile) -> torch.dtype:
    """The number format of the matrices; vectors are float32 in every file."""
    kinds = {tensor.kind for tensor in file.tensors.values() if len(tensor.shape) > 1}
    return {"F32": torch.float32, "F16": torch.float16}.get(" ".join(kinds), torch.bfloat16)
