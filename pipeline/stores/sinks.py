"""The contract of a sink.

A sink stores points durably before it returns. Points are idempotent (measurement, tags and time
are their identity), so after any failure the same points are written again. A fault of a single
point comes back as data (`Refused`). A fault of the store is an exception (`SinkUnavailable`); the
store stage retries without limit, while the scores wait in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ingest.backoff import Backoff
from ingest.errors import RefusalReason
from pipeline.points.points import Point

__all__ = [
    "SINK_BACKOFF",
    "LineSink",
    "Refused",
    "RefusedLine",
    "Sink",
]

SINK_BACKOFF = Backoff(first_ms=500, max_ms=30_000, jitter=(1.0, 1.2))
"""Pauses between tries to write to a sink that is unavailable."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A point the store will never take as it is, and why: a dead letter, not a retry."""

    point: Point
    reason: str


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line the store will never take as it is: what kind of flaw, and why in its words."""

    line: str
    reason: RefusalReason
    detail: str


@runtime_checkable
class LineSink(Protocol):
    """Where points are stored that come as lines of InfluxDB's line protocol."""

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        """A call that stores the lines (times in ns), with the same promise as `Sink.write`.

        Called again after `SinkUnavailable` it goes on where it was.
        """

    def close(self) -> None:
        """Release the connection; idempotent."""


class Sink(Protocol):
    """Where points are stored."""

    def write(self, points: Sequence[Point]) -> list[Refused]:
        """Store points; blocks, and returns only when they are durable.

        All points that are not in the returned list are stored. Writing a point twice equals
        writing it once.

        Raises:
            SinkUnavailable: some of the points may not be stored; write all of them again later.
        """

    def close(self) -> None:
        """Release the connection; idempotent."""
