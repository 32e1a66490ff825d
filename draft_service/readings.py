"""What a draft tier says of itself when it is scraped."""

from collections.abc import Iterator

from draft_service.proposer import Proposer
from forethought.engine.batching.readings import read_engine
from forethought.observability import catalogue
from forethought.observability.series import Reading


def read_proposer(proposer: Proposer) -> Iterator[Reading]:
    """Of drafting, and of the engine where there is one."""
    ahead = proposer.lookahead
    yield Reading(catalogue.LOOKAHEAD, ahead.num_hits, ("hit",))
    yield Reading(catalogue.LOOKAHEAD, ahead.num_misses, ("miss",))
    yield Reading(catalogue.DRAFT_WASTED_TOKENS, ahead.num_wasted_tokens)
    for engine in proposer.engines:
        yield from read_engine(engine)
    if not proposer.engines:
        load = proposer.load()
        yield Reading(catalogue.TIER_SESSIONS, load.num_sessions, ("running",))
        yield Reading(catalogue.TIER_SESSIONS, 0, ("waiting",))
        yield Reading(catalogue.TIER_QUEUED_JOBS, load.num_queued_jobs)
