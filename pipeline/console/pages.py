"""The pages of the console as JSON-able dicts, read from the view and the results file.

Times are absolute epoch milliseconds, never ages, so that an unchanged fleet gives unchanged bytes
(and a 304). Nothing here depends on HTTP or HTML. `pipeline.console.cards` makes the part of a
device that depends on the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from models.tasks.contract import Task
from models.tasks.quality import GOOD, QUALITY
from models.tasks.registry import tasks
from models.tasks.rul import CRITICAL_RUL
from pipeline.console.acting import Access
from pipeline.console.cards import Course, course_card, series_rows
from pipeline.console.labelling import given_labels
from pipeline.console.notes import Note
from pipeline.console.queries import Device, Latest, counts, latest, newest_times, runs
from pipeline.points.measurements import EXPLANATION
from pipeline.status.counters import DeviceAccount
from pipeline.status.history import History
from pipeline.status.progress import stalled_partitions
from pipeline.status.view import GatewayView, ModelStatus
from pipeline.stores.resultsfile import ResultsFile

__all__ = [
    "PageSettings",
    "channel_units",
    "device_entry",
    "device_page",
    "encode",
    "health_page",
    "label_names",
    "models_page",
    "pipeline_page",
    "progress_page",
    "scored_keys",
    "stale_after_ms",
    "task_cards",
]


_MISSED_READINGS = 3
_LEAST_WINDOWS = 48
"""Windows that a device page shows at least, because a device may send one reading an hour."""


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Settings of the pages.

    Attributes:
        rul_critical: A machine with a RUL below this is critical, in the unit of its model.
        rul_warning: A machine with a RUL below this is wearing.
        stale_ms: A device that has sent nothing for this long is marked as stale; one whose model
            expects slow readings, after three of them.
        mqtt_host: Host of the broker, for the example command of an empty page.
        mqtt_port: Port of the broker, for the same command.
        topic_prefix: First level of the topics, for the same command.
        explains: Whether the process can explain scores and read raw readings; the console sets it.
        labels: Who may give labels on the page; the console sets it.
    """

    rul_critical: float = CRITICAL_RUL
    rul_warning: float = 50.0
    stale_ms: int = 15_000
    mqtt_host: str = "127.0.0.1"
    mqtt_port: int = 1883
    topic_prefix: str = "sensors"
    explains: bool = False
    labels: Access = "off"


def health_page(view: GatewayView) -> dict[str, Any]:
    """Whether the process is alive and ready, its problems, notices, and parts."""
    report = view.health()
    return {
        "alive": report.alive,
        "ready": report.ready,
        "problems": list(report.problems),
        "notices": list(report.notices),
        "parts": dict(report.parts),
    }


def progress_page(view: GatewayView) -> dict[str, Any]:
    """The progress of a process, for a supervisor that restarts it when `progress` stops.

    `backlog` is the number of records that wait for it. `progress` is the last advance of the
    partition that has been stalled longest, epoch milliseconds; None without a backlog.
    """
    partitions = view.partitions()
    behind = [p for p in partitions if p.backlog > 0]
    return {
        "backlog": sum(p.backlog for p in behind),
        "progress": min((p.last_advance_ms for p in behind), default=None),
        "partitions": [
            {
                "group": p.app,
                "topic": p.topic,
                "partition": p.partition,
                "end_offset": p.end_offset,
                "position": p.position,
                "committed": p.committed,
                "backlog": p.backlog,
                "still_ms": p.still_ms,
            }
            for p in partitions
        ],
    }


def device_page(
    view: GatewayView,
    results: ResultsFile,
    settings: PageSettings,
    device: Device,
    span_ms: int | None,
    lead: int | None = None,
    note: Note | None = None,
) -> dict[str, Any] | None:
    """One device over time; None if it is unknown.

    Args:
        view: The state of the process.
        results: The results file.
        settings: Settings of the pages.
        device: The device.
        span_ms: The last milliseconds of event time to show, though never fewer than the newest 48
            windows; None: all.
        lead: Steps ahead of the forecasts to show; None: the fewest that are stored.
        note: What was said about the device.
    """
    models = list(view.models())
    account = next((a for a in view.account() if (a.site, a.device, a.stream) == device), None)
    found = {task: point for task in tasks() for point in latest(results, task.measurement, device)}
    if account is None and not found:
        return None
    entry = device_entry(device, account, models, settings)
    entry["note"] = None if note is None else asdict(note)
    page: dict[str, Any] = {"device": entry, "tasks": task_cards(), "settings": asdict(settings)}
    for task, point in found.items():
        until_ms = point.time_ms + 1
        first_ms = _first_ms(results, task.measurement, device)  # a young device fills the chart
        least_ms = _least_span_ms(results, task.measurement, device, until_ms)
        since_ms = first_ms
        if span_ms is not None:
            since_ms = max(first_ms, until_ms - max(span_ms, least_ms))
        versions = runs(
            results,
            task.measurement,
            "version",
            device,
            since_ms=since_ms,
            until_ms=until_ms,
            gap_ms=None,
        )
        entry |= scored_keys(task, point, entry)
        course = Course(since_ms, lead, channel_units(models, device))
        entry[task.name] = course_card(results, task, device, point, course)
        page["versions"] = [[run.start_ms, run.value] for run in versions]
        page["since_ms"] = since_ms
        page["least_span_ms"] = least_ms
        page["until_ms"] = point.time_ms
        page["series"] = series_rows(results, task, device, since_ms, until_ms)
    page["explanation"] = _explanation(results, device)
    page["labels"] = label_names(models, [entry])
    page["given_labels"] = given_labels(results, device)
    page["health"] = health_page(view)
    return page


