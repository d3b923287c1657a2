"""What each page of the console shows, as JSON-able dicts: pure reading of view and results.

Times are absolute epoch milliseconds, never ages, so that an unchanged fleet gives unchanged bytes
(and a 304). Nothing here knows HTTP or HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from models.tasks.classes import PROBABILITY_PREFIX
from pipeline.console.queries import Device, Latest, counts, latest, runs, series, trend
from pipeline.status.counters import DeviceAccount
from pipeline.status.history import History
from pipeline.status.progress import stalled_partitions
from pipeline.status.view import GatewayView, ModelStatus
from pipeline.stores.resultsfile import ResultsFile

__all__ = [
    "PageSettings",
    "device_page",
    "encode",
    "fleet_page",
    "health_page",
    "models_page",
    "pipeline_page",
    "progress_page",
]

_TIMELINE_MS = 10 * 60_000
_TREND_LAST, _TREND_POINTS = 240, 60
_SERIES_POINTS = 400


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What the pages cannot know from view and results.

    `rul_critical` and `rul_warning` are bounds of the condition of a machine, in the unit of its
    model (cycles). `stale_ms`: a device that sent nothing for this long is marked. The MQTT
    address and topic prefix are for the example line of an empty page.
    """

    rul_critical: float = 20.0
    rul_warning: float = 50.0
    stale_ms: int = 15_000
    mqtt_host: str = "127.0.0.1"
    mqtt_port: int = 1883
    topic_prefix: str = "sensors"


def health_page(view: GatewayView) -> dict[str, Any]:
    """Alive, ready, problems, parts."""
    report = view.health()
    return {
        "alive": report.alive,
        "ready": report.ready,
        "problems": list(report.problems),
        "parts": dict(report.parts),
    }


