"""One K for all sessions of a deployment.

In a busy pass a single session that drafts more hardly lengthens it and gains; if all do, all lose.
So one K is chosen for all: the one with the most expected tokens (`acceptance.py`) a second of the
clock (`round_times.py`). Plain decoding, K = 0, is one of the candidates. What trying may cost is
kept by the ledger (`ledger.py`).

While all speculate, now and then all take one round of another K, so that the clocks are fresh: a
shorter one, a longer one, any and none in turn.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.clocks import SURPRISE, load_of
from orchestrator.policy.ledger import ROUNDS_TO_HOLD, Ledger
from orchestrator.policy.round_times import RoundTimes

CLEARLY = 1.03
"""Another K must promise so many times the speed; speculation ends where plain decoding does."""
MIN_TIMEOUT_S = 0.02
"""A shorter wait says nothing of a draft."""
DECISIONS_TO_TRIAL = 12
"""While all speculate, until another K is tried."""


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
        self.max_k = max_k
        self.drafts_are_free = drafts_are_free
        self.times = RoundTimes(target_costs, draft_costs)
        self.k = 0
        """That all sessions go by."""
        self._load = 0  # when K was chosen
        self._members: set[Hashable] = set()  # sessions under way
        self._expectations: dict[Hashable, Expectation] = {}  # of those beyond their prompts
        self._plain_s = 0.0  # a round of plain decoding, when K was chosen
        self._ledgers: defaultdict[int, Ledger] = defaultdict(Ledger)  # by load
        self._num_held = 0  # rounds since K was chosen
        self._num_decisions = 0  # since speculation began or ended
        self._num_trials = 0  # of another K, which take turns

    def join(self, member: Hashable, expected: Expectation) -> bool:
        """A session begins that expects so much of its drafts.

        Returns:
            Whether the draft tier should get ready at once. A model computes the prompt for that,
            and where it shares a processor with the target, everybody's next token waits for it.
        """
        self._members.add(member)
        was_busy = len(self._members) == 1 and self._load > 0  # others may follow, as before
        if len(self._members) == 1:
            self.times.batch_size = 1.0
            self._decide(expected)
        return self.k > 0 and load_of(len(self._members)) == self._load and not was_busy

    def leave(self, member: Hashable) -> None:
        """A session has ended."""
        self._members.discard(member)
        self._expectations.pop(member, None)

    def choose(self, member: Hashable, expected: Expectation) -> Choice:
        """For a session that expects so much of its drafts; its word counts from now on."""
        self._expectations[member] = expected
        num_sessions, num_known = len(self._members), len(self._expectations)
        is_over = self.k and self._ledgers[self._load].is_overdrawn(self._plain_s)
        is_due = self._num_held >= ROUNDS_TO_HOLD * num_known
        if is_due or is_over or load_of(num_sessions) != self._load:
            self._decide(Expectation.mean(list(self._expectations.values())))
        k = self.k
        if k and self._is_for_trial and self._num_held < num_known:
            turn, kind = divmod(self._num_trials, 4)
            k = (max(k - 1, 1), min(k + 1, self.max_k), turn % self.max_k + 1, 0)[kind]
        self._num_held += 1
        timeout_s = self._timeout_s(k, expected) if k else 0.0
        return Choice(k, timeout_s, expected, self._plain_s, num_sessions)

    def learn(self, choice: Choice, judged: Round, *, is_first_draft: bool) -> None:
        """Takes times from a round.

        Args:
            choice: by which its session asked.
            judged: the round.
            is_first_draft: its session has asked for no draft before.
        """
        k, share = judged.ask.num_speculative_tokens, 1 / choice.num_sessions
        ledger = self._ledgers[load_of(choice.num_sessions)]
        seconds = (judged.speculation_ns + judged.verification_ns + judged.rejection_ns) / 1e9
        if judged.drafted.has_failed:
            lost_s = judged.speculation_ns / 1e9  # the rest is a plain round
        else:
            lost_s = seconds - choice.expected.tokens[k] * choice.plain_s
        if k:
            ledger.lose(lost_s, choice.plain_s, share)
        else:
            ledger.earn(share * seconds)
        if k == choice.k:  # others say nothing of rounds in which all ask for the same
            self.times.learn(judged, choice.num_sessions, is_first_draft=is_first_draft)

    def _timeout_s(self, k: int, expected: Expectation) -> float:
        """No longer than a draft is late by any measure, and no longer than plain decoding would
        take for as many tokens."""
        wait_s = expected.tokens[k] * self._plain_s
        if self.times.drafts_were_seen:
            wait_s = min(wait_s, SURPRISE * self.times.draft_s(k, len(self._members)))
        return max(wait_s, MIN_TIMEOUT_S)

    def _decide(self, mean: Expectation) -> None:
        """Chooses K anew, for sessions that expect so much on average."""
        num_sessions, load_before = len(self._members), self._load
        self._load = load_of(num_sessions)
        self._num_held = 0
        self._num_decisions += 1
        self._num_trials += self._is_for_trial
        seconds = [self.times.round_s(k, mean, num_sessions) for k in range(self.max_k + 1)]
        self._plain_s = seconds[0]
        rates = [num_tokens / s for num_tokens, s in zip(mean.tokens, seconds, strict=True)]
        best = max(range(1, self.max_k + 1), key=rates.__getitem__)
        ledger = self._ledgers[self._load]
        if not self.k or self._load != load_before:
            lost_s = CLEARLY * seconds[best] - mean.tokens[best] * seconds[0]
            self._change(best if self._may_begin(lost_s) else 0)
        elif rates[0] > CLEARLY * rates[best] or ledger.is_overdrawn(seconds[0]):
            ledger.settle()
            self._change(0)
        elif rates[best] > CLEARLY * rates[self.k]:
            self.k = best

    @property
    def _is_for_trial(self) -> bool:
        """Whether all take one round of another K before they go on."""
        return self._num_decisions % DECISIONS_TO_TRIAL == DECISIONS_TO_TRIAL - 1

    def _change(self, k: int) -> None:
        """Speculation begins, ends, or goes on at another load."""
        if k or self.k:
            self._num_decisions = 0
        self.k = k

    def _may_begin(self, lost_s: float) -> bool:
        """Whether it is time to speculate, in rounds that promise to lose so much each."""
        if self.times.num_plain(len(self._members)) < 2 * ROUNDS_TO_HOLD - 1e-6:
            return False  # there would be nothing to compare it with
        # What was never seen is tried once, since the profile may be wrong.
        return not self.times.drafts_were_seen or self._ledgers[self._load].affords(lost_s)
