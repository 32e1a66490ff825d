"""Weights by way of transformers, for all that is not read directly."""

from collections.abc import Mapping
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
from transformers.utils.loading_report import LoadStateDictInfo

from forethought.engine.hf.gguf_transformers import gguf_config, gguf_weights
from forethought.engine.hf.transformers_model import refuse_other_state
from forethought.engine.hf.transformers_settings import read_settings
from forethought.engine.weights.gguf_families import family_of
from forethought.engine.weights.gguf_file import read_gguf
from forethought.engine.weights.gguf_formats import gguf_dtype
from forethought.engine.weights.gguf_llama import llama_weights
from forethought.engine.weights.gguf_settings import llama_config
from forethought.engine.weights.lean_tensors import (
    listed,
    refuse_misshaped,
    refuse_missing,
    warn_of_unused,
)
from forethought.models.files.model_kind import read_config
from forethought.models.files.reference import ModelFiles
from forethought.models.files.weight_files import INDEX, SINGLE

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load_weights(files: ModelFiles, dtype: torch.dtype | None) -> PreTrainedModel:
    """A model on the CPU in the wanted number format, the checkpoint's if none is wanted."""
    if files.gguf is None:
        settings = read_settings(files.folder)
        refuse_other_state(_class_of(settings), settings)
        _refuse_other_names(files)
        method = _quantization(files.folder)
        if method is not None and method not in AUTO_QUANTIZER_MAPPING:
            raise ValueError(f"its weights are quantised with {method}, which is not known here")
        return _from_pretrained(files.folder, dtype or "auto")
    file = read_gguf(files.gguf)
    dtype = dtype or gguf_dtype(file)
    family = family_of(file)
    if family is not None and not family.is_read_by_transformers:
        config = llama_config(file)
        weights = llama_weights(file, dtype)
    else:
        config = gguf_config(files, file)
        weights = gguf_weights(file, config, dtype)
    return _checked(
        *_class_of(config).from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    )


def _refuse_other_names(files: ModelFiles) -> None:
    """Raises ValueError for weights that transformers does not find."""
    names = [path.name for path in files.weight_files()]
    if not ({SINGLE, *names} == {SINGLE} or (files.folder / INDEX).exists()):
        raise ValueError(
            f"its weights are in {listed(names)}, and there is no {INDEX} that says so"
        )


def _class_of(settings: PreTrainedConfig) -> type[PreTrainedModel]:
    """Raises ValueError: transformers has no class for such models that continues text."""
    kind: type[PreTrainedModel] | None = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(settings), None)
    if kind is None:
        raise ValueError(
            f"models of the type {settings.model_type} do not continue text in transformers"
        )
    return kind


def _from_pretrained(folder: Path, dtype: torch.dtype | str) -> PreTrainedModel:
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=dtype,
        )
    except RuntimeError as error:
        if names := listed(_unconverted(error)):
            raise ValueError(f"tensors that are to be put together do not fit: {names}") from error
        raise _unbuilt(error) from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise _unbuilt(error) from error
    except (ImportError, ValueError) as error:
        if (method := _quantization(folder)) is not None:
            raise ValueError(
                f"its weights are quantised with {method}, which does not run here: take the model "
                f"without quantisation, or as a GGUF file ({error})"
            ) from error
        raise
    return _checked(*loaded)


def _unbuilt(error: Exception) -> ValueError:
    return ValueError(f"transformers cannot build it from its config.json: {error!r}")


def _quantization(folder: Path) -> str | None:
    """The method by which the weights are quantised, None if they are not."""
    config = read_config(folder).get("quantization_config")
    return None if config is None else str(config.get("quant_method") or "an unnamed method")


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
