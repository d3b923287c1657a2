"""The share of the log that topics without a reader may fill: fair to every sender.

Dead letters and late readings are kept for people; no consumer group reads them, so nothing but a
limit ever removes them. Such topics share a tenth of the log's cap. When they hold more, the sender
that holds most loses its oldest records, until it holds no more than the next one. One device with
a broken program can therefore neither fill the log nor remove the records of another device.

`Archive` runs in the writer's thread, in short steps. It counts the bytes of each sender only once
the share is first exceeded; a log that stays below it costs nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.log.state import LogState, Partition, record_id, stored_size

__all__ = ["OTHERS", "UNREAD_SHARE", "Archive", "ArchiveStats", "fair_level"]

log = logging.getLogger(__name__)

UNREAD_SHARE = 0.1
"""Share of the cap for all topics without a reader together: 205 MB at the default cap."""
OTHERS = "(others)"
"""Stands for all senders beyond the first `_MOST_SENDERS`, which are made-up names."""
_MOST_SENDERS = 10_000
_LOW_DISK_PART = 0.25
"""Part of the share that remains while the disk has too little free space."""
_TARGET = 0.95
"""Part of the share down to which records are deleted at a time."""
_ROWS, _BYTES = 2_000, 8_000_000
"""Records and bytes read in one step, so that appends wait for some ten milliseconds."""
_GONE = 200
"""Records deleted in one step, so that the partitions age alike."""
_STEPS = 10
"""Such steps per round of retention."""
_REPORT_S = 3600.0
"""Time between two warnings about one sender."""
_SHOWN = 1_000

Unit = tuple[str, str]
"""Topic and sender."""


@dataclass(frozen=True, slots=True)
class ArchiveStats:
    """State of the topics without a reader.

    Attributes:
        stored_bytes: Bytes that they hold.
        max_bytes: Their share of the cap.
        evicted: Records deleted since the log was opened, because their sender held too much.
        evicted_by: The same by (topic, sender), most first, at most a thousand.
        greediest: Topic, sender and bytes of the sender that lost records last; None: nobody did.
    """

    stored_bytes: int
    max_bytes: int
    evicted: int
    evicted_by: Mapping[Unit, int]
    greediest: tuple[str, str, int] | None


class Archive:
    """Keeps the topics without a reader within their share; used by the writer's thread only.

    Args:
        path: The file, for messages.
        db: The write connection.
        state: The state of the log.
        max_bytes: Cap of the log.
        sender_of: Returns the sender of a record, given its topic and value.
        delete: Deletes records of a partition durably, given their ids and their size.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        state: LogState,
        max_bytes: int,
        sender_of: Callable[[str, bytes | None], str],
        delete: Callable[[Partition, list[tuple[int]], int], None],
    ) -> None:
        self._path = path
        self._db = db
        self._state = state
        self._max_bytes = max_bytes
        self._sender_of = sender_of
        self._delete = delete
        self._is_counting = False
        self._topics: frozenset[str] = frozenset()
        self._usage: dict[Unit, int] = {}
        self._counted: dict[int, int] = {}  # slot -> offset below which the senders are counted
        self._cursor: dict[int, int] = {}  # slot -> offset below which no greedy sender has any
        self._greedy: frozenset[Unit] = frozenset()
        self._evicted: Counter[Unit] = Counter()
        self._evicted_total = 0
        self._greediest: tuple[str, str, int] | None = None
        self._reported_s: dict[Unit, float] = {}

    @property
    def is_over(self) -> bool:
        """Whether the topics without a reader hold more than their share."""
        return self._held(self._parts()) > self._budget(disk_is_low=False)

    def stats(self) -> ArchiveStats:
        """Sizes and counters; any thread."""
        with self._state.lock:
            by_sender = dict(self._evicted.most_common(_SHOWN))
            total, greediest = self._evicted_total, self._greediest
        held = self._held(self._parts())
        return ArchiveStats(held, self._budget(disk_is_low=False), total, by_sender, greediest)

    def run(self, *, disk_is_low: bool) -> bool:
        """Do a few steps of counting or deleting; True when there is more to do.

        Raises:
            sqlite3.Error: A deletion failed; its transaction is still open.
        """
        parts = self._parts()
        budget = self._budget(disk_is_low=disk_is_low)
        if not self._is_counting and self._held(parts) <= budget:
            return False
        self._is_counting = True
        topics = frozenset(part.topic for part in parts)
        if topics != self._topics:  # a topic has come, or has got a reader
            self._topics = topics
            self._count_anew()
        for _ in range(_STEPS):
            if not self._count(parts):
                break
        else:
            return True
        if self._held(parts) <= budget:
            return False
        return self._evict(parts, int(_TARGET * budget))

    def forget(self, part: Partition, gone: list[tuple[int]]) -> None:
        """Take records that are about to be deleted for another reason out of the count."""
        end = self._counted.get(part.slot)
        if end is None or not gone:
            return
        last = min(gone[-1][0], record_id(part.slot, end) - 1)
        for _, size, value in self._rows(part, gone[0][0], last + 1, len(gone), None):
            self._add(self._unit(part.topic, value), -size)

    # -- sizes ------------------------------------------------------------------------------

    def _parts(self) -> list[Partition]:
        """Partitions of topics that no group reads; none before the first group registers.

        Before that, a topic without a reader may only be one whose reader has not come yet.
        """
        if not self._state.groups:
            return []
        found: list[Partition] = []
        for topic in list(self._state.topics.values()):
            parts = list(topic.partitions)
            if not topic.compacted and all(self._is_unread(part) for part in parts):
                found += parts
        return found

    def _is_unread(self, part: Partition) -> bool:
        return self._state.first_unread(part.slot) is None

    def _held(self, parts: Iterable[Partition]) -> int:
        return sum(part.size_bytes for part in parts)

    def _budget(self, *, disk_is_low: bool) -> int:
        return int(UNREAD_SHARE * self._max_bytes * (_LOW_DISK_PART if disk_is_low else 1.0))

    # -- counting ---------------------------------------------------------------------------

    def _count_anew(self) -> None:
        self._usage.clear()
        self._counted.clear()
        self._cursor.clear()
        self._greedy = frozenset()

    def _count(self, parts: Iterable[Partition]) -> bool:
        """Count the next records; False when all are counted."""
        for part in parts:
            start = max(self._counted.get(part.slot, 0), part.earliest)
            if start >= part.next_offset:
                continue
            first, end = record_id(part.slot, start), record_id(part.slot, part.next_offset)
            done = part.next_offset
            for row_id, size, value in self._rows(part, first, end, _ROWS):
                self._add(self._unit(part.topic, value, is_new=True), size)
                done = row_id - record_id(part.slot, 0) + 1
            self._counted[part.slot] = done
            return True
        return False

    def _rows(
        self, part: Partition, first: int, end: int, most: int, most_bytes: int | None = _BYTES
    ) -> Generator[tuple[int, int, Any], None, None]:
        """Yield id, size and value of records, up to `most` of them and some megabytes."""
        total = 0
        cursor = self._db.execute(
            "SELECT id, key, headers, value FROM records WHERE id >= ? AND id < ?"
            " ORDER BY id LIMIT ?",
            (first, end, most),
        )
        with closing(cursor):
            for row_id, key, headers, value in cursor:
                size = stored_size(key, headers, value)
                yield row_id, size, value
                total += size
                if most_bytes is not None and total >= most_bytes:
                    return

    def _unit(self, topic: str, value: Any, *, is_new: bool = False) -> Unit:
        """Topic and sender of a record; a sender without a count of its own is one of `OTHERS`."""
        try:
            unit = (topic, self._sender_of(topic, value))
        except Exception:  # the value may be anything; nothing of it may stop the writer
            unit = (topic, "")
        if unit in self._usage or (is_new and len(self._usage) < _MOST_SENDERS):
            return unit
        return (topic, OTHERS)

    def _add(self, unit: Unit, size: int) -> None:
        left = self._usage.get(unit, 0) + size
        if left > 0:
            self._usage[unit] = left
        else:
            self._usage.pop(unit, None)

    # -- deleting ---------------------------------------------------------------------------

    def _evict(self, parts: list[Partition], target: int) -> bool:
        """Delete the oldest records of the senders that hold most; True when there is more."""
        level = fair_level(self._usage.values(), target)
        excess = {unit: held - level for unit, held in self._usage.items() if held > level}
        greedy = frozenset(excess)
        if not greedy <= self._greedy:  # a further sender: its oldest records may be anywhere
            self._cursor.clear()
        self._greedy = greedy
        self._report(excess, level)
        for _ in range(_STEPS):
            if not excess:
                return self._held(parts) > target
            topics = {topic for topic, _ in excess}
            heads = self._heads([part for part in parts if part.topic in topics])
            if not heads:
                self._count_anew()  # the count was wrong: the next round has a right one
                return False
            self._evict_step(min(heads)[2], excess)
        return True

    def _heads(self, parts: Iterable[Partition]) -> list[tuple[int, int, Partition]]:
        """Store time of the first record behind the cursor of each partition that has one."""
        heads = []
        for part in parts:
            start = max(self._cursor.get(part.slot, 0), part.earliest)
            row = self._db.execute(
                "SELECT stored_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                (record_id(part.slot, start), record_id(part.slot, part.next_offset)),
            ).fetchone()
            if row is not None:
                heads.append((row[0], part.slot, part))
        return heads

    def _evict_step(self, part: Partition, excess: dict[Unit, int]) -> None:
        """Delete records of senders with an excess among the next ones of a partition."""
        base = record_id(part.slot, 0)
        start = base + max(self._cursor.get(part.slot, 0), part.earliest)
        gone: list[tuple[int]] = []
        total = 0
        taken: Counter[Unit] = Counter()
        with closing(self._rows(part, start, base + part.next_offset, _ROWS)) as rows:
            for row_id, size, value in rows:
                unit = self._unit(part.topic, value)
                self._cursor[part.slot] = row_id - base + 1
                if unit not in excess:
                    continue
                gone.append((row_id,))
                total += size
                taken[unit] += 1
                excess[unit] -= size
                self._add(unit, -size)
                is_done = len(gone) >= _GONE
                if excess[unit] <= 0:
                    del excess[unit]
                    is_done |= not any(topic == part.topic for topic, _ in excess)
                if is_done:
                    break
        self._delete(part, gone, total)
        with self._state.lock:
            for unit, count in taken.items():
                known = unit in self._evicted or len(self._evicted) < _MOST_SENDERS
                self._evicted[unit if known else (unit[0], OTHERS)] += count
                self._evicted_total += count

    def _report(self, excess: Mapping[Unit, int], level: int) -> None:
        """Warn about the sender that holds most, once an hour for each sender."""
        unit = max(excess, key=lambda each: excess[each], default=None)
        if unit is None:
            return
        topic, sender = unit
        held = level + excess[unit]
        with self._state.lock:
            self._greediest = (topic, sender, held)
        now_s = time.monotonic()
        if now_s - self._reported_s.get(unit, -_REPORT_S) < _REPORT_S:
            return
        if len(self._reported_s) >= _SHOWN:
            self._reported_s.clear()
        self._reported_s[unit] = now_s
        log.warning(
            "%s fills the topic %s of the log %s: %.1f MB, more than its share of the %.1f MB that "
            "all topics without a reader have. Its oldest records are deleted, those of others "
            "stay. See `kpstream dead-letters list`, and stop what it sends",
            sender or "one sender",
            topic,
            self._path,
            held / 1e6,
            self._budget(disk_is_low=False) / 1e6,
        )


def fair_level(held: Iterable[int], total: int) -> int:
    """The largest size that each may keep so that all together keep at most `total`.

    >>> fair_level([90, 5, 5], 40), fair_level([50, 50, 10], 50), fair_level([1, 2], 10)
    (30, 20, 10)
    """
    left, sizes = total, sorted(held)
    for at, size in enumerate(sizes):
        level = left // (len(sizes) - at)
        if size > level:
            return max(level, 0)
        left -= size
    return total
