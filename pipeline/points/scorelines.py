"""Score records as lines, straight from a record of the log. Pure.

A store does this a thousand times a second, so each task has a template, compiled from its table
of fields. A record that does not fit the template exactly (an integer in a float field, a missing
interval) becomes a line through its point, with the same checks and the same values. Details of a
score always do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from models.errors import UnknownTask
from models.tasks.contract import Field, Task
from models.tasks.registry import TASKS, find_task, tasks
from pipeline.errors import PointError
from pipeline.points.lines import escape_name, quote_text, series_key, to_line
from pipeline.points.measurements import OPTIONAL_SCORE_FIELDS, SCORE_FIELDS, SCORE_TAGS
from pipeline.points.scores import (
    FlawedScore,
    encode_scores,
    parse_scores,
    points_of,
    score_form,
)

__all__ = ["LineMaker", "ScoreLines", "score_lines"]

_TYPES = {"float": float, "int": int, "text": str}
_FLOAT = frozenset([float])
_MOST_SERIES = 65_536

_InOrder = Callable[[dict[str, float]], tuple[float, ...]]
LineMaker = Callable[[dict[str, Any]], str | None]
"""Makes the line of a record of one task; None if the record does not fit its template."""


@dataclass(slots=True)
class ScoreLines:
    """Lines made of records of the log, and the scores that cannot become lines.

    Attributes:
        lines: The lines.
        end_ms: End of the window of each score that has lines, epoch milliseconds.
        flawed: Scores without a line.
        makers: The function that makes the lines of a task, by name; looked up once per batch.
    """

    lines: list[str] = field(default_factory=list)
    end_ms: list[int] = field(default_factory=list)
    flawed: list[FlawedScore] = field(default_factory=list)
    makers: dict[str, LineMaker] = field(default_factory=dict, repr=False, compare=False)


def score_lines(value: bytes, into: ScoreLines) -> None:
    """Add the lines of a record of the topic `scores` to `into`; a bad score affects no other.

    Raises:
        PointError: `value` is not a JSON array; `into` is unchanged.
    """
    records = parse_scores(value)
    detailed = _detailed(tasks())
    lines, end_ms, makers = into.lines, into.end_ms, into.makers
    for record in records:
        try:
            try:
                name = record["task"]
                make = makers.get(name) or makers.setdefault(name, _line_maker(find_task(name)))
                line = make(record)
                details = score_form(TASKS[name]).details(record) if name in detailed else ()
            except (TypeError, KeyError, IndexError, UnknownTask):
                line = None
            if line is None:
                lines += _slow_lines(record)
            else:
                lines.append(line)
                lines += map(to_line, details)
        except PointError as exc:
            into.flawed.append(FlawedScore(orjson.dumps([record]), str(exc)))
            continue
        end_ms.append(record["end_ms"])


@lru_cache(maxsize=4)
def _detailed(known: tuple[Task, ...]) -> frozenset[str]:
    """Names of the tasks whose scores have details."""
    return frozenset(task.name for task in known if task.details)


def _slow_lines(record: Any) -> list[str]:
    """The lines of a record through its points, with all checks of a written point."""
    encode_scores([record])
    return list(map(to_line, points_of([record])))


@lru_cache(maxsize=64)
def _line_maker(task: Task) -> LineMaker:
    """A function that makes the lines of a task, by the optional fields that a record has."""
    makers: dict[tuple[Field, ...], LineMaker] = {}

    def line(record: dict[str, Any]) -> str | None:
        present = tuple(field for field in OPTIONAL_SCORE_FIELDS if field.name in record)
        make = makers.get(present)
        if make is None:
            make = makers[present] = _template_maker(task, present)
        return make(record)

    return line


def _template_maker(task: Task, present: tuple[Field, ...]) -> LineMaker:
    """Compile the template of a task for records with the optional fields `present`.

    Fields are sorted by name, and the keys of a record are taken in that order. Two kinds of field
    need more than one hole and one key: `latency_ms` is the difference of two keys, and a field
    with `labels_in` becomes one hole per label.
    """
    columns = _columns(task, present)
    cut = [column.name for column in columns].index("latency_ms")
    keys = [key for column in columns for key in column.keys]
    types = (*(column.type for column in columns for _ in column.keys), int)
    take_tags, take = itemgetter(*SCORE_TAGS), itemgetter(*keys, "end_ms")
    texts = [place for place, column in enumerate(columns) if column.type is str]
    labelled = [place for place, column in enumerate(columns) if column.type is dict]
    template = "" if labelled else _template(columns)
    series_of: dict[tuple[str, ...], str] = {}

    def line(record: dict[str, Any]) -> str | None:
        tags = take_tags(record)
        series = series_of.get(tags)
        values = take(record)
        if tuple(map(type, values)) != types:
            return None
        if series is None:
            if len(series_of) >= _MOST_SERIES:
                series_of.clear()
            series = series_of[tags] = _series(task.measurement, tags)
        if is_plain:
            latency = values[cut] - values[after - 1]
            return template % (series, *values[:cut], latency, *values[after:])
        return with_texts(series, [*values[:cut], values[cut] - values[after - 1], *values[after:]])

    def with_texts(series: str, values: list[Any]) -> str | None:
        for place in texts:
            values[place] = quote_text(values[place])
        if not labelled:
            return template % (series, *values)
        numbers = values[labelled[0]]
        if not numbers or not _FLOAT.issuperset(map(type, numbers.values())):
            return None
        filled, in_order = _labelled(task, present, tuple(numbers))
        values[labelled[0] : labelled[0] + 1] = in_order(numbers)
        return filled % (series, *values)

    after = cut + 2
    is_plain = not texts and not labelled
    return line


@dataclass(frozen=True, slots=True)
class _Column:
    """One field of a line: the keys of the record that make it, and the type of their values."""

    name: str
    keys: tuple[str, ...]
    type: type


def _columns(task: Task, present: tuple[Field, ...]) -> list[_Column]:
    """All fields of a line with the optional fields `present`, sorted by name."""
    columns = [
        _Column(
            f.name,
            (f.labels_in or f.name,),
            dict if f.labels_in else _TYPES[f.kind],
        )
        for f in task.fields
    ]
    for f in SCORE_FIELDS:
        if f.always or f in present:
            keys = ("scored_ms", "recv_ms") if f.name == "latency_ms" else (f.name,)
            columns.append(_Column(f.name, keys, _TYPES[f.kind]))
    return sorted(columns, key=lambda column: column.name)


def _template(columns: Sequence[_Column], labels: tuple[str, ...] = ()) -> str:
    """The line with holes for series, fields and time."""
    holes = []
    for column in columns:
        name = escape_name(column.name).replace("%", "%%")
        if column.type is dict:
            holes += [f"{name}{escape_name(label).replace('%', '%%')}=%s" for label in labels]
        else:
            holes.append(f"{name}=%si" if column.type is int else f"{name}=%s")
    return f"%s {','.join(holes)} %s000000"


@lru_cache(maxsize=256)
def _labelled(
    task: Task, present: tuple[Field, ...], labels: tuple[str, ...]
) -> tuple[str, _InOrder]:
    """The template for the labels of a model, and a function that puts their numbers in order."""
    if not all(label and label.isprintable() and "\\" not in label for label in labels):
        msg = f"score record with an empty or unwritable label among {labels!r:.200}"
        raise PointError(msg)
    ordered = tuple(sorted(labels))
    filled = _template(_columns(task, present), ordered)
    if len(ordered) == 1:
        return filled, lambda numbers: (numbers[ordered[0]],)
    return filled, itemgetter(*ordered)


def _series(measurement: str, tags: tuple[str, ...]) -> str:
    """Measurement and tags, checked, because a store drops or misreads odd ones silently.

    Raises:
        PointError: A tag is empty or unprintable.
        TypeError: A tag is not text.
    """
    for name, text in zip(SCORE_TAGS, tags, strict=True):
        if type(text) is not str:
            msg = f"{name} is text, not {text!r:.80}"
            raise TypeError(msg)
        if not (text and text.isprintable()):
            msg = f"score record with an empty or unprintable {name} {text!r:.80}"
            raise PointError(msg)
    return series_key(measurement, tuple(zip(SCORE_TAGS, tags, strict=True)))
