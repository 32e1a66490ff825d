"""Readings in the words of Prometheus."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from forethought.observability.histogram import Histogram
from forethought.observability.series import MODEL_LABEL, PREFIX, Kind, Reading, Series, Source


def make_registry(sources: Sequence[Source], shared_prefix: str = PREFIX) -> CollectorRegistry:
    """What a process exports: itself, and what it reads of its parts at each scrape.

    Args:
        sources: may grow until the process serves.
        shared_prefix: of metrics that vLLM has too.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Readings(sources, shared_prefix))
    return registry


class _Readings(Collector):
    def __init__(self, sources: Sequence[Source], shared_prefix: str) -> None:
        self._sources = sources
        self._shared_prefix = shared_prefix

    def describe(self) -> Iterable[Metric]:
        """Nothing: else a registry would ask for all when it is made."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[Series, Metric] = {}
        for source in tuple(self._sources):
            for reading in source.read():
                series = reading.series
                if series not in families:
                    families[series] = self._new_family(series)
                own = (source.model_name,) if series.is_shared else ()
                _add(families[series], (*own, *reading.labels), reading)
        yield from families.values()

    def _new_family(self, series: Series) -> Metric:
        prefix = self._shared_prefix if series.is_shared else PREFIX
        labels = (MODEL_LABEL, *series.labels) if series.is_shared else series.labels
        family: Metric = _FAMILIES[series.kind](
            f"{prefix}:{series.name}", series.help, labels=labels
        )
        return family


_FAMILIES = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


def _add(family: Metric, labels: Sequence[str], reading: Reading) -> None:
    value = reading.value
    match family:
        case HistogramMetricFamily():
            assert isinstance(value, Histogram)
            ends = [*map(floatToGoString, value.bounds), "+Inf"]
            sums = accumulate(tuple(value.counts))
            family.add_metric(labels, list(zip(ends, sums, strict=True)), value.total)
        case CounterMetricFamily() | GaugeMetricFamily():
            assert not isinstance(value, Histogram)
            family.add_metric(labels, value)
