"""A round of the draft tier, to messages and back.

Decoding checks what the receiver relies on: a round that breaks a rule raises
InvalidArgumentError, an answer that does raises TierProtocolError.
"""

import math

import numpy as np

from forethought.errors import InvalidArgumentError, TierProtocolError
from forethought.rpc.codecs.enums import LOOKAHEAD_FROM_PROTO, LOOKAHEAD_TO_PROTO
from forethought.rpc.codecs.tier.hidden_states import hidden_states_of_round, hidden_states_to_proto
from forethought.rpc.codecs.tier.round_limits import check_position
from forethought.rpc.codecs.timings import timings_from_proto, timings_to_proto
from forethought.sampling.params import MAX_SUPPORT
from forethought.sampling.types import Draft, DraftedToken, coupled_guess
from forethought.tier import DraftRound, ModelInfo, SpeculateRound
from forethought.v1 import draft_pb2

MAX_PROPOSER_CHARS = 128
"""Statistics are kept by this name, and clients are told it."""


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
    check_position(message.position, message.committed_token_ids, model)
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
