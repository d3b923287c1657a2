"""The contract of a sink, and the one way points are delivered to it.

A sink stores points durably before it returns. Points are idempotent (measurement, tags and time
are their identity), so the answer to every doubt is to write the same points again. What is wrong
with a single point comes back as data (`Refused`); what is wrong with the store is an exception
(`SinkUnavailable`) and is retried for as long as it takes: the scores wait in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from ingest.backoff import Backoff
from ingest.errors import RefusalReason
from pipeline.errors import SinkMisconfigured, SinkUnavailable
from pipeline.points.points import Point

__all__ = [
    "SINK_BACKOFF",
    "LineSink",
    "Refused",
    "RefusedLine",
    "Sink",
    "deliver",
    "log_unavailable",
]

SINK_BACKOFF = Backoff(first_ms=500, max_ms=30_000, jitter=(1.0, 1.2))
"""Pauses between tries to write to a sink that is unavailable."""

_R = TypeVar("_R")

_log = logging.getLogger(__name__)


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


async def deliver(
    write: Callable[[], _R],
    *,
    backoff: Backoff = SINK_BACKOFF,
    executor: Executor | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    on_unavailable: Callable[[SinkUnavailable, int], None] | None = None,
) -> _R:
    """Call `write` in a thread of `executor` until it returns; return that.

    Tries without limit, because the caller's log keeps what is not stored; cancel it to stop.
    Cancelled in the middle of a write, the points may or may not be stored: write them again.

    Args:
        write: stores one batch: `LineSink.writing(lines)`, or a call of `Sink.write`.
        backoff: the pauses between tries.
        executor: threads for the blocking write; one per sink keeps a slow sink from others.
        sleep: awaited with seconds between tries; tests pass a virtual one.
        on_unavailable: called with the error and the number of failed tries (1, 2, ...); by
            default some are logged, those that only a person can mend as errors.

    Raises:
        SinkError: other than `SinkUnavailable`; retrying cannot help (a damaged results file).
    """
    loop = asyncio.get_running_loop()
    attempt = 0
    while True:
        try:
            return await loop.run_in_executor(executor, write)
        except SinkUnavailable as exc:
            attempt += 1
            (on_unavailable or log_unavailable)(exc, attempt)
            delay_ms = backoff.delay_ms(attempt, exc.retry_after_ms)
        await sleep(delay_ms / 1000)


def log_unavailable(exc: SinkUnavailable, attempt: int) -> None:
    """Log a failed try: a store that is away now and then, a wrong setting again and again."""
    if isinstance(exc, SinkMisconfigured):
        if attempt <= 3 or attempt % 10 == 0:
            _log.error("a setting must be corrected, points wait (try %d): %s", attempt, exc)
    elif attempt % 10 == 1:
        _log.warning("points are not stored yet, they wait (try %d): %s", attempt, exc)
