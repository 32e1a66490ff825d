"""What speculation brings and costs in a deployment, and the K that all its sessions go by.

*All sessions choose as if all chose alike.* In a busy pass a single session that drafts more hardly
lengthens it, and gains; if all do, all lose. So one K is chosen for all, by what the sessions under
way expect on average, and by what a pass costs in which each of them verifies so many.

A session whose own drafts fare worse than the average takes fewer, by *price*: a token in the pass
takes time in which the deployment would have made so and so many others.

*K does not flap*: another K must promise to be clearly better, and speculation clearly better than
none.

*Plain passes are measured while nobody drafts.* Where the tiers share a processor, drafts in the
making slow down every pass, those without a draft too. Taken for the cost of plain decoding, that
would speak for more drafts.

*What is not used is tried now and then.* While K is 0, a small share of the time is set aside, and
a round that asks for a draft all the same is paid from it. Lookups cost next to nothing and are
tried often, a model rarely. While it is not, a round now and then takes another one.
"""

from collections.abc import Hashable, Sequence

from forethought.tier import PassCost, RoundTimings
from orchestrator.acceptance import Expectation
from orchestrator.costs import DraftCosts, PassCosts
from orchestrator.round import Round

_WORTH_SPECULATING = {False: 1.05, True: 1.1}
"""Speculation must promise so many times the speed of plain decoding, to begin. More where sessions
share passes, since they never draft all at once, and each waits for others."""
_WORTH_CHANGING = 1.03
"""Another K must promise so many times the speed of the last one."""
_STANDS_APART = 0.2
"""Tokens a round that a session must gain by drafting less than the others."""
_ROUNDS_TO_HOLD = 4
"""Rounds of each session until K is chosen anew, so that all get to go by it."""
_DECISIONS_TO_TRIAL = 8
"""While speculation is on, one round after so many decisions tries another K."""
_EXPLORATION_SHARE = 0.01
"""Of the time of plain rounds, for drafts that are not expected to pay."""
_MAX_SAVED_S = 1.0
"""Time that is set aside for them at most."""
_FORGOTTEN_A_ROUND = 0.003
"""Of what was learned of the cost of drafts, with each pass that makes none."""
_SMOOTHING = 0.1
_DOUBT = 4
"""Times that a plain pass must be slower than expected to count as much as once faster."""
_MAX_WAITING = 20.0  # passes that a round is taken to wait for, at most
_MIN_TIMEOUT_S = 0.02
_NO_DRAFT = Expectation([0.0], [1.0])


