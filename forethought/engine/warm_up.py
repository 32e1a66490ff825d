"""Loads a model the way a tier serves it: named, measured, and warm."""

import time

import structlog

from forethought.engine.causal_model import CausalModel
from forethought.engine.loader import EngineOptions, load_model
from forethought.models.fingerprint import model_fingerprint
from forethought.models.reference import ModelFiles
from forethought.models.tokenizer import TextTokenizer
from forethought.settings import EngineSettings
from forethought.tier import ModelInfo

_log = structlog.get_logger(__name__)


def load_warm(files: ModelFiles, settings: EngineSettings) -> CausalModel:
    """Loads a model and computes once, so that the first request does not pay for first times.

    Raises:
        ModelReferenceError: what the reference names cannot be loaded.
    """
    started = time.perf_counter()
    _log.info("model_loading", model=files.reference)
    options = EngineOptions(
        dtype=settings.dtype,
        device=settings.device,
        num_threads=settings.num_threads,
        max_model_len=settings.max_model_len,
    )
    model = load_model(files, options)
    cache = model.new_cache()
    for num_tokens in (2, 1):
        model.forward([0] * num_tokens, cache, num_tokens)
    _log.info(
        "model_warm",
        model=files.reference,
        dtype=model.dtype_name,
        device=model.device_name,
        seconds=round(time.perf_counter() - started, 1),
    )
    return model


def describe(
    model: CausalModel,
    files: ModelFiles,
    tokenizer: TextTokenizer,
    max_num_speculative_tokens: int,
) -> ModelInfo:
    """What a tier says of the model that it serves."""
    return ModelInfo(
        name=files.reference,
        # Two engines round differently and lay their caches out differently: the same weights are
        # then another model.
        model_fingerprint=model_fingerprint(files, salt=f"{model.engine_name} {model.dtype_name}"),
        vocabulary_fingerprint=tokenizer.fingerprint,
        vocab_size=model.vocab_size,
        max_model_len=model.max_model_len,
        dtype=model.dtype_name,
        device=model.device_name,
        max_num_speculative_tokens=max_num_speculative_tokens,
    )
