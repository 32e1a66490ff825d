"""One turn of the loop, for those who watch and learn."""

from dataclasses import dataclass, field, replace

from forethought.sampling.types import Draft, Evidence, Outcome
from forethought.tier import RoundTimings
from orchestrator.session import Session


@dataclass(frozen=True, slots=True)
class Ask:
    """What a round asks of the draft tier."""

    num_speculative_tokens: int  # K
    timeout_s: float | None = None  # how long to wait for it; None: as long as patience lasts
    prepares: bool = (
        False  # whether drafts will be asked for soon, so that the tier should get ready
    )
    next_is_plain: bool = False  # whether the next round is expected to ask for nothing either

    def within(self, room: int) -> "Ask":
        """The same for a session that may commit so many more tokens.

        K + 1 tokens come of a round at most, so the last place needs no draft.
        """
        return replace(
            self,
            num_speculative_tokens=min(self.num_speculative_tokens, room - 1),
            next_is_plain=self.next_is_plain and room > 1,
        )


@dataclass(frozen=True, slots=True)
class Round:
    """What was asked, drafted, measured and judged."""

    session: Session  # before the round
    ask: Ask
    draft: Draft
    evidence: Evidence
    outcome: Outcome
    speculation_ns: int
    verification_ns: int
    rejection_ns: int
    target_timings: RoundTimings  # by the target's clock
    draft_timings: RoundTimings = field(default_factory=RoundTimings)  # by the draft tier's
    draft_failed: bool = False  # a draft was wanted, and the tier had none to give

    @property
    def was_late(self) -> bool:
        """Whether the draft was waited for in vain, as opposed to not asked for at all: a tier that
        is known to be away, or that still owes an earlier draft, costs a round no time.
        """
        limit_s = self.ask.timeout_s
        return self.draft_failed and limit_s is not None and self.speculation_ns > 0.5e9 * limit_s
