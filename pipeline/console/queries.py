"""Queries of the console on the results file: latest points, trends, series, runs.

Times are epoch milliseconds, while points are stored in nanoseconds; the time of a score is the end
of its window. Every query concerns one measurement. A device is (site, device, stream), whichever
model scored it; `tags` select among the series of its details. Each query is one SQL statement that
aggregates inside SQLite, so a page over days of scores costs the gateway milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from pipeline.stores.resultsfile import ResultsFile

__all__ = [
    "Bucket",
    "Device",
    "Headline",
    "Latest",
    "PointCounts",
    "Run",
    "Tagged",
    "all_points",
    "counts",
    "headlines",
    "latest",
    "newest_details",
    "newest_times",
    "runs",
    "series",
    "summaries",
    "trend",
]

_COUNT_REST = 20

Device = tuple[str, str, str]
"""(site, device, stream)"""


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest point of a device; `written_ms` is the time of the last write to its series."""

    site: str
    device: str
    stream: str
    model: str
    time_ms: int
    written_ms: int
    fields: Mapping[str, Any]


class Headline(NamedTuple):
    """Some fields of the newest point of a device; `written_ms` as in `Latest`."""

    written_ms: int
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A stretch of a series: the fields of its last point, and the range of the first field."""

    time_ms: int
    low: float
    high: float
    points: int
    last: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring points with equal values in (start_ms, end_ms], without a gap between them."""

    start_ms: int
    end_ms: int
    value: Any


@dataclass(frozen=True, slots=True)
class Tagged:
    """The newest point of one series of a device's details, with the tags of the series."""

    tags: Mapping[str, str]
    time_ms: int
    fields: Mapping[str, Any]


class PointCounts:
    """Counts the stored points, at most a twentieth of the time, because it reads every table."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            clock: Monotonic seconds.
        """
        self._clock = clock
        self._counts: dict[str, int] | None = None
        self._counted_s = self._cost_s = 0.0

    def __call__(self, results: ResultsFile) -> dict[str, int]:
        """Number of points stored per measurement."""
        begun_s = self._clock()
        if self._counts is None or begun_s - self._counted_s >= _COUNT_REST * self._cost_s:
            self._counts = counts(results)
            self._counted_s = self._clock()
            self._cost_s = self._counted_s - begun_s
        return self._counts


def counts(results: ResultsFile) -> dict[str, int]:
    """Number of points stored per measurement."""
    rows = results.select("SELECT DISTINCT measurement FROM _series ORDER BY 1")
    return {
        name: int(results.select(f"SELECT count(*) FROM {_table(name)}")[0][0])  # noqa: S608 quoted
        for (name,) in rows
    }


def latest(results: ResultsFile, measurement: str, device: Device | None = None) -> list[Latest]:
    """The newest point of every device, sorted by site, device, stream; or that of one device."""
    names = results.fields(measurement)
    if not names:
        return []
    columns = ", ".join(f"p.{_quoted(name)}" for name in names)
    of_device = "" if device is None else " AND s.site = ? AND s.device = ? AND s.stream = ?"
    rows = results.select(
        f"SELECT s.site, s.device, s.stream, s.model, p.time_ns, s.written_ms, {columns} "  # noqa: S608
        f"FROM _series s JOIN {_table(measurement)} p "
        f"ON p.series = s.id AND p.time_ns = s.last_time_ns WHERE s.measurement = ?{of_device} "
        "ORDER BY s.site, s.device, s.stream, p.time_ns",
        (measurement, *(device or ())),
    )
    found: dict[Device, Latest] = {}
    for row in rows:
        fields = {n: v for n, v in zip(names, row[6:], strict=True) if v is not None}
        site, name, stream, model, time_ns, written_ms = row[:6]
        found[(site, name, stream)] = Latest(
            site, name, stream, model, time_ns // 10**6, written_ms, fields
        )
    return list(found.values())


def headlines(
    results: ResultsFile, measurement: str, fields: Sequence[str]
) -> dict[Device, Headline]:
    """A few fields of the newest point of every device; None where a point lacks one."""
    known = results.fields(measurement)
    if not known:
        return {}
    columns = ", ".join(f"p.{_quoted(name)}" if name in known else "NULL" for name in fields)
    rows = results.select(
        f"SELECT s.site, s.device, s.stream, s.written_ms, {columns} "  # noqa: S608 quoted
        f"FROM _series s JOIN {_table(measurement)} p "
        "ON p.series = s.id AND p.time_ns = s.last_time_ns WHERE s.measurement = ? "
        "ORDER BY p.time_ns",
        (measurement,),
    )
    return {row[:3]: Headline(row[3], row[4:]) for row in rows}


