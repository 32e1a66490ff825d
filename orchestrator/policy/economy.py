"""What speculation brings and costs in a deployment, and the K that all its sessions go by.

*All sessions choose as if all chose alike.* In a busy pass a single session that drafts more hardly
lengthens it, and gains; if all do, all lose. So one K is chosen for all, by what the sessions under
way expect on average, and by what a pass costs in which each of them verifies so many.

A session whose own drafts fare worse than the average takes fewer, by *price*: a token in the pass
takes time in which the deployment would have made so and so many others.

*Costs promise, clocks decide.* Costs say which K is best and what it promises. Whether to speculate
at all is decided by the time that rounds really took, with drafts and without (`paces.py`).

*Trying is paid for.* What speculation loses against plain decoding is owed. A hundredth of the time
of plain decoding pays it back, and only when what the next attempt may lose is there is it made. So
a draft that does not pay costs a hundredth, and one that has become good is found.

*What is free needs no trying.* Guesses that the orchestrator looks up itself cost nothing but their
verification, of which the tiers say how long it took. There costs decide alone.

*K does not flap*: another K must promise to be clearly better, and speculation clearly better than
none.

*Plain decoding is hardly looked at.* While nobody drafts, all sessions that share a pass would say
the same of it, and choose the same again. One of them is enough, for several passes: the rest cost
what they cost without a policy.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.paces import Level, Levels
from orchestrator.policy.round_costs import RoundCosts

WORTH_SPECULATING = 1.05
"""Speculation must promise so many times the speed of plain decoding, to begin."""
WORTH_GOING_ON = 0.98
"""Speculation must promise so many times the speed of plain decoding, to go on: whoever ends it for
noise pays with the rounds until it is begun again."""
_WORTH_CHANGING = 1.03
"""Another K must promise so many times the speed of the last one."""
_STANDS_APART = 0.2
"""Tokens a round that a session must gain by drafting less than the others."""
_ROUNDS_TO_HOLD = 4
"""Rounds of each session until K is chosen anew, so that all get to go by it."""
_ROUNDS_TO_FALL = 12
"""Of each session, until fewer of them are a lower load: between an answer and the next request
there are fewer for a moment."""
_ROUNDS_TO_JUDGE = 3
"""With drafts, of all sessions, before an attempt is given up."""
_PASSES_TO_LOOK = 2
"""While nobody drafts, until one round of one session is looked at, for all of them."""
_DECISIONS_TO_TRIAL = 12
"""While speculation is on, one round after so many decisions tries another K."""
_DECISIONS_TO_COMPARE = 64
"""While speculation is on, after so many decisions there is none until the next: how fast plain
decoding is by now."""
_WORTH_VERIFYING = 1.01
"""Free drafts must promise so many times the speed of plain decoding, to begin."""
_DECISIONS_TO_RETRY = 24
"""Without free drafts, until they are asked for again: what is never seen is never found good."""
_EXPLORATION_SHARE = 0.01
"""Of the time of plain rounds, for drafts that are not expected to pay."""
_MAX_SAVED_S = 1.0
"""Time that is set aside for them at most, where no attempt needs more."""
_MAX_OWED_S = 0.25
"""Time that is paid back at most."""
_SMALL_DEBT_S = 0.05
"""With which a load may be tried that never was."""


@dataclass(eq=False, slots=True)
class Stint:
    """A time in which all sessions speculate, or none does, at one load."""

    level: Level
    k: int  # that all go by
    num_rounds: int = 0  # of all sessions, asked for
    num_decisions: int = 0
    lost_s: float = 0.0  # against plain decoding


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a stint a round was asked for."""

    stint: Stint
    expected: Expectation
    is_early: bool  # what went before is still under way
    num_rounds: int  # of all sessions, for which it stands


