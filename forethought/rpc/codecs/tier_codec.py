"""Tier messages to values and back.

Decoding checks what the receiver relies on: a request that breaks a rule raises
InvalidArgumentError, an answer that does raises TierProtocolError.
"""

import math
from collections.abc import Sequence

import numpy as np

from forethought.errors import InvalidArgumentError, TierProtocolError
from forethought.rpc.codecs.enums import (
    LOOKAHEAD_FROM_PROTO,
    LOOKAHEAD_TO_PROTO,
    MODE_FROM_PROTO,
    MODE_TO_PROTO,
)
from forethought.rpc.codecs.evidence_check import check_distribution
from forethought.rpc.codecs.hidden_states_codec import (
    hidden_states_of_evidence,
    hidden_states_of_round,
    hidden_states_to_proto,
    need_from_proto,
    need_to_proto,
)
from forethought.sampling.params import MAX_SUPPORT, MAX_TOP_LOGPROBS, SamplingParams
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    PositionEvidence,
    PositionLogprobs,
    coupled_guess,
)
from forethought.tier import (
    DraftRound,
    DraftToVerify,
    EngineWork,
    EvidenceRound,
    LookaheadCounts,
    ModelInfo,
    PassCost,
    PrefillProgress,
    RoundTimings,
    SessionOpen,
    SessionOpened,
    SpeculateRound,
    TierLoad,
    VerifyRound,
)
from forethought.v1 import common_pb2, draft_pb2, target_pb2

MAX_SESSION_ID_CHARS = 128
MAX_TENANT_CHARS = 128
MAX_PROPOSER_CHARS = 128
"""Statistics are kept by this name, and clients are told it."""
_GIVES_NONE = "must not be set: this tier gives no hidden states"


def sampling_to_proto(sampling: SamplingParams) -> common_pb2.SamplingParams:
    return common_pb2.SamplingParams(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed,
    )


def sampling_from_proto(message: common_pb2.SamplingParams) -> SamplingParams:
    return SamplingParams(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p,
        min_p=message.min_p,
        repetition_penalty=message.repetition_penalty,
        seed=message.seed,
    )


def model_to_proto(model: ModelInfo) -> common_pb2.ModelInfo:
    return common_pb2.ModelInfo(
        name=model.name,
        model_fingerprint=model.model_fingerprint,
        vocabulary_fingerprint=model.vocabulary_fingerprint,
        vocab_size=model.vocab_size,
        max_model_len=model.max_model_len,
        dtype=model.dtype,
        device=model.device,
        max_num_speculative_tokens=model.max_num_speculative_tokens,
        pass_costs=[
            common_pb2.PassCost(num_tokens=cost.num_tokens, forward_ns=cost.forward_ns)
            for cost in model.pass_costs
        ],
        weights_fingerprint=model.weights_fingerprint,
        hidden_size=model.hidden_size,
        hidden_states_need=need_to_proto(model.hidden_states_need),
        version=model.version,
    )


def model_from_proto(message: common_pb2.ModelInfo) -> ModelInfo:
    return ModelInfo(
        name=message.name,
        model_fingerprint=message.model_fingerprint,
        vocabulary_fingerprint=message.vocabulary_fingerprint,
        vocab_size=message.vocab_size,
        max_model_len=message.max_model_len,
        dtype=message.dtype,
        device=message.device,
        max_num_speculative_tokens=message.max_num_speculative_tokens,
        pass_costs=tuple(PassCost(cost.num_tokens, cost.forward_ns) for cost in message.pass_costs),
        weights_fingerprint=message.weights_fingerprint,
        hidden_size=message.hidden_size,
        hidden_states_need=need_from_proto(message.hidden_states_need)
        if message.HasField("hidden_states_need")
        else None,
        version=message.version,
    )


