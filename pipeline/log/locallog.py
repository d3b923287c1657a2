"""The gateway's own log: topics, partitions, consumer groups in one SQLite file, no server.

What it promises:

- An append's future resolves only after its records are **durable**; offsets of a partition are
  contiguous and never used twice, also after every record was deleted and the process restarted.
- ``durability="full"`` (default): what was confirmed survives a killed process and loss of power
  (fsync at every commit). ``"normal"``: it survives a killed process; loss of power may take the
  last seconds. Both leave a consistent file.
- **Retention never deletes what a registered group has still to read.** Read records go when they
  are older than `retention_ms` or when a topic exceeds `retention_bytes`; topics that no group
  reads go by the same limits alone. At `max_bytes` (or below `min_free_bytes` of free disk) first
  all read records go, then appends are **refused with LogFull** until a consumer has caught up: the
  bridge stops acknowledging, the MQTT broker queues. Writers that drain the log (the agents' own
  records: ``reserve=True``) may use `reserve_bytes` more, so that a full log can empty itself.
- The exception are `soft_groups`: above 80 % of `max_bytes` what only they have still to read is
  deleted, oldest first, counted (`released`) and told as an error. So a store that is away for long
  stops nobody; it goes on at `earliest_offset` when it is back.
- A compacted topic holds the newest record of each key; a tombstone (value None) removes its key
  and goes itself after `tombstone_ms`.
- One process per file (`LogLocked`), any number of threads, apps and the bridge inside it.
- Every record carries a checksum which is verified when it is read from the disk; the pages are
  checked when the file is opened. Damage raises `LogCorrupt`, which says what to do.

Walk-through::

    log = open_log("state/log.db", partitions=4)
    (offset,) = log.append([NewRecord("readings", b"[...]", key=b"plant-7/press-2")]).result()
    records = log.read("readings", 0, 0)
    log.commit("scoring", {("readings", 0): records[-1].offset + 1}).result()
    log.close()
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingest.errors import LogUnavailable
from pipeline.errors import LogClosed, LogCorrupt, LogError
from pipeline.log import writer as logwriter
from pipeline.log.file import (
    FILE_ERRORS,
    MAX_RECORD_BYTES,
    NewRecord,
    StoredRecord,
    check_file,
    connect,
    create_tables,
    damaged_record,
    decode_headers,
    file_error,
    is_damage,
    is_intact,
    lock_file,
    record_id,
    stored_size,
)
from pipeline.log.state import GroupOffset, LogState, Topic, read_state

if TYPE_CHECKING:
    from ingest.logwriter import LogRecord

__all__ = [
    "LocalLogWriter",
    "LogStats",
    "NewRecord",
    "PartitionProgress",
    "SqliteLog",
    "StoredRecord",
    "open_log",
    "peek_log",
]

log = logging.getLogger(__name__)

Changed = frozenset[tuple[str, int]]
"""Topics and partitions that have new durable records."""

_SQLITE_LEAST_BYTES = 512
_READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Where a group stands: `position` is None when nobody in this process reads for it."""

    topic: str
    partition: int
    earliest: int
    end: int
    committed: int | None
    position: int | None = None

    @property
    def lag(self) -> int:
        """Records that are stored and not committed."""
        return max(0, self.end - max(self.committed or 0, self.earliest))


@dataclass(frozen=True, slots=True)
class LogStats:
    """Counters since the log was opened, and what it holds now.

    Attributes:
        records: records appended.
        bytes: their values, bytes.
        commits: transactions; `commit_seconds` in all of them, mostly fsync.
        refused: appends refused with LogFull.
        deleted: records deleted by retention; `compacted`: superseded by a newer one of their key.
        released: of the deleted, those that a soft group had still to read.
        stored_records: records in the file now; `stored_bytes` what they count against the cap.
        file_bytes: size of the file and its WAL.
        end_offsets: (topic, partition) -> next offset.
        failure: why the writer has stopped, None while it works.
    """

    records: int
    bytes: int
    commits: int
    commit_seconds: float
    longest_commit_seconds: float
    last_commit_seconds: float
    refused: int
    deleted: int
    compacted: int
    released: int
    stored_records: int
    stored_bytes: int
    max_bytes: int
    file_bytes: int
    end_offsets: dict[tuple[str, int], int]
    failure: str | None


