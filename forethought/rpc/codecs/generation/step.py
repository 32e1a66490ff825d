"""What a round drafted and how it was judged, to messages and back."""

from forethought.generation import JudgedToken, Step, Verdict
from forethought.rpc.codecs.enums import LOOKAHEAD_FROM_PROTO, LOOKAHEAD_TO_PROTO
from forethought.rpc.codecs.generation.names import ORIGIN_FROM_PROTO, ORIGIN_TO_PROTO, named
from forethought.rpc.codecs.timings import timings_from_proto, timings_to_proto
from forethought.sampling.types import OutputToken
from forethought.v1 import generation_pb2 as pb

_VERDICT_TO_PROTO = {
    Verdict.ACCEPTED: pb.VERDICT_ACCEPTED,
    Verdict.REJECTED: pb.VERDICT_REJECTED,
    Verdict.DROPPED: pb.VERDICT_DROPPED,
}
_VERDICT_FROM_PROTO = {number: value for value, number in _VERDICT_TO_PROTO.items()}


def step_to_proto(step: Step) -> pb.SpeculationStep:
    return pb.SpeculationStep(
        round=step.round,
        position=step.position,
        drafted=[
            pb.JudgedToken(
                token_id=token.token_id,
                text=token.text,
                draft_prob=token.draft_prob,
                target_prob=token.target_prob,
                verdict=_VERDICT_TO_PROTO[token.verdict],
            )
            for token in step.drafted
        ],
        final_token_id=step.final.token_id,
        final_text=step.final_text,
        final_origin=ORIGIN_TO_PROTO[step.final.origin],
        final_target_prob=step.final.target_prob,
        speculation_ns=step.speculation_ns,
        verification_ns=step.verification_ns,
        rejection_ns=step.rejection_ns,
        proposer=step.proposer,
        lookahead=LOOKAHEAD_TO_PROTO[step.lookahead],
        draft_timings=timings_to_proto(step.draft_timings),
        target_timings=timings_to_proto(step.target_timings),
    )


def step_from_proto(message: pb.SpeculationStep) -> Step:
    return Step(
        round=message.round,
        position=message.position,
        drafted=tuple(
            JudgedToken(
                token.token_id,
                token.text,
                token.draft_prob if token.HasField("draft_prob") else None,
                token.target_prob,
                named(_VERDICT_FROM_PROTO, token.verdict),
            )
            for token in message.drafted
        ),
        final=OutputToken(
            message.final_token_id,
            named(ORIGIN_FROM_PROTO, message.final_origin),
            None,
            message.final_target_prob,
        ),
        final_text=message.final_text,
        speculation_ns=message.speculation_ns,
        verification_ns=message.verification_ns,
        rejection_ns=message.rejection_ns,
        proposer=message.proposer,
        lookahead=LOOKAHEAD_FROM_PROTO.get(message.lookahead),
        draft_timings=timings_from_proto(message.draft_timings),
        target_timings=timings_from_proto(message.target_timings),
    )
