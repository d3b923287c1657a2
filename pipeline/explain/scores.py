"""Which score is meant: scores of a device in the results file, by time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from models.tasks.contract import Task
from models.tasks.registry import tasks
from pipeline.errors import NoScore
from pipeline.points.measurements import SCORE_FIELDS, score_measurement
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["DeviceStream", "StoredScore", "find_score", "find_streams", "stands", "utc"]

_MOST_NAMES = 8


class DeviceStream(NamedTuple):
    """One stream of one device."""

    site: str
    device: str
    stream: str


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score as the results file holds it.

    Attributes:
        where: Its device and stream.
        task: Its task.
        model: Name of the student.
        version: Version of the student.
        start_ms: Event time of the first reading of its window.
        end_ms: End of its window, event time of the last reading + 1.
        readings: Number of readings in its window.
        run_ms: Event time at which the resampling began; None for a window as it came.
        fields: The fields of the task.
    """

    where: DeviceStream
    task: Task
    model: str
    version: int
    start_ms: int
    end_ms: int
    readings: int
    run_ms: int | None
    fields: Mapping[str, Any]


def find_streams(
    results: ResultsFile, device: str, *, site: str | None = None, stream: str | None = None
) -> list[DeviceStream]:
    """Streams of a device that have scores.

    Args:
        results: The results file.
        device: Name of the device, or `site/device`.
        site: Only devices of this site.
        stream: Only this stream.

    Raises:
        NoScore: There is none; the message names devices that have scores.
    """
    if "/" in device:
        site, _, device = device.partition("/")
    names = [score_measurement(task).name for task in tasks()]
    marks = ", ".join("?" * len(names))
    rows = results.select(
        f"SELECT DISTINCT site, device, stream FROM _series WHERE measurement IN ({marks}) "  # noqa: S608
        "ORDER BY site, device, stream",
        names,
    )
    known = [DeviceStream(*row) for row in rows]
    found = [
        where
        for where in known
        if where.device == device and site in (None, where.site) and stream in (None, where.stream)
    ]
    if not found:
        there = [where for where in known if where.device == device] or known
        some = ", ".join("/".join(where) for where in there[:_MOST_NAMES]) or "none"
        more = f" and {len(there) - _MOST_NAMES} more" if len(there) > _MOST_NAMES else ""
        asked = "/".join(part for part in (site, device, stream) if part)
        msg = f"no score of {asked}; streams with scores: {some}{more}"
        raise NoScore(msg)
    return found


def find_score(results: ResultsFile, where: DeviceStream, at_ms: int | None = None) -> StoredScore:
    """The newest score of a stream, or the one that was newest at `at_ms` of event time.

    A score stands for no longer than its window is long, so a time in a silence has none.

    Raises:
        NoScore: There is none; the message names the nearest times.
    """
    found = [score for task in tasks() for score in [_newest(results, task, where, at_ms)] if score]
    score = max(found, key=lambda score: score.end_ms, default=None)
    if score is None or (at_ms is not None and not stands(score, at_ms)):
        raise NoScore(_nothing_there(results, where, at_ms, score))
    return score


def stands(score: StoredScore, at_ms: int) -> bool:
    """Whether a score still stands at a later event time: for as long as its window is."""
    return at_ms - score.end_ms <= max(score.end_ms - score.start_ms, 1000)


def utc(time_ms: int) -> str:
    """A time in text, to the millisecond if it has any.

    >>> utc(1_700_000_000_000), utc(1_700_000_000_250)
    ('2023-11-14 22:13:20 UTC', '2023-11-14 22:13:20.250 UTC')
    """
    moment = datetime.fromtimestamp(time_ms // 1000, timezone.utc)
    millis = f".{time_ms % 1000:03d}" if time_ms % 1000 else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{millis} UTC"


def _newest(
    results: ResultsFile, task: Task, where: DeviceStream, at_ms: int | None
) -> StoredScore | None:
    """The newest score whose last reading is at or before `at_ms`."""
    # A window ends one millisecond after its last reading.
    until_ns = 2**63 - 1 if at_ms is None else (at_ms + 1) * 1_000_000
    row = _edge(results, task, where, "<=", until_ns)
    if row is None:
        return None
    model, time_ns, values = row
    own = {field.name for field in SCORE_FIELDS}
    return StoredScore(
        where,
        task,
        model,
        int(values["version"]),
        int(values["start_ms"]),
        time_ns // 1_000_000,
        int(values["readings"]),
        None if values.get("run_ms") is None else int(values["run_ms"]),
        {name: value for name, value in values.items() if value is not None and name not in own},
    )


def _edge(
    results: ResultsFile, task: Task, where: DeviceStream, side: str, time_ns: int
) -> tuple[str, int, dict[str, Any]] | None:
    """Model, time and fields of the score nearest to a time on one of its sides."""
    name = score_measurement(task).name
    fields = results.fields(name)
    if not fields:
        return None
    columns = ", ".join('p."{}"'.format(field.replace('"', '""')) for field in fields)
    rows = results.select(
        f"SELECT s.model, p.time_ns, {columns} "  # noqa: S608 our own names
        f'FROM _series s JOIN "points_{name}" p ON p.series = s.id WHERE s.measurement = ? '
        f"AND s.site = ? AND s.device = ? AND s.stream = ? AND p.time_ns {side} ? "
        f"ORDER BY p.time_ns {'DESC' if side == '<=' else 'ASC'} LIMIT 1",
        (name, *where, time_ns),
    )
    if not rows:
        return None
    model, found_ns, *values = rows[0]
    return model, found_ns, dict(zip(fields, values, strict=True))


def _nothing_there(
    results: ResultsFile, where: DeviceStream, at_ms: int | None, before: StoredScore | None
) -> str:
    name = "/".join(where)
    if at_ms is None:
        return f"no score of {name}"
    later = [
        row[1] // 1_000_000
        for task in tasks()
        for row in [_edge(results, task, where, ">", (at_ms + 1) * 1_000_000)]
        if row
    ]
    near = [f"the last one before is of {utc(before.end_ms - 1)}"] if before else []
    near += [f"the first one after is of {utc(min(later) - 1)}"] if later else []
    return f"no score of {name} at {utc(at_ms)}; {', '.join(near) or 'it has none'}"
