"""How many tokens to draft in a round (K).

Speculation trades time for tokens: a longer draft takes longer to make and to verify, and brings
more tokens if it is accepted. The adaptive policy picks the K that promises most tokens a second:

    E(K) / (draft(K) + verify(K) + overhead)

E comes from `acceptance.py`, the times from `costs.py`. K = 0 is plain decoding, one candidate of
several: under load, where each further token in a pass costs, and with a draft that guesses badly,
it wins.

*All sessions choose as if all chose alike.* In a busy pass a single session that drafts more hardly
lengthens it, and gains; if all do, all lose. So the cost of a K is that of a pass in which every
session verifies so many.

*K does not flap*: another K must promise to be clearly better, and speculation clearly better than
none.

*What is not used is tried now and then.* While K is 0, a small share of the time is set aside, and
a round that asks for a draft all the same is paid from it. Lookups cost next to nothing and are
tried often, a model rarely.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forethought.sampling.types import VerificationMode
from forethought.tier import PassCost
from orchestrator.acceptance import Acceptance, Expectation
from orchestrator.costs import DraftCosts, PassCosts
from orchestrator.round import Ask, Round
from orchestrator.session import Session

_WORTH_SPECULATING = 1.05
"""Speculation must promise so many times the speed of plain decoding, to begin."""
_WORTH_CHANGING = 1.03
"""Another K must promise so many times the speed of the last one."""
_EXPLORATION_SHARE = 0.01
"""Of the time of plain rounds, for drafts that are not expected to pay."""
_MAX_SAVED_S = 0.1
"""Time that is set aside for them at most."""
_SMOOTHING = 0.1
_MIN_TIMEOUT_S = 0.02
_NO_DRAFT = Expectation([0.0], [1.0])


class SpeculationPolicy(Protocol):
    """Chooses K for the rounds of one session. Zero is a normal answer."""

    @property
    def expects_speculation(self) -> bool:
        """Whether a session that begins will ask for drafts, so that the draft tier should get
        ready."""
        ...

    def ask(self, session: Session) -> Ask:
        """What to ask of the draft tier in the coming round."""
        ...

    def learn(self, judged: Round) -> None:
        """Hears how a round went."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """The same K in every round but the first.

    The first round computes the whole prompt. Waiting for a draft before it would delay the first
    token by the time that the draft tier takes for the same prompt; without, both tiers compute it
    at once.
    """

    k: int

    @property
    def expects_speculation(self) -> bool:
        return self.k > 0

    def ask(self, session: Session) -> Ask:
        return Ask(self.k if session.round else 0)

    def learn(self, judged: Round) -> None:
        """Nothing changes it."""


class SpeculationEconomy:
    """What the sessions of a deployment have learned together.

    Args:
        target_costs: of the target's passes, as it measured them.
        draft_costs: of the draft's; () where none is known, or it needs none.
    """

    def __init__(
        self, target_costs: Sequence[PassCost] = (), draft_costs: tuple[PassCost, ...] = ()
    ) -> None:
        self.num_sessions = 0
        """Sessions under way in this process."""
        self._passes = PassCosts(target_costs)
        self._known_draft_costs: tuple[PassCost, ...] = ()
        self._drafts = DraftCosts(None)
        self._acceptance: dict[tuple[VerificationMode, bool], Acceptance] = {}
        self._batch_size = 1.0  # sessions in a pass of the target
        self._queueing = {False: 0.0, True: 0.0}  # by whether drafts are made: waiting / computing
        self._overhead_s = 0.001
        self._saved_s = 0.0  # for drafts that are not expected to pay
        self.know_draft(draft_costs)

    def know_draft(self, costs: tuple[PassCost, ...]) -> None:
        """The draft tier has said how long its passes take."""
        if costs and costs is not self._known_draft_costs and costs != self._known_draft_costs:
            self._known_draft_costs = costs
            self._drafts = DraftCosts(PassCosts(costs))

    def acceptance(self, session: Session) -> Acceptance:
        """What sessions like this one have seen."""
        kind = (session.mode, session.sampling.is_greedy)
        return self._acceptance.setdefault(kind, Acceptance())

    def rates(self, expected: Expectation) -> list[float]:
        """[max_k + 1] tokens a second to be expected of a session, for each K."""
        return [tokens / self._round_s(k, expected) for k, tokens in enumerate(expected.tokens)]

    def timeout_s(self, expected: Expectation, k: int) -> float:
        """How long a draft of K tokens is worth waiting for."""
        # Meanwhile plain decoding would have made as many tokens as are expected of it.
        gain_s = (expected.tokens[k] - 1) * self._round_s(0, expected)
        return max(gain_s, 2 * self._drafts.estimate(k, self._batch_size), _MIN_TIMEOUT_S)

    def may_explore(self, expected: Expectation, k: int) -> bool:
        """Whether a draft of K tokens may be tried, though it is not expected to pay."""
        return self._saved_s >= self._round_s(k, expected) - self._round_s(0, expected)

    def learn(self, judged: Round) -> None:
        """Takes costs from a round."""
        if not judged.session.round:
            return  # most of it was the prompt
        k, timings = judged.ask.num_speculative_tokens, judged.target_timings
        self._batch_size += _SMOOTHING * (timings.batch_size - self._batch_size)
        forward_s, queue_s = timings.forward_ns / 1e9, timings.queue_ns / 1e9
        if timings.num_batch_tokens and forward_s:
            self._passes.observe(timings.num_batch_tokens, forward_s)
            waiting = min(queue_s / forward_s, 2.0)
            is_drafted = bool(judged.draft.tokens)
            self._queueing[is_drafted] += _SMOOTHING * (waiting - self._queueing[is_drafted])
        speculation_s = judged.speculation_ns / 1e9
        if k:
            self._drafts.observe(k, self._batch_size, speculation_s)
        verification_s = judged.verification_ns / 1e9
        around_s = max(verification_s - forward_s - queue_s, 0) + judged.rejection_ns / 1e9
        self._overhead_s += _SMOOTHING * (around_s - self._overhead_s)
        if not k:
            saved_s = self._saved_s + _EXPLORATION_SHARE * verification_s
            self._saved_s = min(saved_s, _MAX_SAVED_S)

    def pay_exploration(self, judged: Round) -> None:
        """A round has tried a draft: what it took longer than plain ones is spent."""
        took_s = (judged.speculation_ns + judged.verification_ns) / 1e9
        num_tokens = len(judged.outcome.tokens)
        self._saved_s -= max(took_s - num_tokens * self._round_s(0, _NO_DRAFT), 0.0)

    def _round_s(self, k: int, expected: Expectation) -> float:
        """How long a round takes if all sessions ask for K tokens."""
        lengths = expected.lengths
        batch_size = self._batch_size if k else max(self._batch_size, self.num_sessions)
        others = max(batch_size - 1, 0.0) * (1 + lengths[k])
        pass_s = self._passes.estimate(others + 1)
        if k and lengths[1] > 0:
            # A proposer that looks texts up drafts all that it is asked for, or nothing.
            length = lengths[k] / lengths[1]
            pass_s += lengths[1] * (self._passes.estimate(others + 1 + length) - pass_s)
        draft_s = self._drafts.estimate(k, batch_size)
        return draft_s + pass_s * (1 + self._queueing[k > 0]) + self._overhead_s


class AdaptivePolicy:
    """Chooses the K that promises the most tokens a second.

    Args:
        economy: of the deployment.
        session: whose rounds to choose for.
        max_k: longest draft to ask for.
    """

    def __init__(self, economy: SpeculationEconomy, session: Session, max_k: int) -> None:
        self._economy = economy
        self._shared = economy.acceptance(session)
        self._acceptance = Acceptance(self._shared)
        self._max_k = max_k
        self._k = 0  # what the last round that had a choice went on with
        self._is_exploring = False

    @property
    def expects_speculation(self) -> bool:
        return self._best(self._acceptance.expect(self._max_k)) > 0

    def ask(self, session: Session) -> Ask:
        # The first round computes the prompt, as with `FixedPolicy`.
        max_k = min(self._max_k, session.room - 1)
        if not session.round or max_k <= 0:
            return Ask(0)
        expected = self._acceptance.expect(max_k)
        k = self._k = self._best(expected)
        if not k:
            k = self._exploration(expected)
            self._is_exploring = k > 0
        return Ask(k, self._economy.timeout_s(expected, k)) if k else Ask(0)

    def learn(self, judged: Round) -> None:
        self._economy.learn(judged)
        if self._is_exploring:
            self._economy.pay_exploration(judged)
            self._is_exploring = False
        num_asked = judged.ask.num_speculative_tokens
        if num_asked and not judged.draft_failed:
            for acceptance in (self._shared, self._acceptance):
                acceptance.observe(num_asked, len(judged.draft), judged.outcome.num_accepted_tokens)

    def _best(self, expected: Expectation) -> int:
        """The K to go on with."""
        rates = self._economy.rates(expected)
        best = max(range(len(rates)), key=rates.__getitem__)
        last = min(self._k, len(rates) - 1)
        if not best:
            return 0
        threshold = _WORTH_CHANGING if last else _WORTH_SPECULATING
        return best if rates[best] > threshold * rates[last] else last

    def _exploration(self, expected: Expectation) -> int:
        """A K to try although none is expected to pay; 0 if there is no time for it."""
        rates = self._economy.rates(expected)
        k = max(range(1, len(rates)), key=rates.__getitem__)
        return k if self._economy.may_explore(expected, k) else 0
