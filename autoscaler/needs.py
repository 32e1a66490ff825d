"""How many replicas each tier needs, by its own signal. Pure functions; `docs/scaling.md` explains.

Every need is a number of replicas, not rounded, and comes with the signal that asks for most.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from autoscaler.answers import DraftDemandRate, TierAnswer, TierPace
from forethought.tier import OrchestratorLoad, PassCost


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas that a tier needs."""

    replicas: float
    signal: str  # that asks for so many


@dataclass(frozen=True, slots=True)
class Goals:
    """How busy replicas may be."""

    wait_s: float = 2.0
    """Within which a target computes all that waits."""
    kv_usage: float = 0.8
    """Share of the blocks of keys and values that sessions hold."""
    pass_stretch: float = 4.0
    """A pass of the target may take so many times as long as one over a single token."""
    draft_usage: float = 0.7
    """Share of the time in which an engine of the draft tier is at work."""
    request_usage: float = 0.7
    """Share of the requests that an orchestrator takes at most."""


def target_need(
    answers: Mapping[str, TierAnswer],
    pace: TierPace,
    draft_demand: DraftDemandRate | None,
    goals: Goals,
    num_pending: int = 0,
) -> Need:
    """What waits, what is held, and how full passes are.

    Args:
        answers: of the replicas that serve; at least one.
        pace: of late.
        draft_demand: of the orchestrators; they know how long drafts are.
        goals: how busy replicas may be.
        num_pending: replicas that are on their way. What waits grows until they are there, and is
            theirs to compute: it asks for no others.
    """
    replicas = answers.values()
    speed = max(pace.tokens_per_s, *(_best_rate(each.pass_costs) for each in replicas))
    num_running = sum(each.load.num_sessions - each.work.num_waiting_sessions for each in replicas)
    num_round_tokens = 1 + (draft_demand.drafted_per_round if draft_demand else 0.0)
    held = min(_pass_holds(each.pass_costs, goals.pass_stretch) for each in replicas)
    waiting = pace.num_standing_tokens / speed / goals.wait_s if speed else 0.0
    if num_pending:
        waiting = min(waiting, len(answers) + num_pending)
    needs = [
        Need(waiting, "waiting tokens"),
        Need(_caches_wanted(replicas, pace) / goals.kv_usage, "keys and values"),
        Need(num_running * num_round_tokens / held, "tokens a pass"),
        Need(len(answers) + 1 if pace.num_refused_sessions else 0, "refused sessions"),
    ]
    return max(needs, key=lambda need: need.replicas)


def draft_need(
    answers: Mapping[str, TierAnswer], pace: TierPace, draft_demand: DraftDemandRate, goals: Goals
) -> Need:
    """Engines at work, and those that would be if drafts came in time; none where they do not pay.

    Args:
        answers: of the replicas that serve; there may be none.
        pace: of late.
        draft_demand: of the orchestrators.
        goals: how busy replicas may be.
    """
    if not draft_demand.wanted:
        return Need(0.0, "drafts do not pay")
    needs = [
        Need((pace.busy + draft_demand.unserved) / goals.draft_usage, "drafts wanted"),
        Need(_caches_wanted(answers.values(), pace) / goals.kv_usage, "keys and values"),
    ]
    most = max(needs, key=lambda need: need.replicas)
    return Need(max(most.replicas, 1.0), most.signal)


def orchestrator_need(answers: Mapping[str, OrchestratorLoad], goals: Goals) -> Need:
    """Requests under way. The event loop's lag has a trigger of Prometheus."""
    shares = (each.num_requests / each.max_requests for each in answers.values())
    return Need(max(sum(shares) / goals.request_usage, 1.0), "requests")


def _caches_wanted(replicas: Collection[TierAnswer], pace: TierPace) -> float:
    """Caches of a replica that sessions fill, those included that wait for room."""
    works = [each.work for each in replicas if each.work.num_blocks and each.work.block_len]
    if not works:
        return 0.0
    tokens_each = sum(work.num_blocks * work.block_len for work in works) / len(works)
    held = sum(work.num_held_blocks / work.num_blocks for work in works)
    return held + pace.num_standing_tokens / tokens_each


def _best_rate(costs: tuple[PassCost, ...]) -> float:
    """Tokens a second in the largest pass that was measured; 0 where none was."""
    return costs[-1].num_tokens / costs[-1].forward_ns * 1e9 if costs else 0.0


def _pass_holds(costs: tuple[PassCost, ...], stretch: float) -> float:
    """Tokens of a pass that takes `stretch` times as long as the smallest one; without end where
    nothing was measured, or where the largest is no slower."""
    if len(costs) < 2:
        return float("inf")
    limit_ns = stretch * costs[0].forward_ns
    within = max(
        (each for each in costs if each.forward_ns <= limit_ns), key=lambda c: c.num_tokens
    )
    index = costs.index(within)
    left, right = (costs[index], costs[index + 1]) if within is not costs[-1] else costs[-2:]
    slope_ns = (right.forward_ns - left.forward_ns) / (right.num_tokens - left.num_tokens)
    if slope_ns <= 0:
        return float("inf")
    return left.num_tokens + (limit_ns - left.forward_ns) / slope_ns
