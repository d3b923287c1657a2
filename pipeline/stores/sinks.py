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
from pipeline.points.pointblocks import Points
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
    """A point that the sink will never accept, and the reason: a dead letter, not a retry."""

    point: Point
    reason: str


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that the sink will never accept: the kind of flaw, and the sink's own message."""

    line: str
    reason: RefusalReason
    detail: str


@runtime_checkable
class LineSink(Protocol):
    """A sink that takes points as lines of InfluxDB's line protocol."""

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        """Return a call that stores lines (times in nanoseconds) with the promise of `Sink.write`.

        Called again after `SinkUnavailable`, it continues where it stopped.
        """

    def close(self) -> None:
        """Release the connection; idempotent."""


class Sink(Protocol):
    """A sink that takes points, single ones and blocks."""

    def write(self, points: Points) -> list[Refused]:
        """Store points, in order; block until they are durable.

        All points that are not in the returned list are stored. Writing a point twice has the same
        effect as writing it once.

        Raises:
            SinkUnavailable: Some points may not be stored; write all of them again later.
        """

    def close(self) -> None:
        """Release the connection; idempotent."""
