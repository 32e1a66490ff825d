"""What speculation did for an answer, to messages and back."""

from forethought.generation import NoDraftReason, ProposerStatistics, SpeculationStatistics
from forethought.tier import LookaheadCounts
from forethought.v1 import draft_pb2
from forethought.v1 import generation_pb2 as pb

_NO_DRAFT_TO_PROTO = {
    None: pb.NO_DRAFT_REASON_UNSPECIFIED,
    NoDraftReason.NOT_ASKED: pb.NO_DRAFT_REASON_NOT_ASKED,
    NoDraftReason.NOT_CONFIGURED: pb.NO_DRAFT_REASON_NOT_CONFIGURED,
    NoDraftReason.DID_NOT_PAY: pb.NO_DRAFT_REASON_DID_NOT_PAY,
    NoDraftReason.REFUSED: pb.NO_DRAFT_REASON_REFUSED,
    NoDraftReason.DOWN: pb.NO_DRAFT_REASON_DOWN,
    NoDraftReason.LATE: pb.NO_DRAFT_REASON_LATE,
    NoDraftReason.NOTHING_FOUND: pb.NO_DRAFT_REASON_NOTHING_FOUND,
    NoDraftReason.TOO_SHORT: pb.NO_DRAFT_REASON_TOO_SHORT,
}
_NO_DRAFT_FROM_PROTO = {number: value for value, number in _NO_DRAFT_TO_PROTO.items()}
"""A reason that is not known here says nothing."""


def statistics_to_proto(speculation: SpeculationStatistics) -> pb.SpeculationStatistics:
    return pb.SpeculationStatistics(
        num_rounds=speculation.num_rounds,
        num_draft_tokens=speculation.num_draft_tokens,
        num_accepted_tokens=speculation.num_accepted_tokens,
        num_accepted_tokens_per_position=speculation.num_accepted_tokens_per_position,
        num_draft_failures=speculation.num_draft_failures,
        speculation_ns=speculation.speculation_ns,
        verification_ns=speculation.verification_ns,
        rejection_ns=speculation.rejection_ns,
        proposers=[
            pb.ProposerStatistics(
                proposer=each.proposer,
                num_rounds=each.num_rounds,
                num_draft_tokens=each.num_draft_tokens,
                num_accepted_tokens=each.num_accepted_tokens,
            )
            for each in speculation.proposers
        ],
        lookahead=lookahead_to_proto(speculation.lookahead),
        no_draft_reason=_NO_DRAFT_TO_PROTO[speculation.no_draft_reason],
        no_draft_detail=speculation.no_draft_detail,
    )


def statistics_from_proto(speculation: pb.SpeculationStatistics) -> SpeculationStatistics:
    return SpeculationStatistics(
        num_rounds=speculation.num_rounds,
        num_draft_tokens=speculation.num_draft_tokens,
        num_accepted_tokens=speculation.num_accepted_tokens,
        num_accepted_tokens_per_position=tuple(speculation.num_accepted_tokens_per_position),
        num_draft_failures=speculation.num_draft_failures,
        speculation_ns=speculation.speculation_ns,
        verification_ns=speculation.verification_ns,
        rejection_ns=speculation.rejection_ns,
        proposers=tuple(
            ProposerStatistics(
                each.proposer, each.num_rounds, each.num_draft_tokens, each.num_accepted_tokens
            )
            for each in speculation.proposers
        ),
        lookahead=lookahead_from_proto(speculation.lookahead),
        no_draft_reason=_NO_DRAFT_FROM_PROTO.get(speculation.no_draft_reason),
        no_draft_detail=speculation.no_draft_detail,
    )


def lookahead_to_proto(counts: LookaheadCounts) -> draft_pb2.LookaheadCounts:
    return draft_pb2.LookaheadCounts(
        num_hits=counts.num_hits,
        num_misses=counts.num_misses,
        num_wasted_tokens=counts.num_wasted_tokens,
    )


def lookahead_from_proto(message: draft_pb2.LookaheadCounts) -> LookaheadCounts:
    return LookaheadCounts(message.num_hits, message.num_misses, message.num_wasted_tokens)
