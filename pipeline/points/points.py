"""A point: measurement, tags, fields and time. Pure.

A point is identified by measurement, tags and time; writing it again overwrites it. The table of
measurements is in `pipeline.points.measurements`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.errors import PointError
from pipeline.points.measurements import (
    DEVICE,
    EXPLANATION,
    GATEWAY,
    ROLLOUT,
    SCORE_TAGS,
    SHADOW,
)

__all__ = [
    "FieldValue",
    "Point",
    "device_point",
    "explanation_point",
    "gateway_point",
    "rollout_point",
    "shadow_point",
]

FieldValue = bool | int | float | str

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Point:
    """One point; every point that can be built can be stored.

    Attributes:
        measurement: Name of the measurement.
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


def device_point(
    site: str, device: str, stream: str, counters: Mapping[str, int], time_ms: int
) -> Point:
    """The account of a device's stream at `time_ms`."""
    tags = (("site", site), ("device", device), ("stream", stream))
    return Point(DEVICE.name, tags, tuple(counters.items()), time_ms * 1_000_000)


def gateway_point(gateway: str, role: str, fields: Mapping[str, FieldValue], time_ms: int) -> Point:
    """The account of a process at `time_ms`; `role` is one of `ROLES`."""
    tags = (("gateway", gateway), ("role", role))
    return Point(GATEWAY.name, tags, tuple(fields.items()), time_ms * 1_000_000)


def rollout_point(
    gateway: str, model: str, stream: str, event: str, version: int, text: str, time_ms: int
) -> Point:
    """A mark: what happened to a version at `time_ms` (see `ROLLOUT_EVENTS`)."""
    tags = (("gateway", gateway), ("model", model), ("stream", stream), ("event", event))
    fields: tuple[tuple[str, FieldValue], ...] = (("version", version), ("text", text))
    return Point(ROLLOUT.name, tags, fields, time_ms * 1_000_000)


def explanation_point(
    score: Mapping[str, Any],
    *,
    channel: str,
    span_ms: tuple[int, int],
    importance: float,
    text: str,
    version: int,
) -> Point:
    """Why a score (its record) is at alert level; see `EXPLANATION`."""
    tags = tuple((name, score[name]) for name in SCORE_TAGS)
    fields: tuple[tuple[str, FieldValue], ...] = (
        ("channel", channel),
        ("from_ms", span_ms[0]),
        ("until_ms", span_ms[1]),
        ("importance", importance),
        ("text", text),
        ("version", version),
    )
    return Point(EXPLANATION.name, tags, fields, score["end_ms"] * 1_000_000)


def shadow_point(
    place: tuple[str, str, str],
    model: str,
    *,
    versions: tuple[int, int],
    disagreement: float,
    answers: tuple[str, str],
    end_ms: int,
) -> Point:
    """What a challenger and the other student answered over one window; see `SHADOW`.

    Args:
        place: Site, device and stream.
        model: Name of the students.
        versions: Of the challenger, and of the other student.
        disagreement: How far they are apart, 0 to 1.
        answers: Theirs, in the same order.
        end_ms: End of the window, epoch milliseconds.
    """
    tags = tuple(zip(SCORE_TAGS, (*place, model), strict=True))
    fields: tuple[tuple[str, FieldValue], ...] = (
        ("version", versions[0]),
        ("against", versions[1]),
        ("disagreement", disagreement),
        ("challenger", answers[0]),
        ("champion", answers[1]),
    )
    return Point(SHADOW.name, tags, fields, end_ms * 1_000_000)


def _flaw(point: Point) -> str | None:
    if not point.fields:
        return "no fields"
    if not point.measurement.isprintable() or point.measurement[:1] in ("", "#", "_"):
        return f"invalid measurement name {point.measurement!r}"
    if type(point.time_ns) is not int:  # a float would be looked for in a range one by one
        return f"time {point.time_ns!r:.40} ns, which is no whole number,"
    if point.time_ns not in _INT64:
        return f"time {point.time_ns} ns beyond 64 bits"
    if (flawed := _flawed_tag(point.tags)) is not None:
        return flawed
    for name, value in point.fields:
        if not name or not name.isprintable() or "\\" in name:
            return f"empty or unwritable field name {name!r}"
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


@lru_cache(maxsize=16_384)
def _flawed_tag(tags: tuple[tuple[str, str], ...]) -> str | None:
    """The flaw of tags; remembered, because a score may have hundreds of points of its series."""
    for name, text in tags:
        if not (name and text and name.isprintable() and text.isprintable()):
            return f"empty or unprintable tag {name!r}={text!r}"
    return None


def _is_unicode(text: str) -> bool:
    """Whether `text` has a UTF-8 form: lone surrogates have none."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()
