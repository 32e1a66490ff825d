"""What a metric is, and what a process says of one at the moment of a scrape.

`catalogue.py` has all metrics. Whoever computes keeps plain numbers; a reader of each process makes
readings of them when it is scraped, and `collector.py` puts these into words of Prometheus.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from forethought.observability.histogram import Histogram


class Kind(Enum):
    """The metric types of Prometheus that are in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Process(Enum):
    """Who exports a metric."""

    ORCHESTRATOR = "orchestrator"
    TARGET = "target"
    DRAFT = "draft"
    GATEWAY = "gateway"
    AUTOSCALER = "autoscaler"


PREFIX: Final = "forethought"
"""Of every metric, or of those alone that vLLM does not have."""

MODEL_LABEL = "model_name"
"""On every metric that vLLM has too: its dashboards select by it."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric."""

    name: str
    """Without prefix, and without the `_total` that counters get."""
    kind: Kind
    help: str
    processes: tuple[Process, ...]
    labels: tuple[str, ...] = ()
    """Own ones; each has few values, none of which a client chooses."""
    is_shared: bool = False
    """Whether vLLM has a metric of this name and meaning."""

    @property
    def sample_names(self) -> tuple[str, ...]:
        """As they stand in a scrape, without prefix."""
        match self.kind:
            case Kind.COUNTER:
                return (f"{self.name}_total",)
            case Kind.GAUGE:
                return (self.name,)
            case Kind.HISTOGRAM:
                return (f"{self.name}_bucket", f"{self.name}_count", f"{self.name}_sum")


@dataclass(frozen=True, slots=True)
class Reading:
    """One number, or one histogram, of a metric."""

    series: Series
    value: float | Histogram
    labels: tuple[str, ...] = ()
    """A value for each label of the metric, in its order."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where readings come from."""

    model_name: str
    """What is served."""
    read: Callable[[], Iterable[Reading]]
    """Called in the thread of a scrape."""