class SqliteLog:
    """One log file, open in this process; thread-safe.

    Args:
        path: the file; its folder is created.
        partitions: of topics that are created without a count; fixed per topic once it exists.
        durability: ``full`` or ``normal``, see the module.
        linger_ms: how long the first record of a transaction waits for company.
        max_bytes: cap on stored records (the file may be a fifth larger, plus some MiB of WAL).
        reserve_bytes: how far appends with ``reserve=True`` may exceed it.
        min_free_bytes: free space of the disk below which appends are refused.
        retention_ms: default age at which read records go.
        retention_bytes: default size of a topic (all partitions) above which read records go.
        tombstone_ms: how long a compacted topic keeps tombstones.
        maintenance_ms: time between two rounds of retention.
        cache_bytes: most recent records kept in memory for readers.
        check_bytes: files up to this size are checked before the log opens, larger ones in the
            background meanwhile (then `failure` in the stats and every append tell).
        soft_groups: consumer groups that keep what they have still to read only while the log is
            below 80 % of `max_bytes`: those whose work is no loss to the others (a remote store).
        clock: wall clock, epoch milliseconds.

    Raises:
        LogLocked: another process has the log.
        LogCorrupt: the file is damaged; the message says what to do.
        LogError: the file is of another program or a newer format, or it cannot be opened: disk
            full, read-only, locked, failing. The message says what to do.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        partitions: int = 4,
        durability: Literal["full", "normal"] = "full",
        linger_ms: int = 2,
        max_bytes: int = 2 * 1024**3,
        reserve_bytes: int = 128 * 1024**2,
        min_free_bytes: int = 256 * 1024**2,
        retention_ms: int = 7 * 24 * 3600 * 1000,
        retention_bytes: int = 512 * 1024**2,
        tombstone_ms: int = 24 * 3600 * 1000,
        maintenance_ms: int = 5000,
        cache_bytes: int = 8 * 1024**2,
        check_bytes: int = 256 * 1024**2,
        soft_groups: Iterable[str] = (),
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        if partitions < 1 or durability not in ("full", "normal"):
            msg = f"partitions={partitions!r}, durability={durability!r}: not a log"
            raise ValueError(msg)
        self.path = Path(path).resolve()
        self.partitions = partitions
        self.max_bytes = max_bytes
        self._users = 1
        self._closed = False
        self._readers: list[sqlite3.Connection] = []
        self._listen_lock = threading.Lock()
        self._lock = lock_file(self.path)
        try:
            self._state, db = self._open_file(durability, cache_bytes, check_bytes)
        except BaseException:
            self._lock.close()
            raise
        limits = logwriter.WriterLimits(
            partitions,
            linger_ms,
            max_bytes,
            reserve_bytes,
            min_free_bytes,
            retention_ms,
            retention_bytes,
            tombstone_ms,
            maintenance_ms,
            frozenset(soft_groups),
        )
        self._writer = logwriter.LogWriter(self.path, db, self._state, limits, clock)
        self._writer.start()
        if self.path.stat().st_size > check_bytes:
            threading.Thread(target=self._check, name="log-check", daemon=True).start()

    def _open_file(
        self, durability: Literal["full", "normal"], cache_bytes: int, check_bytes: int
    ) -> tuple[LogState, sqlite3.Connection]:
        is_new = not self.path.exists() or self.path.stat().st_size == 0
        if not is_new and self.path.stat().st_size < _SQLITE_LEAST_BYTES:  # SQLite begins it anew
            raise file_error(self.path, sqlite3.DatabaseError("the file is cut: malformed"))
        db = connect(self.path, durability=durability)
        try:
            create_tables(db, self.path)
            if not is_new and self.path.stat().st_size <= check_bytes:
                check_file(self.path)
            return read_state(db, cache_bytes), db
        except FILE_ERRORS as exc:
            db.close()
            raise file_error(self.path, exc) from exc
        except BaseException:
            db.close()
            raise

    def _check(self) -> None:
        try:
            check_file(self.path)
        except LogCorrupt as exc:
            log.error("%s", exc)
            self._writer.failure = exc
        except LogError as exc:
            log.warning("the log could not be checked for damage: %s", exc)

    # -- topics -----------------------------------------------------------------------------

    def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        *,
        compacted: bool = False,
        retention_ms: int | None = None,
        retention_bytes: int | None = None,
    ) -> int:
        """Create a topic unless it exists; returns its partition count. Blocks for one commit.

        An existing topic keeps its partitions and its settings (keys would change places).
        """
        return self.create_topic_soon(
            name,
            partitions,
            compacted=compacted,
            retention_ms=retention_ms,
            retention_bytes=retention_bytes,
        ).result()

    def create_topic_soon(
        self,
        name: str,
        partitions: int | None = None,
        *,
        compacted: bool = False,
        retention_ms: int | None = None,
        retention_bytes: int | None = None,
    ) -> Future[int]:
        """`create_topic` without blocking."""
        wanted = self.partitions if partitions is None else partitions
        done: Future[int] = Future()
        if wanted < 1 or not name:
            msg = f"a topic needs a name and at least one partition, not {name!r}, {wanted}"
            raise ValueError(msg)
        if name in self._state.topics:
            done.set_result(self._existing(name, wanted))
            return done

        def create(db: sqlite3.Connection) -> Topic:
            existing = self._state.topics.get(name)
            if existing is not None:
                return existing
            topic = Topic(name, compacted, retention_ms, retention_bytes)
            return logwriter.create_topic(db, topic, wanted)

        def finish(future: Future[Any]) -> None:
            error = future.exception()
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(len(future.result().partitions))

        call = logwriter.Call(create, self._state.adopt)
        call.future.add_done_callback(finish)
        self._writer.submit(call)
        return done

    def _existing(self, name: str, wanted: int) -> int:
        found = len(self._state.topics[name].partitions)
        if found != wanted:
            log.warning("topic %s has %d partitions and keeps them, not %d", name, found, wanted)
        return found

    def topics(self) -> dict[str, int]:
        """Topic names and their partition counts."""
        return {name: len(t.partitions) for name, t in list(self._state.topics.items())}

    def topic_partitions(self, topic: str) -> int | None:
        """Partition count of a topic, None when it does not exist."""
        found = self._state.topics.get(topic)
        return None if found is None else len(found.partitions)

    def is_compacted(self, topic: str) -> bool:
        """Whether a topic keeps the newest record of each key only."""
        found = self._state.topics.get(topic)
        return found is not None and found.compacted

    # -- records ----------------------------------------------------------------------------

    def append(self, records: Sequence[Any], *, reserve: bool = False) -> Future[list[int]]:
        """Append records, all or none, in order; any thread, never blocks.

        Args:
            records: `NewRecord` or anything with its attributes (`ingest.bridge.LogRecord`).
            reserve: may use the reserve above the cap: for those who drain the log.

        Returns:
            A future of the records' offsets, resolved when they are durable. It carries LogFull
            (try again later), LogFailed, LogCorrupt or LogClosed when they are not stored.
            Cancelling it before the writer took the records means they are not written.

        Raises:
            TypeError: a key or value is neither bytes nor None.
            ValueError: a value is larger than `MAX_RECORD_BYTES`.
        """
        size = 0
        for record in records:
            for part in (record.key, record.value):
                if part is not None and not isinstance(part, bytes):
                    msg = f"keys and values are bytes or None, not {type(part).__name__}"
                    raise TypeError(msg)
            record_bytes = stored_size(record.key, None, record.value)
            if record_bytes > MAX_RECORD_BYTES:
                msg = f"a record of {record_bytes} bytes exceeds {MAX_RECORD_BYTES}: split it"
                raise ValueError(msg)
            size += record_bytes
        command = logwriter.Append(records, size)
        self._writer.submit(command, reserve=reserve)
        return command.future

    def flush(self) -> Future[Any]:
        """A future that resolves when everything given before it is durable (or refused)."""
        call = logwriter.Call(lambda _db: None)
        self._writer.submit(call)
        return call.future

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        max_records: int = 500,
        max_bytes: int = _READ_BYTES,
    ) -> list[StoredRecord]:
        """Durable records from `offset` on, in order; offsets may have holes.

        Recent records come from memory, older ones from the disk on a connection of their own
        (milliseconds: keep it off an event loop, or ask `read_recent` first). At least one record
        comes if there is one, however large.

        Raises:
            LogCorrupt: a record does not match its checksum, or a page is damaged.
            LogError: no such topic or partition.
        """
        records = self.read_recent(topic, partition, offset, max_records, max_bytes)
        if records is None:
            records = self._read_disk(topic, partition, offset, max_records, max_bytes)
        return records

    def read_recent(
        self,
        topic: str,
        partition: int,
        offset: int,
        max_records: int = 500,
        max_bytes: int = _READ_BYTES,
    ) -> list[StoredRecord] | None:
        """As `read`, from memory only and at once; None when it takes the disk."""
        part = self._state.partition(topic, partition)
        return self._state.recall(part, offset, max_records, max_bytes)

    def _read_disk(
        self, topic: str, partition: int, offset: int, max_records: int, max_bytes: int
    ) -> list[StoredRecord]:
        part = self._state.partition(topic, partition)
        first = record_id(part.slot, 0)
        bounds = (first + max(offset, 0), first + part.next_offset, max_records)
        records: list[StoredRecord] = []
        db = self._reader()
        try:
            with closing(db.execute(f"{_SELECT} ORDER BY id LIMIT ?", bounds)) as rows:
                for row_id, *row in rows:
                    record = _record(self.path, part.slot, topic, partition, row_id - first, *row)
                    max_bytes -= stored_size(record.key, None, record.value)
                    if max_bytes < 0 and records:
                        break
                    records.append(record)
        except LogCorrupt:
            if not records:  # else first what is sound; the next read starts here and tells
                db.close()
                raise
        except FILE_ERRORS as exc:
            db.close()
            if records and is_damage(exc):  # the same, and the next read has another connection
                return records
            raise file_error(self.path, exc) from exc
        self._readers.append(db)
        if self._closed:  # meanwhile: nobody else will close it
            self._close_readers()
        return records

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            msg = f"the log {self.path} is closed"
            raise LogClosed(msg)
        try:
            return self._readers.pop()
        except IndexError:
            return connect(self.path, durability="full", read_only=True)

    def end_offset(self, topic: str, partition: int) -> int:
        """Offset that the next record gets; everything below is durable."""
        return self._state.partition(topic, partition).next_offset

    def earliest_offset(self, topic: str, partition: int) -> int:
        """First offset still stored; the end offset when none is."""
        return self._state.partition(topic, partition).earliest

    # -- groups -----------------------------------------------------------------------------

    def register_group(
        self,
        group: str,
        topics: Iterable[str],
        *,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> Future[None]:
        """Declare what a group reads: from now on retention keeps what it has still to read.

        A group that is new to a partition starts at its first record, or behind its last one.
        Topics that the group does not name any more are released (its offsets stay).
        """
        names = set(topics)

        def register(db: sqlite3.Connection) -> dict[int, GroupOffset]:
            before = self._state.groups.get(group, {})
            after = {
                slot: GroupOffset(at.offset, at.committed, pins=False)
                for slot, at in before.items()
            }
            for name in names:
                for part in self._state.topics[name].partitions:
                    at = before.get(part.slot)
                    fresh = part.earliest if start == "earliest" else part.next_offset
                    offset, committed = (fresh, False) if at is None else (at.offset, at.committed)
                    after[part.slot] = GroupOffset(offset, committed, pins=True)
            db.executemany(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?, ?)",
                [(group, slot, at.offset, at.committed, at.pins) for slot, at in after.items()],
            )
            return after

        def adopt(after: dict[int, GroupOffset]) -> None:
            self._state.groups[group] = after

        for name in names:
            self._state.partition(name, 0)
        call = logwriter.Call(register, adopt)
        self._writer.submit(call)
        return call.future

    def drop_group(self, group: str) -> Future[None]:
        """Forget a group and its offsets, so that it holds nothing back any more."""

        def drop(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM offsets WHERE grp = ?", (group,))

        def adopt(_result: None) -> None:
            self._state.groups.pop(group, None)

        call = logwriter.Call(drop, adopt)
        self._writer.submit(call)
        return call.future

    def groups(self) -> list[str]:
        """Groups that are registered or have committed."""
        return sorted(self._state.groups)

    def commit(self, group: str, offsets: Mapping[tuple[str, int], int]) -> Future[None]:
        """Store the next offsets a group has to read; resolves when durable, never refused as full.

        Raises:
            LogError: no such topic or partition.
        """
        for topic, partition in offsets:
            self._state.partition(topic, partition)
        command = logwriter.Commit(group, dict(offsets))
        self._writer.submit(command)
        return command.future

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """The group's durable offset, None when it has not committed yet."""
        at = self._offset_of(group, topic, partition)
        return at.offset if at is not None and at.committed else None

    def start_offset(self, group: str, topic: str, partition: int) -> int:
        """Where the group continues: its committed offset, or where its registration put it."""
        part = self._state.partition(topic, partition)
        at = self._offset_of(group, topic, partition)
        return part.earliest if at is None else max(at.offset, part.earliest)

    def _offset_of(self, group: str, topic: str, partition: int) -> GroupOffset | None:
        slot = self._state.partition(topic, partition).slot
        return self._state.groups.get(group, {}).get(slot)

    def progress(self, group: str) -> list[PartitionProgress]:
        """Where a group stands in every partition that it registered for."""
        offsets = self._state.groups.get(group, {})
        return [
            PartitionProgress(
                part.topic,
                part.partition,
                part.earliest,
                part.next_offset,
                at.offset if at.committed else None,
            )
            for part in self._state.partitions()
            if (at := offsets.get(part.slot)) is not None and at.pins
        ]

    # -- waking, looking, closing -----------------------------------------------------------

    def add_listener(self, listener: Callable[[Changed], None]) -> Callable[[], None]:
        """Call `listener` after each commit that made records durable; returns how to stop that.

        It runs in the writer's thread and must be quick: from asyncio, hand over
        ``lambda changed: loop.call_soon_threadsafe(event.set)``.
        """
        with self._listen_lock:
            self._writer.listeners = (*self._writer.listeners, listener)

        def remove() -> None:
            with self._listen_lock:
                self._writer.listeners = tuple(
                    found for found in self._writer.listeners if found is not listener
                )

        return remove

    def stats(self) -> LogStats:
        """Counters and sizes; cheap enough for every scrape."""
        stats, failure = self._writer.stats, self._writer.failure
        parts = self._state.partitions()
        wal = self.path.with_name(self.path.name + "-wal")
        return LogStats(
            records=stats.records,
            bytes=stats.bytes,
            commits=stats.commits,
            commit_seconds=stats.commit_seconds,
            longest_commit_seconds=stats.longest_commit_seconds,
            last_commit_seconds=stats.last_commit_seconds,
            refused=stats.refused,
            deleted=stats.deleted,
            compacted=stats.compacted,
            released=stats.released,
            stored_records=sum(part.records for part in parts),
            stored_bytes=self._state.total_bytes,
            max_bytes=self.max_bytes,
            file_bytes=sum(f.stat().st_size for f in (self.path, wal) if f.exists()),
            end_offsets={(part.topic, part.partition): part.next_offset for part in parts},
            failure=None if failure is None else str(failure),
        )

    def maintain(self) -> None:
        """Run retention now instead of at its next turn; returns when a round is done."""
        self._writer.maintain_soon()
        self.flush().result()  # the round follows the transaction in which this is ...
        self.flush().result()  # ... and comes before the next one

    def close(self) -> None:
        """Give the log back; the last user's close writes what is queued and closes the file."""
        with _registry_lock:
            self._users -= 1
            if self._users > 0 or self._closed:
                return
            self._closed = True
            if _open.get(self.path) is self:
                del _open[self.path]
            self._writer.close()
            self._close_readers()
            self._lock.close()

    def _close_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()

    def __enter__(self) -> SqliteLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LocalLogWriter:
    """The local log as the bridge sees it: an `ingest.logwriter.LogWriter`."""

    def __init__(self, log_file: SqliteLog, partitions: int) -> None:
        self.partitions = partitions
        self._log = log_file

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Append records; returns when all of them are durable.

        Raises:
            LogUnavailable: The log is full or its disk fails; try again.
        """
        try:
            await asyncio.wrap_future(self._log.append(records))
        except LogError as exc:
            raise LogUnavailable(str(exc)) from exc


def peek_log(path: str | Path, topic: str) -> Iterator[StoredRecord]:
    """Records of a topic, partition by partition, read from beside a running gateway.

    Takes no lock and writes nothing, so it also serves another process (listing dead letters).
    A topic that does not exist has no records.

    Raises:
        LogCorrupt: a record does not match its checksum, or the file is no log.
        LogError: it cannot be read for another reason.
    """
    file = Path(path).resolve(strict=True)
    try:
        with closing(connect(file, durability="full", read_only=True)) as db:
            slots = db.execute(
                "SELECT slot, partition FROM slots WHERE topic = ? ORDER BY partition", (topic,)
            ).fetchall()
            for slot, partition in slots:
                first, end = record_id(slot, 0), record_id(slot + 1, 0)
                for row_id, *row in db.execute(f"{_SELECT} ORDER BY id", (first, end)):
                    yield _record(file, slot, topic, partition, row_id - first, *row)
    except FILE_ERRORS as exc:
        raise file_error(file, exc) from exc


_SELECT = "SELECT id, crc, ts_ms, key, headers, value FROM records WHERE id >= ? AND id < ?"


def _record(
    path: Path,
    slot: int,
    topic: str,
    partition: int,
    offset: int,
    crc: int,
    ts_ms: int,
    key: bytes | None,
    headers: bytes | None,
    value: bytes | None,
) -> StoredRecord:
    if not is_intact(crc, slot, offset, ts_ms, key, headers, value):
        raise damaged_record(path, topic, partition, offset)
    return StoredRecord(topic, partition, offset, ts_ms, key, value, decode_headers(headers))


_registry_lock = threading.RLock()
_open: dict[Path, SqliteLog] = {}


def open_log(path: str | Path, **options: Any) -> SqliteLog:
    """The log of `path`, shared by everybody in this process; close it once per opening.

    The first opener's options (see `SqliteLog`) hold until the last user closes it; the gateway
    opens the log with its settings before the bridge and the apps do.
    """
    resolved = Path(path).resolve()
    with _registry_lock:
        found = _open.get(resolved)
        if found is None:
            found = _open[resolved] = SqliteLog(resolved, **options)
        else:
            found._users += 1  # noqa: SLF001  (the registry is part of the class)
        return found
