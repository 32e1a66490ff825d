"""What a round takes if all sessions of a deployment ask for drafts of the same length.

Put together from what `costs.py` learns of passes and drafts, from how long rounds wait for passes,
and from what stands around them.
"""

import math
from collections.abc import Sequence

from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.costs import DraftCosts, Drift, PassCosts

_FORGOTTEN_A_ROUND = 0.003
"""Of what was learned of the cost of drafts, with each pass that makes none."""
_SMOOTHING = 0.1
_MAX_WAITING = 20.0  # passes that a round is taken to wait for, at most
_MIN_TIMEOUT_S = 0.02
_DRAFTS_TO_SEE = 3.0


class AroundPasses:
    """What a round takes besides its passes, seconds: so much, and so much more for each drafted
    token, which travels, is measured and judged."""

    def __init__(self) -> None:
        self._plain_s = 0.001
        self._token_s = 0.0

    def observe(self, num_drafted: int, seconds: float) -> None:
        """A round with a draft of so many tokens took so long besides its passes."""
        if not num_drafted:
            self._plain_s += _SMOOTHING * (seconds - self._plain_s)
            return
        more_s = (seconds - self._plain_s) / num_drafted
        self._token_s += _SMOOTHING * (more_s - self._token_s)

    def estimate(self, num_drafted: float) -> float:
        """What one takes with a draft of so many tokens."""
        return self._plain_s + num_drafted * max(self._token_s, 0.0)


