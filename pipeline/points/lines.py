"""InfluxDB's line protocol: points as lines, and score records as lines without the points. Pure.

`score_lines` is what a store does a thousand times a second: straight from a record of the log to
lines, with the same checks and, field by field, the same values as by way of `points_of`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.errors import PipelineError
from pipeline.points.measurements import ACTIVITY, PROBABILITY_PREFIX, RUL

if TYPE_CHECKING:
    from pipeline.points.points import FieldValue, Point

__all__ = ["FlawedScore", "PointError", "ScoreLines", "score_lines", "to_line"]

_NAME_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_MEASUREMENT_ESCAPES = str.maketrans({",": r"\,", " ": r"\ "})
_TEXT_ESCAPES = str.maketrans({'"': r"\"", "\\": r"\\"})

_WORDS = ("site", "device", "stream", "model")
_COUNTS = ("version", "start_ms", "end_ms", "readings", "gaps", "recv_ms", "scored_ms")
_rul_parts = itemgetter(*_WORDS, *_COUNTS, "rul", "rul_low", "rul_high")
_RUL_TYPES = (*(str for _ in _WORDS), *(int for _ in _COUNTS), float, float, float)
_activity_parts = itemgetter(*_WORDS, *_COUNTS, "activity", "probability", "probabilities")
_ACTIVITY_TYPES = (*(str for _ in _WORDS), *(int for _ in _COUNTS), str, float, dict)
_FLOAT = frozenset([float])


class PointError(PipelineError):
    """A score record or a point that no store could keep as it is; the message names the field."""


@dataclass(frozen=True, slots=True)
class FlawedScore:
    """A score of which no line can be made: the record as JSON, and why."""

    raw: bytes
    detail: str


@dataclass(slots=True)
class ScoreLines:
    """What came out of records of the log: lines, their windows' ends (epoch ms), what is flawed.

    `lines` and `end_ms` belong together, one by one.
    """

    lines: list[str] = field(default_factory=list)
    end_ms: list[int] = field(default_factory=list)
    flawed: list[FlawedScore] = field(default_factory=list)


def to_line(point: Point) -> str:
    r"""The point in line protocol, tags and fields sorted by name; cannot fail.

    >>> from pipeline.points.points import Point
    >>> to_line(Point("rul", (("site", "plant 7"),), (("rul", 95.0), ("version", 3)), 17))
    'rul,site=plant\\ 7 rul=95,version=3i 17'
    """
    fields = ",".join(
        [f"{_escaped(name)}={_field_value(value)}" for name, value in sorted(point.fields)]
    )
    return f"{_series(point.measurement, point.tags)} {fields} {point.time_ns}"


def score_lines(value: bytes, into: ScoreLines) -> None:
    """Add the lines of a record of the topic `scores` to `into`; one bad score spoils no other.

    Raises:
        PointError: `value` is no JSON array at all; `into` is as it was.
    """
    try:
        records = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        msg = f"not score records: {exc}; begins with {value[:80]!r}"
        raise PointError(msg) from exc
    if type(records) is not list:
        msg = f"not score records but a {type(records).__name__}: {value[:80]!r}"
        raise PointError(msg)
    lines, end_ms = into.lines, into.end_ms
    for record in records:
        try:
            line = _rul_line(record) or _activity_line(record) or _any_line(record)
        except PointError as exc:
            into.flawed.append(FlawedScore(orjson.dumps([record]), str(exc)))
            continue
        lines.append(line)
        end_ms.append(record["end_ms"])


def _rul_line(record: Any) -> str | None:
    """The line of a RUL score with an interval, if it is one; the rest takes the long way."""
    try:
        if record["task"] != "rul":
            return None
        parts = _rul_parts(record)
    except (TypeError, KeyError, IndexError):
        return None
    if tuple(map(type, parts)) != _RUL_TYPES:
        return None
    site, device, stream, model, version, start, end, readings, gaps, recv, scored, *ends = parts
    rul, low, high = ends
    series = _score_series(RUL.name, site, device, stream, model)
    return (
        f"{series} gaps={gaps}i,latency_ms={scored - recv}i,readings={readings}i,rul={rul!r},"
        f"rul_high={high!r},rul_low={low!r},start_ms={start}i,version={version}i {end}000000"
    )


def _activity_line(record: Any) -> str | None:
    """The line of an activity score, if it is one."""
    try:
        if record["task"] != "activity":
            return None
        parts = _activity_parts(record)
    except (TypeError, KeyError, IndexError):
        return None
    if tuple(map(type, parts)) != _ACTIVITY_TYPES:
        return None
    site, device, stream, model, version, start, end, readings, gaps, recv, scored, *of = parts
    activity, probability, probabilities = of
    numbers = probabilities.values()
    if not numbers or not _FLOAT.issuperset(map(type, numbers)):
        return None
    names, order = _probabilities(tuple(probabilities))
    series = _score_series(ACTIVITY.name, site, device, stream, model)
    return (
        f"{series} activity={_text_value(activity)},gaps={gaps}i,latency_ms={scored - recv}i,"
        f"{names % order(probabilities)},probability={probability!r},readings={readings}i,"
        f"start_ms={start}i,version={version}i {end}000000"
    )


def _any_line(record: Any) -> str:
    """The line of a record by way of its point, with all the checks of one that is written."""
    from pipeline.points.points import encode_scores, points_of  # it imports us

    encode_scores([record])
    return to_line(points_of([record])[0])


@lru_cache(maxsize=65_536)
def _score_series(measurement: str, site: str, device: str, stream: str, model: str) -> str:
    """Measurement and tags of a score, checked: a store drops or misreads others silently."""
    tags = tuple(zip(_WORDS, (site, device, stream, model), strict=True))
    for name, text in tags:
        if not (text and text.isprintable()):
            msg = f"score record with an empty or unprintable {name} {text!r:.80}"
            raise PointError(msg)
    return _series(measurement, tags)


@lru_cache(maxsize=256)
def _probabilities(labels: tuple[str, ...]) -> tuple[str, Any]:
    """For the classes of a model: a template of their fields, and how to take the values."""
    if not all(label and label.isprintable() for label in labels):
        msg = f"score record with an empty or unprintable label among {labels!r:.200}"
        raise PointError(msg)
    ordered = sorted(labels, key=lambda label: PROBABILITY_PREFIX + label)
    names = ",".join(
        _escaped(PROBABILITY_PREFIX + label).replace("%", "%%") + "=%r" for label in ordered
    )
    if len(ordered) == 1:
        return names, lambda found: (found[ordered[0]],)
    return names, itemgetter(*ordered)


@lru_cache(maxsize=16_384)
def _series(measurement: str, tags: tuple[tuple[str, str], ...]) -> str:
    """Measurement and tags: the same for every point of a series, so it is remembered."""
    pairs = (f",{_escaped(name)}={_tag_value(text)}" for name, text in sorted(tags))
    return measurement.translate(_MEASUREMENT_ESCAPES) + "".join(pairs)


@lru_cache(maxsize=1024)
def _escaped(name: str) -> str:
    return name.translate(_NAME_ESCAPES)


def _tag_value(text: str) -> str:
    escaped = text.translate(_NAME_ESCAPES)
    # A backslash at the end would escape what follows; a blank after it is what the client adds.
    return escaped + " " if escaped.endswith("\\") else escaped


@lru_cache(maxsize=1024)
def _text_value(text: str) -> str:
    return f'"{text.translate(_TEXT_ESCAPES)}"'


def _field_value(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return f'"{value.translate(_TEXT_ESCAPES)}"'
