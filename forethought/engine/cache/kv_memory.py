"""Memory for keys and values: how much, and what is said where there is too little."""

import os

import torch

from forethought.engine.cache.available_memory import available_memory
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import BLOCK_LEN
from forethought.errors import NotEnoughMemoryError

_GPU_SHARE = 0.85  # of the memory that the weights leave; the rest is for activations
_CPU_MEMORY = 2 * 2**30  # bytes; what is not used is not taken from the system
_CPU_SHARE = 0.5  # of the memory that is available, at most


def num_kv_blocks(model: CausalModel, kv_memory: int) -> int:
    """How many blocks the keys and values of a model get.

    Args:
        model: loaded.
        kv_memory: bytes; 0 is what the device has room for.

    Raises:
        NotEnoughMemoryError: that is not there, or holds not even one block.
    """
    device = device_of(model)
    available = available_memory(device)
    asked = kv_memory or _default(device, available)
    if asked > available:
        raise _too_little(asked, available)
    num_blocks = int(asked) // model.kv_bytes_per_block
    if not num_blocks:
        raise NotEnoughMemoryError(
            f"{in_words(asked)} for keys and values, where {BLOCK_LEN} tokens of this model take "
            f"{in_words(model.kv_bytes_per_block)}; raise --kv-memory"
        )
    return num_blocks


def allocate_blocks(model: CausalModel, num_blocks: int) -> None:
    """Makes the pool of a model.

    Raises:
        NotEnoughMemoryError: there is no memory for it.
    """
    try:
        model.allocate(num_blocks)
    except (RuntimeError, MemoryError) as error:
        if not _is_about_memory(error):
            raise
        asked = num_blocks * model.kv_bytes_per_block
        raise _too_little(asked, available_memory(device_of(model))) from error


def _is_about_memory(error: Exception) -> bool:
    # torch has a class for it on GPUs only.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error)


def _too_little(asked: float, available: float) -> NotEnoughMemoryError:
    return NotEnoughMemoryError(
        f"{in_words(asked)} are asked for keys and values, and {in_words(available)} of memory are "
        "available; lower --kv-memory"
    )


def _default(device: torch.device, available: float) -> float:
    """Bytes that keys and values may take where nobody says."""
    if device.type == "cuda":
        return available * _GPU_SHARE
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_CPU_MEMORY, whole / 4, available * _CPU_SHARE)


def in_words(num_bytes: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"
