"""What an autoscaler says of itself when it is scraped."""

from collections.abc import Iterator, Mapping

from autoscaler.decider import Decision, Tier
from forethought.observability import catalogue
from forethought.observability.series import Reading


def read_decisions(decisions: Mapping[Tier, Decision], *, is_leader: bool) -> Iterator[Reading]:
    """Of all tiers of which something is known."""
    for tier, decision in decisions.items():
        labels = (tier.value,)
        yield Reading(catalogue.REPLICAS_NEEDED, decision.need.replicas, labels)
        yield Reading(catalogue.REPLICAS_WANTED, decision.replicas, labels)
        yield Reading(catalogue.REPLICAS_ANSWERING, decision.num_serving, labels)
    yield Reading(catalogue.SCALES, is_leader)