def all_points(results: ResultsFile, measurement: str) -> list[dict[str, Any]]:
    """Every point of a measurement in order of time, with its tags, its fields and `end_ms`.

    `end_ms` is the time of the point, which for a score is the end of its window. All points are in
    memory at once, so use it to evaluate a bounded run, not for pages.
    """
    names = results.fields(measurement)
    if not names:
        return []
    tags = {
        key: {"model": ""} | orjson.loads(text)
        for key, text in results.select(
            "SELECT id, tags FROM _series WHERE measurement = ?", (measurement,)
        )
    }
    columns = ", ".join(map(_quoted, names))
    rows = results.select(
        f"SELECT series, time_ns / 1000000, {columns} FROM {_table(measurement)} "  # noqa: S608
        "ORDER BY time_ns"
    )
    return [
        tags[key] | {"end_ms": time_ms} | dict(zip(names, values, strict=True))
        for key, time_ms, *values in rows
    ]


def newest_details(
    results: ResultsFile, measurement: str, device: Device, model: str
) -> list[Tagged]:
    """The newest point of every series of a device's details by one model, in order of appearance.

    For a forecast that is the newest reading of each channel, and the fan that was made then.
    """
    names = results.fields(measurement)
    if not names:
        return []
    columns = ", ".join(f"p.{_quoted(name)}" for name in names)
    rows = results.select(
        f"SELECT s.tags, p.time_ns, {columns} FROM _series s JOIN {_table(measurement)} p "  # noqa: S608
        f"ON p.series = s.id AND p.time_ns = s.last_time_ns WHERE s.id IN ({_SERIES}) "
        "AND s.model = :model ORDER BY s.id",
        {**_named(measurement, device), "model": model},
    )
    return [
        Tagged(
            orjson.loads(tags),
            time_ns // 10**6,
            {n: v for n, v in zip(names, values, strict=True) if v is not None},
        )
        for tags, time_ns, *values in rows
    ]