def load_to_proto(load: TierLoad) -> common_pb2.TierLoad:
    return common_pb2.TierLoad(
        num_sessions=load.num_sessions,
        num_cached_tokens=load.num_cached_tokens,
        num_queued_jobs=load.num_queued_jobs,
    )


def load_from_proto(message: common_pb2.TierLoad) -> TierLoad:
    return TierLoad(
        num_sessions=message.num_sessions,
        num_cached_tokens=message.num_cached_tokens,
        num_queued_jobs=message.num_queued_jobs,
    )


def work_to_proto(work: EngineWork) -> common_pb2.EngineWork:
    return common_pb2.EngineWork(
        uptime_ns=work.uptime_ns,
        busy_ns=work.busy_ns,
        num_computed_tokens=work.num_computed_tokens,
        num_refused_sessions=work.num_refused_sessions,
        num_waiting_tokens=work.num_waiting_tokens,
        num_waiting_sessions=work.num_waiting_sessions,
        num_held_blocks=work.num_held_blocks,
        num_blocks=work.num_blocks,
        block_len=work.block_len,
    )


def work_from_proto(message: common_pb2.EngineWork) -> EngineWork:
    return EngineWork(
        uptime_ns=message.uptime_ns,
        busy_ns=message.busy_ns,
        num_computed_tokens=message.num_computed_tokens,
        num_refused_sessions=message.num_refused_sessions,
        num_waiting_tokens=message.num_waiting_tokens,
        num_waiting_sessions=message.num_waiting_sessions,
        num_held_blocks=message.num_held_blocks,
        num_blocks=message.num_blocks,
        block_len=message.block_len,
    )


def lookahead_to_proto(counts: LookaheadCounts) -> draft_pb2.LookaheadCounts:
    return draft_pb2.LookaheadCounts(
        num_hits=counts.num_hits,
        num_misses=counts.num_misses,
        num_wasted_tokens=counts.num_wasted_tokens,
    )


def lookahead_from_proto(message: draft_pb2.LookaheadCounts) -> LookaheadCounts:
    return LookaheadCounts(message.num_hits, message.num_misses, message.num_wasted_tokens)


def open_to_proto(opening: SessionOpen) -> common_pb2.SessionOpen:
    return common_pb2.SessionOpen(
        session_id=opening.session_id,
        token_ids=opening.token_ids,
        sampling=sampling_to_proto(opening.sampling),
        vocabulary_fingerprint=opening.vocabulary_fingerprint,
        model_fingerprint=opening.model_fingerprint,
        verification_mode=MODE_TO_PROTO[opening.mode],
        tenant=opening.tenant,
        num_prompt_hidden_states=opening.num_prompt_hidden_states,
        wants_progress=opening.wants_progress,
    )


def open_from_proto(message: common_pb2.SessionOpen, model: ModelInfo) -> SessionOpen:
    """Checks the opening against the limits of `model`.

    Raises:
        InvalidArgumentError: a field is out of range.
    """
    if not 1 <= len(message.session_id) <= MAX_SESSION_ID_CHARS:
        raise InvalidArgumentError(
            {"open.session_id": f"must have 1 to {MAX_SESSION_ID_CHARS} characters"}
        )
    if not 1 <= len(message.token_ids) <= model.max_model_len:
        raise InvalidArgumentError(
            {"open.token_ids": f"must hold 1 to {model.max_model_len} tokens"}
        )
    _check_token_ids("open.token_ids", message.token_ids, model)
    if message.verification_mode not in MODE_FROM_PROTO:
        raise InvalidArgumentError({"open.verification_mode": "must be a mode that is known here"})
    if len(message.tenant) > MAX_TENANT_CHARS:
        raise InvalidArgumentError(
            {"open.tenant": f"must have at most {MAX_TENANT_CHARS} characters"}
        )
    if message.num_prompt_hidden_states and not model.hidden_size:
        raise InvalidArgumentError({"open.num_prompt_hidden_states": _GIVES_NONE})
    try:
        sampling = sampling_from_proto(message.sampling)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            {f"open.sampling.{field}": text for field, text in error.violations.items()}
        ) from error
    return SessionOpen(
        session_id=message.session_id,
        token_ids=list(message.token_ids),
        sampling=sampling,
        vocabulary_fingerprint=message.vocabulary_fingerprint,
        model_fingerprint=message.model_fingerprint,
        mode=MODE_FROM_PROTO[message.verification_mode],
        tenant=message.tenant,
        num_prompt_hidden_states=message.num_prompt_hidden_states,
        wants_progress=message.wants_progress,
    )


