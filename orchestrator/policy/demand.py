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
        self._acceptance = Acceptance()  # of drafts that came; to the policy a late one is none
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
        if self._governor.drafts_are_free or self._was_looked_up(judged):
            return
        self._learn(judged)
        wanted = self._wanted_draft() if fixed_k is None else self._wanted_draft_of(fixed_k)
        k = min(wanted.k, judged.session.room - 1)
        if k <= 0:
            return
        took_ns = judged.speculation_ns + judged.verification_ns + judged.rejection_ns
        wanted_ns = took_ns * wanted.share
        self._wanted_ns += wanted_ns
        got = self._got(judged)
        if got < min(wanted.least_k, k):
            self._unserved_ns += wanted_ns * (1 - got / k)

    def _was_looked_up(self, judged: Round) -> bool:
        return bool(judged.draft.tokens) and judged.draft.proposer in self._lookups

    def _learn(self, judged: Round) -> None:
        """Whether drafts come in time, and what becomes of them."""
        num_asked = judged.ask.num_speculative_tokens
        if not num_asked:
            return
        if not judged.drafted.has_failed:
            self._drafted_s = self._clock()
            num_accepted = judged.outcome.num_accepted_tokens
            self._acceptance.observe(num_asked, len(judged.draft), num_accepted)

    def _got(self, judged: Round) -> float:
        """The K that a session could have, though its own drafts may be worth less."""
        if judged.drafted.has_failed or not judged.ask.num_speculative_tokens:
            return 0.0
        return max(judged.ask.num_speculative_tokens, self._governor.k)

    def _wanted_draft(self) -> WantedDraft:
        now_s = self._clock()
        if now_s - self._chosen_s >= _REFRESH_S:
            self._chosen_s = now_s
            self._wanted = self._choose(now_s)
        return self._wanted

    def _choose(self, now_s: float) -> WantedDraft:
        governor = self._governor
        if not governor.max_k:
            return _NOTHING
        if self._drafted_s is None or now_s - self._drafted_s > self._remembered_s:
            return WantedDraft(1, 1, _TRIAL / max(self._num_sessions, 1))
        self._expected = self._acceptance.expect(governor.max_k)
        rates = [self._rate(k) for k in range(governor.max_k + 1)]
        best = max(rates[1:])
        if best <= rates[0] * (1 / CLEARLY if self._wanted.k else CLEARLY):
            return _NOTHING
        k = rates.index(best, 1)
        least_k = next(each for each in range(1, k + 1) if rates[each] >= _AS_GOOD * best)
        return WantedDraft(k, least_k, self._share(k))

    def _wanted_draft_of(self, k: int) -> WantedDraft:
        return WantedDraft(k, k, self._share(k)) if k else _NOTHING

    def _rate(self, k: int) -> float:
        """Tokens a second of a session, with drafts as an idle tier makes them."""
        num_sessions = max(self._num_sessions, 1)
        times = self._governor.times
        verification_s = times.verification_s(k, self._expected, num_sessions)
        return self._expected.tokens[k] / (times.idle_draft_s(k) + verification_s)

    def _share(self, k: int) -> float:
        """Of an engine, for each session."""
        num_sessions = max(self._num_sessions, 1)
        k = min(k, self._governor.max_k)
        if not k:
            return _LEAST_SHARE
        times = self._governor.times
        round_s = times.idle_draft_s(k) + times.verification_s(k, self._expected, num_sessions)
        engine_s = times.idle_draft_s(k, num_sessions)
        return max(engine_s / num_sessions / round_s, _LEAST_SHARE)
