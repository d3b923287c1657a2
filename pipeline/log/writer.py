"""The one thread that writes the local log: group commit, positions, compaction, retention.

Whatever arrives while a transaction is being synced becomes the next transaction, so an idle log
answers after one sync and a busy one writes hundreds of records per sync. Commands are carried out
in the order in which they were given; a future resolves after its transaction is durable, never
before, and readers are woken after that.

Compaction happens at the write: the older record of the same key goes in the same transaction, so a
changelog topic always holds exactly one record per key (and its tombstones for a while).
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.topics import partition_of
from pipeline.errors import LogClosed, LogCorrupt, LogError, LogFailed, LogFull
from pipeline.log.file import (
    RecordRow,
    StoredRecord,
    checksum,
    encode_headers,
    is_damage,
    record_id,
    stored_size,
)
from pipeline.log.state import GroupOffset, LogState, Partition, Topic

__all__ = ["Append", "Call", "Commit", "LogWriter", "WriterLimits", "WriterStats", "create_topic"]

log = logging.getLogger(__name__)

_MAX_BATCH_BYTES = 8 * 1024 * 1024
_MAX_BATCH_COMMANDS = 1024
_CHUNK_RECORDS = 1000  # that retention deletes per transaction, so that appends wait briefly
_VACUUM_PAGES = 512
_SOFT_SHARE = 0.8
"""Share of the cap that soft groups may fill with what they have not read.

The rest is the room that the others go on working in: at the defaults 400 MiB, far more than what
arrives between two rounds of retention. More would take from what an absent store can make up for.
"""
_RELEASE_RECORDS = 200  # of the oldest partition at a time, so that the partitions age alike
_RELEASE_CHUNKS = 10  # per round of retention

INSERT_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class WriterLimits:
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


@dataclass(slots=True)
class Append:
    """Append records, all or none; resolves to their offsets."""

    records: Sequence[Any]
    size: int
    future: Future[list[int]] = field(default_factory=Future)
    offsets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Commit:
    """Store a group's offsets."""

    group: str
    offsets: Mapping[tuple[str, int], int]
    future: Future[None] = field(default_factory=Future)


@dataclass(slots=True)
class Call:
    """Run a function in the writer's thread, in a transaction of its own.

    `adopt` takes its result into memory once that is durable; the future resolves to the result.
    """

    function: Callable[[sqlite3.Connection], Any]
    adopt: Callable[[Any], None] | None = None
    future: Future[Any] = field(default_factory=Future)


@dataclass(slots=True)
class _Staged:
    """What a transaction does to one partition; taken over only when it is durable."""

    part: Partition
    next_offset: int
    records: int
    size_bytes: int
    stored_ms: int
    fresh: list[StoredRecord] = field(default_factory=list)
    newest: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    tombstones: dict[bytes, int | None] = field(default_factory=dict)
    earliest: int = 0


@dataclass(slots=True)
class WriterStats:
    """What the writer has done since the log was opened."""

    records: int = 0
    bytes: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    longest_commit_seconds: float = 0.0
    last_commit_seconds: float = 0.0
    refused: int = 0
    deleted: int = 0
    compacted: int = 0
    released: int = 0


