"""A round of the target tier, to messages and back.

Decoding checks what the receiver relies on: a round that breaks a rule raises
InvalidArgumentError, an answer that does raises TierProtocolError.
"""

import numpy as np

from forethought.errors import InvalidArgumentError
from forethought.rpc.codecs.tier.evidence_check import check_distribution
from forethought.rpc.codecs.tier.hidden_states import (
    hidden_states_of_evidence,
    hidden_states_to_proto,
)
from forethought.rpc.codecs.tier.round_limits import (
    GIVES_NO_HIDDEN_STATES,
    check_position,
    check_token_ids,
)
from forethought.rpc.codecs.timings import timings_from_proto, timings_to_proto
from forethought.sampling.params import MAX_SUPPORT, MAX_TOP_LOGPROBS
from forethought.sampling.types import Evidence, PositionEvidence, PositionLogprobs
from forethought.tier import DraftToVerify, EvidenceRound, ModelInfo, PrefillProgress, VerifyRound
from forethought.v1 import target_pb2


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
    check_position(message.position, message.committed_token_ids, model)
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
        raise InvalidArgumentError({"round.wants_hidden_states": GIVES_NO_HIDDEN_STATES})
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
    check_token_ids(field, support, model)
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
