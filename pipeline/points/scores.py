"""Score records: one form per task, made of its table of fields. Pure.

1. A **score record** is one score as the scoring stage appends it to the log topic `scores`, a few
   at once, as a JSON array of objects (`encode_scores`, `decode_scores`).
2. A score becomes a **point** (`points_of`) or, faster, a **line** (`pipeline.points.scorelines`).
   A task with details has further points per score.

`ScoreHead` and `task.fields` are the only places that name the keys of a record. The
tag `model` is the model's name without its version, so that scoring a window again, even by another
version, overwrites its point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypedDict, get_type_hints

import orjson

from models.errors import UnknownTask
from models.tasks.contract import Kind, Task
from models.tasks.quality import QUALITY, is_doubtful
from models.tasks.registry import TASKS, find_task
from pipeline.errors import PointError
from pipeline.points.measurements import (
    OPTIONAL_SCORE_FIELDS,
    SCORE_TAGS,
    detail_measurement,
    score_measurement,
)
from pipeline.points.points import FieldValue, Point

__all__ = [
    "FlawedScore",
    "ScoreForm",
    "ScoreHead",
    "ScorePoints",
    "ScoreRecord",
    "decode_scores",
    "encode_scores",
    "encode_scores_in_parts",
    "parse_scores",
    "points_of",
    "score_form",
    "score_points",
]


@dataclass(frozen=True, slots=True)
class FlawedScore:
    """A score that makes no point: the record as JSON, and the reason."""

    raw: bytes
    detail: str


@dataclass(slots=True)
class ScorePoints:
    """Points made of records of the log, and the scores that cannot become points.

    Attributes:
        points: The points.
        end_ms: End of the window of each score that has points, epoch milliseconds.
        flawed: Scores without a point.
    """

    points: list[Point] = field(default_factory=list)
    end_ms: list[int] = field(default_factory=list)
    flawed: list[FlawedScore] = field(default_factory=list)


class ScoreHead(TypedDict):
    """The keys of every score record, with their types. Times are epoch milliseconds."""

    task: str
    site: str
    device: str
    stream: str
    model: str
    version: int
    start_ms: int
    end_ms: int
    readings: int
    gaps: int
    recv_ms: int
    scored_ms: int


ScoreRecord = dict[str, Any]
"""A `ScoreHead`, the fields of its task and those of `OPTIONAL_SCORE_FIELDS` that it has, as plain
data. A field with `labels_in` is an object `{label: number}` under that key; a field of the task
that is not `always` there may be missing or None."""

_HEAD = get_type_hints(ScoreHead)
_HEAD_TYPES = list(_HEAD.values())
_COUNTS = [name for name, kind in _HEAD.items() if kind is int]
_RARE = frozenset(field.name for field in OPTIONAL_SCORE_FIELDS) - {QUALITY}
_STORED_AS_THEY_ARE = ("version", "start_ms", "readings", "gaps")
_LAST_MS = (2**63 - 1) // 1_000_000
_FLOAT = frozenset([float])


def encode_scores(records: Sequence[ScoreRecord]) -> bytes:
    """The value of one record on the log topic `scores`.

    Raises:
        PointError: A record is not a `ScoreRecord`; JSON would turn its NaN into `null`.
    """
    for record in records:
        _check(record)
    return _dumped(records)


def encode_scores_in_parts(records: Sequence[ScoreRecord], max_bytes: int) -> list[bytes]:
    """The values of as many records of the log as keep each within `max_bytes`, in order.

    A single score that is longer becomes a value of its own.

    Raises:
        PointError: See `encode_scores`.
    """
    parts = [(records, encode_scores(records))]
    found = []
    while parts:
        part, value = parts.pop()
        if len(value) <= max_bytes or len(part) < 2:
            found.append(value)
        else:
            half = len(part) // 2
            parts += [(each, _dumped(each)) for each in (part[half:], part[:half])]
    return found


def score_points(value: bytes, into: ScorePoints) -> None:
    """Add the points of a record of the topic `scores` to `into`; a bad score affects no other.

    Raises:
        PointError: `value` is not a JSON array; `into` is unchanged.
    """
    for record in parse_scores(value):
        try:
            _check_head(record)
            into.points += _form_of(record).points(record)
        except PointError as exc:
            into.flawed.append(FlawedScore(orjson.dumps([record]), str(exc)))
            continue
        into.end_ms.append(record["end_ms"])


def decode_scores(value: bytes) -> list[ScoreRecord]:
    """Read the output of `encode_scores`; `points_of` accepts everything it returns.

    Raises:
        PointError: `value` is anything else.
    """
    records = parse_scores(value)
    for record in records:
        _check(record)
    return records


def points_of(records: Sequence[ScoreRecord]) -> list[Point]:
    """The points of score records, in order: one per record, followed by its details.

    Raises:
        PointError: A record is not a `ScoreRecord`. Never raised for records that `encode_scores`
            accepted or `decode_scores` returned.
    """
    return [point for record in records for point in _form_of(record).points(record)]


@lru_cache(maxsize=64)
def score_form(task: Task) -> ScoreForm:
    """The form of a task's score records."""
    return ScoreForm(task)


def parse_scores(value: bytes) -> list[Any]:
    """The JSON array in a record of the topic `scores`; its elements are not checked.

    Raises:
        PointError: `value` is not a JSON array.
    """
    try:
        records = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        msg = f"not score records: {exc}; begins with {value[:80]!r}"
        raise PointError(msg) from exc
    if type(records) is not list:
        msg = f"not score records but a {type(records).__name__}: {value[:80]!r}"
        raise PointError(msg)
    return records


