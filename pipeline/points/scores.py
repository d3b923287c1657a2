"""Score records: one form per task, made of its table of fields. Pure.

1. A **score record** is one score as plain data. The log topic `scores` holds many at once as
   columns (`pipeline.points.scorecolumns`); `decode_scores` gives them one by one.
2. A score becomes a **point** (`points_of`); a task with details has further points per score. A
   store makes blocks of points straight from the columns (`pipeline.points.scorepoints`).

`ScoreHead` and `task.fields` are the only places that name the keys of a record. The
tag `model` is the model's name without its version, so that scoring a window again, even by another
version, overwrites its point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypedDict, get_type_hints

from models.errors import UnknownTask
from models.tasks.contract import Kind, Task
from models.tasks.quality import QUALITY
from models.tasks.registry import TASKS, find_task
from pipeline.errors import PointError
from pipeline.points.measurements import (
    OPTIONAL_SCORE_FIELDS,
    SCORE_TAGS,
    detail_measurement,
    score_measurement,
)
from pipeline.points.points import FieldValue, Point
from pipeline.points.scorecolumns import ScoreColumns, parse_scores

__all__ = [
    "ScoreForm",
    "ScoreHead",
    "ScoreRecord",
    "checked_points",
    "decode_scores",
    "points_of",
    "score_form",
]


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
_STORED_AS_THEY_ARE = ("version", "start_ms", "readings", "gaps")


def decode_scores(value: bytes) -> list[ScoreRecord]:
    """The scores in a record of the topic `scores`; `points_of` accepts everything it returns.

    Raises:
        PointError: `value` is no record of scores, or one of them makes no point.
    """
    records = [
        record
        for part in parse_scores(value)
        for record in (part.records() if isinstance(part, ScoreColumns) else (part,))
    ]
    for record in records:
        checked_points(record)
    return records


def checked_points(record: Any) -> list[Point]:
    """The points of what the topic `scores` holds in place of a score record.

    Raises:
        PointError: It is no score record.
    """
    _check_head(record)
    return _form_of(record).points(record)


def points_of(records: Sequence[ScoreRecord]) -> list[Point]:
    """The points of score records, in order: one per record, followed by its details.

    Raises:
        PointError: A record is not a `ScoreRecord`. Never raised for records that `decode_scores`
            returned.
    """
    return [point for record in records for point in _form_of(record).points(record)]


@lru_cache(maxsize=64)
def score_form(task: Task) -> ScoreForm:
    """The form of a task's score records."""
    return ScoreForm(task)


class ScoreForm:
    """The form of the score records of one task: its points, from `task.fields`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._measurement = score_measurement(task)
        self._details = detail_measurement(task) if task.details else None

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
            if each.name == self._task.due_field:
                due = self._due(record)
                if due is not None:
                    yield each.name, due
                continue
            if each.labels_in:
                for label, number in record[each.labels_in].items():
                    yield each.name + label, _READ[each.kind](label, number)
                continue
            value = record[each.name] if each.always else record.get(each.name)
            if value is not None or each.always:
                yield each.name, _READ[each.kind](each.name, value)

    def _due(self, record: ScoreRecord) -> float | None:
        """What alerts compare of a record; None for one of a version without `quality`."""
        if QUALITY not in record:
            return None
        return self._task.due_number({n: v for n, v in record.items() if v is not None})


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
