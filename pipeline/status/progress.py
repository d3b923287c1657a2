"""Progress of consumer groups in their partitions, and stalled partitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["STALL_MS", "PartitionProgress", "ProgressTracker", "stalled_partitions"]

STALL_MS = 30_000
"""A partition with a backlog that has not moved for this long (ms) makes a process not ready."""


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Progress of one consumer group in one partition.

    Attributes:
        app: Consumer group.
        end_offset: Offset of the next record to be appended.
        position: Offset of the next record to be read.
        committed: Offset at which a restart continues; None before the first commit.
        last_advance_ms: Last time that position or committed offset moved or there was no backlog;
            epoch milliseconds.
    """

    app: str
    topic: str
    partition: int
    end_offset: int
    position: int
    committed: int | None
    last_advance_ms: int

    @property
    def backlog(self) -> int:
        """Records appended and not yet committed by this group."""
        done = self.position if self.committed is None else min(self.position, self.committed)
        return max(0, self.end_offset - done)

    def describe_stall(self, now_ms: int) -> str:
        """The problem text of a stalled partition."""
        seconds = (now_ms - self.last_advance_ms) // 1000
        return (
            f"{self.app} has not advanced in {self.topic}[{self.partition}] for {seconds} s "
            f"with {self.backlog} records waiting"
        )


class ProgressTracker:
    """Remembers when each partition last moved; partitions without a backlog never look stalled."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int], PartitionProgress] = {}

    def observe(
        self,
        app: str,
        topic: str,
        partition: int,
        *,
        end_offset: int,
        position: int,
        committed: int | None,
        now_ms: int,
    ) -> PartitionProgress:
        """Record one observation of a partition; returns it with `last_advance_ms` filled in."""
        key = (app, topic, partition)
        now = PartitionProgress(app, topic, partition, end_offset, position, committed, now_ms)
        before = self._seen.get(key)
        if (
            before is not None
            and before.backlog > 0
            and now.backlog > 0
            and (before.position, before.committed) == (position, committed)
        ):
            now = replace(now, last_advance_ms=before.last_advance_ms)
        self._seen[key] = now
        return now

    def current(self) -> list[PartitionProgress]:
        """The last observation of every partition, sorted by app, topic, partition."""
        return [self._seen[key] for key in sorted(self._seen)]


def stalled_partitions(
    partitions: Iterable[PartitionProgress], now_ms: int, stall_ms: int = STALL_MS
) -> list[PartitionProgress]:
    """Partitions with a backlog that have not advanced for `stall_ms` or longer.

    >>> p = PartitionProgress("score", "readings", 0, 10, 4, 4, last_advance_ms=1_000)
    >>> [s.partition for s in stalled_partitions([p], now_ms=31_000)]
    [0]
    >>> stalled_partitions([p], now_ms=30_999)
    []
    """
    return [p for p in partitions if p.backlog > 0 and now_ms - p.last_advance_ms >= stall_ms]