def opened_to_proto(opened: SessionOpened) -> common_pb2.SessionOpened:
    return common_pb2.SessionOpened(
        model=model_to_proto(opened.model), num_cached_tokens=opened.num_cached_tokens
    )


def opened_from_proto(message: common_pb2.SessionOpened) -> SessionOpened:
    return SessionOpened(model_from_proto(message.model), message.num_cached_tokens)


def speculate_to_proto(request: SpeculateRound) -> draft_pb2.SpeculateRound:
    return draft_pb2.SpeculateRound(
        round=request.round,
        position=request.position,
        committed_token_ids=request.committed_token_ids,
        num_speculative_tokens=request.num_speculative_tokens,
        hidden_states=hidden_states_to_proto(request.hidden_states),
    )


def speculate_from_proto(message: draft_pb2.SpeculateRound, model: ModelInfo) -> SpeculateRound:
    """Raises InvalidArgumentError where the round breaks the limits of `model`."""
    _check_position(message.position, message.committed_token_ids, model)
    if message.num_speculative_tokens > model.max_num_speculative_tokens:
        raise InvalidArgumentError(
            {
                "round.num_speculative_tokens": (
                    f"must be at most {model.max_num_speculative_tokens}"
                )
            }
        )
    return SpeculateRound(
        round=message.round,
        position=message.position,
        committed_token_ids=list(message.committed_token_ids),
        num_speculative_tokens=message.num_speculative_tokens,
        hidden_states=hidden_states_of_round(
            message.hidden_states, message.position, model.hidden_states_need
        )
        if message.HasField("hidden_states")
        else None,
    )


def draft_to_proto(answer: DraftRound) -> draft_pb2.DraftRound:
    return draft_pb2.DraftRound(
        round=answer.round,
        position=answer.position,
        tokens=[_drafted_to_proto(token) for token in answer.draft.tokens],
        timings=timings_to_proto(answer.timings),
        proposer=answer.draft.proposer,
        lookahead=LOOKAHEAD_TO_PROTO[answer.draft.lookahead],
        num_wasted_tokens=answer.draft.num_wasted_tokens,
    )


def _drafted_to_proto(token: DraftedToken) -> draft_pb2.DraftedToken:
    if not len(token.draft_probs):
        return draft_pb2.DraftedToken(token_id=token.token_id)
    return draft_pb2.DraftedToken(
        token_id=token.token_id,
        support_token_ids=token.support_token_ids,
        draft_probs=token.draft_probs.tolist(),
    )


def draft_from_proto(message: draft_pb2.DraftRound) -> DraftRound:
    """Raises TierProtocolError where a draft is not a draw from the distribution it names."""
    if len(message.proposer) > MAX_PROPOSER_CHARS:
        raise TierProtocolError("a proposer's name that is too long")
    return DraftRound(
        round=message.round,
        position=message.position,
        draft=Draft(
            tuple(_drafted_from_proto(token) for token in message.tokens),
            message.proposer,
            LOOKAHEAD_FROM_PROTO.get(message.lookahead),
            message.num_wasted_tokens,
        ),
        timings=timings_from_proto(message.timings),
    )


