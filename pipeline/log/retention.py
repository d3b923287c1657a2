"""Retention of the local log: deletion by age, size and pressure, of old tombstones too.

`Retention` runs in the writer's thread, in short rounds between two transactions. It never deletes
what a registered group still has to read, except for soft groups (see
`pipeline.log.locallog.SqliteLog`). Topics that no group reads are limited by
`pipeline.log.archive`.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.log.archive import Archive
from pipeline.log.commands import delete_records
from pipeline.log.state import LogState, Partition, record_id, stored_size
from pipeline.log.stats import WriterStats

__all__ = ["LogLimits", "Retention"]

log = logging.getLogger(__name__)

_CHUNK_RECORDS = 1000
"""Records deleted per transaction, so that appends wait briefly."""
_VACUUM_PAGES = 512
_SOFT_SHARE = 0.8
"""Share of the cap that soft groups may fill with unread records.

The rest is room for the other groups: at the defaults 400 MiB, far more than what arrives between
two rounds of retention. A smaller share would shorten the outage that a store can recover from.
"""
_RELEASE_RECORDS = 200
"""Records released from the oldest partition at a time, so that the partitions age alike."""
_RELEASE_CHUNKS = 10
"""Such deletions per round of retention."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """The limits of a log; see `pipeline.log.locallog.SqliteLog` for their meaning."""

    partitions: int
    linger_ms: int
    max_bytes: int
    reserve_bytes: int
    min_free_bytes: int
    retention_ms: int
    retention_bytes: int
    tombstone_ms: int
    maintenance_ms: int
    soft_groups: Set[str] = frozenset()
    sender_of: Callable[[str, bytes | None], str] = lambda _topic, _value: ""


class Retention:
    """Deletes records of one log; used by the writer's thread only.

    Args:
        path: The file, for messages and for the free space of its disk.
        db: The write connection.
        state: Changed under its lock after each durable deletion.
        limits: See `LogLimits`.
        stats: Counters to add to.

    Attributes:
        archive: Limits the topics without a reader.
        disk_is_low: Whether the disk has less than `min_free_bytes` of free space.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        state: LogState,
        limits: LogLimits,
        stats: WriterStats,
    ) -> None:
        self.disk_is_low = False
        self._path = path
        self._db = db
        self._state = state
        self._limits = limits
        self._stats = stats
        self.archive = Archive(
            path, db, state, limits.max_bytes, limits.sender_of, self._delete_anywhere
        )
        self._overtaken: set[int] = (
            set()
        )  # slots with records deleted before a soft group read them

    def run(self, now_ms: int, *, pressed: bool) -> tuple[bool, bool]:
        """Run one short round: delete up to a chunk per partition, return free pages.

        Args:
            now_ms: Running time of the log (`ingest.clock.RunningTime`), milliseconds: no step of
                a clock makes a record old.
            pressed: Whether an append was refused since the last round.

        Returns:
            Whether there is more to delete, and whether the log is (still) under pressure.

        Raises:
            sqlite3.Error: A deletion failed; its transaction is still open.
        """
        self.check_disk()
        more, pressed = False, pressed or self._is_nearly_full()
        for part in self._state.partitions():
            if part.compacted:
                self._delete_tombstones(part, now_ms)
            more |= self._delete_old(part, now_ms, pressed=pressed)
        more |= self.archive.run(disk_is_low=self.disk_is_low)
        if not more:  # only unread records are left
            more = self._release()
        self._return_pages()
        return more, pressed

    def check_disk(self) -> None:
        """Update `disk_is_low`."""
        free = shutil.disk_usage(self._path.parent).free
        self.disk_is_low = free < self._limits.min_free_bytes

    # -- read records -----------------------------------------------------------------------

    def _delete_old(self, part: Partition, now_ms: int, *, pressed: bool) -> bool:
        """Delete what age, size or pressure allow; True when there is more to delete."""
        topic = self._state.topics[part.topic]
        default_ms = None if part.compacted else self._limits.retention_ms
        default_bytes = None if part.compacted else self._limits.retention_bytes
        keep_ms = default_ms if topic.retention_ms is None else topic.retention_ms
        keep_bytes = default_bytes if topic.retention_bytes is None else topic.retention_bytes
        if part.compacted and keep_ms is None and keep_bytes is None:
            return False
        unread = self._state.first_unread(part.slot)
        limit = part.next_offset if unread is None else min(unread, part.next_offset)
        if pressed and unread is not None:
            keep_bytes = 0  # under pressure, delete all read records immediately
        share = None if keep_bytes is None else keep_bytes // len(topic.partitions)
        cutoff_ms = None if keep_ms is None else now_ms - keep_ms
        if part.earliest >= limit:
            return False
        if cutoff_ms is None and (share is None or part.size_bytes <= share):
            return False
        gone, size, keys = [], 0, []
        for row_id, stored_ms, row_size, key in self._oldest(part, limit, _CHUNK_RECORDS):
            too_old = cutoff_ms is not None and stored_ms < cutoff_ms
            too_much = share is not None and part.size_bytes - size > share
            if not (too_old or too_much):
                break
            gone.append((row_id,))
            keys.append(key)
            size += row_size
        self.archive.forget(part, gone)
        self._delete(part, gone, size, keys if part.compacted else [])
        return len(gone) == _CHUNK_RECORDS

    def _oldest(
        self, part: Partition, limit: int, most: int
    ) -> Iterable[tuple[int, int, int, Any]]:
        """The oldest records below an offset: id, store time, size against the cap, key."""
        return self._db.execute(
            "SELECT id, stored_ms, length(ifnull(key, '')) + length(ifnull(headers, ''))"
            " + length(ifnull(value, '')) + ?, key FROM records WHERE id >= ? AND id < ?"
            " ORDER BY id LIMIT ?",
            (
                stored_size(None, None, None),
                record_id(part.slot, part.earliest),
                record_id(part.slot, limit),
                most,
            ),
        )

    def _is_nearly_full(self) -> bool:
        if self.disk_is_low or self._state.total_bytes > 0.9 * self._limits.max_bytes:
            return True
        return self._soft_excess() > 0

    def _delete_tombstones(self, part: Partition, now_ms: int) -> None:
        """Delete old tombstones, but never the last record of the partition.

        A reader that knows the end offset (table recovery) waits for the record before it.
        """
        cutoff_ms = now_ms - self._limits.tombstone_ms
        keys = [
            key
            for key, stored_ms in part.tombstones.items()
            if stored_ms < cutoff_ms and part.newest[key][0] < part.next_offset - 1
        ][:_CHUNK_RECORDS]
        gone = [(record_id(part.slot, part.newest[key][0]),) for key in keys]
        size = sum(part.newest[key][1] for key in keys)
        self._delete(part, gone, size, keys)

    # -- unread records of soft groups ------------------------------------------------------

    def _soft_groups(self) -> Set[str]:
        return self._limits.soft_groups & self._state.groups.keys()

    def _soft_excess(self) -> int:
        """Bytes above the share of soft groups; 0 without such groups."""
        if not self._soft_groups():
            return 0
        return max(0, self._state.total_bytes - int(_SOFT_SHARE * self._limits.max_bytes))

    def _release(self) -> bool:
        """Delete the oldest records that only soft groups still have to read.

        An unavailable store must not block the other groups, so records that wait only for it are
        deleted, counted and logged.

        Returns:
            Whether there is more to release.
        """
        if self._overtaken:
            self._check_overtaken()
        for _ in range(_RELEASE_CHUNKS):
            if not self._soft_excess() or not self._release_oldest():
                return False
        return True

    def _release_oldest(self) -> bool:
        heads = [
            (stored_ms, part.slot, part)
            for part in self._state.partitions()
            if part.earliest < self._release_limit(part)
            and (stored_ms := self._oldest_stored_ms(part)) is not None
        ]
        if not heads:
            return False
        part = min(heads)[2]
        first_unread = record_id(part.slot, self._first_unread(part))
        limit, excess = self._release_limit(part), self._soft_excess()
        gone, size, unread = [], 0, 0
        for row_id, _, row_size, _ in self._oldest(part, limit, _RELEASE_RECORDS):
            if size >= excess:
                break
            gone.append((row_id,))
            size += row_size
            unread += row_id >= first_unread
        self._delete(part, gone, size, [])
        if unread:
            self._stats.released += unread
            if not self._overtaken:
                log.error(
                    "%.0f %% of the log %s hold records that only %s still has to read; the "
                    "oldest of them are deleted unread from now on, so that the others can work",
                    100 * _SOFT_SHARE,
                    self._path,
                    " and ".join(sorted(self._soft_groups())),
                )
            self._overtaken.add(part.slot)
        return True

    def _check_overtaken(self) -> None:
        """Note partitions where every soft group has continued past the deleted records."""
        self._overtaken = {
            part.slot
            for part in self._state.partitions()
            if part.slot in self._overtaken and self._first_unread(part) < part.earliest
        }
        if not self._overtaken:
            log.warning(
                "all groups of the log %s read again; %d records were deleted unread since it "
                "was opened",
                self._path,
                self._stats.released,
            )

    def _release_limit(self, part: Partition) -> int:
        """Offset below which only soft groups keep the records of a partition; 0: none."""
        if part.compacted or self._state.first_unread(part.slot) is None:
            return 0
        unread = self._state.first_unread(part.slot, self._limits.soft_groups)
        return part.next_offset if unread is None else min(unread, part.next_offset)

    def _first_unread(self, part: Partition) -> int:
        unread = self._state.first_unread(part.slot)
        return part.next_offset if unread is None else unread

    def _oldest_stored_ms(self, part: Partition) -> int | None:
        """Store time of the oldest record of a partition."""
        row = self._db.execute(
            "SELECT stored_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (record_id(part.slot, part.earliest), record_id(part.slot, part.next_offset)),
        ).fetchone()
        return None if row is None else row[0]

    # -- deleting ---------------------------------------------------------------------------

    def _delete_anywhere(self, part: Partition, gone: list[tuple[int]], size: int) -> None:
        self._delete(part, gone, size, [])

    def _delete(
        self, part: Partition, gone: list[tuple[int]], size: int, keys: list[bytes]
    ) -> None:
        if not gone:
            return
        self._db.execute("BEGIN IMMEDIATE")
        first, records, left = delete_records(self._db, part, gone, size)
        self._db.execute("COMMIT")
        self._stats.deleted += len(gone)
        with self._state.lock:
            self._state.total_bytes -= size
            part.records, part.size_bytes, part.earliest = records, left, first
            for key in keys:
                part.newest.pop(key, None)
                part.tombstones.pop(key, None)

    def _return_pages(self) -> None:
        """Shrink the file when much of it is free."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if free > max(1024, pages // 4):
            self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