def pipeline_page(
    view: GatewayView,
    results: ResultsFile,
    history: History,
    count: Callable[[ResultsFile], dict[str, int]] = counts,
) -> dict[str, Any]:
    """Totals, progress of the partitions, latency, throughput, dead letters, stored points.

    Args:
        view: The state of the process.
        results: The results file.
        history: The recent past.
        count: Returns the number of points per measurement.
    """
    totals = view.totals()
    partitions = list(view.partitions())
    stalled = {(p.app, p.topic, p.partition) for p in stalled_partitions(partitions)}
    accounts = list(view.account())
    return {
        "totals": asdict(totals) | {"missing": totals.missing},
        "unbalanced": [_name(a) for a in accounts if not a.balances],
        "devices": len(accounts),
        "partitions": [
            asdict(p) | {"backlog": p.backlog, "stalled": (p.app, p.topic, p.partition) in stalled}
            for p in sorted(partitions, key=lambda p: (p.app, p.topic, p.partition))
        ],
        "history": history.samples(),
        "results": {"points": count(results), "size_bytes": results.size_bytes()},
        "health": health_page(view),
    }


def models_page(view: GatewayView) -> dict[str, Any]:
    """The running students with their lineage, and the refused versions."""
    return {
        "models": [asdict(model) for model in view.models()],
        "tasks": task_cards(),
        "health": health_page(view),
    }


def device_entry(
    device: Device,
    account: DeviceAccount | None,
    models: Sequence[ModelStatus],
    settings: PageSettings,
) -> dict[str, Any]:
    """The keys that every device has, scored or not."""
    site, name, stream = device
    entry: dict[str, Any] = {"site": site, "device": name, "stream": stream}
    model = next((m for m in models if m.stream == stream), None)
    entry["task"] = None if model is None else model.task
    entry["subject"] = "" if model is None else model.subject
    entry["unit"] = "" if model is None else model.unit
    entry["stale_ms"] = stale_after_ms(model, settings)
    entry["wanted_hz"] = None if model is None else model.rate_hz
    if account is not None:
        entry["account"] = asdict(account) | {"missing": account.missing}
        entry["last_recv_ms"] = account.last_recv_ms
    return entry


def stale_after_ms(model: ModelStatus | None, settings: PageSettings) -> int:
    """Silence after which a device is stale, by the rate that its model expects."""
    if model is None or not model.rate_hz:
        return settings.stale_ms
    return max(settings.stale_ms, round(_MISSED_READINGS * 1000 / model.rate_hz))


def scored_keys(task: Task, point: Latest, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that every scored device has; without a model, unit and subject are the task's."""
    return {
        "task": task.name,
        "subject": entry["subject"] or task.subject,
        "unit": entry["unit"] or task.field(task.answer.headline_field).unit,
        "model": point.model,
        "version": point.fields.get("version"),
        "time_ms": point.time_ms,
        "written_ms": point.written_ms,
        "latency_ms": point.fields.get("latency_ms"),
        "readings": point.fields.get("readings"),
        "window_gaps": point.fields.get("gaps"),
        "quality": point.fields.get(QUALITY, GOOD),
        "made_up": point.fields.get("made_up"),
    }


def task_cards() -> dict[str, dict[str, str]]:
    """Title and card of each task, in the order of the registry."""
    return {task.name: {"title": task.title, "card": task.card} for task in tasks()}


def label_names(models: Sequence[ModelStatus], devices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Labels in the order of the models, then those only in results, so colours are stable."""
    labels = dict.fromkeys(label for model in models for label in model.labels)
    scores = [entry.get(task.name, {}) for entry in devices for task in tasks()]
    extra = {run[2] for score in scores for run in score.get("runs", ())} - labels.keys()
    return [*labels, *sorted(extra)]


def channel_units(models: Sequence[ModelStatus], device: Device) -> dict[str, str]:
    """Unit of each channel of the model that scores the device."""
    model = next((m for m in models if m.stream == device[2]), None)
    return {} if model is None else dict(zip(model.channels, model.units, strict=False))


def _least_span_ms(results: ResultsFile, measurement: str, device: Device, until_ms: int) -> int:
    """Time of the newest `_LEAST_WINDOWS` windows, or of all if they are fewer."""
    times = newest_times(results, measurement, device, last=_LEAST_WINDOWS)
    return until_ms - times[-1] if times else 0


def _first_ms(results: ResultsFile, measurement: str, device: Device) -> int:
    site, name, stream = device
    rows = results.select(
        f'SELECT min(time_ns) FROM "points_{measurement}" WHERE series IN (SELECT id FROM _series '  # noqa: S608 our own names
        "WHERE measurement = ? AND site = ? AND device = ? AND stream = ?)",
        (measurement, site, name, stream),
    )
    return int((rows[0][0] or 0) // 10**6)


def _explanation(results: ResultsFile, device: Device) -> dict[str, Any] | None:
    """Why the last explained alert-level score of a device is what it is; None without one."""
    for point in latest(results, EXPLANATION.name, device):
        return {"time_ms": point.time_ms, **point.fields}
    return None


def _name(account: DeviceAccount) -> str:
    return f"{account.site}/{account.device}/{account.stream}"


def encode(page: Mapping[str, Any]) -> bytes:
    """JSON bytes; NaN and infinities become null."""
    return orjson.dumps(page)
