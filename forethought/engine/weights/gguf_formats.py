"""The number format of a GGUF file as a whole, from those of its tensors."""

import torch

from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.weight_groups import INT4_KINDS, INT8_KINDS


def packed_format(file: GGUFFile) -> str | None:
    """int4 or int8 if all matrices of the layers are in such groups."""
    kinds = {
        tensor.kind
        for name, tensor in file.tensors.items()
        if name.startswith("blk.") and len(tensor.shape) > 1
    }
    if kinds <= INT4_KINDS:
        return "int4"
    return "int8" if kinds <= INT8_KINDS else None


def gguf_dtype(file: GGUFFile) -> torch.dtype:
    """The number format of the matrices; vectors are float32 in every file."""
    kinds = {tensor.kind for tensor in file.tensors.values() if len(tensor.shape) > 1}
    return {"F32": torch.float32, "F16": torch.float16}.get(" ".join(kinds), torch.bfloat16)
