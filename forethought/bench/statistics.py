"""From timed requests to the numbers of a table.

Percentiles are over the requests of one burst; what is reported is the median over the repeats of
that burst, so that one disturbed repeat does not show.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from forethought.bench.closed_loop import Burst


@dataclass(frozen=True, slots=True)
class BurstStatistics:
    """Numbers of one burst; medians of those numbers for several. None: does not apply."""

    tokens_per_s: float  # output tokens over wall-clock time
    tokens_per_request: float
    ttft_p50_ms: float  # time to first token
    ttft_p99_ms: float
    tpot_p50_ms: float | None  # time per output token after the first, mean of a request
    tpot_p99_ms: float | None
    acceptance_rate: float | None  # accepted over drafted tokens
    mean_acceptance_length: float | None  # tokens a round, the recovered or bonus one included
    drafted_share: float | None  # rounds with a draft to verify, over all rounds
    num_draft_failures: float | None  # rounds that wanted a draft and got none


@dataclass(frozen=True, slots=True)
class Row:
    """An arm at a concurrency."""

    arm: str
    concurrency: int
    median: BurstStatistics
    repeats: tuple[BurstStatistics, ...]  # in the order in which they ran


def summarise(bursts: Iterable[Burst]) -> list[Row]:
    """One row for each concurrency and arm, by concurrency, arms in the order they first ran."""
    repeats: dict[tuple[int, str], list[BurstStatistics]] = {}
    places: dict[str, int] = {}
    for burst in bursts:
        places.setdefault(burst.arm, len(places))
        repeats.setdefault((burst.concurrency, burst.arm), []).append(describe_burst(burst))
    return [
        Row(arm, concurrency, _median(of_point), tuple(of_point))
        for (concurrency, arm), of_point in sorted(
            repeats.items(), key=lambda item: (item[0][0], places[item[0][1]])
        )
    ]


def describe_burst(burst: Burst) -> BurstStatistics:
    """The numbers of one burst."""
    samples = burst.samples
    num_tokens = sum(sample.num_tokens for sample in samples)
    ttft_ms = [sample.first_token_s * 1e3 for sample in samples]
    tpot_ms = [
        seconds * 1e3
        for sample in samples
        if (seconds := sample.time_per_output_token_s) is not None
    ]
    parts = [sample.speculation for sample in samples if sample.speculation is not None]
    drafted = sum(part.num_draft_tokens for part in parts)
    accepted = sum(part.num_accepted_tokens for part in parts)
    rounds = sum(part.num_rounds for part in parts)
    drafted_rounds = sum(each.num_rounds for part in parts for each in part.proposers)
    return BurstStatistics(
        tokens_per_s=num_tokens / burst.wall_s,
        tokens_per_request=num_tokens / len(samples),
        ttft_p50_ms=percentile(ttft_ms, 50),
        ttft_p99_ms=percentile(ttft_ms, 99),
        tpot_p50_ms=percentile(tpot_ms, 50) if tpot_ms else None,
        tpot_p99_ms=percentile(tpot_ms, 99) if tpot_ms else None,
        acceptance_rate=accepted / drafted if drafted else None,
        mean_acceptance_length=1 + accepted / rounds if rounds else None,
        drafted_share=drafted_rounds / rounds if rounds else None,
        num_draft_failures=sum(part.num_draft_failures for part in parts) if parts else None,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of them lie, interpolated between neighbours.

    Raises:
        IndexError: there are no values.
    """
    return float(np.percentile(values, percent))


def median_ratio(row: Row, other: Row) -> float:
    """Tokens a second of `row` over those of `other`: the median of the repeats' ratios.

    Repeats that ran one after the other are compared with each other, so what slows the machine
    down for longer than a burst is in both and cancels.
    """
    return statistics.median(
        mine.tokens_per_s / its.tokens_per_s
        for mine, its in zip(row.repeats, other.repeats, strict=True)
    )


def _median(repeats: Sequence[BurstStatistics]) -> BurstStatistics:
    """Field by field; None where no repeat has a value."""
    medians: dict[str, Any] = {}
    for field in fields(BurstStatistics):
        values = [getattr(repeat, field.name) for repeat in repeats]
        known = [value for value in values if value is not None]
        medians[field.name] = statistics.median(known) if known else None
    return BurstStatistics(**medians)
