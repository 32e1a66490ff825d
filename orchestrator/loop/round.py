"""One turn of the loop, for those who watch and learn."""

from dataclasses import dataclass, field, replace

from forethought.generation import NoDraftReason
from forethought.sampling.types import Draft, Evidence, Outcome
from forethought.tier import EvidenceRound, RoundTimings
from orchestrator.loop.session import Session


@dataclass(frozen=True, slots=True)
class Ask:
    """What a round asks of the draft tier."""

    num_speculative_tokens: int  # K
    timeout_s: float | None = None  # how long to wait for it; None: as long as patience lasts
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
class Absence:
    """Why there was no draft."""

    reason: NoDraftReason
    detail: str = ""  # for the client


@dataclass(frozen=True, slots=True)
class Drafted:
    """What speculation has come to."""

    draft: Draft = field(default_factory=Draft)
    timings: RoundTimings = field(default_factory=RoundTimings)
    """By the clock of who drafted; all 0 where nobody did."""
    has_failed: bool = False
    """Whether a draft was wanted, and the draft tier had none to give in time."""
    absence: Absence | None = None
    """Why it had none, where it failed, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Round:
    """What was asked, drafted, measured and judged."""

    session: Session  # before the round
    ask: Ask
    drafted: Drafted
    measured: EvidenceRound
    outcome: Outcome
    speculation_ns: int
    verification_ns: int
    rejection_ns: int

    @property
    def draft(self) -> Draft:
        return self.drafted.draft

    @property
    def evidence(self) -> Evidence:
        return self.measured.evidence

    @property
    def was_late(self) -> bool:
        """Whether the draft was waited for in vain, as opposed to not asked for at all: a tier that
        is known to be away, or that still owes an earlier draft, costs a round no time.
        """
        limit_s = self.ask.timeout_s
        return (
            self.drafted.has_failed
            and limit_s is not None
            and self.speculation_ns > 0.5e9 * limit_s
        )
