"""The Prometheus metrics of a process: the text of `/metrics`.

Every scrape reads the view once, and nothing is registered globally. `DeviceSeries` bounds the
number of series per device; the rest of the fleet shares one with `device="other"`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from pipeline.console.formatmetrics import mapping_metrics, sparkplug_metrics
from pipeline.status.counters import (
    COUNTER_NAMES,
    DeviceAccount,
    LatencySummary,
    Totals,
    counter_values,
)
from pipeline.status.progress import PartitionProgress
from pipeline.status.view import GatewayView, Measure

__all__ = ["CONTENT_TYPE", "MOST_DEVICES", "OTHER", "DeviceSeries", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_DEVICES = 1000
"""Default number of device streams with series of their own."""
OTHER = DeviceAccount("", "other", "")
"""Labels of the series of all other devices; no device has an empty site."""

_Key = tuple[str, str, str]
_DEVICE_COUNTERS = {
    "received": "Readings received.",
    "windowed": "Readings accepted into windows.",
    "duplicate": "Readings seen before.",
    "corrected": "Readings that are other versions of a windowed reading.",
    "late": "Readings older than the watermark.",
    "dead_lettered": "Readings refused with a reason.",
    "gaps": "Missing stretches in the readings.",
    "windows": "Windows closed.",
}
_OUTCOMES = ("received", "windowed", "duplicate", "corrected", "late", "dead_lettered")
_TOTAL_COUNTERS = {
    "messages_received": "MQTT messages received by the bridge.",
    "messages_logged": "MQTT messages durable in the log.",
    "messages_dead_lettered": "MQTT messages refused by the bridge.",
    "scored": "Scores appended to the log.",
    "unscored": "Closed windows that have no score.",
    "stored": "Points that a sink confirmed.",
    "refused_points": "Points that a sink refused.",
}


class DeviceSeries:
    """Decides which devices have series of their own: as few come and go as possible.

    A device that has series keeps them until it is gone. A free place goes to the device with the
    most readings. The counters of `other` only grow: what a device has added since the last scrape
    is added to them, wherever the device was counted before. So a rate over `other` is right,
    while its sum with the named series may miss a device's first readings; the sums of the fleet
    (`kpstream_fleet_readings_total`) miss nothing.
    """

    def __init__(self, most: int = MOST_DEVICES) -> None:
        """Prepare.

        Args:
            most: Most device streams with series of their own.
        """
        self.most = most
        self._named: set[_Key] = set()
        self._last: dict[_Key, tuple[int, ...]] | None = None  # of the others, at the last scrape
        self._other = [0] * len(COUNTER_NAMES)

    def choose(self, accounts: Sequence[DeviceAccount]) -> list[DeviceAccount]:
        """Return the accounts to show, in order, with one for all others at the end if any."""
        by_key = {(a.site, a.device, a.stream): a for a in accounts}
        self._named &= by_key.keys()
        free = self.most - len(self._named)
        if free > 0:
            rest = (key for key in by_key if key not in self._named)
            self._named.update(nlargest(free, rest, key=lambda key: by_key[key].received))
        shown = [a for key, a in by_key.items() if key in self._named]
        others = {key: counter_values(a) for key, a in by_key.items() if key not in self._named}
        self._count(others)
        if self._last:
            counters = dict(zip(COUNTER_NAMES, self._other, strict=True))
            shown.append(DeviceAccount(OTHER.site, OTHER.device, OTHER.stream, **counters))
        return shown

    def _count(self, others: dict[_Key, tuple[int, ...]]) -> None:
        """Add what the others have added since the last scrape; at the first one, all of it."""
        before = self._last
        if before is None:
            added = _column_sums(others.values())
        else:
            keys = others.keys() & before.keys()
            now, then = _column_sums(map(others.get, keys)), _column_sums(map(before.get, keys))
            added = [max(0, a - b) for a, b in zip(now, then, strict=True)]
        self._other = [a + b for a, b in zip(self._other, added, strict=True)]
        self._last = others


def _column_sums(rows: Iterable[Any]) -> list[int]:
    """Sums of each counter over rows of `counter_values`."""
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * len(COUNTER_NAMES)


def exposition(
    view: GatewayView, more: Sequence[Measure] = (), series: DeviceSeries | None = None
) -> bytes:
    """All metrics of a process in the Prometheus text format.

    Names begin with `kpstream_`, counters end in `_total`, durations are seconds.

    Args:
        view: The state of the process.
        more: Measures of this kind of process.
        series: Remembers from scrape to scrape which devices have series; None: the default.
    """
    registry = CollectorRegistry()
    registry.register(_ViewCollector(view, more, series or DeviceSeries()))
    return generate_latest(registry)


class _ViewCollector(Collector):
    def __init__(self, view: GatewayView, more: Sequence[Measure], series: DeviceSeries) -> None:
        self._view = view
        self._more = more
        self._series = series

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        view = self._view
        totals, health = view.totals(), view.health()
        accounts = view.account()
        yield GaugeMetricFamily(
            "kpstream_device_streams",
            f"Device streams seen so far; at most {self._series.most} have series of their own, "
            'the others share device="other".',
            len(accounts),
        )
        yield from _devices(self._series.choose(accounts))
        yield from _totals(totals)
        yield from _partitions(view.partitions())
        yield from self._models()
        yield from _archive(health.parts.get("archive") or {})
        yield from _broker(health.parts.get("bridge"))
        yield from sparkplug_metrics(health.parts.get("sparkplug") or {})
        yield from mapping_metrics(health.parts.get("mappings") or {})
        for measure in self._more:
            family = CounterMetricFamily if measure.grows else GaugeMetricFamily
            yield family(f"kpstream_{measure.name}", measure.about, measure.value)
        yield GaugeMetricFamily("kpstream_alive", "1 while the process works.", health.alive)
        yield GaugeMetricFamily("kpstream_ready", "1 while the process is ready.", health.ready)

    def _models(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "kpstream_model_version",
            "Version of the student that scores a stream.",
            labels=["model", "task", "stream"],
        )
        refused = GaugeMetricFamily(
            "kpstream_model_refused",
            "1 when the newest version of a student, or its pointer, was refused.",
            labels=["model", "task", "stream"],
        )
        for model in self._view.models():
            labels = [model.name, model.task, model.stream]
            info.add_metric(labels, 0 if model.version is None else model.version)
            refused.add_metric(labels, float(model.is_refused))
        yield info
        yield refused
        yield self._figures()
        yield from self._challengers()

    def _figures(self) -> Metric:
        """Figures by model, never by device: their number does not grow with the fleet."""
        family = SummaryMetricFamily(
            "kpstream_score_figure",
            "Figures of the scores since a version took over; sum divided by count is the mean.",
            labels=["model", "task", "stream", "figure"],
        )
        for model in self._view.models():
            if model.live is not None:
                for figure, total in sorted(model.live.sums.items()):
                    labels = [model.name, model.task, model.stream, figure]
                    family.add_metric(labels, model.live.windows, total)
        return family

    def _challengers(self) -> Iterator[Metric]:
        """New students in shadow or on probation, by model; nothing without one."""
        labels = ["model", "version", "against"]
        windows = CounterMetricFamily(
            "kpstream_shadow_windows_total",
            "Windows that a new student and the other one have both scored.",
            labels=labels,
        )
        skipped = CounterMetricFamily(
            "kpstream_shadow_skipped_total", "Windows that were not compared.", labels=labels
        )
        running = GaugeMetricFamily(
            "kpstream_shadow_running",
            "1 while the new student runs, on probation; 0 in shadow.",
            labels=labels,
        )
        failed = GaugeMetricFamily(
            "kpstream_shadow_failed", "1 once the new student has failed.", labels=labels
        )
        figures = GaugeMetricFamily(
            "kpstream_shadow_figure",
            "Evidence for or against a new student, in the unit that its name ends with.",
            labels=[*labels, "figure"],
        )
        for model in self._view.models():
            if (found := model.challenger) is None:
                continue
            values = [model.name, str(found.version), str(found.against)]
            windows.add_metric(values, found.windows)
            skipped.add_metric(values, found.skipped)
            running.add_metric(values, float(found.is_running))
            failed.add_metric(values, float(found.failed is not None))
            for name, figure in sorted(found.evidence.items()):
                if name != "windows":
                    figures.add_metric([*values, name], figure)
        yield from (windows, skipped, running, failed, figures)


def _archive(status: Mapping[str, Any]) -> Iterator[Metric]:
    """The topics without a reader, such as the dead letters, if the process has the log."""
    if not status:
        return
    yield GaugeMetricFamily(
        "kpstream_archive_bytes",
        "Bytes in topics of the log that no group reads.",
        status["stored_bytes"],
    )
    yield GaugeMetricFamily(
        "kpstream_archive_max_bytes", "Their share of the log's cap.", status["max_bytes"]
    )
    evicted = CounterMetricFamily(
        "kpstream_evicted_total",
        "Records of such topics deleted because their sender filled the share.",
        labels=["topic", "sender"],
    )
    for topic, sender, count in status["evicted_by"]:
        evicted.add_metric([topic, sender], count)
    yield evicted


def _broker(status: Any) -> Iterator[Metric]:
    """What the broker keeps for the bridge, if the process has one (`ingest.bridgehealth`)."""
    if not isinstance(status, Mapping) or "sessions_lost" not in status:
        return
    yield CounterMetricFamily(
        "kpstream_sessions_lost_total",
        "Connects at which the broker had forgotten our session.",
        status["sessions_lost"],
    )
    yield GaugeMetricFamily(
        "kpstream_promise_void",
        "1 while the broker cannot keep messages that we have not confirmed.",
        float(bool(status["promise_void"])),
    )
    asked_s = status["session_expiry_asked_s"]
    yield GaugeMetricFamily(
        "kpstream_session_expiry_asked_seconds",
        "Seconds for which the broker is to keep our session.",
        asked_s,
    )
    announced = status["announced"]
    if announced is None:
        return
    kept_s = announced["session_expiry_s"]
    yield GaugeMetricFamily(
        "kpstream_session_expiry_seconds",
        "Seconds for which it says it keeps our session.",
        asked_s if kept_s is None else kept_s,
    )
    yield GaugeMetricFamily(
        "kpstream_broker_receive_maximum",
        "Most unconfirmed messages that the broker takes from one client.",
        announced["receive_maximum"],
    )
    yield GaugeMetricFamily(
        "kpstream_broker_maximum_qos",
        "Highest QoS that the broker takes and grants.",
        announced["maximum_qos"],
    )


def _devices(accounts: Sequence[DeviceAccount]) -> Iterator[Metric]:
    names = ["site", "device", "stream"]
    for field, text in _DEVICE_COUNTERS.items():
        noun = field if field in {"gaps", "windows"} else f"readings_{field}"
        family = CounterMetricFamily(f"kpstream_{noun}_total", text, labels=names)
        for a in accounts:
            family.add_metric([a.site, a.device, a.stream], getattr(a, field))
        yield family
    last = GaugeMetricFamily(
        "kpstream_last_received_timestamp_seconds", "Latest receive time.", labels=names
    )
    for a in accounts:
        if a.last_recv_ms is not None:
            last.add_metric([a.site, a.device, a.stream], a.last_recv_ms / 1000)
    yield last
    rate = GaugeMetricFamily(
        "kpstream_stream_rate_hertz", "Readings per second of event time.", labels=names
    )
    for a in accounts:
        if a.rate_hz is not None:
            rate.add_metric([a.site, a.device, a.stream], a.rate_hz)
    yield rate


def _totals(totals: Totals) -> Iterator[Metric]:
    readings = CounterMetricFamily(
        "kpstream_fleet_readings_total", "Readings of all devices by outcome.", labels=["outcome"]
    )
    for field in _OUTCOMES:
        readings.add_metric([field], getattr(totals, field))
    yield readings
    for field, text in _TOTAL_COUNTERS.items():
        yield CounterMetricFamily(f"kpstream_{field}_total", text, getattr(totals, field))
    dead_letters = CounterMetricFamily(
        "kpstream_dead_letters_total", "Dead letters by reason.", labels=["reason"]
    )
    for reason, count in sorted(totals.dead_letters.items()):
        dead_letters.add_metric([reason], count)
    yield dead_letters
    yield GaugeMetricFamily(
        "kpstream_unbalanced_readings", "Readings that no counter explains.", totals.missing
    )
    latency = GaugeMetricFamily(
        "kpstream_latency_seconds",
        "Time from a sensor or from the bridge to a score, over the last minute.",
        labels=["origin", "quantile"],
    )
    for origin, summary in (
        ("sensor", totals.sensor_to_score),
        ("receive", totals.receive_to_score),
    ):
        _add_quantiles(latency, origin, summary)
    yield latency
    stored = GaugeMetricFamily(
        "kpstream_stored_latency_seconds",
        "Time from a sensor to a stored point, over the last minute.",
        labels=["origin", "quantile"],
    )
    _add_quantiles(stored, "sensor", totals.sensor_to_stored)
    yield stored


def _add_quantiles(family: GaugeMetricFamily, origin: str, summary: LatencySummary) -> None:
    for quantile, value in (("0.5", summary.p50_ms), ("0.99", summary.p99_ms)):
        if value is not None:
            family.add_metric([origin, quantile], value / 1000)


def _partitions(partitions: Sequence[PartitionProgress]) -> Iterator[Metric]:
    families = {
        name: GaugeMetricFamily(
            f"kpstream_partition_{name}", text, labels=["app", "topic", "partition"]
        )
        for name, text in (
            ("end_offset", "Offset of the next record."),
            ("committed_offset", "Offset at which a consumer group continues."),
            ("backlog", "Records appended, but not committed by a group."),
        )
    }
    for p in partitions:
        labels = [p.app, p.topic, str(p.partition)]
        families["end_offset"].add_metric(labels, p.end_offset)
        if p.committed is not None:
            families["committed_offset"].add_metric(labels, p.committed)
        families["backlog"].add_metric(labels, p.backlog)
    yield from families.values()
