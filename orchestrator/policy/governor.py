"""One K for all sessions of a deployment.

In a busy pass a single session that drafts more hardly lengthens it and gains; if all do, all lose.
So one K is chosen for all: the one with the most expected tokens (`acceptance.py`) a second of the
clock (`round_times.py`). K = 0, plain decoding, is a candidate. While all speculate, now and then
all take one round of another K, so that clocks are fresh: a shorter one, a longer one, any, none.

What an attempt to speculate loses against plain decoding is owed, and a hundredth of the time of
plain decoding pays it back. A draft that promises to pay is tried when nothing is owed, another one
when the loss that it promises is saved too: one that has become good is found. An attempt that has
lost more than some plain rounds take is over, whatever is promised.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.round_times import SURPRISE, RoundTimes, load_of

CLEARLY = 1.03
"""Another K must promise so many times the speed; speculation ends where plain decoding does."""
MIN_TIMEOUT_S = 0.02
"""A shorter wait says nothing of a draft."""
DECISIONS_TO_TRIAL = 12
"""While all speculate, until another K is tried."""
EXPLORATION_SHARE = 0.01
"""Of the time of plain decoding, for drafts that lose."""
ROUNDS_TO_HOLD = 4
"""Rounds of each session until K is chosen anew, so that all get to go by it; and plain rounds that
an attempt may lose."""
MAX_GAIN = 6
"""Plain rounds that an attempt may lose besides, if it has gained them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What all sessions ask of a round, and what one of them expects of it."""

    k: int
    timeout_s: float  # that a draft is worth waiting for
    expected: Expectation
    plain_s: float  # a round of plain decoding
    num_sessions: int


class Governor:
    """Chooses K for all.

    Args:
        max_k: longest draft.
        target_costs: of the target's passes, as it measured them.
        draft_costs: of the draft's; () where none is known, or it needs none.
        drafts_are_free: there is no draft tier, all is looked up by the orchestrator.
    """

    def __init__(
        self,
        max_k: int,
        target_costs: Sequence[PassCost] = (),
        draft_costs: tuple[PassCost, ...] = (),
        *,
        drafts_are_free: bool = False,
    ) -> None:
        self.max_k, self.drafts_are_free = max_k, drafts_are_free
        self.times = RoundTimes(target_costs, draft_costs)
        self.k = 0
        """That all sessions go by."""
        self._members: set[Hashable] = set()  # sessions under way
        self._expectations: dict[Hashable, Expectation] = {}  # of those beyond their prompts
        self._load = 0  # when K was chosen
        self._plain_s = 0.0  # a round of plain decoding, when K was chosen
        self._num_held = 0  # rounds since K was chosen
        self._num_decisions = 0  # while all speculated
        # By load, for attempts; below 0 it is owed.
        self._saved_s: defaultdict[int, float] = defaultdict(float)
        self._lost_s = 0.0  # by the attempt under way, of late; below 0 it has gained

    def join(self, member: Hashable, expected: Expectation) -> bool:
        """A session begins that expects so much of its drafts.

        Returns:
            Whether the draft tier should get ready at once. A model computes the prompt for that,
            and where it shares a processor with the target, everybody's next token waits for it.
        """
        self._members.add(member)
        if len(self._members) == 1:
            self._decide(expected)
        return self.k > 0 and load_of(len(self._members)) == self._load

    def leave(self, member: Hashable) -> None:
        """A session has ended."""
        self._members.discard(member)
        self._expectations.pop(member, None)

    def choose(self, member: Hashable, expected: Expectation) -> Choice:
        """For a session that expects so much of its drafts; its word counts from now on."""
        self._expectations[member] = expected
        num_sessions, num_known = len(self._members), len(self._expectations)
        is_due = self._num_held >= ROUNDS_TO_HOLD * num_known or (self.k and self._has_lost)
        if is_due or load_of(num_sessions) != self._load:
            self._decide(Expectation.mean(list(self._expectations.values())))
        k, (trial, place) = self.k, divmod(self._num_decisions, DECISIONS_TO_TRIAL)
        if k and place == DECISIONS_TO_TRIAL - 1 and self._num_held < num_known:
            turn, kind = divmod(trial, 4)
            k = (max(k - 1, 1), min(k + 1, self.max_k), turn % self.max_k + 1, 0)[kind]
        self._num_held += 1
        timeout_s = self._timeout_s(k, expected) if k else 0.0
        return Choice(k, timeout_s, expected, self._plain_s, num_sessions)

    def learn(self, choice: Choice, judged: Round) -> None:
        """Takes times from a round whose session asked by a choice."""
        k, share = judged.ask.num_speculative_tokens, 1 / choice.num_sessions
        seconds = (judged.speculation_ns + judged.verification_ns + judged.rejection_ns) / 1e9
        num_tokens = 1.0 if judged.drafted.has_failed else choice.expected.tokens[k]
        limit_s = ROUNDS_TO_HOLD * choice.plain_s
        # A machine that stalls for a moment says nothing of drafts.
        lost_s = min(seconds - num_tokens * choice.plain_s, limit_s)
        if k:
            self._lost_s = max(self._lost_s + share * lost_s, -MAX_GAIN * choice.plain_s)
        else:
            self._saved_s[load_of(choice.num_sessions)] += EXPLORATION_SHARE * share * seconds
        if k == choice.k:  # others say nothing of rounds in which all ask for the same
            self.times.learn(judged, choice.num_sessions)

    @property
    def _has_lost(self) -> bool:
        """Whether the attempt under way has lost what it may."""
        return self._lost_s > ROUNDS_TO_HOLD * self._plain_s

    def _timeout_s(self, k: int, expected: Expectation) -> float:
        """No longer than a draft is late by any measure, and no longer than plain decoding would
        take for as many tokens."""
        wait_s = expected.tokens[k] * self._plain_s
        if self.times.num_drafts:
            wait_s = min(wait_s, SURPRISE * self.times.draft_s(k, len(self._members)))
        return max(wait_s, MIN_TIMEOUT_S)

    def _decide(self, mean: Expectation) -> None:
        """Chooses K anew, for sessions that expect so much on average."""
        num_sessions, times = len(self._members), self.times
        self._load, self._num_held = load_of(num_sessions), 0
        seconds = [
            times.draft_s(k, num_sessions) + times.verification_s(k, mean, num_sessions)
            for k in range(self.max_k + 1)
        ]
        self._plain_s = seconds[0]
        rates = [num_tokens / s for num_tokens, s in zip(mean.tokens, seconds, strict=True)]
        best = max(range(1, self.max_k + 1), key=rates.__getitem__)
        if not self.k:
            is_known = times.verifying.num_plain(num_sessions) >= 2 * ROUNDS_TO_HOLD - 1e-6
            lost_s = CLEARLY * seconds[best] - mean.tokens[best] * seconds[0]
            is_paid = self._saved_s[self._load] >= max(ROUNDS_TO_HOLD * lost_s, 0.0)
            # What was measured may be wrong, and the first draft late: its prompt was computed.
            if is_known and (is_paid or times.num_drafts <= 1):
                self.k = best
            return
        self._num_decisions += 1
        if rates[0] > CLEARLY * rates[best] or self._has_lost:
            self._saved_s[self._load] = min(self._saved_s[self._load], 0) - max(self._lost_s, 0)
            self.k, self._lost_s = 0, 0.0
        elif rates[best] > CLEARLY * rates[self.k]:
            self.k = best
