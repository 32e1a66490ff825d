"""GGUF files that transformers does not read itself, or slowly; see `gguf_settings`."""

import torch

from forethought.engine.weights.gguf_families import gguf_tensor_names
from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.gguf_settings import gguf_settings


def llama_weights(file: GGUFFile, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The dequantised weights under transformers' names."""
    settings = gguf_settings(file)
    num_heads = {
        "attn_q": settings["num_attention_heads"],
        "attn_k": settings["num_key_value_heads"],
    }
    weights = {}
    for name, parameter in gguf_tensor_names(file).items():
        part = name.split(".")[-2]
        weight = torch.from_numpy(file.tensors[name].dequantized()).to(dtype)
        if part in num_heads:
            weight = _halves(weight, num_heads[part])
        weights[parameter] = weight
    return weights


def _halves(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of each head reordered: ggml rotates neighbouring pairs, transformers the two halves.

    [heads * size, ...] -> the same shape; rows 0, 2, 4, ... of a head, then rows 1, 3, 5, ...
    """
    by_pair = weight.view(num_heads, -1, 2, *weight.shape[1:])  # [heads, size / 2, 2, ...]
    return by_pair.transpose(1, 2).reshape(weight.shape)
