"""Counts over the rounds of all requests. A round costs some additions."""

from collections import Counter
from dataclasses import dataclass, field

from forethought.generation import NoDraftReason
from forethought.observability.buckets import STEP_S
from forethought.observability.histogram import Histogram
from forethought.sampling.types import Draft, VerificationMode
from orchestrator.loop.round import Round

OUTCOMES = ("plain", "no_draft", "all_accepted", "some_accepted", "none_accepted")
_PLAIN, _NO_DRAFT, _ALL_ACCEPTED, _SOME_ACCEPTED, _NONE_ACCEPTED = range(len(OUTCOMES))

MAX_PROPOSERS = 16
"""Names that are told apart. They come from draft tiers; further ones count as `other`."""


@dataclass(slots=True, eq=False)
class ProposerCounts:
    """Tokens of one proposer, by what became of them."""

    num_accepted: int = 0
    num_rejected: int = 0
    num_dropped: int = 0


@dataclass(slots=True, eq=False)
class RoundCounts:
    """Since the process began."""

    outcomes: dict[VerificationMode, list[int]] = field(
        default_factory=lambda: {mode: [0] * len(OUTCOMES) for mode in VerificationMode}
    )
    """Rounds by mode, and by outcome in their order."""
    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_accepted_tokens_per_position: list[int] = field(default_factory=list)
    proposers: dict[str, ProposerCounts] = field(default_factory=dict)
    num_failures: Counter[NoDraftReason] = field(default_factory=Counter)
    """Rounds that wanted a draft of the draft tier and got none."""
    speculation: Histogram = field(default_factory=lambda: Histogram(STEP_S))
    verification: Histogram = field(default_factory=lambda: Histogram(STEP_S))
    rejection: Histogram = field(default_factory=lambda: Histogram(STEP_S))

    def add(self, judged: Round) -> None:
        """One more round."""
        outcome = _PLAIN
        self.verification.observe(judged.verification_ns / 1e9)
        self.rejection.observe(judged.rejection_ns / 1e9)
        if judged.ask.num_speculative_tokens:
            self.speculation.observe(judged.speculation_ns / 1e9)
            outcome = _NO_DRAFT
            drafted = judged.drafted
            if drafted.has_failed:
                absence = drafted.absence
                self.num_failures[absence.reason if absence else NoDraftReason.DOWN] += 1
            if drafted.draft.tokens:
                outcome = self._add_draft(drafted.draft, len(judged.outcome.tokens) - 1)
        self.outcomes[judged.session.mode][outcome] += 1

    def _add_draft(self, draft: Draft, num_accepted: int) -> int:
        """Adds a draft of which so many tokens were accepted; returns its outcome."""
        num_drafted = len(draft.tokens)
        self.num_drafts += 1
        self.num_draft_tokens += num_drafted
        self.num_accepted_tokens += num_accepted
        places = self.num_accepted_tokens_per_position
        while len(places) < num_drafted:
            places.append(0)
        for place in range(num_accepted):
            places[place] += 1
        proposer = self.proposers.get(draft.proposer) or self._new_proposer(draft.proposer)
        proposer.num_accepted += num_accepted
        if num_accepted == num_drafted:
            return _ALL_ACCEPTED
        proposer.num_rejected += 1
        proposer.num_dropped += num_drafted - num_accepted - 1
        return _SOME_ACCEPTED if num_accepted else _NONE_ACCEPTED

    def _new_proposer(self, name: str) -> ProposerCounts:
        if len(self.proposers) >= MAX_PROPOSERS:
            name = "other"
        return self.proposers.setdefault(name, ProposerCounts())