class Economy:
    """Costs that sessions have learned together, and the choice that follows.

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
        self.costs = RoundCosts(target_costs, draft_costs, drafts_are_free=drafts_are_free)
        self._members: set[Hashable] = set()  # sessions under way
        self._peak = 0  # the most at once, since there were none
        self._load = 1  # sessions at once, without short dips
        self._num_below = 0  # rounds since there were as many
        self._most_below = 0  # and how many there were at most in that time
        self._expectations: dict[Hashable, Expectation] = {}  # of those beyond their prompts
        self._places: dict[Hashable, Place] = {}  # of their rounds under way
        self._levels = Levels()
        self._stint = Stint(self._levels.at(1), 0)
        self._num_unseen = 0  # rounds of sessions since one was looked at
        self._num_held = 0  # rounds of sessions since the last decision
        self._mean = Expectation([0.0] * (max_k + 1), [1.0] * (max_k + 1))  # at that time
        self._saved_s = 0.0  # for drafts that are not expected to pay; below 0 it is owed

    @property
    def k(self) -> int:
        """The K that all sessions go by now."""
        return self._stint.k

    @property
    def kept(self) -> float:
        """The part of what costs promise of speculation that clocks have seen, at this load; 1
        where they have seen nothing."""
        return min(self._stint.level.kept, 1.0)

    def join(self, member: Hashable, expected: Expectation) -> bool:
        """A session begins that expects so much of its drafts.

        Returns:
            Whether the draft tier should get ready at once. A model computes the prompt for that,
            and where it shares a processor with the target, everybody's next token waits for it.
        """
        self._members.add(member)
        last_peak = self._peak
        self._peak = max(last_peak, len(self._members))
        if len(self._members) == 1:
            # The load that was is over, and this session alone decides.
            self._peak = self._load = 1
            self.costs.batch_size = 1.0
            self._decide(expected)
            if last_peak > 1 and self.costs.drafts_are_computed:
                return False  # others may follow, as they did the last time
        load = max(self._load, len(self._members))
        level = self._levels.at(load)
        if self._stint.k:
            return level is self._stint.level
        if self.costs.drafts_are_computed or level.has_lost:
            return False
        promise = self._promise(expected)[1]
        gain = self._levels.known_gain(load, promise)
        return promise > WORTH_SPECULATING and (gain is None or gain > 1)

    def leave(self, member: Hashable) -> None:
        """A session has ended."""
        self._members.discard(member)
        self._expectations.pop(member, None)
        self._places.pop(member, None)

    def overlooks(self, member: Hashable) -> bool:
        """Whether a session's next round is as plain as the last one, and not looked at."""
        num_sessions = len(self._expectations)
        is_news = member not in self._expectations or len(self._members) > self._load
        if self._stint.k or is_news or self._num_unseen + 1 >= _PASSES_TO_LOOK * num_sessions:
            return False
        self._num_unseen += 1
        return True

    def choose(self, member: Hashable, expected: Expectation) -> int:
        """K for a session that expects so much of its drafts; its word counts from now on."""
        self._members.add(member)
        self._expectations[member] = expected
        num_rounds, self._num_unseen = self._num_unseen + 1, 0
        self._num_held += num_rounds
        self._learn_load(num_rounds)
        is_other_load = self._levels.at(self._load) is not self._stint.level
        if is_other_load or self._num_held >= _ROUNDS_TO_HOLD * len(self._expectations):
            self._decide(self._mean_expectation())
            self._num_held = 0
        stint = self._stint
        is_early = stint.num_rounds < len(self._members)
        self._places[member] = Place(stint, expected, is_early, num_rounds)
        stint.num_rounds += num_rounds
        if not stint.k:
            return 0
        return self._trial if self._is_trying() else self._affordable(expected)

    def _learn_load(self, num_rounds: int) -> None:
        """So many more rounds are asked for."""
        num_members = len(self._members)
        if num_members < self._load:
            self._num_below += num_rounds
            self._most_below = max(self._most_below, num_members)
            if self._num_below < _ROUNDS_TO_FALL * num_members:
                return
        self._load = max(num_members, self._most_below)
        self._num_below = self._most_below = 0

    def timeout_s(self, expected: Expectation, k: int) -> float:
        """How long a draft of K tokens is worth waiting for."""
        return self.costs.timeout_s(k, expected, len(self._expectations))

    def learn(
        self,
        member: Hashable,
        judged: Round,
        *,
        is_first_draft: bool = False,
        is_preparing: bool = False,
    ) -> None:
        """Takes costs from a round.

        Args:
            member: whose it was.
            judged: the round.
            is_first_draft: its session had asked for no draft before.
            is_preparing: its session will ask for one soon.
        """
        if not judged.session.round:
            return  # most of it was the prompt
        place = self._places.pop(member, None)
        if not is_preparing:  # then the draft tier computes the prompt, once
            self.costs.learn(
                judged,
                all_draft=self._stint.k > 0,
                is_first_draft=is_first_draft,
                num_rounds=place.num_rounds if place else 1,
            )
        if place is not None and not self.costs.drafts_are_free:
            self._learn_pace(place, judged, is_preparing=is_preparing)

    def _learn_pace(self, place: Place, judged: Round, *, is_preparing: bool) -> None:
        """How fast a round was, and what speculation gains or loses."""
        took_ns = judged.speculation_ns + judged.verification_ns + judged.rejection_ns
        seconds = took_ns / 1e9
        k = 0 if judged.drafted.has_failed else judged.ask.num_speculative_tokens
        num_tokens = place.expected.tokens[k]
        num_members = max(len(self._members), 1)
        stint, level = place.stint, place.stint.level
        nominal_s = self.costs.nominal_s(num_members)
        weight = place.num_rounds / num_members
        if stint.k:
            if not is_preparing:
                level.speculative.observe(k, seconds / nominal_s, weight)
            plain_s = nominal_s
            if level.plain.num_rounds:
                plain_s /= level.plain.speed(place.expected.tokens)
            lost_s = weight * (seconds - num_tokens * plain_s)
            stint.lost_s += lost_s
            # A gain pays what is owed. It is not there to be lost again.
            saved_s = min(self._saved_s - lost_s, max(self._saved_s, 0.0))
            self._saved_s = max(saved_s, -_MAX_OWED_S)
        else:
            if not place.is_early and not self._has_prompt(judged):
                level.plain.observe(k, seconds / nominal_s, weight)
            saved_s = self._saved_s + weight * _EXPLORATION_SHARE * seconds
            self._saved_s = min(saved_s, max(_MAX_SAVED_S, 1.5 * level.price_s))

    def _has_prompt(self, judged: Round) -> bool:
        """Whether somebody's prompt was computed in the same pass."""
        timings = judged.measured.timings
        return timings.num_batch_tokens > timings.batch_size * (1 + self.max_k)

    def _decide(self, mean: Expectation) -> None:
        """Chooses K anew, for sessions that expect so much on average."""
        self._mean = mean
        stint, level = self._stint, self._levels.at(self._load)
        stint.num_decisions += 1
        if not stint.k and stint.level is level and self._cannot_pay(level):
            return
        best, promise = self._promise(mean)
        if stint.k and stint.level is not level and stint.lost_s > 0:
            # The load changes before it was judged. What is known of the old one stays.
            stint.level.has_lost = stint.level.has_lost or stint.level.gain is None
            stint.level.loss_s = max(stint.level.loss_s, stint.lost_s)
        if self.costs.drafts_are_free:
            self._decide_by_costs(level, best, promise)
        elif not stint.k or stint.level is not level:
            self._go_on(level, best if self._may_begin(level, promise) else 0)
        elif level.speculative.num_rounds >= _ROUNDS_TO_JUDGE and not self._pays(level, promise):
            self._give_up(stint, promise)
        elif stint.num_decisions > _DECISIONS_TO_COMPARE:
            level.has_lost = False  # it pays, and goes on once that is confirmed
            level.num_losses = 0
            self._go_on(level, 0)
        elif self._rate(best, mean) > _WORTH_CHANGING * self._rate(stint.k, mean):
            stint.k = best

    def _decide_by_costs(self, level: Level, best: int, promise: float) -> None:
        stint = self._stint
        if not stint.k:
            is_due = stint.num_decisions > _DECISIONS_TO_RETRY
            self._go_on(level, best if promise > _WORTH_VERIFYING or is_due else 0)
        elif promise < 1:
            self._go_on(level, 0)
        elif self._rate(best, self._mean) > _WORTH_CHANGING * self._rate(stint.k, self._mean):
            stint.k = best

    def _promise(self, expected: Expectation) -> tuple[int, float]:
        """The best K above 0 by what it is taken to cost, and its speed over that of none."""
        rates = [self._rate(k, expected) for k in range(1, self.max_k + 1)]
        best = max(rates)
        return rates.index(best) + 1, best / self._rate(0, expected)

    def _rate(self, k: int, expected: Expectation) -> float:
        """Tokens a second of a session, if all ask for K tokens."""
        return self.costs.rate(k, expected, len(self._expectations))

    def _mean_expectation(self) -> Expectation:
        members = self._expectations.values()
        num = len(members)
        return Expectation(
            [sum(column) / num for column in zip(*(each.lengths for each in members), strict=True)],
            [sum(column) / num for column in zip(*(each.tokens for each in members), strict=True)],
        )

    def _may_begin(self, level: Level, promise: float) -> bool:
        """Whether it is time to speculate."""
        self._compare(level)  # plain decoding may be slower by now than it was
        gain = self._levels.known_gain(self._load, promise)
        is_promising = promise > WORTH_SPECULATING and not level.has_lost
        if is_promising and gain is not None and gain > 1:
            return True
        if not level.is_plain_known:
            return False  # there would be nothing to compare it with
        if not self.costs.drafts_were_seen:
            return True  # costs may promise too little, as measured once beside other work
        if is_promising and gain is None:
            return self._saved_s >= -_SMALL_DEBT_S
        return self._saved_s >= (level.loss_s if promise > 1 else level.price_s)

    def _cannot_pay(self, level: Level) -> bool:
        """Whether speculation has lost, and nothing is there to try it again with."""
        return level.has_lost and self._saved_s < level.loss_s

    def _compare(self, level: Level) -> float | None:
        """How much faster rounds with drafts were, by what is expected of them by now."""
        mean, num_sessions = self._mean, len(self._expectations)
        return level.compare(mean.tokens, lambda k: self.costs.round_s(k, mean, num_sessions))

    def _pays(self, level: Level, promise: float) -> bool:
        """Whether speculation goes on."""
        kept = 1.0 if self._compare(level) is None else min(level.kept, 1.0)
        return kept * promise > WORTH_GOING_ON

    def _go_on(self, level: Level, k: int) -> None:
        """With this K, at this load."""
        if level is not self._stint.level or (k > 0) != (self._stint.k > 0):
            if k:
                level.begin()
            self._stint = Stint(level, k)

    def _give_up(self, stint: Stint, promise: float) -> None:
        """Notes what an attempt has lost, and speculates no more."""
        # Another one that fails ends with its second decision.
        share = min(2 / stint.num_decisions, 1.0)
        stint.level.loss_s = max(stint.lost_s * share, stint.level.loss_s / 2)
        stint.level.has_lost = stint.lost_s > 0
        stint.level.num_losses = stint.level.num_losses + 1 if promise < 1 else 0
        # What was set aside for this attempt is not there for the next.
        self._saved_s = min(self._saved_s, 0.0)
        if self._compare(stint.level) is None:
            stint.level.gain, stint.level.kept = promise, 1.0
        self._go_on(stint.level, 0)

    def _is_trying(self) -> bool:
        """Whether all take one round of another K, to see what it costs by now."""
        is_due = self._stint.num_decisions % _DECISIONS_TO_TRIAL == _DECISIONS_TO_TRIAL - 1
        return is_due and self._num_held < len(self._expectations)

    @property
    def _trial(self) -> int:
        """The K to try: a neighbour and any take turns."""
        turn, is_any = divmod(self._stint.num_decisions // _DECISIONS_TO_TRIAL, 2)
        k = self._stint.k
        neighbour = min(k + 1, self.max_k) if turn % 2 else max(k - 1, 1)
        return turn % self.max_k + 1 if is_any else neighbour

    def _affordable(self, expected: Expectation) -> int:
        """The K up to everybody's that gains a session most."""
        most, num_sessions = self._stint.k, len(self._expectations)
        if num_sessions == 1 or not self.costs.drafts_were_seen:
            return most
        costs, mean = self.costs, self._mean
        price = self._rate(most, mean) * costs.num_alike(num_sessions)  # tokens a second of a pass
        token_s = costs.token_s(most, mean, num_sessions)

        def gain(k: int) -> float:
            share_s = expected.lengths[k] * token_s + costs.draft_share_s(k, num_sessions)
            return expected.tokens[k] - price * share_s

        best = max(range(most + 1), key=gain)
        # Only who clearly gains stands apart: others wait for the longest draft all the same.
        return best if gain(best) > _STANDS_APART + gain(most) else most