def _drafted_from_proto(message: draft_pb2.DraftedToken) -> DraftedToken:
    support = list(message.support_token_ids)
    weights = list(message.draft_probs)
    if not support and not weights:
        return coupled_guess(message.token_id)
    # Plain Python is four times as fast as numpy on lists this short.
    if not (
        0 < len(support) == len(weights) <= MAX_SUPPORT
        and message.token_id in support
        and len(set(support)) == len(support)
        and min(weights) > 0
        and (total := sum(weights)) < math.inf  # false for NaN as well
    ):
        raise TierProtocolError("a drafted token comes without a distribution it can be from")
    # [M]; float32 on the wire, made to sum to 1 the same way on both sides.
    return DraftedToken(message.token_id, support, np.array(weights) / total)


def progress_to_proto(progress: PrefillProgress) -> target_pb2.PrefillProgress:
    return target_pb2.PrefillProgress(
        num_computed_tokens=progress.num_computed_tokens, num_tokens=progress.num_tokens
    )


def progress_from_proto(message: target_pb2.PrefillProgress) -> PrefillProgress:
    return PrefillProgress(message.num_computed_tokens, message.num_tokens)


def verify_to_proto(request: VerifyRound) -> target_pb2.VerifyRound:
    return target_pb2.VerifyRound(
        round=request.round,
        position=request.position,
        committed_token_ids=request.committed_token_ids,
        drafts=[
            target_pb2.DraftToVerify(
                token_id=draft.token_id, support_token_ids=draft.support_token_ids
            )
            for draft in request.drafts
        ],
        num_logprobs=request.num_logprobs,
        wants_hidden_states=request.wants_hidden_states,
        next_is_plain=request.next_is_plain,
    )


def verify_from_proto(message: target_pb2.VerifyRound, model: ModelInfo) -> VerifyRound:
    """Raises InvalidArgumentError where the round breaks the limits of `model`."""
    _check_position(message.position, message.committed_token_ids, model)
    if len(message.drafts) > model.max_num_speculative_tokens:
        raise InvalidArgumentError(
            {"round.drafts": f"must hold at most {model.max_num_speculative_tokens} tokens"}
        )
    if message.position + len(message.drafts) > model.max_model_len:
        raise InvalidArgumentError(
            {"round.drafts": f"must end within the model's {model.max_model_len} tokens"}
        )
    if message.num_logprobs > MAX_TOP_LOGPROBS:
        raise InvalidArgumentError({"round.num_logprobs": f"must be at most {MAX_TOP_LOGPROBS}"})
    if message.wants_hidden_states and not model.hidden_size:
        raise InvalidArgumentError({"round.wants_hidden_states": _GIVES_NONE})
    return VerifyRound(
        round=message.round,
        position=message.position,
        committed_token_ids=list(message.committed_token_ids),
        drafts=[
            _draft_to_verify_from_proto(index, draft, model)
            for index, draft in enumerate(message.drafts)
        ],
        num_logprobs=message.num_logprobs if message.HasField("num_logprobs") else None,
        wants_hidden_states=message.wants_hidden_states,
        next_is_plain=message.next_is_plain,
    )


def _draft_to_verify_from_proto(
    index: int, message: target_pb2.DraftToVerify, model: ModelInfo
) -> DraftToVerify:
    field = f"round.drafts[{index}].support_token_ids"
    if not 1 <= len(message.support_token_ids) <= MAX_SUPPORT:
        raise InvalidArgumentError({field: f"must hold 1 to {MAX_SUPPORT} tokens"})
    support = list(message.support_token_ids)
    if len(set(support)) != len(support):
        raise InvalidArgumentError({field: "must be distinct"})
    if message.token_id not in support:
        raise InvalidArgumentError({field: "must hold the drafted token"})
    _check_token_ids(field, support, model)
    return DraftToVerify(message.token_id, support)


def evidence_to_proto(answer: EvidenceRound) -> target_pb2.EvidenceRound:
    return target_pb2.EvidenceRound(
        round=answer.round,
        position=answer.position,
        positions=[_position_to_proto(position) for position in answer.evidence.positions],
        timings=timings_to_proto(answer.timings),
        hidden_states=hidden_states_to_proto(answer.evidence.hidden_states),
    )


