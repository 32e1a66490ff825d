"""What a tier with an engine says of itself when it is scraped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forethought.observability import catalogue
from forethought.observability.series import Reading

if TYPE_CHECKING:
    from forethought.engine.batching.engine import (
        Engine,  # imports torch, which a lookup does without
    )


def read_engine(engine: Engine[Any, Any]) -> Iterator[Reading]:
    """Of sessions, passes and the KV cache."""
    load, work, counts = engine.load(), engine.work(), engine.counts
    num_running = load.num_sessions - work.num_waiting_sessions
    yield Reading(catalogue.TIER_SESSIONS, num_running, ("running",))
    yield Reading(catalogue.TIER_SESSIONS, work.num_waiting_sessions, ("waiting",))
    yield Reading(catalogue.TIER_SESSIONS_LIMIT, engine.max_sessions)
    yield Reading(catalogue.TIER_REFUSED_SESSIONS, counts.num_refused_sessions)
    yield Reading(catalogue.TIER_WAITING_TOKENS, work.num_waiting_tokens)
    yield Reading(catalogue.TIER_QUEUED_JOBS, load.num_queued_jobs)
    yield Reading(catalogue.TIER_QUEUE, counts.queue)
    yield Reading(catalogue.TIER_PASS, counts.passes)
    yield Reading(catalogue.TIER_PASS_FLOOR, counts.floor_s)
    yield Reading(catalogue.TIER_FAILED_PASSES, counts.num_failed_passes)
    yield Reading(catalogue.ITERATION_TOKENS, counts.pass_tokens)
    yield Reading(catalogue.KV_CACHE_USAGE, work.num_held_blocks / work.num_blocks)
    labels = (str(engine.block_len), str(work.num_blocks))
    yield Reading(catalogue.CACHE_CONFIG, 1, labels)
    yield Reading(catalogue.NUM_PREEMPTIONS, counts.num_preemptions)
    yield Reading(catalogue.PREFIX_CACHE_QUERIES, counts.num_looked_up_tokens)
    yield Reading(catalogue.PREFIX_CACHE_HITS, counts.num_found_tokens)
