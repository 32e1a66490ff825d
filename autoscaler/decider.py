"""Decides how many replicas each tier should have, again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from autoscaler.answers import Answers, History
from autoscaler.needs import Goals, Need, draft_need, orchestrator_need, target_need
from autoscaler.steady import Limits, Steady


class Tier(Enum):
    """What is scaled."""

    TARGET = "target"
    DRAFT = "draft"
    ORCHESTRATOR = "orchestrator"


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one look at the deployment."""

    need: Need
    num_serving: int  # replicas that answered
    replicas: int  # to have
    is_settled: bool  # whether it has been looked at for long enough to ask for fewer


class Decider:
    """Turns answers into numbers of replicas.

    Args:
        goals: how busy replicas may be.
        limits: of each tier.
        window_s: over which rates are taken.
        down_after_s: for which fewer replicas must have done.
    """

    def __init__(
        self, goals: Goals, limits: Mapping[Tier, Limits], window_s: float, down_after_s: float
    ) -> None:
        self._goals = goals
        self._history = History(window_s)
        self._steady = {tier: Steady(limits[tier], down_after_s) for tier in Tier}
        self._num_targets = 0  # that there should be

    def decide(self, now_s: float, answers: Answers) -> Mapping[Tier, Decision]:
        """The replicas that each tier should have. A tier of which too little is known is left out:
        nobody who answers for it has answered, or not twice yet."""
        self._history.add(now_s, answers)
        num_serving = {
            Tier.TARGET: len(answers.targets),
            Tier.DRAFT: len(answers.drafts),
            Tier.ORCHESTRATOR: len(answers.orchestrators),
        }
        decisions = {}
        for tier, need in self._needs(answers).items():
            steady = self._steady[tier]
            replicas = steady.update(now_s, need.replicas, num_serving[tier])
            if tier is Tier.TARGET:
                self._num_targets = replicas
            decisions[tier] = Decision(need, num_serving[tier], replicas, steady.is_settled(now_s))
        return decisions

    def _needs(self, answers: Answers) -> Mapping[Tier, Need]:
        history, goals = self._history, self._goals
        draft_demand = history.draft_demand
        needs = {}
        if answers.targets:
            num_pending = max(self._num_targets - len(answers.targets), 0)
            needs[Tier.TARGET] = target_need(
                answers.targets, history.targets, draft_demand, goals, num_pending
            )
        if draft_demand is not None:
            needs[Tier.DRAFT] = draft_need(answers.drafts, history.drafts, draft_demand, goals)
        if answers.orchestrators:
            needs[Tier.ORCHESTRATOR] = orchestrator_need(answers.orchestrators, goals)
        return needs