class Economy:
    """Costs that sessions have learned together, and the choice that follows.

    Args:
        max_k: longest draft.
        target_costs: of the target's passes, as it measured them.
        draft_costs: of the draft's; () where none is known, or it needs none.
    """

    def __init__(
        self,
        max_k: int,
        target_costs: Sequence[PassCost] = (),
        draft_costs: tuple[PassCost, ...] = (),
    ) -> None:
        self.max_k = max_k
        self._plain_passes = PassCosts(target_costs)
        self._passes = PassCosts(target_costs)  # beside drafts, which may share the processor
        self._known_draft_costs: tuple[PassCost, ...] = ()
        self._drafts = DraftCosts(None)
        self._expectations: dict[Hashable, Expectation] = {}  # of the sessions under way
        self._k = 0  # that all go by
        self._num_held = 0  # rounds of sessions since it was chosen
        self._num_decisions = 0
        self._num_plain = 0  # rounds of sessions since K became 0
        self._batch_size = 1.0  # sessions in a pass of the target
        self._queueing = {False: 0.0, True: 0.0}  # by whether all draft: waiting / computing
        self._overhead_s = 0.001
        self._saved_s = 0.0  # for drafts that are not expected to pay
        self.know_draft(draft_costs)

    def know_draft(self, costs: tuple[PassCost, ...]) -> None:
        """The draft tier has said how long its passes take."""
        if costs and costs is not self._known_draft_costs and costs != self._known_draft_costs:
            self._known_draft_costs = costs
            self._drafts = DraftCosts(PassCosts(costs))

    @property
    def drafts_are_computed(self) -> bool:
        """Whether the draft tier runs a model, as far as is known."""
        return bool(self._known_draft_costs)

    @property
    def num_members(self) -> int:
        """Sessions under way."""
        return len(self._expectations)

    def leave(self, member: Hashable) -> None:
        """A session has ended."""
        self._expectations.pop(member, None)

    def choose(self, member: Hashable, expected: Expectation) -> int:
        """K for a session that expects so much of its drafts; its word counts from now on."""
        is_new = member not in self._expectations
        self._expectations[member] = expected
        self._num_held += 1
        self._num_plain = 0 if self._k else self._num_plain + 1
        if is_new or self._num_held >= _ROUNDS_TO_HOLD * len(self._expectations):
            self._num_held = 0
            self._num_decisions += 1
            self._decide()
        if self._k and self._is_trying():
            return self._trial
        return self._affordable(expected) if self._k else 0

    def explore(self, expected: Expectation) -> int:
        """A K to try although none is expected to pay; 0 if there is no time for it."""
        k = max(range(1, self.max_k + 1), key=lambda k: self._rate(k, expected))
        lost_s = self._round_s(k, expected) - self._round_s(0, expected)
        # All that share the pass wait for it.
        if self._saved_s < lost_s * self._num_alike():
            return 0
        self._num_plain = 0
        return k

    def timeout_s(self, expected: Expectation, k: int) -> float:
        """How long a draft of K tokens is worth waiting for."""
        # Meanwhile plain decoding would have made as many tokens as are expected of it.
        gain_s = (expected.tokens[k] - 1) * self._round_s(0, expected)
        return max(gain_s, 2 * self._drafts.estimate(k, self._batch_size), _MIN_TIMEOUT_S)

    def learn(self, judged: Round, *, is_first_draft: bool = False) -> None:
        """Takes costs from a round; `is_first_draft` if its session had asked for none before."""
        if not judged.session.round:
            return  # most of it was the prompt
        k, timings = judged.ask.num_speculative_tokens, judged.target_timings
        self._batch_size += _SMOOTHING * (timings.batch_size - self._batch_size)
        forward_s, queue_s = timings.forward_ns / 1e9, timings.queue_ns / 1e9
        is_plain = not self._k and self._num_plain > _ROUNDS_TO_HOLD * len(self._expectations)
        if timings.num_batch_tokens and forward_s:
            self._learn_pass(timings, forward_s, is_plain=is_plain)
        if forward_s and (self._k or is_plain):
            waiting = min(queue_s / forward_s, _MAX_WAITING)
            known = self._queueing[not is_plain]
            weight = _SMOOTHING / max(timings.batch_size, 1)
            self._queueing[not is_plain] += weight * (waiting - known)
        if k and is_first_draft:
            pass  # the draft tier had the prompt to compute
        elif k and not judged.draft_failed:
            self._drafts.observe(k, self._batch_size, judged.speculation_ns / 1e9)
        elif judged.was_late:
            # It takes at least as long as it was waited for.
            seconds = judged.speculation_ns / 1e9
            known = self._drafts.estimate(k, self._batch_size)
            self._drafts.observe(k, self._batch_size, max(seconds, known))
        verification_s = judged.verification_ns / 1e9
        around_s = max(verification_s - forward_s - queue_s, 0) + judged.rejection_ns / 1e9
        self._overhead_s += _SMOOTHING * (around_s - self._overhead_s)
        if not k:
            self._drafts.forget(_FORGOTTEN_A_ROUND / self._num_alike())
            saved_s = self._saved_s + _EXPLORATION_SHARE * verification_s
            self._saved_s = min(saved_s, _MAX_SAVED_S)

    def _learn_pass(self, timings: RoundTimings, forward_s: float, *, is_plain: bool) -> None:
        """Takes the time of a pass."""
        num_tokens, num_sharing = timings.num_batch_tokens, timings.batch_size
        if self._k:
            self._passes.observe(num_tokens, forward_s, num_sharing)
        # What disturbs a pass makes it longer. So whenever one was faster than plain ones are
        # taken to be, they are; slower ones only count while nobody drafts, and then not much.
        if forward_s < self._plain_passes.estimate(num_tokens):
            self._plain_passes.observe(num_tokens, forward_s, num_sharing)
        elif is_plain:
            self._plain_passes.observe(num_tokens, forward_s, num_sharing * _DOUBT)

    def pay_exploration(self, judged: Round) -> None:
        """A round has tried a draft: what it took longer than plain ones is spent."""
        took_s = (judged.speculation_ns + judged.verification_ns) / 1e9
        lost_s = took_s - len(judged.outcome.tokens) * self._round_s(0, _NO_DRAFT)
        saved_s = self._saved_s - max(lost_s, 0.0) * self._num_alike()
        self._saved_s = max(saved_s, -_MAX_SAVED_S)

    def _decide(self) -> None:
        """Chooses K anew."""
        mean = self._mean_expectation()
        rates = [self._rate(k, mean) for k in range(self.max_k + 1)]
        best = max(range(len(rates)), key=rates.__getitem__)
        is_shared = len(self._expectations) > 1
        threshold = _WORTH_CHANGING if self._k else _WORTH_SPECULATING[is_shared]
        if not best or rates[best] > threshold * rates[self._k]:
            self._k = best

    def _is_trying(self) -> bool:
        """Whether all take one round of another K, to see what it costs by now."""
        is_due = self._num_decisions % _DECISIONS_TO_TRIAL == 0
        return is_due and self._num_held < len(self._expectations)

    @property
    def _trial(self) -> int:
        """The K to try: a neighbour and any take turns."""
        turn, is_any = divmod(self._num_decisions // _DECISIONS_TO_TRIAL, 2)
        neighbour = min(self._k + 1, self.max_k) if turn % 2 else self._k - 1
        return turn % self.max_k + 1 if is_any else neighbour

    def _affordable(self, expected: Expectation) -> int:
        """The K up to everybody's that gains a session most."""
        if len(self._expectations) == 1:
            return self._k
        mean, num_alike = self._mean_expectation(), self._num_alike()
        price = self._rate(self._k, mean) * num_alike  # tokens that a second is worth
        # On average, since passes grow in steps: the token that climbs one is not to blame.
        num_more = max(num_alike * mean.lengths[self._k], 1e-9)
        more_s = self._passes.estimate(num_alike + num_more) - self._passes.estimate(num_alike)

        def gain(k: int) -> float:
            pass_s = expected.lengths[k] * more_s / num_more
            draft_s = self._drafts.estimate(k, num_alike) / num_alike
            return expected.tokens[k] - price * (pass_s + draft_s)

        best = max(range(self._k + 1), key=gain)
        # Only who clearly gains stands apart: others wait for the longest draft all the same.
        return best if gain(best) > _STANDS_APART + gain(self._k) else self._k

    def _rate(self, k: int, expected: Expectation) -> float:
        """Tokens a second of a session, if all ask for K tokens."""
        return expected.tokens[k] / self._round_s(k, expected)

    def _mean_expectation(self) -> Expectation:
        members = self._expectations.values()
        num = len(members)
        return Expectation(
            [sum(column) / num for column in zip(*(each.lengths for each in members), strict=True)],
            [sum(column) / num for column in zip(*(each.tokens for each in members), strict=True)],
        )

    def _num_alike(self) -> float:
        """Sessions that share a pass. Those that have just come are not in any pass yet."""
        return max(self._batch_size, len(self._expectations), 1.0)

    def _round_s(self, k: int, expected: Expectation) -> float:
        """How long a round takes if all sessions ask for K tokens."""
        lengths, num_alike = expected.lengths, self._num_alike()
        others = (num_alike - 1) * (1 + lengths[k])
        pass_s = (self._passes if k else self._plain_passes).estimate(others + 1)
        if k and lengths[1] > 0:
            # A proposer that looks texts up drafts all that it is asked for, or nothing.
            length = lengths[k] / lengths[1]
            pass_s += lengths[1] * (self._passes.estimate(others + 1 + length) - pass_s)
        draft_s = self._drafts.estimate(k, num_alike)
        return draft_s + pass_s * (1 + self._queueing[k > 0]) + self._overhead_s
