"""Loads a model the way a tier serves it: named, measured, and warm."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import structlog

from forethought.engine.batching.limits import EngineLimits
from forethought.engine.batching.pass_turns import PassTurns
from forethought.engine.batching.scheduler import SchedulerOptions
from forethought.engine.batching.taking_turns import taking_turns
from forethought.engine.cache.kv_memory import num_kv_blocks
from forethought.engine.lean.feature_draft import FeatureDecoder
from forethought.engine.loading.loader import (
    EngineOptions,
    choose_device,
    load_model,
    return_memory,
)
from forethought.engine.loading.pass_costs import measure_pass_costs
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import BLOCK_LEN, SequencePart, pack
from forethought.models.files.fingerprint import model_fingerprint
from forethought.models.files.reference import ModelFiles, resolve
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer
from forethought.settings import EngineSettings
from forethought.tier import HiddenStatesNeed, ModelInfo, PassCost

_log = structlog.get_logger(__name__)

_FEATURE_DRAFT_THREADS = 1
"""Where nobody says. Its products are so small that waking another thread takes as long as they do:
three passes in a row took 1.2 ms with one thread, and 1.7 with two."""
_CPU_PREFILL_BESIDE_ROUNDS = 64  # tokens, which take a CPU about as long as two rounds


@dataclass(frozen=True, slots=True)
class FeatureTierModel:
    """A feature draft that is ready to be served. Its tokenizer is its target's."""

    model: FeatureDecoder
    info: ModelInfo
    limits: EngineLimits


@dataclass(frozen=True, slots=True)
class TierModel:
    """A model that is ready to be served, and all that a tier says about it."""

    model: CausalModel
    tokenizer: TextTokenizer
    info: ModelInfo
    limits: EngineLimits


def load_for_tier(
    settings: EngineSettings,
    choose_head: Callable[[TextTokenizer], Sequence[int]] = lambda _: (),
) -> TierModel:
    """Everything that the settings of a tier name.

    Args:
        settings: of the tier.
        choose_head: the only tokens that the model is to score; none: all.

    Raises:
        ModelReferenceError: the model cannot be loaded.
        NotEnoughMemoryError: the memory for its keys and values is not there, or holds not even one
            block.
    """
    files = resolve(settings.model)
    tokenizer = load_tokenizer(files)
    model, pass_costs = _load_warm(files, settings, choose_head(tokenizer))
    info = replace(
        describe(model, files, tokenizer.fingerprint, settings.max_num_speculative_tokens),
        pass_costs=pass_costs,
    )
    _log.info("pass_costs", ms={cost.num_tokens: cost.forward_ns / 1e6 for cost in info.pass_costs})
    return_memory()
    return TierModel(model, tokenizer, info, _engine_limits(model, settings))


def load_feature_draft_for_tier(settings: EngineSettings) -> FeatureTierModel:
    """The same for a feature draft; raises as `load_for_tier` does."""
    files = resolve(settings.model)
    num_threads = settings.num_threads or _FEATURE_DRAFT_THREADS
    model, pass_costs = _load_warm(files, settings.model_copy(update={"num_threads": num_threads}))
    assert isinstance(model, FeatureDecoder)
    info = replace(
        describe(
            model,
            files,
            model.config.vocabulary_fingerprint,
            settings.max_num_speculative_tokens,
        ),
        pass_costs=pass_costs,
        hidden_size=0,
        hidden_states_need=HiddenStatesNeed(
            model.config.target_fingerprint, model.config.hidden_size
        ),
    )
    return FeatureTierModel(model, info, _engine_limits(model, settings))


def _load_warm(
    files: ModelFiles, settings: EngineSettings, head_token_ids: Sequence[int] = ()
) -> tuple[CausalModel, tuple[PassCost, ...]]:
    """The model, which has computed before, so that the first request does not pay for first times;
    and what its passes take. Tiers that share cores do this one after the other.
    """
    cores, is_on_cpu = settings.shared_cores, choose_device(settings.device).type == "cpu"
    with taking_turns(cores) if cores is not None and is_on_cpu else nullcontext():
        model = _load_and_warm(files, settings, head_token_ids)
        return model, measure_pass_costs(model, settings.max_tokens_per_pass)


def _load_and_warm(
    files: ModelFiles, settings: EngineSettings, head_token_ids: Sequence[int]
) -> CausalModel:
    started = time.perf_counter()
    num_bytes = sum(path.stat().st_size for path in files.weight_files())
    _log.info("model_loading", model=files.reference, num_bytes=num_bytes)
    options = EngineOptions(
        dtype=settings.dtype,
        device=settings.device,
        num_threads=settings.num_threads,
        max_model_len=settings.max_model_len,
        head_token_ids=head_token_ids,
    )
    model = load_model(files, options)
    model.allocate(1)
    for num_tokens in (2, 1):
        model.forward(pack([SequencePart([0] * num_tokens, 0, (0,), num_tokens)], device_of(model)))
    _log.info(
        "model_warm",
        model=files.reference,
        dtype=model.dtype_name,
        device=model.device_name,
        seconds=round(time.perf_counter() - started, 1),
    )
    return model


def _engine_limits(model: CausalModel, settings: EngineSettings) -> EngineLimits:
    """What a tier with these settings takes on."""
    num_blocks = num_kv_blocks(model, settings.kv_memory)
    _log.info(
        "kv_cache",
        num_tokens=num_blocks * BLOCK_LEN,
        bytes=num_blocks * model.kv_bytes_per_block,
    )
    beside_rounds = settings.max_prefill_beside_rounds or (
        _CPU_PREFILL_BESIDE_ROUNDS if model.device_name == "cpu" else settings.max_tokens_per_pass
    )
    scheduler = SchedulerOptions(settings.max_tokens_per_pass, beside_rounds)
    limits = EngineLimits(num_blocks, settings.max_sessions, settings.max_waiting, scheduler)
    if settings.shared_cores is not None and model.device_name == "cpu":
        limits = replace(limits, turns=PassTurns(settings.shared_cores))
    return limits


def describe(
    model: CausalModel,
    files: ModelFiles,
    vocabulary_fingerprint: str,
    max_num_speculative_tokens: int,
) -> ModelInfo:
    """What a tier says of the model that it serves."""
    return ModelInfo(
        name=files.reference,
        # Two engines round differently and lay their caches out differently: the same weights are
        # then another model.
        model_fingerprint=model_fingerprint(files, salt=f"{model.engine_name} {model.dtype_name}"),
        vocabulary_fingerprint=vocabulary_fingerprint,
        vocab_size=model.vocab_size,
        max_model_len=model.max_model_len,
        dtype=model.dtype_name,
        device=model.device_name,
        max_num_speculative_tokens=max_num_speculative_tokens,
        weights_fingerprint=model_fingerprint(files),
        hidden_size=model.hidden_size,
    )
