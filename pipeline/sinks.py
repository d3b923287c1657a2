"""The contract of a sink, and the one way points are delivered to it.

A sink stores points durably before it returns. Points are idempotent (measurement, tags and time
are their identity), so the answer to every doubt is to write the same points again. What is wrong
with a single point comes back as data (`Refused`); what is wrong with the store is an exception
(`SinkUnavailable`) and is retried for as long as it takes: the scores wait in the log.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from ingest.errors import RefusalReason
from pipeline.errors import SinkUnavailable
from pipeline.points import Point

__all__ = ["Backoff", "LineSink", "Refused", "RefusedLine", "Sink", "deliver"]

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


class LineSink(Protocol):
    """Where points are stored that come as lines of InfluxDB's line protocol."""

    def write_lines(self, lines: Sequence[str]) -> list[RefusedLine]:
        """Store lines (times in ns); the same promise as `Sink.write`."""

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


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing pauses between tries, in milliseconds, spread by `jitter` (a share of the pause)."""

    first_ms: int = 500
    factor: float = 2.0
    max_ms: int = 30_000
    jitter: float = 0.2

    def delay_ms(
        self,
        attempt: int,
        retry_after_ms: int | None = None,
        spread: Callable[[], float] = random.random,
    ) -> int:
        """Pause before try number `attempt` + 1 (the first failed try is attempt 1).

        Never shorter than what the store asked for, never longer than twice `max_ms`.

        >>> Backoff(jitter=0).delay_ms(1), Backoff(jitter=0).delay_ms(3)
        (500, 2000)
        >>> Backoff(jitter=0).delay_ms(1, retry_after_ms=7_000)
        7000
        """
        grown = min(self.first_ms * self.factor ** min(attempt - 1, 30), self.max_ms)
        asked = min(retry_after_ms or 0, 2 * self.max_ms)
        return round(max(grown * (1 + self.jitter * spread()), asked))


async def deliver(
    sink: Sink,
    points: Sequence[Point],
    *,
    backoff: Backoff = Backoff(),
    executor: Executor | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    on_unavailable: Callable[[SinkUnavailable, int], None] | None = None,
) -> list[Refused]:
    """Write points in a thread of `executor` until they are stored; return the refused ones.

    Tries without limit, because the caller's log keeps what is not stored; cancel it to stop.
    Cancelled in the middle of a write, the points may or may not be stored: write them again.

    Args:
        sink: where to write.
        points: written as one batch.
        backoff: the pauses between tries.
        executor: threads for the blocking write; one per sink keeps a slow sink from others.
        sleep: awaited with seconds between tries; tests pass a virtual one.
        on_unavailable: called with the error and the number of failed tries (1, 2, ...); by
            default the first one and every tenth are logged.

    Raises:
        SinkError: other than `SinkUnavailable`; retrying cannot help (a damaged results file).
    """
    if not points:
        return []
    loop = asyncio.get_running_loop()
    attempt = 0
    while True:
        try:
            return await loop.run_in_executor(executor, sink.write, points)
        except SinkUnavailable as exc:
            attempt += 1
            (on_unavailable or _log_unavailable)(exc, attempt)
            delay_ms = backoff.delay_ms(attempt, exc.retry_after_ms)
        await sleep(delay_ms / 1000)


def _log_unavailable(exc: SinkUnavailable, attempt: int) -> None:
    if attempt % 10 == 1:
        _log.warning("points are not stored yet (try %d): %s", attempt, exc)