def _position_to_proto(position: PositionEvidence) -> target_pb2.PositionEvidence:
    logprobs = position.logprobs
    return target_pb2.PositionEvidence(
        target_probs=position.target_probs.tolist(),
        tail_mass=position.tail_mass,
        tail_token_id=position.tail_token_id,
        tail_token_prob=position.tail_token_prob,
        greedy_token_id=position.greedy_token_id,
        logprobs=target_pb2.PositionLogprobs(
            support_logprobs=logprobs.support_logprobs,
            tail_token_logprob=logprobs.tail_token_logprob,
            top_token_ids=logprobs.top_token_ids,
            top_logprobs=logprobs.top_logprobs,
        )
        if logprobs
        else None,
    )


def evidence_from_proto(message: target_pb2.EvidenceRound) -> EvidenceRound:
    """Raises TierProtocolError where an entry cannot be evidence of any distribution.

    Whether it answers what was asked says `check_evidence`.
    """
    states = None
    if message.HasField("hidden_states"):
        num_guesses = len(message.positions) - 1
        states = hidden_states_of_evidence(message.hidden_states, message.position, num_guesses)
    positions = tuple(_position_from_proto(entry) for entry in message.positions)
    return EvidenceRound(
        round=message.round,
        position=message.position,
        evidence=Evidence(positions, states),
        timings=timings_from_proto(message.timings),
    )


def _position_from_proto(message: target_pb2.PositionEvidence) -> PositionEvidence:
    probs = list(message.target_probs)
    check_distribution(probs, message.tail_mass)
    logprobs = None
    if message.HasField("logprobs"):
        logprobs = PositionLogprobs(
            support_logprobs=list(message.logprobs.support_logprobs),
            tail_token_logprob=message.logprobs.tail_token_logprob,
            top_token_ids=list(message.logprobs.top_token_ids),
            top_logprobs=list(message.logprobs.top_logprobs),
        )
    return PositionEvidence(
        target_probs=np.array(probs, dtype=np.float64),  # [M]
        tail_mass=message.tail_mass,
        tail_token_id=message.tail_token_id,
        tail_token_prob=message.tail_token_prob,
        greedy_token_id=message.greedy_token_id,
        logprobs=logprobs,
    )


def timings_to_proto(timings: RoundTimings) -> common_pb2.RoundTimings:
    return common_pb2.RoundTimings(
        queue_ns=timings.queue_ns,
        forward_ns=timings.forward_ns,
        total_ns=timings.total_ns,
        batch_size=timings.batch_size,
        num_batch_tokens=timings.num_batch_tokens,
        finish_ns=timings.finish_ns,
    )


def timings_from_proto(message: common_pb2.RoundTimings) -> RoundTimings:
    return RoundTimings(
        queue_ns=message.queue_ns,
        forward_ns=message.forward_ns,
        total_ns=message.total_ns,
        batch_size=message.batch_size,
        num_batch_tokens=message.num_batch_tokens,
        finish_ns=message.finish_ns,
    )


def _check_position(position: int, committed_token_ids: Sequence[int], model: ModelInfo) -> None:
    if not max(1, len(committed_token_ids)) <= position <= model.max_model_len:
        raise InvalidArgumentError(
            {
                "round.position": (
                    "must cover the committed tokens and lie within the model's "
                    f"{model.max_model_len} tokens"
                )
            }
        )
    _check_token_ids("round.committed_token_ids", committed_token_ids, model)


def _check_token_ids(field: str, token_ids: Sequence[int], model: ModelInfo) -> None:
    if token_ids and max(token_ids) >= model.vocab_size:
        raise InvalidArgumentError(
            {field: f"must be below the vocabulary's size of {model.vocab_size}"}
        )
