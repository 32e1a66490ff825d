"""One K for all sessions of a deployment.

In a busy pass a single session that drafts more hardly lengthens it and gains; if all do, all lose.
So one K is chosen for all: the one with the most expected tokens (`acceptance.py`) a second of the
clock (`round_times.py`). Plain decoding, K = 0, is one of the candidates. What trying may cost is
kept by the ledger (`ledger.py`).

While all speculate, now and then a round takes a shorter K, a longer one or any, and every fourth
time some rounds of all take none, so that the clocks are fresh.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.clocks import SURPRISE
from orchestrator.policy.ledger import ROUNDS_TO_HOLD, Ledger
from orchestrator.policy.round_times import RoundTimes, load_of

CLEARLY = 1.03
"""Another K must promise so many times the speed; speculation ends where plain decoding does."""
MIN_TIMEOUT_S = 0.02
"""A shorter wait says nothing of a draft."""
DECISIONS_TO_TRIAL = 12
"""While all speculate, until another K is tried."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A round under way."""

    load: int
    k: int  # that all go by
    expected: Expectation
    plain_s: float  # a round of plain decoding
    share: float  # of the rounds of all sessions at a time
    is_early: bool  # rounds of the K before may still be under way


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
        self._asked: dict[Hashable, _Asked] = {}
        self._plain_s = 0.0  # a round of plain decoding, when K was chosen
        self._ledgers: defaultdict[int, Ledger] = defaultdict(Ledger)  # by load
        self._num_held = 0  # rounds since K was chosen
        self._num_decisions = 0  # since speculation began or ended
        self._num_settled = 0  # rounds since K changed
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
            self._decide(0, expected)
        return self.k > 0 and load_of(len(self._members)) == self._load and not was_busy

    def leave(self, member: Hashable) -> None:
        """A session has ended."""
        self._members.discard(member)
        self._expectations.pop(member, None)
        self._asked.pop(member, None)

    def choose(self, member: Hashable, expected: Expectation) -> int:
        """K for a session that expects so much of its drafts; its word counts from now on."""
        self._members.add(member)
        self._expectations[member] = expected
        num_known = len(self._expectations)
        load = load_of(len(self._members))
        is_due = self._num_held >= ROUNDS_TO_HOLD * num_known
        is_over = self._ledgers[self._load].is_overdrawn(self._plain_s)
        if is_due or (self.k and is_over) or load != self._load:
            self._decide(load, Expectation.mean(list(self._expectations.values())))
        k = self.k
        if k and self._is_for_trial and self._num_held < num_known:
            any_k = self._num_trials % self.max_k + 1
            k = (max(k - 1, 1), min(k + 1, self.max_k), any_k)[self._num_trials % 3]
        is_early = self._num_settled < len(self._members)
        self._num_held += 1
        self._num_settled += 1
        share = 1 / len(self._members)
        self._asked[member] = _Asked(load, k, expected, self._plain_s, share, is_early)
        return k

    def timeout_s(self, expected: Expectation, k: int) -> float:
        """How long a draft is worth waiting for.

        No longer than it is late by any measure, and no longer than plain decoding would take for
        as many tokens.
        """
        wait_s = expected.tokens[k] * self._plain_s
        if self.times.drafts_were_seen:
            usual_s = self.times.draft_s(self._load, k, len(self._members))
            wait_s = min(wait_s, SURPRISE * usual_s)
        return max(wait_s, MIN_TIMEOUT_S)

    def idle_round_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """A round at this load, with a draft tier that has nothing else to do, seconds."""
        return self.times.idle_round_s(self._load, k, expected, num_sessions)

    def learn(self, member: Hashable, judged: Round, *, is_first_draft: bool) -> None:
        """Takes times from a round.

        Args:
            member: whose it was.
            judged: the round.
            is_first_draft: its session has asked for no draft before.
        """
        asked = self._asked.pop(member, None)
        if not judged.session.round or asked is None:
            return  # most of it was the prompt
        k, ledger = judged.ask.num_speculative_tokens, self._ledgers[asked.load]
        seconds = (judged.speculation_ns + judged.verification_ns + judged.rejection_ns) / 1e9
        if judged.drafted.has_failed:
            lost_s = judged.speculation_ns / 1e9  # the rest is a plain round
        else:
            lost_s = seconds - asked.expected.tokens[k] * asked.plain_s
        if k:
            ledger.lose(asked.share * lost_s, asked.plain_s, asked.share)
        else:
            ledger.earn(asked.share * seconds)
        if k == asked.k and not asked.is_early:
            # Others say nothing of rounds in which all ask for the same.
            self.times.learn(judged, asked.load, is_first_draft=is_first_draft)

    def _decide(self, load: int, mean: Expectation) -> None:
        """Chooses K anew, for sessions that expect so much on average."""
        is_other_load, self._load = load != self._load, load
        self._num_held = 0
        self._num_decisions += 1
        self._num_trials += self._is_for_trial
        seconds = [
            self.times.round_s(load, k, mean, len(self._members)) for k in range(self.max_k + 1)
        ]
        self._plain_s = seconds[0]
        rates = [num_tokens / s for num_tokens, s in zip(mean.tokens, seconds, strict=True)]
        best = max(range(1, self.max_k + 1), key=rates.__getitem__)
        promise = rates[best] / rates[0]
        if not self.k or is_other_load:
            lost_s = CLEARLY * seconds[best] - mean.tokens[best] * seconds[0]
            self._change(best if self._may_begin(lost_s) else 0)
        elif promise < 1 / CLEARLY or self._ledgers[load].is_overdrawn(seconds[0]):
            self._ledgers[load].settle()
            self._change(0)
        elif self._num_decisions >= 4 * DECISIONS_TO_TRIAL:
            self._change(0)
        elif rates[best] > CLEARLY * rates[self.k]:
            self.k, self._num_settled = best, 0

    @property
    def _is_for_trial(self) -> bool:
        """Whether all take one round of another K before they go on."""
        return self._num_decisions % DECISIONS_TO_TRIAL == DECISIONS_TO_TRIAL - 1

    def _change(self, k: int) -> None:
        """Speculation begins, ends, or goes on at another load."""
        if k or self.k:
            self._num_settled = self._num_decisions = 0
        self.k = k

    def _may_begin(self, lost_s: float) -> bool:
        """Whether it is time to speculate, in rounds that promise to lose so much each."""
        if not self.times.knows_plain(self._load, 2 * ROUNDS_TO_HOLD):
            return False  # there would be nothing to compare it with
        # What was never seen is tried once, since the profile may be wrong.
        return not self.times.drafts_were_seen or self._ledgers[self._load].affords(lost_s)