def newest_times(results: ResultsFile, measurement: str, device: Device, *, last: int) -> list[int]:
    """Times of a device's `last` newest points, newest first."""
    if not results.fields(measurement):
        return []
    rows = _newest_rows(results, measurement, "time_ns", device, last)
    return [time_ns // 10**6 for time_ns, _ in rows]


def trend(
    results: ResultsFile,
    measurement: str,
    field: str,
    device: Device,
    *,
    last: int,
    points: int,
    tags: Mapping[str, str] | None = None,
) -> list[tuple[int, float]]:
    """About `points` of the `last` newest points as (time_ms, value), evenly picked, oldest first.

    The newest point is always included. Points are picked, not averaged, so that a chart shows
    scores that exist.
    """
    if field not in results.fields(measurement):
        return []
    rows = _newest_rows(results, measurement, field, device, last, tags)
    step = max(1, -(-len(rows) // max(1, points)))
    return [(time_ns // 10**6, value) for time_ns, value in reversed(rows[::step])]


def series(
    results: ResultsFile,
    measurement: str,
    fields: Sequence[str],
    device: Device,
    *,
    since_ms: int,
    until_ms: int,
    max_points: int,
    tags: Mapping[str, str] | None = None,
) -> list[Bucket]:
    """A device's points in [since_ms, until_ms), at most about `max_points` buckets, oldest first.

    Buckets are equal stretches of event time. Each has the minimum and maximum of `fields[0]`, and
    all `fields` of its last point, so that neither a spike nor the newest value is lost.
    """
    known = [name for name in fields if name in results.fields(measurement)]
    if not known or known[0] != fields[0] or until_ms <= since_ms:
        return []
    width_ns = _width_ns(since_ms, until_ms, max_points)
    columns = ", ".join(f"p.{_quoted(name)}" for name in known)
    lead = _quoted(known[0])
    rows = results.select(
        "WITH b AS (SELECT series, max(time_ns) AS t, min(lead) AS low, max(lead) AS high, "  # noqa: S608
        f"count(*) AS n FROM (SELECT series, time_ns, {lead} AS lead FROM {_table(measurement)} "
        f"WHERE series IN ({_series_of(tags)}) AND time_ns >= :since AND time_ns < :until "
        f"AND {lead} IS NOT NULL) "
        "GROUP BY series, (time_ns - :since) / :width) "
        f"SELECT b.t, b.low, b.high, b.n, {columns} FROM b JOIN {_table(measurement)} p "
        "ON p.series = b.series AND p.time_ns = b.t ORDER BY b.t",
        {
            **_named(measurement, device, tags),
            "since": since_ms * 10**6,
            "until": until_ms * 10**6,
            "width": width_ns,
        },
    )
    return [
        Bucket(t // 10**6, low, high, n, dict(zip(known, values, strict=True)))
        for t, low, high, n, *values in rows
    ]


def summaries(
    results: ResultsFile,
    measurement: str,
    fields: Mapping[str, Literal["avg", "max"]],
    device: Device,
    *,
    since_ms: int,
    until_ms: int,
    max_points: int,
) -> list[list[Any]]:
    """A device's points in [since_ms, until_ms) in equal stretches of event time, oldest first.

    Each row has the time of the newest point in its stretch, and then the mean or the maximum of
    each field.
    """
    if not set(fields) <= set(results.fields(measurement)) or until_ms <= since_ms:
        return []
    columns = ", ".join(f"{function}({_quoted(name)})" for name, function in fields.items())
    rows = results.select(
        f"SELECT max(time_ns) / 1000000, {columns} FROM {_table(measurement)} "  # noqa: S608 quoted
        f"WHERE series IN ({_SERIES}) AND time_ns >= :since AND time_ns < :until "
        "GROUP BY (time_ns - :since) / :width ORDER BY 1",
        {
            **_named(measurement, device),
            "since": since_ms * 10**6,
            "until": until_ms * 10**6,
            "width": _width_ns(since_ms, until_ms, max_points),
        },
    )
    return [list(row) for row in rows]


def runs(
    results: ResultsFile,
    measurement: str,
    field: str,
    device: Device,
    *,
    since_ms: int,
    until_ms: int,
    gap_ms: int | None = 10_000,
) -> list[Run]:
    """Merged runs of equal values in [since_ms, until_ms), oldest first.

    A point stands for the time since the previous point. At the start and after a gap (no point for
    more than `gap_ms`; None: there are no gaps), it stands for the shortest step in the range. The
    timeline uses this, and the field `version` gives the marks of model changes.
    """
    if field not in results.fields(measurement):
        return []
    return results.reduce(
        f"SELECT time_ns, {_quoted(field)} FROM {_table(measurement)} "  # noqa: S608 quoted
        f"WHERE series IN ({_SERIES}) AND time_ns >= :since AND time_ns < :until "
        f"AND {_quoted(field)} IS NOT NULL ORDER BY time_ns",
        {
            **_named(measurement, device),
            "since": since_ms * 10**6,
            "until": until_ms * 10**6,
        },
        lambda rows: _merged(rows, gap_ms),
    )


def _merged(rows: Iterator[tuple[int, Any]], gap_ms: int | None) -> list[Run]:
    # A loop, because SQLite's window functions take three times as long.
    gap_ns = 2**62 if gap_ms is None else gap_ms * 10**6
    found: list[tuple[int, bool, int, Any]] = []  # start, is its first point, end, value
    before: int | None = None
    step_ns: int | None = None
    for t, value in rows:
        start = before if before is not None and t - before <= gap_ns else None
        if start is not None and t > start:
            step_ns = t - start if step_ns is None else min(step_ns, t - start)
        if start is not None and found[-1][3] == value:
            found[-1] = (*found[-1][:2], t, value)
        else:
            found.append((t if start is None else start, start is None, t, value))
        before = t
    first_ns = min(gap_ns, step_ns or 10**9)  # for a point after a gap
    return [
        Run((start - first_ns * is_first) // 10**6, end // 10**6, value)
        for start, is_first, end, value in found
    ]


_SERIES = (
    "SELECT id FROM _series WHERE measurement = :measurement "
    "AND site = :site AND device = :device AND stream = :stream"
)


def _newest_rows(
    results: ResultsFile,
    measurement: str,
    field: str,
    device: Device,
    last: int,
    tags: Mapping[str, str] | None = None,
) -> list[tuple[int, Any]]:
    """(time_ns, value) of the `last` newest points that have the field, newest first.

    One query per series, because each then reads its own end; one over all series would sort a
    month of points.
    """
    rows: list[tuple[int, Any]] = []
    column = _quoted(field)
    for (key,) in results.select(_series_of(tags), _named(measurement, device, tags)):
        rows += results.select(
            f"SELECT time_ns, {column} FROM {_table(measurement)} WHERE series = ? "  # noqa: S608
            f"AND {column} IS NOT NULL ORDER BY time_ns DESC LIMIT ?",
            (key, last),
        )
    return sorted(rows, key=lambda row: row[0], reverse=True)[:last]


def _series_of(tags: Mapping[str, str] | None) -> str:
    """The series of a device, limited to those with all `tags`."""
    places = range(len(tags or {}))
    return _SERIES + "".join(f" AND json_extract(tags, :path{i}) = :tag{i}" for i in places)


def _named(
    measurement: str, device: Device, tags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    site, name, stream = device
    named = {"measurement": measurement, "site": site, "device": name, "stream": stream}
    for i, (tag, value) in enumerate((tags or {}).items()):
        named |= {f"path{i}": f'$."{tag}"', f"tag{i}": value}
    return named


def _width_ns(since_ms: int, until_ms: int, max_points: int) -> int:
    return max(1, -(-(until_ms - since_ms) * 10**6 // max(1, max_points)))


def _table(measurement: str) -> str:
    return _quoted(f"points_{measurement}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