class ScoreForm:
    """The form of the score records of one task: its check and its point, from `task.fields`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._measurement = score_measurement(task)
        kinds = {"object" if field.labels_in else field.kind for field in task.fields}
        self._floats = [field.name for field in task.fields] if kinds == {"float"} else None
        self._details = detail_measurement(task) if task.details else None

    def check(self, record: ScoreRecord) -> None:
        """Check a record whose head is valid.

        Raises:
            PointError: The record makes no point.
        """
        if self._details is not None or not self._surely_fine(record):
            self.points(record)

    def points(self, record: ScoreRecord) -> list[Point]:
        """The point of a record, followed by those of its details.

        Raises:
            PointError: The record is not of this form.
        """
        return [self.point(record), *self.details(record)]

    def details(self, record: ScoreRecord) -> list[Point]:
        """The points of a record's details; none if the task has no details.

        Raises:
            PointError: The record is not of this form.
        """
        measurement, details = self._details, self._task.details
        if measurement is None or details is None:
            return []
        try:
            tags = tuple((name, record[name]) for name in SCORE_TAGS)
            return [
                Point(
                    measurement.name,
                    _all_tags(tags, details.tags, found.tags),
                    tuple((name, _float(name, value)) for name, value in found.fields.items()),
                    found.time_ms * 1_000_000,
                )
                for found in details.points(record)
            ]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
            raise _no_record(exc, record) from exc

    def point(self, record: ScoreRecord) -> Point:
        """The point of a record.

        Raises:
            PointError: The record is not of this form.
        """
        try:
            fields = [
                *self._task_fields(record),
                *((name, record[name]) for name in _STORED_AS_THEY_ARE),
                ("latency_ms", record["scored_ms"] - record["recv_ms"]),
                *(
                    (each.name, _READ[each.kind](each.name, record[each.name]))
                    for each in OPTIONAL_SCORE_FIELDS
                    if each.name in record
                ),
            ]
            tags = tuple((name, record[name]) for name in SCORE_TAGS)
            time_ns = record["end_ms"] * 1_000_000
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
            raise _no_record(exc, record) from exc
        return Point(self._measurement.name, tags, tuple(fields), time_ns)

    def _task_fields(self, record: ScoreRecord) -> Iterator[tuple[str, FieldValue]]:
        for each in self._task.fields:
            if each.labels_in:
                for label, number in record[each.labels_in].items():
                    yield each.name + label, _READ[each.kind](label, number)
                continue
            value = record[each.name] if each.always else record.get(each.name)
            if value is not None or each.always:
                yield each.name, _READ[each.kind](each.name, value)

    def _surely_fine(self, record: ScoreRecord) -> bool:
        """Whether a record of floats makes a point: a shortcut for the most frequent records."""
        if self._floats is None or not _RARE.isdisjoint(record) or is_doubtful(record):
            return False
        numbers = list(map(record.get, self._floats))
        words = list(map(record.__getitem__, SCORE_TAGS))
        counts = list(map(record.__getitem__, _COUNTS))
        return (
            _FLOAT.issuperset(map(type, numbers))
            and math.isfinite(sum(numbers))  # type: ignore[arg-type]
            and all(words)
            and "".join(words).isprintable()
            and max(counts) <= _LAST_MS
            and min(counts) >= 0
        )


def _dumped(records: Sequence[ScoreRecord]) -> bytes:
    try:
        return orjson.dumps(records)
    except TypeError as exc:
        msg = f"score records are not JSON: {exc}"
        raise PointError(msg) from exc


def _check(record: Any) -> None:
    """Raise PointError unless `record` is a `ScoreRecord` that makes a point."""
    _check_head(record)
    _form_of(record).check(record)


def _check_head(record: Any) -> None:
    if type(record) is not dict:
        msg = f"a score record is an object, not {record!r:.200}"
        raise PointError(msg)
    found = list(map(record.get, _HEAD))
    if list(map(type, found)) != _HEAD_TYPES:
        wrong = [
            f"{name}={value!r:.80}"
            for (name, kind), value in zip(_HEAD.items(), found, strict=True)
            if type(value) is not kind
        ]
        msg = f"score record with {', '.join(wrong)}"
        raise PointError(msg)


def _form_of(record: ScoreRecord) -> ScoreForm:
    try:
        name = record["task"]
        return score_form(TASKS.get(name) or find_task(name))
    except (KeyError, TypeError) as exc:
        raise _no_record(exc, record) from exc
    except UnknownTask as exc:
        msg = f"score record of an {exc}"
        raise PointError(msg) from exc


@lru_cache(maxsize=16_384)
def _all_tags(
    tags: tuple[tuple[str, str], ...], names: tuple[str, ...], values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    return (*tags, *zip(names, values, strict=True))


def _no_record(exc: Exception, record: Any) -> PointError:
    return PointError(f"not a score record ({type(exc).__name__}: {exc}): {record!r:.200}")


def _float(name: str, value: Any) -> float:
    """The value of a float field: a float or an int, never a bool or a text."""
    if type(value) is not float and type(value) is not int:
        msg = f"{name} is a number, not {value!r:.80}"
        raise TypeError(msg)
    return float(value)


def _int(name: str, value: Any) -> int:
    if type(value) is not int:
        msg = f"{name} is an integer, not {value!r:.80}"
        raise TypeError(msg)
    return value


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        msg = f"{name} is text, not {value!r:.80}"
        raise TypeError(msg)
    return value


_READ: dict[Kind, Callable[[str, Any], FieldValue]] = {
    "float": _float,
    "int": _int,
    "text": _text,
}
