"""Samples and bursts made by hand."""

from forethought.bench.closed_loop import Burst, Sample
from forethought.generation import ProposerStatistics, SpeculationStatistics


def sample(first_ms=100, last_ms=500, num_tokens=5, speculation=None):
    return Sample(first_ms / 1e3, last_ms / 1e3, num_tokens, speculation)


def burst(arm="plain", concurrency=1, wall_s=1.0, samples=None):
    return Burst(arm, concurrency, wall_s, tuple(samples or [sample()]))


def speculation(rounds, drafted, accepted, failures=0, drafted_rounds=0):
    return SpeculationStatistics(
        num_rounds=rounds,
        num_draft_tokens=drafted,
        num_accepted_tokens=accepted,
        num_draft_failures=failures,
        proposers=(ProposerStatistics("model", drafted_rounds, drafted, accepted),),
    )
