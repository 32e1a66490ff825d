"""Counts over the rounds of all requests. A round costs some additions."""

from collections import Counter
from dataclasses import dataclass, field

from forethought.generation import NoDraftReason, Verdict
from forethought.observability.buckets import STEP_S
from forethought.observability.histogram import Histogram
from forethought.sampling.types import VerificationMode
from orchestrator.round import Round

OUTCOMES = ("plain", "no_draft", "all_accepted", "some_accepted", "none_accepted")

MAX_PROPOSERS = 16
"""Names that are told apart. They come from draft tiers; further ones count as `other`."""


@dataclass(slots=True, eq=False)
class RoundCounts:
    """Since the process began."""

    num_rounds: Counter[tuple[VerificationMode, str]] = field(default_factory=Counter)
    """By mode and outcome."""
    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_accepted_tokens_per_position: list[int] = field(default_factory=list)
    num_tokens: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    """Drafted, by proposer and verdict."""
    num_failures: Counter[NoDraftReason] = field(default_factory=Counter)
    """Rounds that wanted a draft of the draft tier and got none."""
    speculation: Histogram = field(default_factory=lambda: Histogram(STEP_S))
    verification: Histogram = field(default_factory=lambda: Histogram(STEP_S))
    rejection: Histogram = field(default_factory=lambda: Histogram(STEP_S))

    def add(self, judged: Round, absence: NoDraftReason | None) -> None:
        """One more round.

        Args:
            judged: the round.
            absence: why the draft tier had no draft, if it failed.
        """
        self.num_rounds[judged.session.mode, _outcome(judged)] += 1
        self.verification.observe(judged.verification_ns / 1e9)
        self.rejection.observe(judged.rejection_ns / 1e9)
        if judged.ask.num_speculative_tokens:
            self.speculation.observe(judged.speculation_ns / 1e9)
        if judged.drafted.has_failed:
            self.num_failures[absence or NoDraftReason.DOWN] += 1
        if judged.draft.tokens:
            self._add_draft(judged)

    def _add_draft(self, judged: Round) -> None:
        num_drafted, num_accepted = len(judged.draft), judged.outcome.num_accepted_tokens
        self.num_drafts += 1
        self.num_draft_tokens += num_drafted
        self.num_accepted_tokens += num_accepted
        places = self.num_accepted_tokens_per_position
        while len(places) < num_drafted:
            places.append(0)
        for place in range(num_accepted):
            places[place] += 1
        name = judged.draft.proposer
        if (name, Verdict.ACCEPTED) not in self.num_tokens:
            name = self._new_proposer(name)
        self.num_tokens[name, Verdict.ACCEPTED] += num_accepted
        if num_accepted < num_drafted:
            self.num_tokens[name, Verdict.REJECTED] += 1
            self.num_tokens[name, Verdict.DROPPED] += num_drafted - num_accepted - 1

    def _new_proposer(self, name: str) -> str:
        if len(self.num_tokens) >= MAX_PROPOSERS * len(Verdict):
            name = "other"
        for verdict in Verdict:
            self.num_tokens.setdefault((name, verdict), 0)
        return name


def _outcome(judged: Round) -> str:
    num_drafted = len(judged.draft)
    if not num_drafted:
        return "no_draft" if judged.ask.num_speculative_tokens else "plain"
    num_accepted = judged.outcome.num_accepted_tokens
    if num_accepted == num_drafted:
        return "all_accepted"
    return "some_accepted" if num_accepted else "none_accepted"
