"""Window state in a compacted Kafka topic that several workers write; the newest state wins.

Only one worker owns a partition, but a worker that was frozen for a minute does not know that it
lost its partitions, so its late rows are appended after those of the new owner. Kafka would keep
the last row, and the readings in between would be lost. Therefore:

- **Every owner writes keys of its own**: ``site/device/stream#generation``, where the generation
  counts the rebalances of the group. No owner overwrites, or compacts away, the row of another.
- **If a device has several rows, the one with the highest offset counts.** Every row is a true
  state at its offset, because all results of the readings in it were durable before it was written.
- **Rows of former owners are deleted only after a row of the new owner is durable** that started
  from them.

`open` reads a partition up to a *barrier*, a record that it has just appended itself: everything
that a former owner wrote before it lost the partition precedes the barrier.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

from pipeline.windows.rows import applied_offset

__all__ = ["Changelog", "ChangelogRow", "ReadUntil", "SendRow"]

log = logging.getLogger(__name__)

SendRow = Callable[[int, bytes, bytes | None], Awaitable[Awaitable[int]]]
"""``await send(partition, key, value)`` queues a row (value None deletes the key). Awaiting
the result waits until the row is durable, and gives its offset."""

ChangelogRow = tuple[int, bytes, "bytes | None"]
"""Partition, key and value; a value of None deletes the key."""

ReadUntil = Callable[[Mapping[int, int]], AsyncIterator[list[ChangelogRow]]]
"""``read(last)`` yields the rows of the partitions in `last` from the beginning, each up to and
including the record at the offset given there."""

_PART = 500
_BARRIER = b"-"
"""Key of the barriers; no device has it, and compaction keeps at most one of them."""


class Changelog:
    """A ``pipeline.scoring.stage.StateTable`` on such a topic.

    Attributes:
        is_opening: Whether rows are being read now.
        opened_total: Number of times that partitions were opened.
        open_seconds: Duration of the last opening.
        rows_read: Records read by it.
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
        """Take ownership of exactly these partitions; returns when their rows are loaded.

        Raises:
            LogUnavailable: The topic cannot be read.
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
        log.info("read %d rows of %d devices in %.2f s", count, len(self._rows), self.open_seconds)

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
        """Names of all devices with a row."""
        return list(self._rows)

    async def parts(self) -> AsyncIterator[list[str]]:
        """`keys`, some at a time."""
        names = self.keys()
        for at in range(0, len(names), _PART):
            yield names[at : at + _PART]

    def release(self) -> None:
        """Free the memory of the rows, once all devices are restored."""
        self.is_opening = False
        self._rows.clear()

    async def write(self, rows: Sequence[tuple[int, str, bytes | None]]) -> None:
        """Save rows (partition, name, value), or delete them; returns when that is durable."""
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
