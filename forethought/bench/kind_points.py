"""What a kind of prompt came to at a temperature, plain and speculative."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forethought.bench.closed_loop import Burst
from forethought.bench.statistics import Row, median_ratio, summarise
from forethought.generation import ProposerStatistics

PLAIN, SPECULATIVE = "plain", "speculative"
ALL = "all"
"""The kinds together."""


@dataclass(frozen=True, slots=True)
class KindPoint:
    """A kind at a temperature."""

    temperature: float
    kind: str
    plain: Row
    speculative: Row
    parts: tuple[ProposerStatistics, ...]  # of all repeats, the busiest first

    @property
    def speedup(self) -> float:
        """Tokens a second with speculation over those without."""
        return median_ratio(self.speculative, self.plain)


def points_of(temperature: float, by_kind: dict[str, list[Burst]]) -> list[KindPoint]:
    """One point for each kind, and one for all together if there are several.

    Args:
        temperature: of all of them.
        by_kind: the bursts of both arms, in the order in which they ran.
    """
    points = [_point(temperature, kind, bursts) for kind, bursts in by_kind.items()]
    if len(points) > 1:
        points.append(_point(temperature, ALL, _together(list(by_kind.values()))))
    return points


def _point(temperature: float, kind: str, bursts: Sequence[Burst]) -> KindPoint:
    rows = {row.arm: row for row in summarise(bursts)}
    parts = _parts(burst for burst in bursts if burst.arm == SPECULATIVE)
    return KindPoint(temperature, kind, rows[PLAIN], rows[SPECULATIVE], parts)


def _together(kinds: Sequence[Sequence[Burst]]) -> list[Burst]:
    """The n-th bursts of all kinds as one. The arms take turns alike for each kind."""
    return [
        Burst(
            same_turn[0].arm,
            same_turn[0].concurrency,
            sum(burst.wall_s for burst in same_turn),
            tuple(sample for burst in same_turn for sample in burst.samples),
        )
        for same_turn in zip(*kinds, strict=True)
    ]


def _parts(bursts: Iterable[Burst]) -> tuple[ProposerStatistics, ...]:
    """The sums of each proposer."""
    sums: dict[str, ProposerStatistics] = {}
    for burst in bursts:
        for sample in burst.samples:
            for part in sample.speculation.proposers if sample.speculation else ():
                so_far = sums.get(part.proposer, ProposerStatistics(part.proposer))
                sums[part.proposer] = ProposerStatistics(
                    part.proposer,
                    so_far.num_rounds + part.num_rounds,
                    so_far.num_draft_tokens + part.num_draft_tokens,
                    so_far.num_accepted_tokens + part.num_accepted_tokens,
                )
    return tuple(sorted(sums.values(), key=lambda part: -part.num_draft_tokens))
