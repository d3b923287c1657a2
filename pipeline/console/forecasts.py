"""Cards of an answer of quantiles: what came, what was forecast for it, and what lies ahead.

Reads two measurements of the results file: that of the scores (one point per window), and that of
their details (per channel the reading that came, and p10, p50, p90 for each lead). The newest point
of every lead is the fan of the newest window, because all of them are written together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.tasks.contract import Task
from models.tasks.forecast import LEAD_ZERO
from pipeline.console.queries import (
    Device,
    Latest,
    newest_details,
    series,
    summaries,
    trend,
)
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["anomaly_rows", "course_forecast", "fleet_forecast", "newest_anomaly"]

_SHOWN_READINGS = 48
_SERIES_POINTS = 400
_CHANNEL_POINTS = 240
_FAN = ("p10", "p50", "p90")


@dataclass(slots=True)
class _Channel:
    """What is newest of a channel: its reading, and the fan made then, `[time, p10, p50, p90]`."""

    reading: tuple[int, float] | None = None
    fan: dict[int, list[Any]] = field(default_factory=dict)

    @property
    def ahead(self) -> list[list[Any]]:
        """The part of the fan after the newest reading, by time."""
        now_ms = 0 if self.reading is None else self.reading[0]
        return sorted(row for row in self.fan.values() if row[0] > now_ms)

    @property
    def step_ms(self) -> int | None:
        """Time between two readings; None before the first forecast."""
        if self.reading is None or not self.fan:
            return None
        lead, row = min(self.fan.items())
        return int((row[0] - self.reading[0]) // lead)


def newest_anomaly(point: Latest) -> dict[str, Any]:
    """The newest score of a device."""
    fields = point.fields
    return {
        "score": fields.get("score"),
        "alarm": bool(fields.get("alarm")),
        "channel": fields.get("channel"),
        "mae": fields.get("mae"),
        "covered": fields.get("covered"),
    }


def fleet_forecast(
    results: ResultsFile, task: Task, device: Device, point: Latest, units: Mapping[str, str]
) -> dict[str, Any]:
    """One channel with its last readings and its fan: the oddest in an alarm, else the first.

    Outside an alarm the oddest channel is another one with every window.
    """
    score = newest_anomaly(point)
    channels = _channels(results, task, device, point.model)
    is_alarm = score["alarm"] and score["channel"] in channels
    name = score["channel"] if is_alarm else next(iter(channels), None)
    card: dict[str, Any] = _means(results, task, device) | {
        "shown": name,
        "unit": units.get(name or "", ""),
        "readings": [],
        "ahead": [],
    }
    if name is not None:
        readings = trend(
            results,
            _details(task),
            "value",
            device,
            last=_SHOWN_READINGS,
            points=_SHOWN_READINGS,
            tags={"channel": name, "lead": LEAD_ZERO},
        )
        card |= {"readings": readings, "ahead": channels[name].ahead}
    return score | card


def course_forecast(
    results: ResultsFile,
    task: Task,
    device: Device,
    point: Latest,
    since_ms: int,
    lead: int | None,
    units: Mapping[str, str],
) -> dict[str, Any]:
    """Every channel since `since_ms`: readings, the forecasts made `lead` steps before, the fan.

    A lead that is not stored gives the first one that is.
    """
    channels = _channels(results, task, device, point.model)
    leads = sorted({each for channel in channels.values() for each in channel.fan})
    if lead not in leads:
        lead = next(iter(leads), None)
    steps = [channel.step_ms for channel in channels.values()]
    return newest_anomaly(point) | {
        "leads": leads,
        "lead": lead,
        "step_ms": next((step for step in steps if step), None),
        "channels": [
            {
                "name": name,
                "unit": units.get(name, ""),
                "readings": _readings(results, task, device, name, since_ms, point.time_ms),
                "made": _made(results, task, device, name, lead, since_ms, point.time_ms),
                "ahead": channel.ahead,
            }
            for name, channel in channels.items()
        ],
    }


def anomaly_rows(
    results: ResultsFile, task: Task, device: Device, since_ms: int, until_ms: int
) -> list[list[Any]]:
    """Rows [time, greatest score, alarm, error, coverage] of stretches of time, oldest first.

    `alarm` is 1 if a window of the stretch raised one; error and coverage are means.
    """
    return summaries(
        results,
        task.measurement,
        {"score": "max", "alarm": "max", "mae": "avg", "covered": "avg"},
        device,
        since_ms=since_ms,
        until_ms=until_ms,
        max_points=_SERIES_POINTS,
    )


def _means(results: ResultsFile, task: Task, device: Device) -> dict[str, Any]:
    """Mean error and coverage of the newest windows; those of one window vary too much."""
    last = _SHOWN_READINGS
    found: dict[str, Any] = {}
    for name in ("mae", "covered"):
        rows = trend(results, task.measurement, name, device, last=last, points=last)
        values = [value for _, value in rows]
        found[f"{name}_mean"] = sum(values) / len(values) if values else None
        found["windows"] = len(values)
    return found


def _channels(results: ResultsFile, task: Task, device: Device, model: str) -> dict[str, _Channel]:
    found: dict[str, _Channel] = {}
    for newest in newest_details(results, _details(task), device, model):
        channel = found.setdefault(newest.tags["channel"], _Channel())
        if newest.tags["lead"] == LEAD_ZERO:
            channel.reading = (newest.time_ms, newest.fields["value"])
        else:
            row = [newest.time_ms, *map(newest.fields.get, _FAN)]
            channel.fan[int(newest.tags["lead"])] = row
    return found


def _readings(
    results: ResultsFile, task: Task, device: Device, channel: str, since_ms: int, until_ms: int
) -> list[list[Any]]:
    buckets = series(
        results,
        _details(task),
        ["value"],
        device,
        since_ms=since_ms,
        until_ms=until_ms + 1,
        max_points=_CHANNEL_POINTS,
        tags={"channel": channel, "lead": LEAD_ZERO},
    )
    return [[b.time_ms, b.last["value"], b.low, b.high] for b in buckets]


def _made(
    results: ResultsFile,
    task: Task,
    device: Device,
    channel: str,
    lead: int | None,
    since_ms: int,
    until_ms: int,
) -> list[list[Any]]:
    """Forecasts for the times since `since_ms`, as they were made `lead` steps before."""
    if lead is None:
        return []
    buckets = series(
        results,
        _details(task),
        ["p50", "p10", "p90"],
        device,
        since_ms=since_ms,
        until_ms=until_ms + 1,
        max_points=_CHANNEL_POINTS,
        tags={"channel": channel, "lead": str(lead)},
    )
    return [[b.time_ms, *map(b.last.get, _FAN)] for b in buckets]


def _details(task: Task) -> str:
    """Name of the measurement of the details; the console reads nothing of a task without."""
    return task.details.measurement if task.details is not None else ""
