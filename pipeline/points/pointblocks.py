"""Points as columns: what a store writes for the scores of a record. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from models.tasks.contract import Kind, Task
from models.tasks.quality import GOOD, QUALITY
from models.tasks.registry import TASKS
from pipeline.points.measurements import OPTIONAL_SCORE_FIELDS, SCORE_TAGS
from pipeline.points.points import FieldValue, Point
from pipeline.points.scorecolumns import ScoreColumns

__all__ = ["PointBlock", "Points", "blocks_of", "count_points", "each_point"]

_TYPES: dict[Kind, type] = {"float": float, "int": int, "text": str}
_LAST_MS = (2**63 - 1) // 1_000_000
_COUNTS = ("start_ms", "readings", "gaps")


@dataclass(frozen=True, slots=True)
class PointBlock:
    """`n` points of one measurement with the same names of tags and fields; all can be stored.

    Attributes:
        measurement: Name of the measurement.
        tag_names: Names of the tags.
        tags: Values of the tags of each point, `n` tuples.
        names: Names of the fields.
        columns: Values of each field, `n` each and all of one type: float, int or text.
        time_ms: Time of each point, epoch milliseconds.
    """

    measurement: str
    tag_names: tuple[str, ...]
    tags: Sequence[tuple[str, ...]]
    names: tuple[str, ...]
    columns: tuple[Sequence[FieldValue], ...]
    time_ms: Sequence[int]

    def __len__(self) -> int:
        """Number of points."""
        return len(self.time_ms)

    def point(self, row: int) -> Point:
        """One of the points."""
        return Point(
            self.measurement,
            tuple(zip(self.tag_names, self.tags[row], strict=True)),
            tuple((name, each[row]) for name, each in zip(self.names, self.columns, strict=True)),
            self.time_ms[row] * 1_000_000,
        )

    def points(self) -> Iterator[Point]:
        """The points one by one, in order."""
        return map(self.point, range(len(self)))


Points = Sequence["Point | PointBlock"]
"""Points in the order in which they are written, single ones and blocks."""


def each_point(points: Iterable[Point | PointBlock]) -> Iterator[Point]:
    """All points one by one, in order."""
    for item in points:
        if isinstance(item, PointBlock):
            yield from item.points()
        else:
            yield item


def count_points(points: Iterable[Point | PointBlock]) -> int:
    """How many points there are."""
    return sum(len(item) if isinstance(item, PointBlock) else 1 for item in points)


def blocks_of(scores: ScoreColumns) -> list[PointBlock]:
    """The points of scores that were read from the log, in order, without their details.

    They are one block, or several where only some of the scores have the `due_field` of the task.

    Returns:
        Nothing if any score may not have the form of its task. Take the scores one by one then
        (`pipeline.points.scores`) to find those that make no point.
    """
    block = _block_of(scores)
    if block is None:
        return []
    task = TASKS[scores.columns["task"]]
    if not task.due_field or QUALITY not in block.names:
        return [block]
    columns = dict(zip(block.names, block.columns, strict=True))
    low = getattr(task.answer, "low_field", "")
    due = columns[low if low in columns else task.answer.headline_field]
    if set(columns[QUALITY]) == {GOOD}:
        return [_part(block, slice(0, len(block)), task.due_field, due)]
    numbers = {
        field.name: np.array(columns[field.name])
        for field in task.fields
        if field.kind == "float" and field.name in columns
    }
    told = task.tells({**numbers, QUALITY: columns[QUALITY]}, len(block))
    ends = [*(np.flatnonzero(np.diff(told)) + 1).tolist(), len(block)]
    starts = [0, *ends[:-1]]
    return [
        _part(block, slice(start, end), task.due_field, due if told[start] else None)
        for start, end in zip(starts, ends, strict=True)
    ]


def _part(
    block: PointBlock, rows: slice, name: str, column: Sequence[FieldValue] | None
) -> PointBlock:
    """Some points of a block, with one field more before those of every score."""
    at = block.names.index("version")
    names, columns = block.names, block.columns
    if column is not None:
        names = (*names[:at], name, *names[at:])
        columns = (*columns[:at], column, *columns[at:])
    if rows != slice(0, len(block)):
        columns = tuple(each[rows] for each in columns)
        tags, time_ms = block.tags[rows], block.time_ms[rows]
    else:
        tags, time_ms = block.tags, block.time_ms
    return PointBlock(block.measurement, block.tag_names, tags, names, columns, time_ms)


def _block_of(scores: ScoreColumns) -> PointBlock | None:
    """All points in one block, without `due_field`; None if any score may be odd."""
    columns = scores.columns
    task = TASKS.get(columns["task"]) if type(columns.get("task")) is str else None
    if task is None:
        return None
    spread = _Spread(columns, len(scores))
    tags = [spread.of(name, str) for name in SCORE_TAGS]
    counts = {name: spread.of(name, int) for name in ("version", *_COUNTS)}
    ends, received, scored = (spread.of(name, int) for name in ("end_ms", "recv_ms", "scored_ms"))
    own = _task_columns(task, spread)
    extra = [
        (field.name, spread.of(field.name, _TYPES[field.kind]))
        for field in OPTIONAL_SCORE_FIELDS
        if field.name in columns
    ]
    if not spread.is_fine or not all(map(_are_words, tags)):
        return None
    latency = [at - before for at, before in zip(scored, received, strict=True)]
    named = [*own, *counts.items(), ("latency_ms", latency), *extra]
    names = tuple(name for name, _ in named)
    if not _are_field_names(names):
        return None
    return PointBlock(
        task.measurement,
        SCORE_TAGS,
        list(zip(*tags, strict=True)),
        names,
        tuple(column for _, column in named),
        ends,
    )


class _Spread:
    """Columns of scores as lists of values of one type; notes whether any is not.

    Attributes:
        is_fine: Whether all columns so far are of their type, and their numbers within bounds.
    """

    def __init__(self, columns: dict[str, Any], size: int) -> None:
        self.columns = columns
        self.is_fine = True
        self._size = size

    def of(self, name: str, kind: type) -> list[Any]:
        """The column of a key; one value stands for all."""
        return self.values(self.columns.get(name), kind)

    def values(self, column: Any, kind: type) -> list[Any]:
        """The values of a column."""
        if type(column) is list:
            self.is_fine = self.is_fine and _are(column, kind)
            return column
        self.is_fine = self.is_fine and _are((column,), kind)
        return [column] * self._size


def _task_columns(task: Task, spread: _Spread) -> list[tuple[str, list[Any]]]:
    """The fields of the task that the scores have, in the order of the task."""
    found = []
    for field in task.fields:
        if field.name == task.due_field:
            continue
        kind = _TYPES[field.kind]
        if field.labels_in:
            labelled = spread.columns.get(field.labels_in)
            if type(labelled) is not dict or not labelled:
                spread.is_fine = False
                continue
            found += [
                (field.name + label, spread.values(each, kind)) for label, each in labelled.items()
            ]
        elif field.always or field.name in spread.columns:
            found.append((field.name, spread.of(field.name, kind)))
    return found


def _are(values: Sequence[Any], kind: type) -> bool:
    """Whether all values are of a type; floats finite, whole numbers from 0 to a time."""
    if set(map(type, values)) != {kind}:
        return False
    if kind is float:
        return math.isfinite(sum(values))
    return kind is str or (min(values) >= 0 and max(values) <= _LAST_MS)


def _are_words(texts: list[str]) -> bool:
    return all(texts) and "".join(texts).isprintable()


@lru_cache(maxsize=256)
def _are_field_names(names: tuple[str, ...]) -> bool:
    """Whether fields can have these names; see `Point`."""
    is_writable = all(name and name.isprintable() and "\\" not in name for name in names)
    return is_writable and len(set(names)) == len(names)
