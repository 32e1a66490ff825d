"""What the sessions of an orchestrator would ask of the draft tier, if it were fast.

What they do ask is no measure of what they need: where the draft tier is slow, the policy asks for
less, and for nothing in the end. A tier that is scaled by what is asked of it would shrink then,
and never return. So the question is what the policy would ask if drafts came at the speed of a tier
that has nothing else to do, which each tier measures when it starts.

Demand is engine time. A session that would draft K tokens a round has a use for the part of the
round that the engine works for it; of n sessions each for an n-th, since drafts share passes.

Whether drafts pay at that speed is judged as the policy judges it, but for the time that drafts
take: there the tier's profile counts, and not the clock.

*What nobody has seen is tried.* Without a replica there is nothing to judge. What was learned
stays for an hour. Then, and where nothing was ever learned, the demand is a small one, for which
one replica will do, until a draft has come.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from forethought.tier import DraftDemand
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Acceptance
from orchestrator.policy.governor import CLEARLY, Governor

_REFRESH_S = 0.5
"""Until it is computed anew what sessions have a use for."""
_REMEMBERED_S = 3600.0
_TRIAL = 0.05
"""Engines that are asked for to see whether drafts pay."""
_LEAST_SHARE = 0.001
"""Of an engine that a session has a use for, where drafts take no time."""
_AS_GOOD = 0.97
"""A shorter draft that brings so much of the speed of the best one leaves nothing to be wanted."""


@dataclass(frozen=True, slots=True)
class WantedDraft:
    """What a session would ask of the draft tier in a round."""

    k: int  # 0: nothing
    least_k: int  # as good as that
    share: float  # of the round's time that an engine works for it


_NOTHING = WantedDraft(0, 0, 0.0)


class DemandMeter:
    """Adds up what sessions have a use for, and what they get of it.

    Args:
        governor: of the sessions; it knows what rounds take.
        lookups: names of the proposers of this process. What they draft is asked of nobody.
        clock: seconds.
        remembered_s: without a draft, until what was learned of drafts is forgotten.
    """

    def __init__(
        self,
        governor: Governor,
        lookups: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        remembered_s: float = _REMEMBERED_S,
    ) -> None:
        self._governor = governor
        self._lookups = frozenset(lookups)
        self._clock = clock
        self._remembered_s = remembered_s
        self._began_s = clock()
        self._num_sessions = 0
        self._wanted = _NOTHING  # of a session whose K the policy chooses
        self._chosen_s = -_REFRESH_S
        self._drafted_s: float | None = None  # when the tier's last draft came
        self._acceptance = Acceptance()  # of all drafts that came
        self._expected = self._acceptance.expect(governor.max_k)
        self._wanted_ns = self._unserved_ns = 0.0
        self.num_rounds = 0
        """Since the beginning, those of prompts left out."""
        self.num_draft_tokens = 0
        """In these rounds."""

    @property
    def uptime_ns(self) -> int:
        """Time over which it adds up."""
        return round((self._clock() - self._began_s) * 1e9)

    @property
    def demand(self) -> DraftDemand:
        """What it has added up to."""
        return DraftDemand(round(self._wanted_ns), round(self._unserved_ns))

    def begin(self) -> None:
        """A session begins."""
        self._num_sessions += 1

    def end(self) -> None:
        """A session has ended."""
        self._num_sessions -= 1

    def observe(self, judged: Round, fixed_k: int | None = None) -> None:
        """A round is over.

        Args:
            judged: the round.
            fixed_k: that its session drafts in every round; None where the policy chooses.
        """
        if not judged.session.round:
            return  # it had the prompt to compute
        self.num_rounds += 1
        self.num_draft_tokens += len(judged.draft)
        was_looked_up = bool(judged.draft.tokens) and judged.draft.proposer in self._lookups
        if self._governor.drafts_are_free or was_looked_up:
            return
        num_asked, got = judged.ask.num_speculative_tokens, 0
        if num_asked and not judged.drafted.has_failed:
            self._drafted_s = self._clock()
            num_accepted = judged.outcome.num_accepted_tokens
            self._acceptance.observe(num_asked, len(judged.draft), num_accepted)
            # The session could have what others get, though its own drafts may be worth less.
            got = max(num_asked, self._governor.k)
        wanted = self._choice() if fixed_k is None else self._draft_of(fixed_k, fixed_k)
        k = min(wanted.k, judged.session.room - 1)
        if k <= 0:
            return
        took_ns = judged.speculation_ns + judged.verification_ns + judged.rejection_ns
        self._wanted_ns += took_ns * wanted.share
        if got < min(wanted.least_k, k):
            self._unserved_ns += took_ns * wanted.share * (1 - got / k)

    def _choice(self) -> WantedDraft:
        """Of a session whose K the policy chooses."""
        now_s = self._clock()
        if now_s - self._chosen_s >= _REFRESH_S:
            self._chosen_s, self._wanted = now_s, self._choose(now_s)
        return self._wanted

    def _choose(self, now_s: float) -> WantedDraft:
        if not self._governor.max_k:
            return _NOTHING
        if self._drafted_s is None or now_s - self._drafted_s > self._remembered_s:
            return WantedDraft(1, 1, _TRIAL / max(self._num_sessions, 1))
        self._expected = self._acceptance.expect(self._governor.max_k)
        tokens = self._expected.tokens
        rates = [num_tokens / self._round_s(k) for k, num_tokens in enumerate(tokens)]
        best = max(rates[1:])
        if best <= rates[0] * (1 / CLEARLY if self._wanted.k else CLEARLY):
            return _NOTHING
        k = rates.index(best, 1)
        return self._draft_of(
            k, next(each for each in range(1, k + 1) if rates[each] >= _AS_GOOD * best)
        )

    def _draft_of(self, k: int, least_k: int) -> WantedDraft:
        num_sessions, made_k = max(self._num_sessions, 1), min(k, self._governor.max_k)
        engine_s = self._governor.times.idle_draft_s(made_k, num_sessions)
        share = engine_s / num_sessions / self._round_s(made_k)
        return WantedDraft(k, least_k, max(share, _LEAST_SHARE))

    def _round_s(self, k: int) -> float:
        """A round of a session, with drafts as an idle tier makes them."""
        times, num_sessions = self._governor.times, max(self._num_sessions, 1)
        return times.idle_draft_s(k) + times.verification_s(k, self._expected, num_sessions)
