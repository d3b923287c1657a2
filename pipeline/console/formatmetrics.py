"""Metrics of the message formats beside our own: Sparkplug B and mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["mapping_metrics", "sparkplug_metrics"]

_GAUGES = {
    "joining": "Streams of devices whose channels come apart.",
    "waiting": "Values that may still become part of a reading.",
}


def sparkplug_metrics(status: Mapping[str, object]) -> Iterator[Metric]:
    """Yield the counters of the Sparkplug decoder, if there is one."""
    for name, value in status.items():
        if not isinstance(value, int):
            continue
        text = f"Sparkplug: {name.removesuffix('_total').replace('_', ' ')}."
        family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        yield family(f"kpstream_sparkplug_{name}", text, value)


def mapping_metrics(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield which mappings are in force or broken, and the counters of each, if there are any."""
    if not status:
        return
    in_force = GaugeMetricFamily(
        "kpstream_mapping_in_force",
        "1: the file is in force; 0: it is broken, and its last good version is in force.",
        labels=["mapping"],
    )
    for name, about in status["in_force"].items():
        in_force.add_metric([name], int(not about["is_former"]))
    yield in_force
    yield GaugeMetricFamily(
        "kpstream_mapping_faults",
        "Mapping files that are broken, or claim a topic of another one.",
        len(status["faults"]),
    )
    for name, text in _GAUGES.items():
        yield GaugeMetricFamily(f"kpstream_mapping_{name}", text, status[name])
    yield CounterMetricFamily(
        "kpstream_mapping_streams_removed_total",
        "Streams whose values were given up: silent for too long, or no room.",
        status["streams_removed_total"],
    )
    families: dict[str, CounterMetricFamily] = {}
    for mapping, counters in status["counters"].items():
        for name, value in counters.items():
            text = f"Mapping: {name.removesuffix('_total').replace('_', ' ')}."
            key = f"kpstream_mapping_{name}"
            family = families.get(key)
            if family is None:
                family = families[key] = CounterMetricFamily(key, text, labels=["mapping"])
            family.add_metric([mapping], value)
    yield from families.values()