class RoundCosts:
    """Costs of plain and of speculative rounds, seconds.

    Where the tiers share a processor, passes take longer while drafts are made, so both kinds are
    learned apart. Where nobody works for drafts, passes are passes.

    Args:
        target_costs: of the target's passes, as it measured them.
        draft_costs: of the draft's; () where none is known, or it needs none.
        drafts_are_free: there is no draft tier.
    """

    def __init__(
        self,
        target_costs: Sequence[PassCost] = (),
        draft_costs: tuple[PassCost, ...] = (),
        *,
        drafts_are_free: bool = False,
    ) -> None:
        self.drafts_are_free = drafts_are_free
        self._nominal_passes = PassCosts(target_costs)
        self._drift = Drift()
        # What slows passes down beside drafts may be the drafts.
        plain_passes = PassCosts(target_costs, drift=self._drift, tells_drift=True)
        beside_drafts = PassCosts(target_costs, like=plain_passes, drift=self._drift)
        self._passes = {False: plain_passes, True: beside_drafts}
        self._queueing = {False: 0.0, True: 0.0}  # waiting / computing
        self._known_draft_costs: tuple[PassCost, ...] = ()
        self._num_drafts_seen = 0.0  # since its costs are known; those of all sessions count as one
        self._drafts = DraftCosts(None)
        self._idle_drafts = DraftCosts(None)  # of a tier that has nothing else to do
        self._around = AroundPasses()
        self.batch_size = 1.0
        """Sessions that share a pass of the target by now, those of other orchestrators too."""
        self.num_targets = 1
        """Replicas of the target that sessions are spread over."""
        self.know_draft(draft_costs)

    def know_draft(self, costs: tuple[PassCost, ...]) -> None:
        """The draft tier has said how long its passes take."""
        if costs and costs is not self._known_draft_costs and costs != self._known_draft_costs:
            self._known_draft_costs = costs
            self._drafts = DraftCosts(PassCosts(costs))
            self._idle_drafts = DraftCosts(PassCosts(costs))
            self._num_drafts_seen = 0.0

    @property
    def drafts_were_seen(self) -> bool:
        """Whether enough drafts were waited for to know what they cost, whatever was measured."""
        return self._num_drafts_seen > _DRAFTS_TO_SEE - 1e-6

    @property
    def drafts_are_computed(self) -> bool:
        """Whether the draft tier runs a model, as far as is known."""
        return bool(self._known_draft_costs)

    def learn(
        self, judged: Round, *, all_draft: bool, is_first_draft: bool, num_rounds: int = 1
    ) -> None:
        """Takes costs from a round.

        Args:
            judged: the round.
            all_draft: the other sessions ask for drafts by now.
            is_first_draft: its session had asked for no draft before.
            num_rounds: of all sessions, for which it stands: they were like it.
        """
        k, timings = judged.ask.num_speculative_tokens, judged.measured.timings
        all_draft = self._is_beside_drafts(all_draft=all_draft)
        self.batch_size += (timings.batch_size - self.batch_size) / 2
        forward_s, queue_s = timings.forward_ns / 1e9, timings.queue_ns / 1e9
        # It was seen once, however many were like it.
        num_passes = min(num_rounds / max(timings.batch_size, 1), 1.0)
        if timings.num_batch_tokens and forward_s:
            passes = self._passes[all_draft]
            passes.observe(timings.num_batch_tokens, forward_s, num_passes)
        if forward_s:
            waiting = min(queue_s / forward_s, _MAX_WAITING)
            weight = _SMOOTHING * num_passes
            self._queueing[all_draft] += weight * (waiting - self._queueing[all_draft])
        drafted_s = judged.speculation_ns / 1e9
        if k and not is_first_draft:
            self._num_drafts_seen += num_passes
        if k and is_first_draft:
            pass  # the draft tier had the prompt to compute
        elif k and not judged.drafted.has_failed:
            self._drafts.observe(k, self.batch_size, drafted_s)
        elif judged.was_late:
            # It takes at least as long as it was waited for.
            least_s = max(drafted_s, self._drafts.estimate(k, self.batch_size))
            self._drafts.observe(k, self.batch_size, least_s, is_measured=False)
        if not k:
            forgotten = _FORGOTTEN_A_ROUND * num_rounds / max(self.batch_size, 1.0)
            self._drafts.forget(min(forgotten, 1.0))
        around_s = max(judged.verification_ns / 1e9 - forward_s - queue_s, 0)
        around_s += judged.rejection_ns / 1e9
        self._around.observe(len(judged.draft), around_s)

    def nominal_s(self, num_sessions: int) -> float:
        """A plain round by what the target has measured, whatever was seen since but how fast its
        machine is at this moment."""
        pass_s = self._nominal_passes.estimate(max(num_sessions / self.num_targets, 1.0))
        return pass_s * math.exp(self._drift.log_factor) + 0.001

    def round_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """A round in which so many sessions ask for K tokens each."""
        draft_s = self._drafts.estimate(k, self.num_alike(num_sessions))
        return draft_s + self._undrafted_s(k, expected, num_sessions)

    def idle_round_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """The same, where the draft tier makes each draft as if there were no other: by what it
        measured when it started, whatever was seen since. K is above 0."""
        draft_s = self._idle_drafts.estimate(k, 1.0)
        return draft_s + self._undrafted_s(k, expected, num_sessions)

    def engine_s(self, k: int, num_sessions: int) -> float:
        """Time that an engine of the draft tier works for the drafts of so many sessions, by what
        it measured when it started. All are made in the same passes."""
        return self._idle_drafts.estimate(k, num_sessions) - DraftCosts.OVERHEAD_S

    def _undrafted_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """What a round takes but for its draft."""
        lengths, num_alike = expected.lengths, self.num_alike(num_sessions)
        all_draft = self._is_beside_drafts(all_draft=k > 0)
        others = (num_alike - 1) * (1 + lengths[k])
        passes = self._passes[all_draft]
        pass_s = passes.estimate(others + 1)
        if k and lengths[1] > 0:
            # A proposer that looks texts up drafts all that it is asked for, or nothing.
            length = lengths[k] / lengths[1]
            pass_s += lengths[1] * (passes.estimate(others + 1 + length) - pass_s)
        return pass_s * (1 + self._queueing[all_draft]) + self._around.estimate(lengths[k])

    def rate(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """Tokens a second of one of them."""
        return expected.tokens[k] / self.round_s(k, expected, num_sessions)

    def token_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """What a further drafted token adds to the round of all, where all ask for K."""
        num_alike = self.num_alike(num_sessions)
        # On average, since passes grow in steps: the token that climbs one is not to blame.
        num_more = max(num_alike * expected.lengths[k], 1e-9)
        passes = self._passes[self._is_beside_drafts(all_draft=True)]
        more_s = passes.estimate(num_alike + num_more) - passes.estimate(num_alike)
        return more_s / num_more

    def draft_share_s(self, k: int, num_sessions: int) -> float:
        """A session's share of the time that drafts of K tokens for all take."""
        num_alike = self.num_alike(num_sessions)
        return self._drafts.estimate(k, num_alike) / num_alike

    def timeout_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """How long a draft of K tokens is worth waiting for."""
        # Meanwhile plain decoding would have made as many tokens as are expected of it.
        plain_s = self.round_s(0, expected, num_sessions)
        gain_s = (expected.tokens[k] - 1) * plain_s
        if not self.drafts_were_seen:
            # Nobody knows if a draft is as slow as was measured.
            return max(gain_s, plain_s, _MIN_TIMEOUT_S)
        return max(gain_s, 2 * self._drafts.estimate(k, self.batch_size), _MIN_TIMEOUT_S)

    def _is_beside_drafts(self, *, all_draft: bool) -> bool:
        """Whether passes are of the kind beside which somebody makes drafts."""
        return all_draft and not self.drafts_are_free

    def num_alike(self, num_sessions: int) -> float:
        """Sessions that share a pass. Those that have just come are not in any pass yet."""
        return max(self.batch_size, num_sessions / self.num_targets, 1.0)
