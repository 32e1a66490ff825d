"""Weights by way of transformers, for all that is not read directly."""

from collections.abc import Mapping
from traceback import walk_tb
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel
from transformers.utils.loading_report import LoadStateDictInfo

from forethought.engine.gguf_file import read_gguf
from forethought.engine.gguf_llama import is_ordinary_llama, llama_config, llama_weights
from forethought.engine.lean_tensors import (
    listed,
    refuse_misshaped,
    refuse_missing,
    warn_of_unused,
)
from forethought.engine.loader import gguf_dtype
from forethought.models.reference import ModelFiles

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load_weights(files: ModelFiles, dtype: torch.dtype | None) -> PreTrainedModel:
    """A model on the CPU in the wanted number format, the checkpoint's if none is wanted."""
    if files.gguf is None:
        return _from_pretrained(files, dtype=dtype or "auto")
    file = read_gguf(files.gguf)
    dtype = dtype or gguf_dtype(file)
    if is_ordinary_llama(file):
        weights = llama_weights(file, dtype)
        return _checked(
            *LlamaForCausalLM.from_pretrained(
                None,
                config=llama_config(file),
                state_dict=weights,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        )
    # Newer versions can keep weights packed, for kernels that are not there on every machine.
    packing = getattr(transformers, "GgufConfig", None)
    dense = {"quantization_config": packing(dequantize=True)} if packing else {}
    return _from_pretrained(files, gguf_file=files.gguf.name, dtype=dtype, **dense)


def _from_pretrained(files: ModelFiles, **options: Any) -> PreTrainedModel:
    folder = files.folder if files.gguf is None else files.gguf.parent
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except RuntimeError as error:
        if names := listed(_unconverted(error)):
            raise ValueError(f"tensors that are to be put together do not fit: {names}") from error
        raise
    return _checked(*loaded)


def _unconverted(error: RuntimeError) -> list[str]:
    """What transformers could not make of the tensors of the files, such as of all experts of a
    layer; it tells the log alone."""
    for frame, _ in walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, LoadStateDictInfo):
                return list(value.conversion_errors)
    return []


def _checked(model: PreTrainedModel, loaded: Mapping[str, Any]) -> PreTrainedModel:
    """transformers fills what the files lack with random numbers.

    Raises:
        ValueError: it has, or a tensor was of another shape.
    """
    refuse_missing(loaded["missing_keys"])
    refuse_misshaped(loaded["mismatched_keys"])
    warn_of_unused(loaded["unexpected_keys"])
    return model
