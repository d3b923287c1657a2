"""The one thread that writes the local log: group commit of appends and offsets.

Commands that arrive while a transaction is being synced form the next transaction, so an idle log
answers after one sync and a busy one writes hundreds of records per sync. Commands run in the order
of their submission. A future resolves after its transaction is durable, never before, and readers
are woken after that.

Compaction happens at the write: the older record of a key is deleted in the same transaction, so a
changelog topic always holds exactly one record per key (and its tombstones for a while).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ingest.clock import RunningTime
from ingest.durable.inplace import OpenFiles
from ingest.durable.mark import MarkFile
from ingest.durable.walbound import WalBound
from ingest.topics import partition_of
from pipeline.errors import LogClosed, LogCorrupt, LogError, LogFailed, LogFull, LogLost
from pipeline.log.archive import ArchiveStats
from pipeline.log.commands import Append, Call, Command, Commit, create_topic
from pipeline.log.file import damaged_log, is_damage
from pipeline.log.fill import describe_fill
from pipeline.log.loopcalls import Loops
from pipeline.log.retention import LogLimits, Retention
from pipeline.log.staging import (
    Staged,
    adopt_keys,
    earliest_of,
    stage_record,
    write_offsets,
    write_slots,
)
from pipeline.log.state import GroupOffset, LogState, RecordRow, Topic
from pipeline.log.stats import WriterStats

__all__ = ["LogWriter"]

log = logging.getLogger(__name__)

_MAX_BATCH_BYTES = 8 * 1024 * 1024
_MAX_BATCH_COMMANDS = 1024
_INSERT_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"


class LogWriter:
    """Owns the write connection and its thread.

    Args:
        path: The file, for messages and for the free space of its disk.
        db: The write connection; once started, only the writer's thread uses it.
        state: Changed under its lock after each durable transaction.
        limits: See `LogLimits`.
        clock: The time, epoch milliseconds, for records without a time of their own.
        running: Time for which the log was open; decides retention by age.
        mark: Notes every transaction before its futures resolve.
        files: Tells when a file was taken away or cut.

    Attributes:
        failure: Reason why the writer stopped; None while it works.
        loops: Event loops that are told after each durable append, and woken at the end of each
            batch of commands.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        state: LogState,
        limits: LogLimits,
        clock: Callable[[], int],
        running: RunningTime,
        mark: MarkFile,
        files: OpenFiles,
    ) -> None:
        self.stats = WriterStats()
        self.failure: LogError | None = None
        self.loops = Loops(self.is_own_thread)
        self._retention = Retention(path, db, state, limits, self.stats)
        self._archive = self._retention.archive
        self._path = path
        self._db = db
        self._state = state
        self._limits = limits
        self._clock = clock
        self._running = running
        self._mark = mark
        self._files = files
        self._wal = WalBound(db, path, limits.max_bytes)
        self._queue: deque[Command] = deque()
        self._queued_bytes = 0
        self._later: list[Commit] = []
        self._later_at = 0.0
        self._wake = threading.Condition()
        self._closing = False
        self._pressed = False  # an append was refused since the last round of retention
        self._round_robin = 0
        self._maintain_at = 0.0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._retention.check_disk()
        if not self._archive.is_over:  # else at once: the log may be full of it
            self._maintain_at = time.monotonic() + self._limits.maintenance_ms / 1000
        self._thread.start()

    def archive(self) -> ArchiveStats:
        """State of the topics without a reader; any thread."""
        return self._archive.stats()

    def submit(self, command: Command, *, reserve: bool = False) -> None:
        """Queue a command; its future resolves when it is durable, or fails with the reason."""
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

    def submit_later(self, commit: Commit, within_s: float) -> None:
        """Queue a commit that joins the next transaction, at the latest after `within_s` seconds.

        A commit before it is not overtaken, and no call passes it.
        """
        with self._wake:
            refusal = self._refusal(commit, reserve=False)
            if refusal is None:
                at = time.monotonic() + within_s
                self._later_at = min(self._later_at, at) if self._later else at
                self._later.append(commit)
                self._wake.notify()
        if refusal is not None:
            commit.future.set_exception(refusal)

    def maintain_soon(self) -> None:
        """Run a round of retention as soon as possible."""
        with self._wake:
            self._maintain_at = 0.0
            self._wake.notify()

    def fail(self, failure: LogError) -> None:
        """Refuse every command from now on; an earlier failure stays."""
        with self._wake:
            self.failure = self.failure or failure

    def close(self) -> None:
        """Finish the queued commands, stop the thread, checkpoint the WAL and close the file."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        if self.failure is None and self._files.gone() is None:
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._mark.write(self._state.ends())
        self._files.close()
        self._mark.close()
        self._db.close()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def is_own_thread(self) -> bool:
        """Whether the caller runs in the writer's thread."""
        return threading.get_ident() == self._thread.ident

    # -- refusing ---------------------------------------------------------------------------

    def _refusal(self, command: Command, *, reserve: bool) -> LogError | None:
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
                f"the log {self._path} holds {used} of {cap} bytes: {describe_fill(self._state)}. "
                "It refuses appends until a group that is behind catches up, or the cap is raised"
            )
        if self._wal.is_full:
            return LogFull(f"{self._wal.reason}. The log refuses appends until then")
        if self._retention.disk_is_low and not reserve:
            return LogFull(
                f"less than {self._limits.min_free_bytes} bytes are free on the disk of "
                f"{self._path}: the log refuses appends until there is room"
            )
        return None

    # -- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                if batch:
                    self._write(batch)
                    self.loops.ring()
                if time.monotonic() >= self._maintain_at and self.failure is None:
                    self._maintain()
            except Exception as exc:  # a bug: no future may stay unresolved
                log.exception("the log writer failed")
                self.failure = LogFailed(f"the writer of {self._path} failed: {exc!r}; restart")
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                _fail(batch, self.failure)
                self.loops.ring()

    def _next_batch(self) -> list[Command] | None:
        """Commands of the next transaction; empty when only maintenance is due, None at the end."""
        with self._wake:
            while not self._queue:
                if self._closing:
                    return self._taken_later() or None
                wait = self._wait_s()
                if wait <= 0:
                    return self._taken_later() if self._later_is_due() else []
                self._wake.wait(wait)
            if self._limits.linger_ms and not self._closing:
                deadline = time.monotonic() + self._limits.linger_ms / 1000
                while (left := deadline - time.monotonic()) > 0 and not self._batch_is_full():
                    if not self._wake.wait(left):
                        break
            batch = self._taken_later()
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

    def _wait_s(self) -> float:
        """Seconds until there is something to do, if no command comes."""
        now = time.monotonic()
        until = [] if self.failure is not None else [self._maintain_at]
        if self._later:
            until.append(self._later_at)
        return min(until, default=now + threading.TIMEOUT_MAX) - now

    def _later_is_due(self) -> bool:
        return bool(self._later) and time.monotonic() >= self._later_at

    def _taken_later(self) -> list[Command]:
        later, self._later = self._later, []
        return [commit for commit in later if commit.future.set_running_or_notify_cancel()]

    def _batch_is_full(self) -> bool:
        return (
            self._queued_bytes >= _MAX_BATCH_BYTES
            or len(self._queue) >= _MAX_BATCH_COMMANDS
            or self._closing
        )

    def _write(self, batch: list[Command]) -> None:
        if self.failure is not None or self._is_cut():
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
            if commits:
                write_offsets(self._db, self._state, commits)
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            _fail(batch, self._roll_back(exc))
            return
        self._note_commit(time.perf_counter() - start)
        self._wal.shrink()
        if self._has_lost(self._files.note()):
            _fail(batch, self.failure)
            return
        self._adopt(staged, commits)
        if staged:
            self._mark.write(self._state.ends(), self._files.salts())
        for append in appends:
            append.future.set_result(append.offsets)
        for commit in commits:
            commit.future.set_result(None)
        if staged:
            if 2 * self._state.total_bytes > self._limits.max_bytes and self._archive.is_over:
                self._maintain_at = 0.0  # make room before an append is refused
            self.loops.tell(frozenset((s.part.topic, s.part.partition) for s in staged))

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
            if self._has_lost(self._files.note()):
                _fail([call], self.failure)
                return
            if call.adopt is not None:
                call.adopt(result)
            self._mark.write(self._state.ends(), self._files.salts())
            call.future.set_result(result)

    def _roll_back(self, exc: sqlite3.Error) -> LogError:
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        if "full" in str(exc):
            self._maintain_at = 0.0
            return LogFull(f"the disk of {self._path} is full ({exc}): nothing was written")
        kind = LogCorrupt if is_damage(exc) else LogFailed
        self.failure = kind(
            f"writing the log {self._path} failed ({exc}); the state of the disk is unknown, so "
            "the log refuses appends. Check the disk (kernel log, SMART, mount options) and restart"
        )
        log.error("%s", self.failure)
        return self.failure

    def _has_lost(self, gone: tuple[Path, str] | None) -> bool:
        """Set `failure` if a file was taken away; returns whether one was."""
        if gone is None:
            return False
        self._keep_what_is_open(gone[0])
        self.failure = LogLost(
            f"{gone[0]} was {gone[1]} while the gateway had it open, so the log refuses appends "
            "and confirms nothing. Put it back if you still have it, then restart; the start tells "
            "whether anything confirmed is missing"
        )
        log.error("%s", self.failure)
        return True

    def _is_cut(self) -> bool:
        """Set `failure` if a file was cut since the last transaction; returns whether one was."""
        path = self._files.cut()
        if path is None:
            return False
        self.failure = damaged_log(self._path, f"{path.name} was cut while it was open")
        log.error("%s", self.failure)
        return True

    def _keep_what_is_open(self, gone: Path) -> None:
        """Copy a write-ahead file that lost its name into the log, which is still in place."""
        if gone.name == self._path.name + "-wal":
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _note_commit(self, seconds: float) -> None:
        stats = self.stats
        stats.commits += 1
        stats.commit_seconds += seconds
        stats.last_commit_seconds = seconds
        stats.longest_commit_seconds = max(stats.longest_commit_seconds, seconds)

    def _maintain(self) -> None:
        """Run a round of retention and plan the next one."""
        pressed, self._pressed = self._pressed, False
        more = False
        if self._has_lost(self._files.gone()) or self._is_cut():
            return
        try:
            more, pressed = self._retention.run(self._running.now_ms(), pressed=pressed)
        except sqlite3.Error as exc:
            self._roll_back(exc)
        self._wal.shrink()
        if not self._has_lost(self._files.note()):
            self._mark.write(self._state.ends(), self._files.salts())
        self._pressed |= more and pressed
        self._maintain_at = time.monotonic() + (0.0 if more else self._limits.maintenance_ms / 1000)

    # -- appends ----------------------------------------------------------------------------

    def _with_topics(self, appends: list[Append]) -> list[Append]:
        """Create missing topics; an append with an impossible partition fails alone."""
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

    def _write_records(self, appends: list[Append]) -> list[Staged]:
        staged: dict[int, Staged] = {}
        rows: list[RecordRow] = []
        superseded: list[tuple[int]] = []
        now, stored_ms = self._clock(), self._running.now_ms()
        for append in appends:
            for record in append.records:
                stage = self._stage_of(record, staged, stored_ms)
                append.offsets.append(stage_record(record, stage, rows, superseded, now))
        if rows:
            self._db.executemany(_INSERT_RECORD, rows)
        if superseded:
            self._db.executemany("DELETE FROM records WHERE id = ?", superseded)
            self.stats.compacted += len(superseded)
        for stage in staged.values():
            stage.earliest = earliest_of(stage)
        write_slots(self._db, staged.values())
        return list(staged.values())

    def _stage_of(self, record: Any, staged: dict[int, Staged], stored_ms: int) -> Staged:
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
            stored_ms = max(stored_ms, part.stored_ms)  # may be of a file from the future
            stage = Staged(part, part.next_offset, part.records, part.size_bytes, stored_ms)
            staged[part.slot] = stage
        return stage

    def _adopt(self, staged: list[Staged], commits: list[Commit]) -> None:
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
                    adopt_keys(stage)
                else:
                    state.cache(part, stage.fresh)
            for commit in commits:
                offsets = state.groups.setdefault(commit.group, {})
                for tp, offset in commit.offsets.items():
                    slot = state.partition(*tp).slot
                    before = offsets.get(slot)
                    pins = before is not None and before.pins
                    offsets[slot] = GroupOffset(offset, committed=True, pins=pins)


def _fail(commands: Sequence[Command], error: LogError | None) -> None:
    for command in commands:
        if not command.future.done():
            command.future.set_exception(error or LogFailed("the log failed"))
