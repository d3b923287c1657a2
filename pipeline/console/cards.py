"""Scores of a device in the form that the card of its task shows. Only reads the results file.

The shape depends on the kind of answer, never on the task:

- A number: `value`, `low`, `high` (None without an interval), and on the fleet page `trend`, a list
  of [time_ms, value]. Rows of its series: [time_ms, value, low, high, least, greatest].
- A class: `label`, `probability`, `probabilities` ({label: number}), and the timeline `since_ms`,
  `until_ms`, `runs`, a list of [start_ms, end_ms, label]. Rows of its series:
  [time_ms, probability, least, greatest].
- Quantiles: `pipeline.console.forecasts`.

Least and greatest cover the stretch of time that a row represents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.tasks.classes import PROBABILITY, PROBABILITY_PREFIX, ClassAnswer
from models.tasks.contract import Task
from models.tasks.number import NumberAnswer
from models.tasks.quantiles import QuantilesAnswer
from pipeline.console.forecasts import (
    anomaly_rows,
    course_forecast,
    fleet_forecast,
    newest_anomaly,
)
from pipeline.console.queries import Device, Latest, runs, series, trend
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["Course", "course_card", "fleet_card", "newest_score", "series_rows"]

_TIMELINE_MS = 10 * 60_000
_TREND_LAST, _TREND_POINTS = 240, 60
_SERIES_POINTS = 400


@dataclass(frozen=True, slots=True)
class Course:
    """What the page of a device shows.

    Attributes:
        since_ms: The earliest time, epoch milliseconds.
        lead: Steps that forecasts were made ahead; None: the fewest that are stored.
        units: Unit of each channel of the model, by its name.
    """

    since_ms: int
    lead: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)


def newest_score(task: Task, point: Latest) -> dict[str, Any]:
    """The newest score of a device."""
    answer, fields = task.answer, point.fields
    if isinstance(answer, QuantilesAnswer):
        return newest_anomaly(point)
    if isinstance(answer, NumberAnswer):
        return {
            "value": fields.get(answer.field),
            "low": fields.get(answer.low_field),
            "high": fields.get(answer.high_field),
        }
    return {
        "label": fields.get(answer.headline_field),
        "probability": fields.get(PROBABILITY),
        "probabilities": {
            name.removeprefix(PROBABILITY_PREFIX): float(value)
            for name, value in fields.items()
            if name.startswith(PROBABILITY_PREFIX)
        },
    }


def fleet_card(
    results: ResultsFile, task: Task, device: Device, point: Latest, units: Mapping[str, str]
) -> dict[str, Any]:
    """The newest score with its trend, the timeline of the last ten minutes, or a forecast.

    Args:
        results: The results file.
        task: The task of the newest score.
        device: The device.
        point: Its newest score.
        units: Unit of each channel of the model, by its name.
    """
    if isinstance(task.answer, QuantilesAnswer):
        return fleet_forecast(results, task, device, point, units)
    score = newest_score(task, point)
    answer = task.answer
    if isinstance(answer, NumberAnswer):
        last = trend(
            results, task.measurement, answer.field, device, last=_TREND_LAST, points=_TREND_POINTS
        )
        return score | {"trend": last}
    return score | _timeline(results, task, device, point.time_ms, _TIMELINE_MS)


def course_card(
    results: ResultsFile, task: Task, device: Device, point: Latest, course: Course
) -> dict[str, Any]:
    """The newest score; for a class with its timeline, for quantiles with every channel."""
    if isinstance(task.answer, QuantilesAnswer):
        return course_forecast(
            results, task, device, point, course.since_ms, course.lead, course.units
        )
    score = newest_score(task, point)
    if isinstance(task.answer, ClassAnswer):
        span_ms = point.time_ms - course.since_ms + 1
        score |= _timeline(results, task, device, point.time_ms, span_ms)
    return score


def series_rows(
    results: ResultsFile, task: Task, device: Device, since_ms: int, until_ms: int
) -> list[list[Any]]:
    """The course of a device's scores in [since_ms, until_ms), oldest first."""
    answer = task.answer
    if isinstance(answer, QuantilesAnswer):
        return anomaly_rows(results, task, device, since_ms, until_ms)
    fields = [PROBABILITY]
    if isinstance(answer, NumberAnswer):
        fields = [answer.field, *filter(None, (answer.low_field, answer.high_field))]
    buckets = series(
        results,
        task.measurement,
        fields,
        device,
        since_ms=since_ms,
        until_ms=until_ms,
        max_points=_SERIES_POINTS,
    )
    if not isinstance(answer, NumberAnswer):
        return [[b.time_ms, b.last[PROBABILITY], b.low, b.high] for b in buckets]
    ends = (answer.low_field, answer.high_field)
    return [
        [b.time_ms, b.last[answer.field], *map(b.last.get, ends), b.low, b.high] for b in buckets
    ]


def _timeline(
    results: ResultsFile, task: Task, device: Device, until_ms: int, span_ms: int
) -> dict[str, Any]:
    since_ms = until_ms - span_ms
    found = runs(
        results,
        task.measurement,
        task.answer.headline_field,
        device,
        since_ms=since_ms,
        until_ms=until_ms + 1,
    )
    return {
        "since_ms": since_ms,
        "until_ms": until_ms,
        "runs": [[max(since_ms, run.start_ms), run.end_ms, run.value] for run in found],
    }