class LogWriter:
    """Owns the write connection and its thread.

    Args:
        path: the file, for messages and for the free space of its disk.
        db: the write connection; used by the writer's thread only, once started.
        state: changed under its lock after each durable transaction.
        limits: see `WriterLimits`.
        clock: wall clock, epoch milliseconds; decides retention by age.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        state: LogState,
        limits: WriterLimits,
        clock: Callable[[], int],
    ) -> None:
        self.stats = WriterStats()
        self.failure: LogError | None = None
        self.listeners: tuple[Callable[[frozenset[tuple[str, int]]], None], ...] = ()
        self.disk_is_low = False
        self._path = path
        self._db = db
        self._state = state
        self._limits = limits
        self._clock = clock
        self._queue: deque[Append | Commit | Call] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._pressed = False  # an append was refused since the last round of retention
        self._round_robin = 0
        self._overtaken: set[int] = set()  # slots in which records of a soft group were deleted
        self._maintain_at = 0.0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._check_disk()
        self._maintain_at = time.monotonic() + self._limits.maintenance_ms / 1000
        self._thread.start()

    def submit(self, command: Append | Commit | Call, *, reserve: bool = False) -> None:
        """Queue a command; its future resolves when it is durable, or carries why it is not."""
        with self._wake:
            refusal = self._refusal(command, reserve=reserve)
            if refusal is None:
                if isinstance(command, Append):
                    self._queued_bytes += command.size
                self._queue.append(command)
                self._wake.notify()
        if refusal is not None:
            if isinstance(refusal, LogFull):
                self.stats.refused += 1
            command.future.set_exception(refusal)

    def maintain_soon(self) -> None:
        """Make the thread look after retention before its next turn."""
        with self._wake:
            self._maintain_at = 0.0
            self._wake.notify()

    def close(self) -> None:
        """Carry out what is queued, stop the thread, fold the WAL into the file and close it."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    # -- refusing ---------------------------------------------------------------------------

    def _refusal(self, command: Append | Commit | Call, *, reserve: bool) -> LogError | None:
        if self.failure is not None:
            return self.failure
        if self._closing:
            return LogClosed(f"the log {self._path} is closed")
        if not isinstance(command, Append):
            return None
        cap = self._limits.max_bytes + (self._limits.reserve_bytes if reserve else 0)
        used = self._state.total_bytes + self._queued_bytes
        if used + command.size > cap:
            self._pressed, self._maintain_at = True, 0.0
            return LogFull(
                f"the log {self._path} holds {used} of {cap} bytes and every record in it has "
                "still to be read: it takes no more until a consumer catches up. Look for a "
                "stopped consumer (lag), raise the cap, or drop the group that never reads"
            )
        if self.disk_is_low and not reserve:
            return LogFull(
                f"less than {self._limits.min_free_bytes} bytes are free on the disk of "
                f"{self._path}: the log takes no more until there is room"
            )
        return None

    # -- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                if batch:
                    self._write(batch)
                if time.monotonic() >= self._maintain_at and self.failure is None:
                    self._maintain()
            except Exception as exc:  # a defect of ours: nobody may wait for ever
                log.exception("the log writer failed")
                self.failure = LogFailed(f"the writer of {self._path} failed: {exc!r}; restart")
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                _fail(batch, self.failure)

    def _next_batch(self) -> list[Append | Commit | Call] | None:
        """Commands of the next transaction; empty when only maintenance is due, None at the end."""
        with self._wake:
            while not self._queue:
                if self._closing:
                    return None
                wait = self._maintain_at - time.monotonic()
                if wait <= 0:
                    return []
                self._wake.wait(wait)
            if self._limits.linger_ms and not self._closing:
                deadline = time.monotonic() + self._limits.linger_ms / 1000
                while (left := deadline - time.monotonic()) > 0 and not self._batch_is_full():
                    if not self._wake.wait(left):
                        break
            batch: list[Append | Commit | Call] = []
            size = 0
            while self._queue and len(batch) < _MAX_BATCH_COMMANDS and size < _MAX_BATCH_BYTES:
                if isinstance(self._queue[0], Call) and batch:
                    break
                command = self._queue.popleft()
                if isinstance(command, Append):
                    self._queued_bytes -= command.size
                    size += command.size
                if command.future.set_running_or_notify_cancel():
                    batch.append(command)
                if isinstance(command, Call):
                    break
            return batch

    def _batch_is_full(self) -> bool:
        return (
            self._queued_bytes >= _MAX_BATCH_BYTES
            or len(self._queue) >= _MAX_BATCH_COMMANDS
            or self._closing
        )

    def _write(self, batch: list[Append | Commit | Call]) -> None:
        if self.failure is not None:
            _fail(batch, self.failure)
            return
        if isinstance(batch[0], Call):
            self._write_call(batch[0])
            return
        appends = [c for c in batch if isinstance(c, Append)]
        commits = [c for c in batch if isinstance(c, Commit)]
        try:
            appends = self._with_topics(appends)
            start = time.perf_counter()
            self._db.execute("BEGIN IMMEDIATE")
            staged = self._write_records(appends)
            self._write_offsets(commits)
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            _fail(batch, self._roll_back(exc))
            return
        self._note_commit(time.perf_counter() - start)
        self._take_over(staged, commits)
        for append in appends:
            append.future.set_result(append.offsets)
        for commit in commits:
            commit.future.set_result(None)
        if staged:
            self._tell(frozenset((s.part.topic, s.part.partition) for s in staged))

    def _write_call(self, call: Call) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            result = call.function(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            call.future.set_exception(self._roll_back(exc))
        except LogError as exc:
            self._db.execute("ROLLBACK")
            call.future.set_exception(exc)
        else:
            if call.adopt is not None:
                call.adopt(result)
            call.future.set_result(result)

    def _roll_back(self, exc: sqlite3.Error) -> LogError:
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        if "full" in str(exc):
            self._maintain_at = 0.0
            return LogFull(f"the disk of {self._path} is full ({exc}): nothing was written")
        kind = LogCorrupt if is_damage(exc) else LogFailed
        self.failure = kind(
            f"writing the log {self._path} failed ({exc}); what is on the disk is unknown, so it "
            "takes no more. Look at the disk (kernel log, SMART, mount options), then restart"
        )
        log.error("%s", self.failure)
        return self.failure

    def _note_commit(self, seconds: float) -> None:
        stats = self.stats
        stats.commits += 1
        stats.commit_seconds += seconds
        stats.last_commit_seconds = seconds
        stats.longest_commit_seconds = max(stats.longest_commit_seconds, seconds)

    def _tell(self, changed: frozenset[tuple[str, int]]) -> None:
        for listener in self.listeners:
            try:
                listener(changed)
            except Exception:  # a listener of a closed event loop must not stop the writer
                log.exception("a listener of the log failed")

    # -- appends ----------------------------------------------------------------------------

    def _with_topics(self, appends: list[Append]) -> list[Append]:
        """Create missing topics; appends that name an impossible partition fail alone."""
        good = []
        for append in appends:
            try:
                for record in append.records:
                    topic = self._state.topics.get(record.topic)
                    if topic is None:
                        topic = self._create_topic_now(record.topic)
                    if record.partition is not None:
                        self._state.partition(record.topic, record.partition)
                    if topic.compacted and record.key is None:
                        msg = f"topic {record.topic!r} is compacted: its records need a key"
                        raise LogError(msg)
            except LogError as exc:
                append.future.set_exception(exc)
            else:
                good.append(append)
        return good

    def _create_topic_now(self, name: str) -> Topic:
        self._db.execute("BEGIN IMMEDIATE")
        topic = create_topic(self._db, Topic(name, False, None, None), self._limits.partitions)
        self._db.execute("COMMIT")
        self._state.adopt(topic)
        return topic

    def _write_records(self, appends: list[Append]) -> list[_Staged]:
        staged: dict[int, _Staged] = {}
        rows: list[RecordRow] = []
        superseded: list[tuple[int]] = []
        now = self._clock()
        for append in appends:
            for record in append.records:
                stage = self._stage_of(record, staged, now)
                append.offsets.append(self._stage_record(record, stage, rows, superseded, now))
        if rows:
            self._db.executemany(INSERT_RECORD, rows)
        if superseded:
            self._db.executemany("DELETE FROM records WHERE id = ?", superseded)
            self.stats.compacted += len(superseded)
        for stage in staged.values():
            stage.earliest = _earliest(stage)
            self._db.execute(
                "UPDATE slots SET next_offset = ?, earliest = ?, records = ?, bytes = ?,"
                " stored_ms = ? WHERE slot = ?",
                (
                    stage.next_offset,
                    stage.earliest,
                    stage.records,
                    stage.size_bytes,
                    stage.stored_ms,
                    stage.part.slot,
                ),
            )
        return list(staged.values())

    def _stage_of(self, record: Any, staged: dict[int, _Staged], now: int) -> _Staged:
        partitions = self._state.topics[record.topic].partitions
        if record.partition is not None:
            part = partitions[record.partition]
        elif record.key is not None:
            part = partitions[partition_of(record.key, len(partitions))]
        else:
            self._round_robin += 1
            part = partitions[self._round_robin % len(partitions)]
        stage = staged.get(part.slot)
        if stage is None:
            stored_ms = max(now, part.stored_ms)  # never falls, whatever the clock does
            stage = _Staged(part, part.next_offset, part.records, part.size_bytes, stored_ms)
            staged[part.slot] = stage
        return stage

    def _stage_record(
        self,
        record: Any,
        stage: _Staged,
        rows: list[RecordRow],
        superseded: list[tuple[int]],
        now: int,
    ) -> int:
        part = stage.part
        offset = stage.next_offset
        stage.next_offset += 1
        ts_ms = now if record.ts_ms is None else record.ts_ms
        key, value, headers = record.key, record.value, encode_headers(record.headers)
        crc = checksum(part.slot, offset, ts_ms, key, headers, value)
        row_id = record_id(part.slot, offset)
        rows.append((row_id, crc, ts_ms, stage.stored_ms, key, headers, value))
        size = stored_size(key, headers, value)
        stage.size_bytes += size
        stage.records += 1
        if part.compacted:
            older = stage.newest.pop(key, None) or part.newest.get(key)
            if older is not None:
                superseded.append((record_id(part.slot, older[0]),))
                stage.size_bytes -= older[1]
                stage.records -= 1
            stage.newest[key] = (offset, size)
            stage.tombstones[key] = stage.stored_ms if value is None else None
        stage.fresh.append(
            StoredRecord(
                part.topic, part.partition, offset, ts_ms, key, value, tuple(record.headers)
            )
        )
        return offset

    def _write_offsets(self, commits: list[Commit]) -> None:
        rows = [
            (commit.group, self._state.partition(*tp).slot, offset)
            for commit in commits
            for tp, offset in commit.offsets.items()
        ]
        self._db.executemany(
            "INSERT INTO offsets (grp, slot, offset, committed, pins) VALUES (?, ?, ?, 1, 0)"
            " ON CONFLICT (grp, slot) DO UPDATE SET offset = excluded.offset, committed = 1",
            rows,
        )

    def _take_over(self, staged: list[_Staged], commits: list[Commit]) -> None:
        state = self._state
        with state.lock:
            for stage in staged:
                part = stage.part
                state.total_bytes += stage.size_bytes - part.size_bytes
                self.stats.records += len(stage.fresh)
                self.stats.bytes += sum(len(r.value or b"") for r in stage.fresh)
                part.next_offset, part.earliest = stage.next_offset, stage.earliest
                part.records, part.size_bytes = stage.records, stage.size_bytes
                part.stored_ms = stage.stored_ms
                if part.compacted:
                    _take_over_keys(stage)
                else:
                    state.remember(part, stage.fresh)
            for commit in commits:
                offsets = state.groups.setdefault(commit.group, {})
                for tp, offset in commit.offsets.items():
                    slot = state.partition(*tp).slot
                    before = offsets.get(slot)
                    pins = before is not None and before.pins
                    offsets[slot] = GroupOffset(offset, committed=True, pins=pins)

    # -- retention --------------------------------------------------------------------------

    def _maintain(self) -> None:
        """One short round: delete up to a chunk per partition, give pages back."""
        self._check_disk()
        now = self._clock()
        more, pressed, self._pressed = False, self._pressed or self._is_nearly_full(), False
        try:
            for part in self._state.partitions():
                if part.compacted:
                    self._delete_tombstones(part, now)
                more |= self._delete_old(part, now, pressed=pressed)
            if not more:  # what everybody has read is gone
                more = self._release()
            self._give_back_pages()
        except sqlite3.Error as exc:
            self._roll_back(exc)
        self._pressed |= more and pressed
        self._maintain_at = time.monotonic() + (0.0 if more else self._limits.maintenance_ms / 1000)

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self._path.parent).free
        self.disk_is_low = free < self._limits.min_free_bytes

    def _delete_old(self, part: Partition, now: int, *, pressed: bool) -> bool:
        """Delete what age, size or pressure allow; True when there is more to delete."""
        topic = self._state.topics[part.topic]
        default_ms = None if part.compacted else self._limits.retention_ms
        default_bytes = None if part.compacted else self._limits.retention_bytes
        keep_ms = default_ms if topic.retention_ms is None else topic.retention_ms
        keep_bytes = default_bytes if topic.retention_bytes is None else topic.retention_bytes
        if part.compacted and keep_ms is None and keep_bytes is None:
            return False
        floor = self._state.floor(part.slot)
        limit = part.next_offset if floor is None else min(floor, part.next_offset)
        if pressed and floor is not None:
            keep_bytes = 0  # what every group has read may go at once
        share = None if keep_bytes is None else keep_bytes // len(topic.partitions)
        cutoff = None if keep_ms is None else now - keep_ms
        if not self._may_delete(part, limit, share, cutoff):
            return False
        gone, size, keys = [], 0, []
        for row_id, stored_ms, row_size, key in self._oldest(part, limit, _CHUNK_RECORDS):
            too_old = cutoff is not None and stored_ms < cutoff
            too_much = share is not None and part.size_bytes - size > share
            if not (too_old or too_much):
                break
            gone.append((row_id,))
            keys.append(key)
            size += row_size
        self._delete(part, gone, size, keys if part.compacted else [])
        return len(gone) == _CHUNK_RECORDS

    def _oldest(
        self, part: Partition, limit: int, most: int
    ) -> Iterable[tuple[int, int, int, Any]]:
        """Oldest records below an offset: id, when stored, size against the cap, key."""
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

    def _may_delete(
        self, part: Partition, limit: int, share: int | None, cutoff: int | None
    ) -> bool:
        if part.earliest >= limit:
            return False
        return cutoff is not None or (share is not None and part.size_bytes > share)

    def _is_nearly_full(self) -> bool:
        if self.disk_is_low or self._state.total_bytes > 0.9 * self._limits.max_bytes:
            return True
        return self._soft_excess() > 0

    # -- soft groups ------------------------------------------------------------------------

    def _soft_excess(self) -> int:
        """Bytes above what soft groups may fill; 0 without such groups."""
        if not self._limits.soft_groups & self._state.groups.keys():
            return 0
        return max(0, self._state.total_bytes - int(_SOFT_SHARE * self._limits.max_bytes))

    def _release(self) -> bool:
        """Delete the oldest records that only soft groups have still to read; True: there is more.

        An absent store must not hold up those who work: what waits for it goes, counted and told.
        """
        if self._overtaken:
            self._look_for_the_overtaken()
        for _ in range(_RELEASE_CHUNKS):
            if not self._soft_excess() or not self._release_oldest():
                return False
        return True

    def _release_oldest(self) -> bool:
        heads = [
            (stored_ms, part.slot, part)
            for part in self._state.partitions()
            if part.earliest < self._hard_limit(part)
            and (stored_ms := self._stored_ms(part)) is not None
        ]
        if not heads:
            return False
        part = min(heads)[2]
        first_unread = record_id(part.slot, self._floor(part))
        excess = self._soft_excess()
        gone, size, unread = [], 0, 0
        for row_id, _, row_size, _ in self._oldest(part, self._hard_limit(part), _RELEASE_RECORDS):
            if size >= excess:
                break
            gone.append((row_id,))
            size += row_size
            unread += row_id >= first_unread
        self._delete(part, gone, size, [])
        if unread:
            self.stats.released += unread
            if not self._overtaken:
                log.error(
                    "%.0f %% of the log %s wait for %s: from now on the oldest of it is deleted "
                    "unread, so that the others can go on",
                    100 * _SOFT_SHARE,
                    self._path,
                    " and ".join(sorted(self._limits.soft_groups & self._state.groups.keys())),
                )
            self._overtaken.add(part.slot)
        return True

    def _look_for_the_overtaken(self) -> None:
        """The episode ends when every soft group has read on from where it was overtaken."""
        self._overtaken = {
            part.slot
            for part in self._state.partitions()
            if part.slot in self._overtaken and self._floor(part) < part.earliest
        }
        if not self._overtaken:
            log.warning(
                "the log %s: all are reading again, %d records were deleted unread since it opened",
                self._path,
                self.stats.released,
            )

    def _hard_limit(self, part: Partition) -> int:
        """Up to where soft groups alone keep the records of a partition; 0: nothing."""
        if part.compacted or self._state.floor(part.slot) is None:
            return 0
        floor = self._state.floor(part.slot, self._limits.soft_groups)
        return part.next_offset if floor is None else min(floor, part.next_offset)

    def _floor(self, part: Partition) -> int:
        floor = self._state.floor(part.slot)
        return part.next_offset if floor is None else floor

    def _stored_ms(self, part: Partition) -> int | None:
        """When the oldest record of a partition was stored."""
        row = self._db.execute(
            "SELECT stored_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (record_id(part.slot, part.earliest), record_id(part.slot, part.next_offset)),
        ).fetchone()
        return None if row is None else row[0]

    def _delete_tombstones(self, part: Partition, now: int) -> None:
        """Forget keys removed long ago; the partition's last record always stays.

        A reader that knows the end offset (table recovery) waits for the record before it.
        """
        cutoff = now - self._limits.tombstone_ms
        keys = [
            key
            for key, stored_ms in part.tombstones.items()
            if stored_ms < cutoff and part.newest[key][0] < part.next_offset - 1
        ][:_CHUNK_RECORDS]
        gone = [(record_id(part.slot, part.newest[key][0]),) for key in keys]
        size = sum(part.newest[key][1] for key in keys)
        self._delete(part, gone, size, keys)

    def _delete(
        self,
        part: Partition,
        gone: list[tuple[int]],
        size: int,
        keys: list[bytes],
    ) -> None:
        if not gone:
            return
        records, left = part.records - len(gone), part.size_bytes - size
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("DELETE FROM records WHERE id = ?", gone)
        row = self._db.execute(
            "SELECT min(id) FROM records WHERE id >= ? AND id < ?",
            (record_id(part.slot, 0), record_id(part.slot + 1, 0)),
        ).fetchone()
        first = part.next_offset if row[0] is None else row[0] - record_id(part.slot, 0)
        self._db.execute(
            "UPDATE slots SET earliest = ?, records = ?, bytes = ? WHERE slot = ?",
            (first, records, left, part.slot),
        )
        self._db.execute("COMMIT")
        self.stats.deleted += len(gone)
        with self._state.lock:
            self._state.total_bytes -= size
            part.records, part.size_bytes, part.earliest = records, left, first
            for key in keys:
                part.newest.pop(key, None)
                part.tombstones.pop(key, None)

    def _give_back_pages(self) -> None:
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if free > max(1024, pages // 4):
            self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()


def create_topic(db: sqlite3.Connection, topic: Topic, partitions: int) -> Topic:
    """Write a new topic's rows (inside a transaction); `LogState.adopt` it when durable."""
    db.execute(
        "INSERT INTO topics VALUES (?, ?, ?, ?, ?)",
        (topic.name, partitions, topic.compacted, topic.retention_ms, topic.retention_bytes),
    )
    for partition in range(partitions):
        cursor = db.execute(
            "INSERT INTO slots (topic, partition, next_offset, earliest, records, bytes,"
            " stored_ms) VALUES (?, ?, 0, 0, 0, 0, 0)",
            (topic.name, partition),
        )
        slot = cursor.lastrowid or 0
        topic.partitions.append(Partition(slot, topic.name, partition, topic.compacted))
    return topic


def _fail(commands: Sequence[Append | Commit | Call], error: LogError) -> None:
    for command in commands:
        if not command.future.done():
            command.future.set_exception(error)


def _earliest(stage: _Staged) -> int:
    part = stage.part
    if not part.compacted:
        return part.earliest
    kept = (at[0] for key, at in part.newest.items() if key not in stage.newest)
    return min(next(kept, stage.next_offset), next(iter(stage.newest.values()))[0])


def _take_over_keys(stage: _Staged) -> None:
    part = stage.part
    for key, at in stage.newest.items():
        part.newest.pop(key, None)  # again at the end: the order is that of the offsets
        part.newest[key] = at
        stored_ms = stage.tombstones[key]
        if stored_ms is None:
            part.tombstones.pop(key, None)
        else:
            part.tombstones[key] = stored_ms
