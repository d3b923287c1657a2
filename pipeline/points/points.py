"""Score records and points: how a score becomes a point. Pure.

1. A **score record** is what the scoring stage appends to the log topic `scores`, a few at once:
   a JSON array of objects (`encode_scores`, `decode_scores`).
2. A **point** is what a results store keeps: measurement, tags, fields, time (`points_of`).
3. A **line** is a point in InfluxDB's line protocol (`to_line`, of `pipeline.points.lines`).

A point is identified by measurement, tags and time. The tag `model` is the model's name without
its version, so that scoring a window again, even by another version, overwrites it.

The measurements, their tags and fields are a table in `pipeline.points.measurements`; its names are
also to be had here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.points.lines import PointError, to_line
from pipeline.points.measurements import (
    ACTIVITY,
    ACTIVITY_HOURLY,
    COMMON_FIELDS,
    COUNTER_FIELDS,
    DEAD_LETTERS,
    DEVICE,
    DEVICE_HOURLY,
    GATEWAY,
    HOURLY,
    LAG,
    MEASUREMENTS,
    MODEL,
    PROBABILITY_PREFIX,
    ROLES,
    ROLLOUT,
    ROLLOUT_EVENTS,
    RUL,
    RUL_HOURLY,
    Field,
    Measurement,
)

__all__ = [
    "ACTIVITY",
    "ACTIVITY_HOURLY",
    "COMMON_FIELDS",
    "COUNTER_FIELDS",
    "DEAD_LETTERS",
    "DEVICE",
    "DEVICE_HOURLY",
    "GATEWAY",
    "HOURLY",
    "LAG",
    "MEASUREMENTS",
    "MODEL",
    "PROBABILITY_PREFIX",
    "ROLES",
    "ROLLOUT",
    "ROLLOUT_EVENTS",
    "RUL",
    "RUL_HOURLY",
    "Field",
    "FieldValue",
    "Measurement",
    "Point",
    "PointError",
    "ScoreRecord",
    "decode_scores",
    "device_point",
    "encode_scores",
    "gateway_point",
    "points_of",
    "rollout_point",
    "to_line",
]

FieldValue = bool | int | float | str

ScoreRecord = dict[str, Any]
"""One score as plain data. Of any task: `task` ("rul" or "activity"), `site`, `device`, `stream`,
`model` (str), `version`, `start_ms`, `end_ms`, `readings`, `gaps`, `recv_ms`, `scored_ms` (int).
Of "rul": `rul`, `rul_low`, `rul_high` (float; the latter two may be missing). Of "activity":
`activity` (str; `models.tasks.classes.UNKNOWN` where no label is likely enough), `probability`
(float, the largest one), `probabilities` ({label: float})."""

_WORDS = ("task", "site", "device", "stream", "model")
_COUNTS = ("version", "start_ms", "end_ms", "readings", "gaps", "recv_ms", "scored_ms")
_COMMON = (*_WORDS, *_COUNTS)
_COMMON_TYPES = [*(str for _ in _WORDS), *(int for _ in _COUNTS)]
_INT64 = range(-(2**63), 2**63)
_LAST_MS = _INT64[-1] // 1_000_000


@dataclass(frozen=True, slots=True)
class Point:
    """One point; whatever can be built can be stored.

    Attributes:
        measurement: What was measured.
        tags: (name, value) pairs; with the measurement they name the series.
        fields: (name, value) pairs; a float stays a float even if whole, an int stays an int.
        time_ns: Epoch nanoseconds.

    Raises:
        PointError: No fields, a number that is not finite or not 64 bits wide, or a name or tag
            that is empty or holds control characters (a store would drop these silently).
    """

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, FieldValue], ...]
    time_ns: int

    def __post_init__(self) -> None:
        flaw = _flaw(self)
        if flaw is not None:
            msg = f"{flaw} in the point {self.measurement} {dict(self.tags)} at {self.time_ns} ns"
            raise PointError(msg)


def encode_scores(records: Sequence[ScoreRecord]) -> bytes:
    """The value of one record on the log topic `scores`.

    Raises:
        PointError: A record is not a `ScoreRecord`; a NaN would become `null` otherwise.
    """
    for record in records:
        _check(record)
    try:
        return orjson.dumps(records)
    except TypeError as exc:
        msg = f"score records that are not JSON: {exc}"
        raise PointError(msg) from exc


def decode_scores(value: bytes) -> list[ScoreRecord]:
    """Read what `encode_scores` wrote; `points_of` takes all that it returns.

    Raises:
        PointError: `value` is anything else.
    """
    try:
        records = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        msg = f"not score records: {exc}; begins with {value[:80]!r}"
        raise PointError(msg) from exc
    if type(records) is not list:
        msg = f"not score records but a {type(records).__name__}: {value[:80]!r}"
        raise PointError(msg)
    for record in records:
        _check(record)
    return records


def points_of(records: Sequence[ScoreRecord]) -> list[Point]:
    """One point per score record, in order.

    Raises:
        PointError: A record is not a `ScoreRecord`. Guaranteed not to for what `encode_scores`
            accepted or `decode_scores` returned.
    """
    return [_point_of(record) for record in records]


def device_point(
    site: str, device: str, stream: str, counters: Mapping[str, int], time_ms: int
) -> Point:
    """The account of a device's stream at `time_ms`."""
    tags = (("site", site), ("device", device), ("stream", stream))
    return Point(DEVICE.name, tags, tuple(counters.items()), time_ms * 1_000_000)


