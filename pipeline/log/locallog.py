"""The gateway's own log: topics and groups in one SQLite file; its promises: `pipeline.log`.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ingest.clock import RunningTime, now_ms
from ingest.clock import steady_ms as process_steady_ms
from ingest.durable.inplace import OpenFiles
from ingest.errors import LogUnavailable
from pipeline.errors import LogError
from pipeline.log.archive import ArchiveStats
from pipeline.log.commands import Append, Call, Commit, create_topic, register_group
from pipeline.log.contentcheck import ContentCheck
from pipeline.log.file import lock_file
from pipeline.log.inspection import load_state, make_mark, open_file
from pipeline.log.loopcalls import Changed
from pipeline.log.reader import DiskReader
from pipeline.log.retention import LogLimits
from pipeline.log.state import (
    MAX_RECORD_BYTES,
    GroupOffset,
    StoredRecord,
    Topic,
    stored_size,
)
from pipeline.log.stats import GroupOffsets, LogStats
from pipeline.log.writer import LogWriter

if TYPE_CHECKING:
    from ingest.logwriter import LogRecord

__all__ = ["LocalLogWriter", "SqliteLog", "open_log"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_READ_BYTES = 4 * 1024 * 1024
_registry_lock = threading.RLock()
_open: dict[Path, SqliteLog] = {}


class SqliteLog:
    """One log file, open in this process; thread-safe.

    Args:
        path: File of the log; its folder is created.
        partitions: Partitions of topics created without a count; fixed once the topic exists. None:
            as many as the topics that exist have; 1 in a new log.
        durability: ``full`` or ``normal``, see the module.
        linger_ms: Milliseconds that the first record of a transaction waits for others.
        max_bytes: Cap on stored records (the file may be a fifth larger, plus some MiB of WAL).
        reserve_bytes: Bytes by which appends with ``reserve=True`` may exceed the cap.
        min_free_bytes: Free space of the disk below which appends are refused.
        retention_ms: Default age at which read records are deleted.
        retention_bytes: Default size of a topic above which its read records are deleted.
        tombstone_ms: Milliseconds for which a compacted topic keeps tombstones.
        maintenance_ms: Time between two rounds of retention.
        cache_bytes: Bytes of the most recent records kept in memory for readers.
        check_bytes: Files up to this size are checked before the log opens, larger ones in the
            background (`is_checking`); what is found there is the `failure` in the stats and fails
            every append and commit.
        soft_groups: Consumer groups whose unread records are kept only while the log is below 80 %
            of `max_bytes`; meant for a remote store, whose outage must not stop the others.
        sender_of: The sender of a record, given topic and value; see `pipeline.log.archive`.
        clock: The time, epoch milliseconds, for records without a time of their own.
        steady_ms: Monotonic milliseconds. Ages count only time for which the log was open
            (`ingest.clock.RunningTime`), so a clock that was set never deletes anything.

    Raises:
        LogLocked: Another process has the log.
        LogCorrupt: The file is damaged; the message says what to do.
        LogLost: Confirmed records are gone; see `pipeline.log.inspection`.
        LogError: It belongs to another program or version, or it cannot be opened. The message says
            what to do.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        partitions: int | None = 4,
        durability: Literal["full", "normal"] = "full",
        linger_ms: int = 0,
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
        sender_of: Callable[[str, bytes | None], str] = lambda _topic, _value: "",
        clock: Callable[[], int] = now_ms,
        steady_ms: Callable[[], int] = process_steady_ms,
    ) -> None:
        if (partitions is not None and partitions < 1) or durability not in ("full", "normal"):
            wrong = f"partitions={partitions!r}, durability={durability!r}"
            msg = f"a log needs partitions >= 1 and durability full or normal, not {wrong}"
            raise ValueError(msg)
        self.path = Path(path).resolve()
        self.max_bytes = max_bytes
        self._users = 1
        self._closed = False
        self._reader = DiskReader(self.path)
        self._lock = lock_file(self.path)
        try:
            db, found = open_file(self.path, durability, check_bytes)
            self._state = load_state(db, self.path, cache_bytes)
        except BaseException:
            self._lock.close()
            raise
        if partitions is None:
            topics = self._state.topics.values()
            partitions = max((len(topic.partitions) for topic in topics), default=1)
        self.partitions = partitions
        limits = LogLimits(
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
            sender_of,
        )
        stored = [part.stored_ms for part in self._state.partitions() if part.stored_ms]
        running = RunningTime(max(stored, default=None), clock(), steady_ms)
        self._accepted_lost = 0 if found.mark is None else found.mark.accepted_lost
        mark = make_mark(self.path, found, self._state.ends(), durability)
        files = OpenFiles(self.path, [self.path.with_name(self.path.name + ".lock")])
        self._writer = LogWriter(self.path, db, self._state, limits, clock, running, mark, files)
        self._writer.start()
        is_large = self.path.stat().st_size > check_bytes
        self._check = ContentCheck(self.path, self._writer.fail) if is_large else None

    # -- topics -----------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int | None = None, **settings: Any) -> int:
        """Like `create_topic_soon`, but blocks for one commit."""
        return self.create_topic_soon(name, partitions, **settings).result()

    def create_topic_soon(
        self,
        name: str,
        partitions: int | None = None,
        *,
        compacted: bool = False,
        retention_ms: int | None = None,
        retention_bytes: int | None = None,
    ) -> Future[int]:
        """Create a topic unless it exists; the future resolves to its partition count.

        An existing topic keeps its partitions and settings, because its keys would move.
        """
        wanted = self.partitions if partitions is None else partitions
        done: Future[int] = Future()
        done.set_running_or_notify_cancel()  # the topic is made, whoever waits
        if wanted < 1 or not name:
            msg = f"topic {name!r} with {wanted} partitions: it needs a name and at least one"
            raise ValueError(msg)
        if name in self._state.topics:
            done.set_result(self._existing(name, wanted))
            return done

        def create(db: sqlite3.Connection) -> Topic:
            topic = Topic(name, compacted, retention_ms, retention_bytes)
            return self._state.topics.get(name) or create_topic(db, topic, wanted)

        def finish(future: Future[Any]) -> None:
            error = future.exception()
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(len(future.result().partitions))

        call = Call(create, self._state.adopt)
        call.future.add_done_callback(finish)
        self._writer.submit(call)
        return done

    def _existing(self, name: str, wanted: int) -> int:
        found = len(self._state.topics[name].partitions)
        if found != wanted:
            log.warning("topic %s keeps its %d partitions; %d were requested", name, found, wanted)
        return found

    def topics(self) -> dict[str, int]:
        """Topic names and their partition counts."""
        return {name: len(t.partitions) for name, t in list(self._state.topics.items())}

    def topic_partitions(self, topic: str) -> int | None:
        """Partition count of a topic, None when it does not exist."""
        found = self._state.topics.get(topic)
        return None if found is None else len(found.partitions)

    def is_compacted(self, topic: str) -> bool:
        """Whether a topic keeps only the newest record of each key."""
        found = self._state.topics.get(topic)
        return found is not None and found.compacted

    # -- records ----------------------------------------------------------------------------

    def append(self, records: Sequence[Any], *, reserve: bool = False) -> Future[list[int]]:
        """Append records, all or none, in order; any thread, never blocks.

        Args:
            records: `NewRecord`, or anything with its attributes (`ingest.logwriter.LogRecord`).
            reserve: Whether it may use the reserve above the cap; for writers that drain the log.

        Returns:
            A future of the offsets, resolved when the records are durable. It fails with LogFull
            (try again later), LogFailed, LogCorrupt or LogClosed when they are not stored. Records
            whose future is cancelled before the writer takes them are not written.

        Raises:
            TypeError: A key or value is neither bytes nor None.
            ValueError: A record is larger than `MAX_RECORD_BYTES`.
        """
        size = 0
        for record in records:
            for part in (record.key, record.value):
                if part is not None and not isinstance(part, bytes):
                    msg = f"keys and values are bytes or None, not {type(part).__name__}"
                    raise TypeError(msg)
            record_bytes = stored_size(record.key, None, record.value)
            if record_bytes > MAX_RECORD_BYTES:
                msg = f"a record of {record_bytes} bytes exceeds {MAX_RECORD_BYTES}; split it"
                raise ValueError(msg)
            size += record_bytes
        command = Append(records, size)
        self._writer.submit(command, reserve=reserve)
        return command.future

    def flush(self) -> Future[Any]:
        """A future that resolves when everything submitted before is durable (or refused)."""
        call = Call(lambda _db: None)
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

        Older ones come from the disk, which takes milliseconds: keep it off an event loop, or try
        `read_recent` first. Returns at least one record if there is one, however large.

        Raises:
            LogCorrupt: A record is missing or does not match its checksum, or a page is damaged.
            LogError: No such topic or partition.
        """
        records = self.read_recent(topic, partition, offset, max_records, max_bytes)
        if records is None:
            part = self._state.partition(topic, partition)
            records = self._reader.read(part, offset, max_records, max_bytes)
        return records

    def read_recent(
        self,
        topic: str,
        partition: int,
        offset: int,
        max_records: int = 500,
        max_bytes: int = _READ_BYTES,
    ) -> list[StoredRecord] | None:
        """Like `read`, but from memory only; None when the records are on the disk."""
        part = self._state.partition(topic, partition)
        return self._state.read_cache(part, offset, max_records, max_bytes)

    def end_offset(self, topic: str, partition: int) -> int:
        """Offset of the next record; everything below is durable."""
        return self._state.partition(topic, partition).next_offset

    def earliest_offset(self, topic: str, partition: int) -> int:
        """First offset still stored; the end offset when no record is."""
        return self._state.partition(topic, partition).earliest

    # -- groups -----------------------------------------------------------------------------

    def register_group(
        self,
        group: str,
        topics: Iterable[str],
        *,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> Future[None]:
        """Declare what a group reads, so that retention keeps what it still has to read.

        A group that is new to a partition starts at its first record (`earliest`) or behind its
        last one (`latest`). Topics that the group no longer names are released; its offsets stay.
        """
        names = set(topics)

        def register(db: sqlite3.Connection) -> dict[int, GroupOffset]:
            return register_group(db, self._state, group, names, start)

        def adopt(after: dict[int, GroupOffset]) -> None:
            self._state.groups[group] = after

        for name in names:
            self._state.partition(name, 0)
        call = Call(register, adopt)
        self._writer.submit(call)
        return call.future

    def drop_group(self, group: str) -> Future[None]:
        """Delete a group and its offsets, so that retention no longer keeps records for it."""

        def drop(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM offsets WHERE grp = ?", (group,))

        def adopt(_result: None) -> None:
            self._state.groups.pop(group, None)

        call = Call(drop, adopt)
        self._writer.submit(call)
        return call.future

    def groups(self) -> list[str]:
        """Groups that are registered or have committed."""
        return sorted(self._state.groups)

    def commit(
        self, group: str, offsets: Mapping[tuple[str, int], int], *, within_ms: int = 0
    ) -> Future[None]:
        """Store the next offsets that a group has to read; never refused with LogFull.

        Args:
            group: The group.
            offsets: Next offset by topic and partition.
            within_ms: Milliseconds for which it may wait for a transaction to join, because one of
                its own costs as much as one with records.

        Returns:
            A future that resolves when the offsets are durable.

        Raises:
            LogError: No such topic or partition.
        """
        for topic, partition in offsets:
            self._state.partition(topic, partition)
        command = Commit(group, dict(offsets))
        if within_ms:
            self._writer.submit_later(command, within_ms / 1000)
        else:
            self._writer.submit(command)
        return command.future

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """The committed offset of a group; None before its first commit."""
        at = self._offset_of(group, topic, partition)
        return at.offset if at is not None and at.committed else None

    def start_offset(self, group: str, topic: str, partition: int) -> int:
        """Offset at which a group continues: the committed one, or its start from registration."""
        part = self._state.partition(topic, partition)
        at = self._offset_of(group, topic, partition)
        return part.earliest if at is None else max(at.offset, part.earliest)

    def _offset_of(self, group: str, topic: str, partition: int) -> GroupOffset | None:
        slot = self._state.partition(topic, partition).slot
        return self._state.groups.get(group, {}).get(slot)

    def group_offsets(self, group: str) -> list[GroupOffsets]:
        """The offsets of a group in every partition that it registered for."""
        offsets = self._state.groups.get(group, {})
        return [
            GroupOffsets(
                part.topic,
                part.partition,
                part.earliest,
                part.next_offset,
                at.offset if at.committed else None,
            )
            for part in self._state.partitions()
            if (at := offsets.get(part.slot)) is not None and at.pins
        ]

    # -- listeners, stats, closing -----------------------------------------------------------

    def add_listener(self, listener: Callable[[Changed], None]) -> Callable[[], None]:
        """Call `listener` in the running event loop after each commit that made records durable.

        Returns a function that removes the listener.
        """
        return self._writer.loops.add_listener(listener)

    def in_loop(self, future: Future[_T]) -> asyncio.Future[_T]:
        """A future of this log as one of the running event loop.

        All futures and listeners of a transaction wake the loop once (`pipeline.log.loopcalls`).
        Cancelling it does not withdraw the command.
        """
        return self._writer.loops.running().future(future)

    def stats(self) -> LogStats:
        """Counters and sizes; cheap enough for every scrape."""
        failure = self._writer.failure
        parts = self._state.partitions()
        wal = self.path.with_name(self.path.name + "-wal")
        sizes = [f.stat().st_size if f.exists() else 0 for f in (self.path, wal)]
        return LogStats(
            **asdict(self._writer.stats),
            stored_records=sum(part.records for part in parts),
            stored_bytes=self._state.total_bytes,
            max_bytes=self.max_bytes,
            file_bytes=sum(sizes),
            wal_bytes=sizes[1],
            end_offsets={(part.topic, part.partition): part.next_offset for part in parts},
            failure=None if failure is None else str(failure),
            accepted_lost=self._accepted_lost,
            is_checking=self._check is not None and self._check.is_running,
        )

    def archive(self) -> ArchiveStats:
        """Sizes and counters of the topics without a reader."""
        return self._writer.archive()

    def maintain(self) -> None:
        """Run retention now; returns when a round is done."""
        self._writer.maintain_soon()
        for _ in range(2):  # the round runs between the transactions of the two
            self.flush().result()

    def close(self) -> None:
        """Close the log for one user; the last one writes the queue and closes the file."""
        with _registry_lock:
            self._users -= 1
            if self._users > 0 or self._closed:
                return
            self._closed = True
            if _open.get(self.path) is self:
                del _open[self.path]
            self._reader.close()  # first: the last connection to close deletes the write-ahead file
            self._writer.close()
            self._lock.close()

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
        """See `ingest.logwriter.LogWriter`."""
        try:
            await self._log.in_loop(self._log.append(records))
        except LogError as exc:
            raise LogUnavailable(str(exc)) from exc


def open_log(path: str | Path, **options: Any) -> SqliteLog:
    """Open the log of `path`, shared in this process; close it once per opening.

    The options of the first opening (see `SqliteLog`) hold until the last user closes the log.
    """
    resolved = Path(path).resolve()
    with _registry_lock:
        found = _open.get(resolved)
        if found is None:
            found = _open[resolved] = SqliteLog(resolved, **options)
        else:
            found._users += 1  # noqa: SLF001  (the registry is part of the class)
        return found
