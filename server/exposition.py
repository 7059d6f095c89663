"""The metrics table as text: OpenMetrics, or Prometheus' older format for those who ask for it."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, Metric, exposition
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics

from server.families import TABLE, Family
from server.metrics import Totals

NANOSECONDS: Final = 1e9


def _version() -> str:
    try:
        return version("adcore")
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that was never installed


BUILD: Final = {"version": _version(), "python": platform.python_version()}


def expose(totals: Totals, accept: str) -> tuple[bytes, str]:
    """Write the text, and its content type, for an Accept header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(totals))
    # The format's exact version is of no interest: every reader of these knows 1.0.0 and 0.0.4.
    if "text/plain" in accept and "openmetrics" not in accept:
        return exposition.generate_latest(registry), exposition.CONTENT_TYPE_PLAIN_0_0_4
    text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
    return text, openmetrics.CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("adcore_build", "What runs here.", BUILD)
        for family in filter(self._totals.is_said, TABLE.families):
            yield self._family(family)

    def _family(self, family: Family) -> Metric:
        totals = self._totals
        if family.kind == "gauge":
            return GaugeMetricFamily(family.name, family.help, totals.value(family))
        if family.kind == "histogram":
            return HistogramMetricFamily(
                family.name,
                family.help,
                _cumulative(family.bounds, totals.buckets(family)),
                totals.sum_ns(family) / NANOSECONDS,
            )
        counter = CounterMetricFamily(family.name, family.help, labels=list(family.labels))
        for values in family.combinations():
            counter.add_metric(values, totals.value(family, *values))
        return counter


def _cumulative(bounds_ns: tuple[int, ...], counts: list[int]) -> list[tuple[str, float]]:
    """Buckets as the formats have them: each counts the smaller ones too."""
    names = [*(repr(bound / NANOSECONDS) for bound in bounds_ns), "+Inf"]
    below, buckets = 0, []
    for name, count in zip(names, counts, strict=True):
        below += count
        buckets.append((name, float(below)))
    return buckets
