"""Points as rows of the results file: series by number, a column per field, one upsert per form.

Used under the write lock of the file, inside a transaction. What is remembered of the file is
forgotten with `forget` when the transaction is rolled back, or series are deleted.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from pipeline.points.pointblocks import PointBlock, Points
from pipeline.points.points import Point
from pipeline.stores.sinks import Refused

__all__ = ["SERIES_TAGS", "ResultsRows", "quoted"]

SERIES_TAGS = ("site", "device", "stream", "model")
"""Tags with a column of their own in `_series`."""

_MAX_NAME = 128
# Columns of one measurement: four students with other labels each (models.tasks.fields.MAX_LABELS).
_MAX_FIELDS = 600  # SQLite's own limit is 2000
_NAME = re.compile(r"(?!points_|sqlite_)[a-z][a-z0-9_]{0,63}")
_MOST_INTERNED = 100_000
_MOST_FORMS = 1000  # a device with examples of its own has fields of its own
_RESERVED = {"series", "time_ns", *SERIES_TAGS}

_Names = tuple[str, ...]


class ResultsRows:
    """Writes points into the tables of one results file."""

    def __init__(self) -> None:
        # Measurement and names of tags -> values of the tags -> number of the series.
        self._series: dict[tuple[str, _Names], dict[tuple[str, ...], int]] = {}
        self._interned = 0
        self._columns: dict[str, dict[str, str]] = {}  # measurement -> folded name -> name
        # Measurement and names of fields -> the columns that hold them.
        self._fitting: dict[tuple[str, _Names], _Names] = {}

    def forget(self) -> None:
        """Forget what is known of the file."""
        self._series.clear()
        self._interned = 0
        self._columns.clear()
        self._fitting.clear()

    def store(
        self, db: sqlite3.Connection, points: Points, now_ms: int, run_ms: int
    ) -> list[Refused]:
        """Store points; returns those that this file cannot store.

        Args:
            db: The connection, in a transaction.
            points: Single points and blocks.
            now_ms: The clock, epoch milliseconds.
            run_ms: The running time of the file, see `ingest.clock.RunningTime`.
        """
        refused: list[Refused] = []
        rows: dict[tuple[str, _Names], list[tuple[Any, ...]]] = {}
        newest: dict[int, int] = {}
        for item in points:
            block = item if isinstance(item, PointBlock) else _block_of(item)
            form = (block.measurement, block.names)
            if form not in self._fitting and (reason := _flaw(block) or self._fit(db, block)):
                single = item.points() if isinstance(item, PointBlock) else (item,)
                refused += [Refused(point, reason) for point in single]
                continue
            form = (block.measurement, self._fitting[form])
            times = _times_ns(item)
            series = self._series_of(db, block, times, (now_ms, run_ms))
            rows.setdefault(form, []).extend(zip(series, times, *block.columns, strict=True))
            for number, time_ns in zip(series, times, strict=True):
                if time_ns > newest.get(number, time_ns - 1):
                    newest[number] = time_ns
        for (measurement, names), batch in rows.items():
            db.executemany(_upsert(measurement, names), batch)
        db.executemany(
            "UPDATE _series SET last_time_ns = max(last_time_ns, ?), written_ms = ?, run_ms = ? "
            "WHERE id = ?",
            [(time_ns, now_ms, run_ms, series) for series, time_ns in newest.items()],
        )
        return refused

    def _series_of(
        self,
        db: sqlite3.Connection,
        block: PointBlock,
        times_ns: Sequence[int],
        written: tuple[int, int],
    ) -> Sequence[int]:
        """The number of the series of each point."""
        key = (block.measurement, block.tag_names)
        known = self._series.setdefault(key, {})
        found = [known.get(values) for values in block.tags]
        if None not in found:
            return found  # type: ignore[return-value]
        if self._interned >= _MOST_INTERNED:
            self._series = {key: known}
            known.clear()
            self._interned = 0
        numbers = []
        for values, time_ns in zip(block.tags, times_ns, strict=True):
            number = known.get(values)
            if number is None:
                tags = dict(sorted(zip(block.tag_names, values, strict=True)))
                number = known[values] = _intern(db, block.measurement, tags, time_ns, written)
                self._interned += 1
            numbers.append(number)
        return numbers

    def _fit(self, db: sqlite3.Connection, block: PointBlock) -> str | None:
        """Make the table and the columns of a block; returns why that cannot be.

        A field in another case than its column is stored there: a student must not lose all its
        points because somebody spelled a class otherwise before (SQLite takes both for one column).
        """
        measurement, names = block.measurement, block.names
        table = quoted(f"points_{measurement}")
        known = self._columns.get(measurement)
        if known is None:
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (series INTEGER NOT NULL, "
                "time_ns INTEGER NOT NULL, PRIMARY KEY (series, time_ns)) WITHOUT ROWID"
            )
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")][2:]
            known = self._columns[measurement] = {name.casefold(): name for name in columns}
        folded = {name.casefold(): name for name in names}
        for name in names:
            if (other := folded[name.casefold()]) != name:
                return f"field {name!r} differs from {other!r} only in case"
        new = [name for key, name in folded.items() if key not in known]
        if len(known) + len(new) > _MAX_FIELDS:
            return f"{measurement} would have more than {_MAX_FIELDS} fields"
        for name in new:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)}")
            known[name.casefold()] = name
        if new:
            _make_view(db, measurement, block.tag_names, known.values())
        if len(self._fitting) >= _MOST_FORMS:
            self._fitting.clear()
        self._fitting[(measurement, names)] = tuple(known[name.casefold()] for name in names)
        return None


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _block_of(point: Point) -> PointBlock:
    """A block of one point; the time is left out, which need not be whole milliseconds."""
    tag_names, tags = zip(*point.tags, strict=True) if point.tags else ((), ())
    names, values = zip(*point.fields, strict=True)
    columns = tuple((value,) for value in values)
    return PointBlock(point.measurement, tag_names, [tags], names, columns, ())


def _times_ns(item: Point | PointBlock) -> Sequence[int]:
    if isinstance(item, PointBlock):
        return [time_ms * 1_000_000 for time_ms in item.time_ms]
    return (item.time_ns,)


def _flaw(block: PointBlock) -> str | None:
    """The reason why this file cannot store points whose values are checked."""
    if not _NAME.fullmatch(block.measurement):
        return f"measurement {block.measurement!r} is not a lower-case name"
    for name in block.names:
        if len(name) > _MAX_NAME or name.casefold() in _RESERVED:
            return f"field name {name!r} is reserved or too long"
    return None


def _intern(
    db: sqlite3.Connection,
    measurement: str,
    tags: dict[str, str],
    time_ns: int,
    written: tuple[int, int],
) -> int:
    """The number of a series, which is made if it is new; `tags` are sorted by name."""
    text = orjson.dumps(tags).decode()
    device = [tags.get(name, "") for name in SERIES_TAGS]
    db.execute(
        "INSERT INTO _series (measurement, tags, site, device, stream, model, last_time_ns, "
        "written_ms, run_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (measurement, text, *device, time_ns, *written),
    )
    (number,) = db.execute(
        "SELECT id FROM _series WHERE measurement = ? AND tags = ?", (measurement, text)
    ).fetchone()
    return int(number)


def _make_view(
    db: sqlite3.Connection, measurement: str, tag_names: _Names, columns: Iterable[str]
) -> None:
    """The view of a measurement: all tags and fields as columns."""
    view, table = quoted(measurement), quoted(f"points_{measurement}")
    fields = ", ".join(f"p.{quoted(name)}" for name in columns)
    tags = "".join(
        f"json_extract(s.tags, '$.\"{name}\"') AS {quoted(name)}, "
        for name in sorted(tag_names)
        if name not in SERIES_TAGS
    )
    db.execute(f"DROP VIEW IF EXISTS {view}")
    db.execute(
        f"CREATE VIEW {view} AS SELECT s.site, s.device, s.stream, s.model, {tags}p.time_ns, "  # noqa: S608 names are quoted
        f"datetime(p.time_ns / 1000000000, 'unixepoch') AS time_utc, {fields} "
        f"FROM {table} p JOIN _series s ON s.id = p.series"
    )


@lru_cache(maxsize=256)
def _upsert(measurement: str, names: _Names) -> str:
    columns = ", ".join(map(quoted, names))
    marks = ", ".join("?" * (len(names) + 2))
    sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names)
    return (
        f"INSERT INTO {quoted('points_' + measurement)} (series, time_ns, {columns}) "  # noqa: S608
        f"VALUES ({marks}) ON CONFLICT (series, time_ns) DO UPDATE SET {sets}"
    )
