"""The figures of every part in this process, as Prometheus scrapes them.

| metric | type | labels |
|---|---|---|
| `consona_operations_total` | counter | part, kind, operation, target, outcome |
| `consona_operation_seconds` | histogram | part, kind, operation, target |
| `consona_operations_in_flight` | gauge | part, kind, operation, target |
| `consona_spans_dropped_total` | counter | |

Source: Prometheus text exposition format 0.0.4, written by `prometheus-client`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from consona.telemetry.observer import Observer, observers
from consona.telemetry.trace import default_tracer

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LABELS: Final = ["part", "kind", "operation", "target"]


class _Parts(Collector):
    def __init__(self, seen: Iterable[Observer]) -> None:
        self._seen = list(seen)

    def collect(self) -> Iterator[Metric]:
        total = CounterMetricFamily("consona_operations", "Finished operations.", labels=[*_LABELS, "outcome"])
        seconds = HistogramMetricFamily("consona_operation_seconds", "Duration of finished operations.", labels=_LABELS)
        flight = GaugeMetricFamily("consona_operations_in_flight", "Operations under way.", labels=_LABELS)
        for observer in self._seen:
            for series in observer.each():
                labels = [observer.name, observer.kind, series.name, series.target]
                for outcome in ("succeeded", "failed", "cancelled"):
                    total.add_metric([*labels, outcome], getattr(series, outcome))
                histogram = series.histogram.copy()
                buckets = [(f"{bound:g}", count) for bound, count in histogram.cumulative(BOUNDS_S)]
                seconds.add_metric(labels, [*buckets, ("+Inf", histogram.total)], sum_value=histogram.sum_ns / 1e9)
                done = series.succeeded + series.failed + series.cancelled
                flight.add_metric(labels, max(0, series.started - done))
        yield from (total, seconds, flight)
        yield CounterMetricFamily(
            "consona_spans_dropped", "Spans that waited too long to be kept.", value=default_tracer.dropped
        )


def metrics_text(seen: Iterable[Observer] | None = None) -> bytes:
    """The exposition text of the parts that run now (or of the observers given)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Parts(observers.values() if seen is None else seen))
    return generate_latest(registry)
