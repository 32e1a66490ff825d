"""Answers of made-up processes."""

from dataclasses import replace

from autoscaler.answers import TierAnswer
from forethought.tier import DraftDemand, EngineWork, OrchestratorLoad, PassCost, TierLoad

COSTS = (PassCost(1, 10_000_000), PassCost(64, 20_000_000), PassCost(256, 64_000_000))
"""Of a tier that computes 4,000 tokens a second, and 160 tokens in four times the least time."""
SECOND = 10**9


def replica(num_sessions: int = 0, **work: int) -> TierAnswer:
    """A replica of a tier with a cache of 100 blocks that has run for a minute."""
    filled = replace(EngineWork(60 * SECOND, num_blocks=100, block_len=16), **work)
    return TierAnswer(TierLoad(num_sessions, 0, 0), filled, COSTS)


def orchestrator(
    uptime_s: float = 60.0,
    *,
    wanted_s: float = 0.0,
    unserved_s: float = 0.0,
    num_requests: int = 0,
    num_rounds: int = 0,
    num_draft_tokens: int = 0,
) -> OrchestratorLoad:
    """An orchestrator that takes 100 requests."""
    demand = DraftDemand(round(wanted_s * SECOND), round(unserved_s * SECOND))
    return OrchestratorLoad(
        round(uptime_s * SECOND), num_requests, 100, num_rounds, num_draft_tokens, demand
    )
