"""Scores as columns, and records of the log topic `scores`. Pure.

A value of the topic is a JSON object with the columns of each student's scores (here on several
lines)::

    {"scores": [{"task": "rul", "site": "plant", "device": ["press-1", "press-2"],
                 "stream": "engine", "model": "rul-fd001", "version": 3,
                 "start_ms": [...], "end_ms": [...], ..., "rul": [95.0, 17.5], "quality": "good"}]}

An array has one value a score, in order; an object holds columns by label or channel; any other
value is that of all scores. `end_ms` is always an array, which tells how many scores there are.
Versions before this form wrote an array of objects, one a score (`ScoreRecord`); these are still
read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.tasks.columns import Column, row_of, take
from pipeline.errors import PointError
from pipeline.groups import cut_groups

__all__ = ["ScoreColumns", "encode_scores", "join_scores", "parse_scores"]

_SCORES = "scores"


@dataclass(slots=True)
class ScoreColumns:
    """Scores of one student, given at one time.

    Attributes:
        size: Number of scores.
        columns: The keys of a `pipeline.points.scores.ScoreRecord`, each with its column
            (`models.tasks.columns`).
    """

    size: int
    columns: dict[str, Column]

    def __len__(self) -> int:
        """Number of scores."""
        return self.size

    def take(self, rows: slice | NDArray[np.intp]) -> ScoreColumns:
        """Some of the scores, in the order of `rows`."""
        size = len(range(self.size)[rows]) if isinstance(rows, slice) else len(rows)
        return ScoreColumns(size, {name: take(each, rows) for name, each in self.columns.items()})

    def record(self, row: int) -> dict[str, Any]:
        """One score as a record, plain data."""
        return row_of(self.columns, row)

    def records(self) -> Iterator[dict[str, Any]]:
        """Each score as a record, in order."""
        return map(self.record, range(self.size))


def encode_scores(
    scores: Sequence[ScoreColumns], *, max_scores: int = 500, max_bytes: int = 500_000
) -> list[bytes]:
    """The values of as many records of the topic as keep within both limits, in order.

    A single score that is longer than `max_bytes` becomes a value of its own.

    Raises:
        PointError: A number is not finite, which JSON would turn into `null`, or a column is not
            JSON.
    """
    return [
        value for group in cut_groups(scores, max_scores) for value in _values_of(group, max_bytes)
    ]


def join_scores(parts: Sequence[ScoreColumns]) -> ScoreColumns:
    """Scores that were read from the log together, if they have the same keys."""
    sizes = [part.size for part in parts]
    joined = _joined([part.columns for part in parts], sizes)
    return ScoreColumns(sum(sizes), joined)


def parse_scores(value: bytes) -> list[Any]:
    """The scores in a record of the topic, unchecked: `ScoreColumns`, or the elements of an array.

    Raises:
        PointError: `value` is neither an array nor an object of columns of equal length.
    """
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        msg = f"not score records: {exc}; begins with {value[:80]!r}"
        raise PointError(msg) from exc
    if type(found) is list:
        return found
    if type(found) is dict and type(found.get(_SCORES)) is list:
        return [_columns_of(each) for each in found[_SCORES]]
    msg = f"not score records but a {type(found).__name__}: {value[:80]!r}"
    raise PointError(msg)


def _values_of(group: list[ScoreColumns], max_bytes: int) -> list[bytes]:
    value = _dumped(group)
    size = sum(map(len, group))
    if len(value) <= max_bytes or size < 2:
        return [value]
    half = size - size // 2
    return [each for part in cut_groups(group, half) for each in _values_of(part, max_bytes)]


def _dumped(group: Sequence[ScoreColumns]) -> bytes:
    try:
        plain = [{name: _plain(name, c) for name, c in part.columns.items()} for part in group]
        return orjson.dumps({_SCORES: plain}, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as exc:
        msg = f"score records are not JSON: {exc}"
        raise PointError(msg) from exc


def _plain(name: str, column: Column) -> Any:
    """The column as JSON shows it: floats in full, texts once if all are the same."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind != "f":
            return np.ascontiguousarray(column)
        if not np.isfinite(column).all():
            msg = f"score records with a {name} that is not finite"
            raise PointError(msg)
        return np.ascontiguousarray(column, np.float64)
    if isinstance(column, list):
        is_one = type(column[0]) is str and column.count(column[0]) == len(column)
        return column[0] if is_one else column
    if isinstance(column, dict):
        return {label: _plain(label, part) for label, part in column.items()}
    return column


def _joined(parts: Sequence[dict[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, first in parts[0].items():
        columns = [part[name] for part in parts]
        kinds = set(map(type, columns))
        if kinds == {dict}:
            found[name] = _joined(columns, sizes)
        elif kinds == {list}:
            found[name] = list(chain.from_iterable(columns))
        elif len(kinds) == 1 and columns.count(first) == len(columns):
            found[name] = first
        else:
            spread = (
                each if type(each) is list else [each] * size
                for each, size in zip(columns, sizes, strict=True)
            )
            found[name] = list(chain.from_iterable(spread))
    return found


def _columns_of(found: Any) -> ScoreColumns:
    ends = found.get("end_ms") if type(found) is dict else None
    if type(ends) is not list or not ends:
        msg = f"not columns of scores but {found!r:.200}"
        raise PointError(msg)
    _check_lengths(found, len(ends))
    return ScoreColumns(len(ends), found)


def _check_lengths(columns: dict[str, Any], size: int) -> None:
    for name, column in columns.items():
        kind = type(column)
        if kind is list:
            if len(column) != size:
                msg = f"columns of {size} scores with {len(column)} values of {name!r:.80}"
                raise PointError(msg)
        elif kind is dict:
            _check_lengths(column, size)
