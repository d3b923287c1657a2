"""Progress of consumer groups in their partitions, and stalled partitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["STALL_MS", "PartitionProgress", "ProgressTracker", "Recovery", "stalled_partitions"]

STALL_MS = 30_000
"""A partition with a backlog that has not moved for this long (ms) makes a process not ready."""
_TELL_MS = 2_000


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Progress of one consumer group in one partition.

    Attributes:
        app: Consumer group.
        end_offset: Offset of the next record to be appended.
        position: Offset of the next record to be read.
        committed: Offset at which a restart continues; None before the first commit.
        last_advance_ms: Last time that position or committed offset moved or there was no backlog;
            epoch milliseconds, for display.
        still_ms: Time since then by monotonic time, when it was observed; 0 without a backlog.
    """

    app: str
    topic: str
    partition: int
    end_offset: int
    position: int
    committed: int | None
    last_advance_ms: int
    still_ms: int = 0

    @property
    def backlog(self) -> int:
        """Records appended and not yet committed by this group."""
        done = self.position if self.committed is None else min(self.position, self.committed)
        return max(0, self.end_offset - done)

    def describe_stall(self) -> str:
        """The problem text of a stalled partition."""
        seconds = self.still_ms // 1000
        return (
            f"{self.app} has not advanced in {self.topic}[{self.partition}] for {seconds} s "
            f"with {self.backlog} records waiting"
        )


class ProgressTracker:
    """Remembers when each partition last moved; partitions without a backlog never look stalled."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int], PartitionProgress] = {}
        self._moved_ms: dict[tuple[str, str, int], int] = {}  # monotonic

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
        steady_ms: int,
    ) -> PartitionProgress:
        """Record one observation of a partition; returns it with the time of its last advance.

        Args:
            app: Consumer group.
            topic: Topic of the partition.
            partition: Its number.
            end_offset: See `PartitionProgress`.
            position: See `PartitionProgress`.
            committed: See `PartitionProgress`.
            now_ms: Processing time, epoch milliseconds.
            steady_ms: Monotonic milliseconds; they decide whether the partition is stalled.
        """
        key = (app, topic, partition)
        now = PartitionProgress(app, topic, partition, end_offset, position, committed, now_ms)
        before = self._seen.get(key)
        if (
            before is not None
            and before.backlog > 0
            and now.backlog > 0
            and (before.position, before.committed) == (position, committed)
        ):
            still_ms = steady_ms - self._moved_ms[key]
            now = replace(now, last_advance_ms=before.last_advance_ms, still_ms=still_ms)
        else:
            self._moved_ms[key] = steady_ms
        self._seen[key] = now
        return now

    def current(self) -> list[PartitionProgress]:
        """The last observation of every partition, sorted by app, topic, partition."""
        return [self._seen[key] for key in sorted(self._seen)]


def stalled_partitions(
    partitions: Iterable[PartitionProgress], stall_ms: int = STALL_MS
) -> list[PartitionProgress]:
    """Partitions with a backlog that have not advanced for `stall_ms` or longer.

    >>> p = PartitionProgress("score", "readings", 0, 10, 4, 4, 1_000, still_ms=30_000)
    >>> [s.partition for s in stalled_partitions([p])]
    [0]
    >>> stalled_partitions([p], stall_ms=30_001)
    []
    """
    return [p for p in partitions if p.backlog > 0 and p.still_ms >= stall_ms]


@dataclass(slots=True)
class Recovery:
    """How far the window state of the devices is read after a start.

    >>> recovery = Recovery()
    >>> recovery.problem
    'the window state has not been read yet'
    >>> recovery.begin(0)
    >>> recovery.note(20_000, 1_000), recovery.note(40_000, 2_500), recovery.note(41_000, 2_600)
    (False, True, False)
    >>> recovery.problem
    'recovering the window state: 41,000 devices so far'
    >>> recovery.end(3_000)
    >>> recovery.problem is None, recovery.seconds
    (True, 3.0)

    Attributes:
        devices: Devices that have their windows.
        seconds: Time that it took.
        problem: Reason why the process is not ready; None once it is over.
    """

    devices: int = 0
    seconds: float = 0.0
    problem: str | None = "the window state has not been read yet"
    _began_ms: int = 0
    _told_ms: int = 0

    def begin(self, steady_ms: int) -> None:
        """Begin at a monotonic time."""
        self._began_ms = self._told_ms = steady_ms
        self.note(0, steady_ms)

    def note(self, devices: int, steady_ms: int) -> bool:
        """Note the number of devices so far; whether it is time to tell somebody."""
        self.devices = devices
        self.problem = f"recovering the window state: {devices:,} devices so far"
        is_due = steady_ms - self._told_ms >= _TELL_MS
        if is_due:
            self._told_ms = steady_ms
        return is_due

    def end(self, steady_ms: int) -> None:
        """Note that all devices have their windows."""
        self.seconds, self.problem = (steady_ms - self._began_ms) / 1000, None
