"""Names that several messages use, to values and back."""

from collections.abc import Mapping

from forethought.sampling.types import LookaheadOutcome, VerificationMode
from forethought.v1 import common_pb2, draft_pb2

MODE_TO_PROTO = {
    VerificationMode.REJECTION: common_pb2.VERIFICATION_MODE_REJECTION,
    VerificationMode.BLOCK: common_pb2.VERIFICATION_MODE_BLOCK,
    VerificationMode.COUPLED: common_pb2.VERIFICATION_MODE_COUPLED,
}
MODE_FROM_PROTO: Mapping[int, VerificationMode] = {
    # Between the tiers; a client that sets none leaves the choice to the deployment.
    common_pb2.VERIFICATION_MODE_UNSPECIFIED: VerificationMode.REJECTION,
    **{number: value for value, number in MODE_TO_PROTO.items()},
}
LOOKAHEAD_TO_PROTO = {
    None: draft_pb2.LOOKAHEAD_OUTCOME_UNSPECIFIED,
    LookaheadOutcome.HIT: draft_pb2.LOOKAHEAD_OUTCOME_HIT,
    LookaheadOutcome.MISS: draft_pb2.LOOKAHEAD_OUTCOME_MISS,
}
LOOKAHEAD_FROM_PROTO: Mapping[int, LookaheadOutcome | None] = {
    number: value for value, number in LOOKAHEAD_TO_PROTO.items()
}
"""An outcome that is not known here says nothing."""
