"""Window state in a compacted topic that several workers write: the newest state always wins.

Only one worker owns a partition, but a worker that was frozen for a minute does not know that it
lost its partitions: what it still writes comes behind the rows of the new owner. Kafka would keep
that last row, and the readings between would be gone. So

- **every owner writes keys of its own**: ``site/device/stream#generation``, where the generation
  counts the group's rebalances. Nobody overwrites, or compacts away, the row of another owner.
- **of several rows of a device the one that holds the most of the log counts.** Any row is a true
  state at its offset, because all that follows from the readings in it was durable before it.
- **rows of former owners are deleted only once a row of ours is durable** that began from them.

`open` reads a partition up to a *barrier*, a record it has just appended itself: whatever a former
owner had written before it lost the partition is in front of that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

from pipeline.windows.devices import applied_offset

__all__ = ["Changelog", "ChangelogRow", "ReadUntil", "SendRow"]

log = logging.getLogger(__name__)

SendRow = Callable[[int, bytes, bytes | None], Awaitable[Awaitable[int]]]
"""``await send(partition, key, value)`` hands a row to the topic (None deletes the key); awaiting
what it returns waits until it is durable, and gives its offset."""

ChangelogRow = tuple[int, bytes, "bytes | None"]
"""Partition, key and value; a value of None deletes the key."""

ReadUntil = Callable[[Mapping[int, int]], AsyncIterator[list[ChangelogRow]]]
"""``read(last)`` yields the rows of the partitions in `last` from the beginning, each up to and
with the record at the offset given there."""

_BARRIER = b"-"
"""Key of the barriers; no device has it, and compaction keeps one of them at the most."""


class Changelog:
    """Implements ``pipeline.scoring.stage.StateTable`` on such a topic.

    Attributes:
        is_opening: Whether rows are being read now.
        opened_total: How often partitions were opened.
        open_seconds: How long the last opening took.
        rows_read: How many records it read.
    """

    def __init__(self, send: SendRow, read: ReadUntil) -> None:
        self._send = send
        self._read = read
        self._suffix = b""
        self._rows: dict[str, bytes] = {}
        self._former: dict[str, tuple[int, list[bytes]]] = {}
        self.is_opening = False
        self.opened_total = 0
        self.open_seconds = 0.0
        self.rows_read = 0

    async def open(self, partitions: Iterable[int], generation: int) -> None:
        """Own these partitions from now on, and no others; returns when their rows are here.

        Raises:
            LogUnavailable: The topic can't be read.
        """
        began = time.monotonic()
        self.is_opening = True
        self._suffix = b"#%d" % generation
        self._rows.clear()
        self._former.clear()
        wanted = sorted(partitions)
        sent = [(n, await self._send(n, _BARRIER, b"%d" % generation)) for n in wanted]
        last = {partition: await offset for partition, offset in sent}
        found: dict[bytes, tuple[int, bytes]] = {}
        count = 0
        async for records in self._read(last) if last else _nothing():
            count += len(records)
            for partition, key, value in records:
                if value is None:
                    found.pop(key, None)
                elif key != _BARRIER:
                    found[key] = (partition, value)
        self._merge(found)
        self.opened_total += 1
        self.rows_read = count
        self.open_seconds = time.monotonic() - began
        log.info("%d rows of %d devices in %.2f s", count, len(self._rows), self.open_seconds)

    def _merge(self, found: Mapping[bytes, tuple[int, bytes]]) -> None:
        for key, (partition, value) in found.items():
            name = key.partition(b"#")[0].decode()
            before = self._rows.get(name)
            if before is None or applied_offset(value) > applied_offset(before):
                self._rows[name] = value
            if not key.endswith(self._suffix):
                self._former.setdefault(name, (partition, []))[1].append(key)

    def get(self, key: str) -> bytes | None:
        """The newest row of a device; None after `release`."""
        return self._rows.get(key)

    def keys(self) -> list[str]:
        """All devices with a row."""
        return list(self._rows)

    def release(self) -> None:
        """Free the memory of the rows; whoever needed one has taken it."""
        self.is_opening = False
        self._rows.clear()

    async def write(self, rows: Sequence[tuple[int, str, bytes]]) -> None:
        """Save rows (partition, name, value); returns when they are durable."""
        sent = [
            await self._send(partition, name.encode() + self._suffix, value)
            for partition, name, value in rows
        ]
        for confirmation in sent:
            await confirmation
        if self._former:
            await self._forget_former(name for _, name, _ in rows)

    async def _forget_former(self, names: Iterable[str]) -> None:
        sent = []
        for name in names:
            partition, keys = self._former.pop(name, (0, []))
            sent += [await self._send(partition, key, None) for key in keys]
        for confirmation in sent:
            await confirmation


async def _nothing() -> AsyncIterator[list[ChangelogRow]]:
    none: tuple[list[ChangelogRow], ...] = ()
    for records in none:
        yield records