def progress_page(view: GatewayView, now_ms: int) -> dict[str, Any]:
    """How far a process is, for whoever restarts it: it stands still while `progress` does.

    `backlog` are the records that wait for it, `progress` is when the partition that moved least
    lately has moved (epoch ms; None without a backlog).
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
                "still_ms": max(0, now_ms - p.last_advance_ms) if p.backlog else 0,
            }
            for p in partitions
        ],
    }


def fleet_page(view: GatewayView, results: ResultsFile, settings: PageSettings) -> dict[str, Any]:
    """Every device with its newest score, its trend or its timeline, and its account."""
    models = list(view.models())
    accounts = {(a.site, a.device, a.stream): a for a in view.account()}
    ruls = _by_device(latest(results, "rul"))
    activities = _by_device(latest(results, "activity"))
    devices = []
    for key in sorted(accounts.keys() | ruls.keys() | activities.keys()):
        entry = _device_entry(key, accounts.get(key), models)
        if key in ruls:
            entry |= _scored("rul", ruls[key])
            entry["rul"] = _rul(ruls[key]) | {
                "trend": trend(results, "rul", "rul", key, last=_TREND_LAST, points=_TREND_POINTS)
            }
        elif key in activities:
            entry |= _scored("activity", activities[key])
            entry["activity"] = _activity(activities[key]) | _timeline(
                results, key, activities[key].time_ms, _TIMELINE_MS
            )
        devices.append(entry)
    return {
        "devices": devices,
        "labels": _labels(models, devices),
        "settings": asdict(settings),
        "streams": [
            {"stream": m.stream, "task": m.task, "channels": list(m.channels)} for m in models
        ],
        "health": health_page(view),
    }


def device_page(
    view: GatewayView,
    results: ResultsFile,
    settings: PageSettings,
    device: Device,
    span_ms: int | None,
) -> dict[str, Any] | None:
    """One device over the last `span_ms` of its event time (None: all); None if unknown."""
    models = list(view.models())
    account = next((a for a in view.account() if (a.site, a.device, a.stream) == device), None)
    found = {
        name: point
        for name in ("rul", "activity")
        for point in [_by_device(latest(results, name)).get(device)]
        if point is not None
    }
    if account is None and not found:
        return None
    entry = _device_entry(device, account, models)
    page: dict[str, Any] = {"device": entry, "settings": asdict(settings)}
    for name, point in found.items():
        until_ms = point.time_ms + 1
        first_ms = _first_ms(results, name, device)  # a young device fills the chart
        since_ms = first_ms if span_ms is None else max(first_ms, until_ms - span_ms)
        entry |= _scored(name, point)
        lead = "rul" if name == "rul" else "probability"
        buckets = series(
            results,
            name,
            [lead, "rul_low", "rul_high"] if name == "rul" else [lead],
            device,
            since_ms=since_ms,
            until_ms=until_ms,
            max_points=_SERIES_POINTS,
        )
        versions = runs(
            results, name, "version", device, since_ms=since_ms, until_ms=until_ms, hole_ms=None
        )
        page["versions"] = [[run.start_ms, run.value] for run in versions]
        page["since_ms"] = since_ms
        page["until_ms"] = point.time_ms
        if name == "rul":
            entry["rul"] = _rul(point)
            page["series"] = [
                [
                    *(b.time_ms, b.last["rul"], b.last.get("rul_low"), b.last.get("rul_high")),
                    *(b.low, b.high),
                ]
                for b in buckets
            ]
        else:
            entry["activity"] = _activity(point) | _timeline(
                results, device, point.time_ms, point.time_ms - page["since_ms"] + 1
            )
            page["series"] = [[b.time_ms, b.last["probability"], b.low, b.high] for b in buckets]
    page["labels"] = _labels(models, [entry])
    page["health"] = health_page(view)
    return page


def pipeline_page(
    view: GatewayView, results: ResultsFile, history: History, now_ms: int
) -> dict[str, Any]:
    """Account, progress of the partitions, latency, throughput, dead letters, stored points."""
    totals = view.totals()
    partitions = list(view.partitions())
    stalled = {(p.app, p.topic, p.partition) for p in stalled_partitions(partitions, now_ms)}
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
        "results": {"points": counts(results), "size_bytes": results.size_bytes()},
        "health": health_page(view),
    }


def models_page(view: GatewayView) -> dict[str, Any]:
    """The students that run, where they came from, and what was refused."""
    return {"models": [asdict(model) for model in view.models()], "health": health_page(view)}


def _by_device(points: Iterable[Latest]) -> dict[Device, Latest]:
    return {(point.site, point.device, point.stream): point for point in points}


def _device_entry(
    device: Device, account: DeviceAccount | None, models: Sequence[ModelStatus]
) -> dict[str, Any]:
    site, name, stream = device
    entry: dict[str, Any] = {"site": site, "device": name, "stream": stream}
    model = next((m for m in models if m.stream == stream), None)
    entry["task"] = None if model is None else model.task
    entry["unit"] = "cycles" if model is None or not model.unit else model.unit
    if account is not None:
        entry["account"] = asdict(account) | {"missing": account.missing}
        entry["last_recv_ms"] = account.last_recv_ms
    return entry


def _scored(task: str, point: Latest) -> dict[str, Any]:
    """What every score has; the receive time of a device without an account is a guess."""
    scored: dict[str, Any] = {
        "task": task,
        "model": point.model,
        "version": point.fields.get("version"),
        "time_ms": point.time_ms,
        "written_ms": point.written_ms,
        "latency_ms": point.fields.get("latency_ms"),
        "readings": point.fields.get("readings"),
        "window_gaps": point.fields.get("gaps"),
    }
    return scored


def _rul(point: Latest) -> dict[str, Any]:
    fields = point.fields
    return {
        "value": fields.get("rul"),
        "low": fields.get("rul_low"),
        "high": fields.get("rul_high"),
    }


def _activity(point: Latest) -> dict[str, Any]:
    return {
        "label": point.fields.get("activity"),
        "probability": point.fields.get("probability"),
        "probabilities": _probabilities(point.fields),
    }


def _timeline(results: ResultsFile, device: Device, until_ms: int, span_ms: int) -> dict[str, Any]:
    since_ms = until_ms - span_ms
    found = runs(results, "activity", "activity", device, since_ms=since_ms, until_ms=until_ms + 1)
    return {
        "since_ms": since_ms,
        "until_ms": until_ms,
        "runs": [[max(since_ms, run.start_ms), run.end_ms, run.value] for run in found],
    }


def _probabilities(fields: Mapping[str, Any]) -> dict[str, float]:
    return {
        name.removeprefix(PROBABILITY_PREFIX): float(value)
        for name, value in fields.items()
        if name.startswith(PROBABILITY_PREFIX)
    }


def _labels(models: Sequence[ModelStatus], devices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Labels in the order of the models, then those only found in results: colours stay put."""
    labels = dict.fromkeys(label for model in models for label in model.labels)
    extra = {
        run[2] for entry in devices for run in entry.get("activity", {}).get("runs", ())
    } - labels.keys()
    return [*labels, *sorted(extra)]


def _first_ms(results: ResultsFile, measurement: str, device: Device) -> int:
    site, name, stream = device
    rows = results.select(
        f'SELECT min(time_ns) FROM "points_{measurement}" WHERE series IN (SELECT id FROM _series '  # noqa: S608 our own names
        "WHERE measurement = ? AND site = ? AND device = ? AND stream = ?)",
        (measurement, site, name, stream),
    )
    return int((rows[0][0] or 0) // 10**6)


def _name(account: DeviceAccount) -> str:
    return f"{account.site}/{account.device}/{account.stream}"


def encode(page: Mapping[str, Any]) -> bytes:
    """JSON bytes; NaN and infinities become null."""
    return orjson.dumps(page)
