"""One K for all sessions of a deployment.

*All sessions choose as if all chose alike.* In a busy pass a single session that drafts more hardly
lengthens it and gains; if all do, all lose. So one K is chosen for all: the one with the most
expected tokens (`acceptance.py`) a second of the clock (`round_times.py`). Plain decoding, K = 0,
is one of the candidates. What trying may cost is kept by the ledger (`ledger.py`).

*Clocks are kept fresh.* While all speculate, now and then a round takes another K, and every fourth
time some take none.

*Plain decoding is hardly looked at.* While nobody drafts, all sessions that share a pass say the
same of it. One of them is enough, for several passes.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.clocks import SURPRISE
from orchestrator.policy.ledger import ROUNDS_TO_HOLD, Ledger
from orchestrator.policy.load import Load, bucket_of
from orchestrator.policy.round_times import RoundTimes

CLEARLY = 1.03
"""Another K, or speculation beside debts, must promise so many times the speed; speculation ends
where plain decoding promises it."""
MIN_TIMEOUT_S = 0.02
"""A shorter wait says nothing of a draft."""
PASSES_TO_LOOK = 2
"""While nobody drafts, until one round of one session is looked at, for all of them."""
DECISIONS_TO_TRIAL = 12
"""While all speculate, until another K is tried."""
STANDS_APART = 0.2
"""Tokens a round that a session must gain by drafting less than the others."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A round that was asked for."""

    bucket: int
    k: int  # that all go by
    expected: Expectation
    is_early: bool  # rounds of another K are still under way
    num_rounds: int  # of all sessions, for which it stands


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
        self.max_k = max_k
        self.drafts_are_free = drafts_are_free
        self.times = RoundTimes(target_costs, draft_costs)
        self.k = 0
        """That all sessions go by."""
        self._load = Load()
        self._bucket = 0  # of the load, when K was chosen
        self._members: set[Hashable] = set()  # sessions under way
        self._expectations: dict[Hashable, Expectation] = {}  # of those beyond their prompts
        self._under_way: dict[Hashable, _UnderWay] = {}
        self._mean = Expectation([0.0] * (max_k + 1), [1.0] * (max_k + 1))
        self._mean_s = self._seconds(self._mean)
        self._ledger = Ledger()
        self._has_given_up = False  # the last time that speculation ended
        self._num_stints = 0  # times that it began
        self._num_rounds = 0  # of all sessions, since it began or ended
        self._num_decisions = 0  # since then
        self._num_judged = self._num_drafts = 0  # rounds and drafts since then
        self._num_held = 0  # rounds of all sessions since the last decision
        self._num_skipped = 0  # rounds of all sessions since one was looked at

    def join(self, member: Hashable, expected: Expectation) -> bool:
        """A session begins that expects so much of its drafts.

        Returns:
            Whether the draft tier should get ready at once. A model computes the prompt for that,
            and where it shares a processor with the target, everybody's next token waits for it.
        """
        self._members.add(member)
        if len(self._members) == 1:
            was_busy = self._load.num_sessions > 1  # others may follow, as they did the last time
            self._load.reset()
            self.times.batch_size = 1.0
            self._decide(expected)
            if was_busy and self.times.drafts_are_computed:
                return False
        if self.k:
            return bucket_of(len(self._members)) == self._bucket
        if self.times.drafts_are_computed or self._has_given_up:
            return False
        rates = self._rates(expected, self._seconds(expected))
        return max(rates) > CLEARLY * rates[0]

    def leave(self, member: Hashable) -> None:
        """A session has ended."""
        self._members.discard(member)
        self._expectations.pop(member, None)
        self._under_way.pop(member, None)

    def skips(self, member: Hashable) -> bool:
        """Whether a session's next round is plain and says nothing that others do not say too."""
        is_news = member not in self._expectations or len(self._members) > self._load.num_sessions
        num_to_look = PASSES_TO_LOOK * len(self._expectations)
        if self.k or is_news or self._num_skipped + 1 >= num_to_look:
            return False
        self._num_skipped += 1
        return True

    def choose(self, member: Hashable, expected: Expectation) -> int:
        """K for a session that expects so much of its drafts; its word counts from now on."""
        self._members.add(member)
        self._expectations[member] = expected
        num_rounds, self._num_skipped = self._num_skipped + 1, 0
        self._num_held += num_rounds
        self._load.observe(len(self._members), num_rounds)
        is_due = self._num_held >= ROUNDS_TO_HOLD * len(self._expectations)
        is_over = self.k > 0 and self._ledger.is_overdrawn(self._mean_s[0])
        if is_due or is_over or self._load.bucket != self._bucket:
            self._decide(Expectation.mean(list(self._expectations.values())))
            self._num_held = 0
        is_early = self._num_rounds < len(self._members)
        self._num_rounds += num_rounds
        k = self._trial if self.k and self._is_trying() else self.k
        self._under_way[member] = _UnderWay(self._bucket, k, expected, is_early, num_rounds)
        return min(k, self._affordable(expected)) if k == self.k else k

    def timeout_s(self, expected: Expectation, k: int) -> float:
        """How long a draft is worth waiting for.

        No longer than it is late by any measure, and no longer than plain decoding would take for
        as many tokens.
        """
        wait_s = expected.tokens[k] * self._mean_s[0]
        if self._num_drafts:
            usual_s = self.times.draft_s(self._bucket, k, len(self._members))
            wait_s = min(wait_s, SURPRISE * usual_s)
        return max(wait_s, MIN_TIMEOUT_S)

    def idle_round_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """A round at this load, with a draft tier that has nothing else to do, seconds."""
        return self.times.idle_round_s(self._bucket, k, expected, num_sessions)

    def learn(self, member: Hashable, judged: Round, *, is_first_draft: bool) -> None:
        """Takes times from a round.

        Args:
            member: whose it was.
            judged: the round.
            is_first_draft: its session has asked for no draft before.
        """
        asked = self._under_way.pop(member, None)
        if not judged.session.round or asked is None:
            return  # most of it was the prompt
        k = 0 if judged.drafted.has_failed else judged.ask.num_speculative_tokens
        num_members = max(len(self._members), 1)
        seconds = (judged.speculation_ns + judged.verification_ns + judged.rejection_ns) / 1e9
        seconds *= asked.num_rounds / num_members
        if asked.k:
            plain_s, share = self._mean_s[0], asked.num_rounds / num_members
            self._ledger.lose(seconds - share * asked.expected.tokens[k] * plain_s, plain_s, share)
        else:
            self._ledger.earn(seconds)
        is_plain = not judged.ask.num_speculative_tokens
        if judged.ask.num_speculative_tokens != asked.k or asked.is_early:
            return  # it says nothing of rounds in which all ask for the same
        if is_plain and self._has_prompt(judged):
            return
        self._num_judged += not is_plain
        self._num_drafts += not (is_plain or is_first_draft or judged.drafted.has_failed)
        self.times.learn(
            judged, asked.bucket, is_first_draft=is_first_draft, num_rounds=asked.num_rounds
        )

    def _has_prompt(self, judged: Round) -> bool:
        """Whether somebody's prompt was computed in the same pass."""
        timings = judged.measured.timings
        return timings.num_batch_tokens > timings.batch_size * (1 + self.max_k)

    def _decide(self, mean: Expectation) -> None:
        """Chooses K anew, for sessions that expect so much on average."""
        bucket = self._load.bucket
        is_other_load, self._bucket = bucket != self._bucket, bucket
        self._num_decisions += 1
        self._mean, self._mean_s = mean, self._seconds(mean)
        rates = self._rates(mean, self._mean_s)
        best = max(range(1, self.max_k + 1), key=rates.__getitem__)
        promise = rates[best] / rates[0]
        if not self.k:
            if self._may_begin(best, promise):
                self._begin(best)
        elif is_other_load:
            self._ledger.settle()
            self._change(best if self._may_begin(best, promise) else 0)
        elif self._loses(promise):
            self._has_given_up = True
            self._ledger.give_up(bucket, self._mean_s[0])
            self._change(0)
        elif self._num_decisions >= 4 * DECISIONS_TO_TRIAL:
            self._has_given_up = False
            self._ledger.pause(bucket)
            self._change(0)
        elif rates[best] > CLEARLY * rates[self.k]:
            self.k = best

    def _begin(self, k: int) -> None:
        if self._has_given_up:
            self._num_drafts = 0
            self.times.forget_drafts(self._bucket)
        self._num_stints += 1
        self._change(k)

    def _change(self, k: int) -> None:
        """Speculation begins or ends."""
        self.k = k
        self._num_rounds = self._num_decisions = self._num_judged = 0

    def _may_begin(self, k: int, promise: float) -> bool:
        """Whether it is time to speculate."""
        is_promising = promise > CLEARLY and self.times.knows_drafts(self._bucket)
        if not is_promising and not self.times.knows_plain(self._bucket, ROUNDS_TO_HOLD):
            return False  # there would be nothing to compare it with
        if not self.times.drafts_were_seen:
            return True  # the profile may be wrong
        if is_promising and self._ledger.trusts(self._bucket):
            return True
        plain_s = self._mean.tokens[k] * self._mean_s[0]
        # Nobody waits for longer than that.
        return self._ledger.affords(min(self._mean_s[k] - plain_s, plain_s))

    def _loses(self, promise: float) -> bool:
        """Whether speculation promises to lose, or has lost whatever it promises."""
        is_judged = self._num_judged > len(self._members)
        return (is_judged and promise < 1 / CLEARLY) or self._ledger.is_overdrawn(self._mean_s[0])

    def _seconds(self, expected: Expectation) -> list[float]:
        """[max_k + 1] of a round, if all ask for K tokens."""
        num_sessions, times = len(self._members), self.times
        return [
            times.round_s(self._bucket, k, expected, num_sessions) for k in range(self.max_k + 1)
        ]

    @staticmethod
    def _rates(expected: Expectation, seconds: Sequence[float]) -> list[float]:
        """[max_k + 1] tokens a second of a session."""
        return [num_tokens / s for num_tokens, s in zip(expected.tokens, seconds, strict=True)]

    def _is_trying(self) -> bool:
        """Whether all take one round of another K."""
        is_due = self._num_decisions % DECISIONS_TO_TRIAL == DECISIONS_TO_TRIAL - 1
        return is_due and self._num_held < len(self._expectations)

    @property
    def _trial(self) -> int:
        """The K to try: a shorter, a longer and any take turns."""
        turn = self._num_decisions // DECISIONS_TO_TRIAL
        any_k = self._num_stints % self.max_k + 1
        return (max(self.k - 1, 1), min(self.k + 1, self.max_k), any_k)[turn % 3]

    def _affordable(self, expected: Expectation) -> int:
        """The K up to everybody's that gains a session most.

        A pass that its draft makes longer costs the tokens that all would have made meanwhile.
        """
        if not self.k or len(self._expectations) == 1 or not self.times.drafts_were_seen:
            return self.k
        price = self._mean.tokens[self.k] / self._mean_s[self.k]
        gains = [
            num_tokens - price * seconds
            for num_tokens, seconds in zip(expected.tokens, self._mean_s, strict=True)
        ]
        best = max(range(self.k + 1), key=gains.__getitem__)
        return best if gains[best] > STANDS_APART + gains[self.k] else self.k