def gateway_point(gateway: str, role: str, fields: Mapping[str, FieldValue], time_ms: int) -> Point:
    """What a process of the line says of itself at `time_ms`; `role` is one of `ROLES`."""
    tags = (("gateway", gateway), ("role", role))
    return Point(GATEWAY.name, tags, tuple(fields.items()), time_ms * 1_000_000)


def rollout_point(
    gateway: str, model: str, stream: str, event: str, version: int, text: str, time_ms: int
) -> Point:
    """A mark: at `time_ms` a version took over or was refused (`event`, of `ROLLOUT_EVENTS`)."""
    tags = (("gateway", gateway), ("model", model), ("stream", stream), ("event", event))
    fields: tuple[tuple[str, FieldValue], ...] = (("version", version), ("text", text))
    return Point(ROLLOUT.name, tags, fields, time_ms * 1_000_000)


def _check(record: Any) -> None:
    """Raise PointError unless `record` is a `ScoreRecord` that makes a point."""
    if type(record) is not dict:
        msg = f"a score record is an object, not {record!r:.200}"
        raise PointError(msg)
    found = list(map(record.get, _COMMON))
    if list(map(type, found)) != _COMMON_TYPES:
        wanted = zip(_COMMON, _COMMON_TYPES, found, strict=True)
        wrong = [f"{name}={value!r:.80}" for name, kind, value in wanted if type(value) is not kind]
        msg = f"score record with {', '.join(wrong)}"
        raise PointError(msg)
    if not _surely_fine(record, found):
        _point_of(record)


def _surely_fine(record: ScoreRecord, common: list[Any]) -> bool:
    """Whether a RUL score with right common types makes a point: what is checked most often."""
    numbers = (record.get("rul"), record.get("rul_low"), record.get("rul_high"))
    return (
        common[0] == RUL.name
        and set(map(type, numbers)) == {float}
        and math.isfinite(sum(numbers))  # type: ignore[arg-type]
        and all(common[1 : len(_WORDS)])
        and "".join(common[1 : len(_WORDS)]).isprintable()
        and max(common[len(_WORDS) :]) <= _LAST_MS
        and min(common[len(_WORDS) :]) >= 0
    )


def _point_of(record: ScoreRecord) -> Point:
    try:
        task = record["task"]
        if task == RUL.name:
            fields = _rul_fields(record)
        elif task == ACTIVITY.name:
            fields = _activity_fields(record)
        else:
            msg = f"score record of the unknown task {task!r:.80}"
            raise PointError(msg)
        fields += [
            ("version", record["version"]),
            ("start_ms", record["start_ms"]),
            ("readings", record["readings"]),
            ("gaps", record["gaps"]),
            ("latency_ms", record["scored_ms"] - record["recv_ms"]),
        ]
        tags = (
            ("site", record["site"]),
            ("device", record["device"]),
            ("stream", record["stream"]),
            ("model", record["model"]),
        )
        time_ns = record["end_ms"] * 1_000_000
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as exc:
        msg = f"not a score record ({type(exc).__name__}: {exc}): {record!r:.200}"
        raise PointError(msg) from exc
    return Point(task, tags, tuple(fields), time_ns)


def _rul_fields(record: ScoreRecord) -> list[tuple[str, FieldValue]]:
    fields: list[tuple[str, FieldValue]] = [("rul", _number(record["rul"]))]
    for name in ("rul_low", "rul_high"):
        if record.get(name) is not None:
            fields.append((name, _number(record[name])))
    return fields


def _activity_fields(record: ScoreRecord) -> list[tuple[str, FieldValue]]:
    activity = record["activity"]
    if type(activity) is not str:
        msg = f"the activity is text, not {activity!r:.80}"
        raise TypeError(msg)
    fields: list[tuple[str, FieldValue]] = [
        ("activity", activity),
        ("probability", _number(record["probability"])),
    ]
    for label, probability in record["probabilities"].items():
        fields.append((PROBABILITY_PREFIX + label, _number(probability)))
    return fields


def _number(value: Any) -> float:
    """A float field's value: also of an int, never of a bool or a text."""
    if type(value) is not float and type(value) is not int:
        msg = f"{value!r:.80} is not a number"
        raise TypeError(msg)
    return float(value)


def _flaw(point: Point) -> str | None:
    if not point.fields:
        return "no fields"
    if not point.measurement.isprintable() or point.measurement[:1] in ("", "#", "_"):
        return f"bad name of a measurement {point.measurement!r}"
    if point.time_ns not in _INT64:
        return f"time {point.time_ns} ns beyond 64 bits"
    for name, text in point.tags:
        if not (name and text and name.isprintable() and text.isprintable()):
            return f"empty or unprintable tag {name!r}={text!r}"
    for name, value in point.fields:
        if not name or not name.isprintable():
            return f"empty or unprintable name of a field {name!r}"
        kind = type(value)
        if kind is float:
            if not math.isfinite(value):  # type: ignore[arg-type]
                return f"{name}={value!r}, which is not finite,"
        elif kind is int:
            if value not in _INT64:
                return f"{name}={value!r}, which is beyond 64 bits,"
        elif kind is str:
            if not _is_unicode(value):  # type: ignore[arg-type]
                return f"{name}={value!a:.80}, which is not Unicode,"
        elif kind is not bool:
            return f"{name} of type {kind.__name__}"
    return None


def _is_unicode(text: str) -> bool:
    """Whether `text` has a UTF-8 form: lone surrogates have none."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()
