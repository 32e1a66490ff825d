"""Weights by way of transformers, for all that is not read directly."""

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from forethought.engine.gguf_file import read_gguf
from forethought.engine.gguf_llama import is_ordinary_llama, llama_config, llama_weights
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
        model: PreTrainedModel = LlamaForCausalLM.from_pretrained(
            None, config=llama_config(file), state_dict=weights, dtype=dtype
        )
        return model
    # Newer versions can keep weights packed, for kernels that are not there on every machine.
    packing = getattr(transformers, "GgufConfig", None)
    dense = {"quantization_config": packing(dequantize=True)} if packing else {}
    return _from_pretrained(files, gguf_file=files.gguf.name, dtype=dtype, **dense)


def _from_pretrained(files: ModelFiles, **options: Any) -> PreTrainedModel:
    folder = files.folder if files.gguf is None else files.gguf.parent
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True, **options
    )
    return model
