"""Faust on the local log: the transport behind ``broker="sqlite:///path/to/log.db"``.

The same agents run on ``kafka://`` and here. What differs from Kafka, on purpose:

- There is one process per log, so an app is assigned all partitions at once. Several apps (their
  ids are the consumer groups) and the MQTT bridge share one `SqliteLog` in that process.
- **A commit never passes an unacked record.** Faust's own arithmetic lets a gap of one record
  through; here the committed offset is the first record that has not been acked, also with
  ``stream.noack()`` and acks given out of order.
- A send resolves when the record is durable. While the log is full it is held back and tried again
  (a dropped changelog record would be lost state), and the commits of its app wait with it; sends
  may use the log's reserve for that reason. If the log fails, the worker stops loudly.
- ``exactly_once`` is refused at start-up: state must be idempotent, as it is in this product.

It leans on these parts of Faust 0.15 that are not public; the contract suite guards an upgrade:
the abstract methods of `faust.transport.consumer.Consumer`, its `_acked`, `_acked_index`,
`_committed_offset` and `_read_offset` bookkeeping, its `_wait_for_ack` and
`maybe_wait_for_commit_to_finish`, and the assignor's `assign`/`on_assignment`.

What follows from `flow control` in Faust: between `subscribe()` and the end of recovery nothing but
changelogs is delivered; positions of other partitions are set from the committed offsets after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from sqlite3 import sqlite_version
from typing import Any, ClassVar

from faust.exceptions import ImproperlyConfigured, ProducerSendError
from faust.transport import base
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.producer import Producer as BaseProducer
from faust.types import TP, ConsumerMessage, RecordMetadata
from faust.types.enums import ProcessingGuarantee
from mode.utils.times import want_seconds

from ingest.topics import partition_of
from pipeline.errors import LogClosed, LogCorrupt, LogError, LogFailed, LogFull
from pipeline.log.handover import Handover
from pipeline.log.locallog import NewRecord, PartitionProgress, SqliteLog, StoredRecord, open_log

__all__ = ["Consumer", "Producer", "Transport", "abandon", "progress", "skipped"]

log = logging.getLogger(__name__)

_MEMBER = "local"
_POLL_RECORDS = 500
_POLL_BYTES = 1024 * 1024
_SEND_AHEAD_BYTES = 16 * 1024 * 1024
"""A sender waits once this much is on its way to the disk."""
_FULL_RETRY_SECONDS = 0.5


class Consumer(Handover, BaseConsumer):  # type: ignore[misc]
    """Reads the log for one Faust app; the group is the app's id.

    Attributes:
        skipped: records that were deleted before this app had read them (soft groups, see
            `pipeline.log.locallog`; a repaired log). It goes on behind them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped = 0
        self._log: SqliteLog | None = None
        self._topics: frozenset[str] = frozenset()
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._holes: dict[TP, dict[int, int]] = {}
        self._turn = 0
        self._something_new: asyncio.Event | None = None
        self._stop_listening: Any = None

    async def on_start(self) -> None:
        """Open the log and listen to it."""
        transport = self.transport
        self._log = await transport.open()
        new = self._something_new = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake(_changed: object) -> None:
            if not new.is_set() and not loop.is_closed():
                loop.call_soon_threadsafe(new.set)

        self._stop_listening = self._log.add_listener(wake)
        await super().on_start()

    async def on_stop(self) -> None:
        """Wait for the acks of what is being worked on, commit, give the log back."""
        try:
            await super().on_stop()
        finally:
            if self._stop_listening is not None:
                self._stop_listening()
            store, self._log = self._log, None
            if store is not None:
                await asyncio.to_thread(store.close)

    # -- assignment -------------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take all partitions of `topics`; the rebalance runs as a task of its own.

        It can't run in here: it waits for the subscription that the caller is just making.
        """
        self._topics = frozenset(topics)
        store = self._store()
        for topic in self._topics:
            if store.topic_partitions(topic) is None:
                wanted = self.app.conf.topic_partitions
                await asyncio.wrap_future(store.create_topic_soon(topic, wanted))
        self.app.on_rebalance_start()
        self.add_future(self._rebalance())

    async def _rebalance(self) -> None:
        await self.on_partitions_revoked(set(self._assigned))
        store, app = self._store(), self.app
        counts = {topic: store.topic_partitions(topic) or 0 for topic in self._topics}
        assigned = {TP(topic, n) for topic, count in counts.items() for n in range(count)}
        _assign_all(app.assignor, counts)
        acking = {topic for topic in self._topics if app.topics.acks_enabled_for(topic)}
        await asyncio.wrap_future(
            store.register_group(app.conf.id, acking, start=app.conf.consumer_auto_offset_reset)
        )
        for tp in assigned:
            due = store.committed(app.conf.id, *tp)
            if due is not None and tp not in self._assigned:
                self._note_skipped(tp, due, self._start_of(tp))
        self._assigned = assigned
        self._positions = {tp: self._start_of(tp) for tp in assigned}
        self._holes = {tp: {} for tp in assigned}
        app.consumer_generation_id += 1
        await self.on_partitions_assigned(set(assigned), app.consumer_generation_id)
        self._wake()

    def assignment(self) -> set[TP]:
        """All partitions of the subscribed topics (a copy)."""
        return set(self._assigned)

    def topic_partitions(self, topic: str) -> int | None:
        """Partition count of a topic."""
        return self._store().topic_partitions(topic)

    def key_partition(
        self, topic: str, key: bytes | None, partition: int | None = None
    ) -> int | None:
        """Kafka's partition of a key; None lets the log choose."""
        if partition is not None or key is None:
            return partition
        return partition_of(key, self._store().topic_partitions(topic) or 1)

    async def create_topic(self, topic: str, partitions: int, replication: int, **kw: Any) -> None:
        """Create a topic unless it exists; see `Producer.create_topic`."""
        await _create_topic(self._store(), topic, partitions, **kw)

    # -- positions --------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to the committed offsets, or where the group began."""
        self._positions = {tp: self._start_of(tp) for tp in self._assigned}
        self._holes = {tp: {} for tp in self._assigned}
        self._wake()
        return dict(self._positions)

    def _start_of(self, tp: TP) -> int:
        return self._store().start_offset(self.app.conf.id, *tp)

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions[partition] = offset
        self._holes[partition] = {}
        self._wake()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Set positions; forgets what was read, or recovery would drop it as already seen."""
        for tp, offset in partitions.items():
            await self._seek(tp, offset)
            self._read_offset[tp] = offset if offset else None

    async def position(self, tp: TP) -> int | None:
        """Offset that is read next."""
        return self._positions.get(tp)

    def highwater(self, tp: TP) -> int:
        """Offset that is written next."""
        return self._store().end_offset(*tp)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """`highwater` of several partitions."""
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """First offset still stored."""
        return {tp: self._store().earliest_offset(*tp) for tp in partitions}

    # -- committing -------------------------------------------------------------------------

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self._abandoned or self.app.producer.failure is not None:  # what was sent is not stored
            return False
        try:
            await asyncio.wrap_future(self._store().commit(self.app.conf.id, offsets))
        except LogFull as exc:  # the next commit covers this one; until then work is only repeated
            log.warning("offsets are not committed yet: %s", exc)
            return False
        return True

    def _new_offset(self, tp: TP) -> int | None:
        """The first offset from the committed one on that was not acked; None if that one.

        Replaces Faust's arithmetic, which commits over a hole of one record and, before the first
        commit, over any. Offsets that do not exist in the log (`_holes`) count as acked.
        """
        if self._abandoned:
            return None
        acked = self._acked_index[tp]
        committed = self._committed_offset[tp]
        offset = start = self._start_of(tp) if committed is None else committed
        holes = self._holes.get(tp, {})
        while True:
            if offset in acked:
                acked.discard(offset)
                offset += 1
            elif offset in holes:
                offset = holes.pop(offset)
            else:
                break
        if offset == start:
            return None
        self._acked[tp][:] = [at for at in self._acked[tp] if at >= offset]
        return offset

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes are noted where they are read, see `_getmany`."""

    def progress(self) -> list[PartitionProgress]:
        """End, position and committed offset of every partition that is acked."""
        if self._log is None:
            return []
        return [
            replace(found, position=self._positions.get(TP(found.topic, found.partition)))
            for found in self._log.progress(self.app.conf.id)
        ]

    # -- reading ----------------------------------------------------------------------------

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        """As Faust's, but a pause of all partitions ends when one resumes, not after a second."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions()
        return await self._getmany(active, timeout), active

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> Mapping[TP, list[StoredRecord]]:
        new = self._something_new
        if new is None or not self.flow_active:
            return {}
        new.clear()  # before looking, so that nothing that comes meanwhile is missed
        records = await self._read(active_partitions)
        if not records and self.flow_active:
            try:
                await asyncio.wait_for(new.wait(), timeout)
            except asyncio.TimeoutError:
                return {}
            records = await self._read(active_partitions)
        return records

    async def _read(self, active: set[TP] | None) -> dict[TP, list[StoredRecord]]:
        store = self._store()
        wanted = sorted(self._assigned if active is None else self._assigned & active)
        records: dict[TP, list[StoredRecord]] = {}
        room = _POLL_RECORDS
        self._turn += 1
        for n in range(len(wanted)):
            tp = wanted[(n + self._turn) % len(wanted)]
            at, end = self._positions[tp], store.end_offset(*tp)
            if at >= end:
                continue
            found = store.read_recent(tp.topic, tp.partition, at, room, _POLL_BYTES)
            if found is None:
                found = await asyncio.to_thread(
                    store.read, tp.topic, tp.partition, at, room, _POLL_BYTES
                )
                if self._positions.get(tp) != at:  # a seek came in between
                    continue
            if not found:  # nothing but a hole up to the end
                self._note_skipped(tp, at, end)
                self._holes[tp][at] = self._positions[tp] = end
                continue
            self._note_holes(tp, at, found)
            self._positions[tp] = found[-1].offset + 1
            records[tp] = found
            room -= len(found)
            if room <= 0:
                break
        return records

    def _note_holes(self, tp: TP, at: int, found: list[StoredRecord]) -> None:
        if found[-1].offset - at + 1 == len(found):
            return
        holes = self._holes[tp]
        for record in found:
            if record.offset != at:
                self._note_skipped(tp, at, record.offset)
                holes[at] = record.offset
            at = record.offset + 1

    def _note_skipped(self, tp: TP, at: int, to: int) -> None:
        if to > at and not self._store().is_compacted(tp.topic):  # there holes are no loss
            self.skipped += to - at
            log.error(
                "%s: records %d to %d of %s[%d] were deleted before it had read them",
                self.app.conf.id,
                at,
                to - 1,
                *tp,
            )

    def _to_message(self, tp: TP, record: StoredRecord) -> ConsumerMessage:
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.offset,
            record.ts_ms / 1000,
            0,
            list(record.headers),
            record.key,
            record.value,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_drop(self, tp: TP) -> None:
        """An agent's buffer has room again."""
        super().on_buffer_drop(tp)
        self._wake()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Read from partitions again."""
        super().resume_partitions(tps)
        self._wake()

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _wake(self) -> None:
        if self._something_new is not None:
            self._something_new.set()

    def _store(self) -> SqliteLog:
        if self._log is None:
            msg = "the consumer has not been started"
            raise ImproperlyConfigured(msg)
        return self._log


class Producer(BaseProducer):  # type: ignore[misc]
    """Appends to the log for one Faust app.

    Attributes:
        failure: why something sent was not stored; from then on the app commits nothing more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failure: LogError | None = None
        self._log: SqliteLog | None = None
        self._waiting: list[_Send] = []
        self._waiting_bytes = 0
        self._last: asyncio.Future[RecordMetadata] | None = None
        self._appending: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None

    async def on_start(self) -> None:
        """Open the log and start the buffer that table changes go through."""
        self._log = await self.transport.open()
        self._room = asyncio.Event()
        await super().on_start()

    async def on_stop(self) -> None:
        """Wait until everything sent is durable, give the log back."""
        await self.flush()
        if self._appending is not None:
            await self._appending
        store, self._log = self._log, None
        if store is not None:
            await asyncio.to_thread(store.close)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Give a record to the log; the future that comes back resolves when it is durable.

        Records go in the order of the calls. Returns at once unless too much is on its way. A
        record that the log can't take (not bytes, too large, no such partition) fails through its
        future.
        """
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        ts_ms = None if timestamp is None else round(timestamp * 1000)
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        record = NewRecord(topic, value, key, partition, ts_ms, tuple(pairs))
        self._waiting.append(_Send(record, future))
        self._waiting_bytes += len(value or b"")
        self._last = future
        if self._appending is None:
            self._appending = asyncio.create_task(self._append_waiting())
        while self._waiting_bytes > _SEND_AHEAD_BYTES and self._room is not None:
            self._room.clear()
            await self._room.wait()
        return future

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """`send`, and wait until the record is durable."""
        return await (await self.send(*args, **kwargs))

    async def _append_waiting(self) -> None:
        """Append what waits, batch after batch: one on its way at a time keeps the order."""
        await asyncio.sleep(0)  # let the others of this turn of the loop join
        try:
            while self._waiting:
                sends, self._waiting, self._waiting_bytes = self._waiting, [], 0
                if self._room is not None:
                    self._room.set()
                await self._append(sends)
        finally:
            self._appending = None

    async def _append(self, sends: list[_Send]) -> None:
        """Append all of `sends` in order, or fail what can't be stored."""
        rest = deque([sends])
        while rest:
            batch = rest.popleft()
            try:
                offsets = await self._append_batch(batch)
            except LogFull as exc:
                rest.extendleft(reversed(_halves(batch)))  # less fits sooner
                if self.app.should_stop:  # nothing of it was acked: a restart does it again
                    self._give_up(rest, exc)
                else:
                    log.warning("%d records wait: %s", sum(map(len, rest)), exc)
                    await asyncio.sleep(_FULL_RETRY_SECONDS)
            except (LogFailed, LogCorrupt, LogClosed) as exc:
                rest.appendleft(batch)
                self._give_up(rest, exc)
                await self.app.crash(exc)
            except (LogError, TypeError, ValueError) as exc:
                if len(batch) == 1:
                    _fail(batch, ProducerSendError(str(exc)))
                else:  # one of them is at fault: the others must not suffer
                    rest.extendleft([send] for send in reversed(batch))
            else:
                for send, offset in zip(batch, offsets, strict=True):
                    _resolve(send, offset, self._store())

    async def _append_batch(self, batch: list[_Send]) -> list[int]:
        future = self._store().append([send.record for send in batch], reserve=True)
        return await asyncio.wrap_future(future)

    def _give_up(self, rest: deque[list[_Send]], reason: LogError) -> None:
        self.failure = reason
        for batch in rest:
            _fail(batch, ProducerSendError(str(reason)))
        rest.clear()

    def _store(self) -> SqliteLog:
        if self._log is None:
            msg = "the producer is not running"
            raise LogClosed(msg)
        return self._log

    async def flush(self) -> None:
        """Wait until everything sent so far is durable (or has failed, see `failure`)."""
        while self.buffer.size and not self.buffer.should_stop:
            await self.buffer.flush()  # gives up after 0.1 s without progress: ask again
        if self._last is not None and not self._last.done():
            await asyncio.wait({self._last})

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Kafka's partition of a key."""
        count = None if self._log is None else self._log.topic_partitions(topic)
        return TP(topic, partition_of(key, count or self.app.conf.topic_partitions))

    async def create_topic(self, topic: str, partitions: int, replication: int, **kw: Any) -> None:
        """Create a topic unless it exists; compaction and retention are kept with it."""
        await _create_topic(self._store(), topic, partitions, **kw)

    def supports_headers(self) -> bool:
        """Headers are stored."""
        return True


class Transport(base.Transport):  # type: ignore[misc]
    """``sqlite:///absolute/path.db``; options of the log as query, e.g. ``?durability=normal``."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
    driver_version = f"sqlite={sqlite_version}"

    async def open(self) -> SqliteLog:
        """The log of the broker URL, shared with everybody in this process.

        Raises:
            ImproperlyConfigured: exactly_once, several URLs, or no path.
            LogError: the log cannot be opened, see `pipeline.log.locallog.SqliteLog`.
        """
        if self.app.conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
            msg = (
                "sqlite:// has no transactions across topics: leave processing_guarantee at "
                "at_least_once (all state here is idempotent) or use kafka://"
            )
            raise ImproperlyConfigured(msg)
        if len(self.url) != 1 or self.url[0].host or self.url[0].path in ("", "/"):
            msg = f"one log with an absolute path, as sqlite:///var/lib/x.db, not {self.url}"
            raise ImproperlyConfigured(msg)
        unknown = set(self.url[0].query) - {"durability", "partitions"}
        if unknown:
            msg = f"unknown options {sorted(unknown)} in {self.url[0]}: durability, partitions"
            raise ImproperlyConfigured(msg)
        options: dict[str, Any] = dict(self.url[0].query)
        if "partitions" in options:
            options["partitions"] = int(options["partitions"])
        return await asyncio.to_thread(open_log, self.url[0].path, **options)


def abandon(app: Any) -> bool:
    """`Consumer.abandon` of an app; False where its broker is none of ours (kafka://)."""
    consumer = app.consumer
    if not isinstance(consumer, Consumer):
        return False
    consumer.abandon()
    return True


def skipped(app: Any) -> int:
    """`Consumer.skipped` of an app; 0 where its broker is none of ours (kafka://)."""
    consumer = app.consumer
    return consumer.skipped if isinstance(consumer, Consumer) else 0


def progress(app: Any) -> list[PartitionProgress]:
    """Where a running app stands in its acked topics, on any transport; for readiness and lag.

    `end` is the next offset to be written, `position` the next to be read, `committed` what a
    restart begins with. A partition with `lag` whose `position` and `committed` stay is stuck.
    Empty before the first assignment.
    """
    consumer = app.consumer
    if not isinstance(consumer, Consumer):
        return _progress_elsewhere(app)
    return consumer.progress()


def _progress_elsewhere(app: Any) -> list[PartitionProgress]:
    """From what Faust's monitor and consumer have seen (kafka://)."""
    ends = app.monitor.tp_end_offsets
    found = []
    for tp in sorted(app.consumer.assignment()):
        if app.topics.acks_enabled_for(tp.topic):
            read = app.consumer._read_offset.get(tp)  # noqa: SLF001
            committed = app.consumer._committed_offset.get(tp)  # noqa: SLF001
            position = None if read is None else read + 1
            end = max(ends.get(tp, 0), position or 0, committed or 0)
            found.append(PartitionProgress(tp.topic, tp.partition, 0, end, committed, position))
    return found


@dataclass(frozen=True, slots=True)
class _Send:
    record: NewRecord
    future: asyncio.Future[RecordMetadata]


def _halves(batch: list[_Send]) -> list[list[_Send]]:
    middle = (len(batch) + 1) // 2
    return [half for half in (batch[:middle], batch[middle:]) if half]


def _resolve(send: _Send, offset: int, store: SqliteLog) -> None:
    if send.future.done():  # cancelled by the sender
        return
    record = send.record
    partition = record.partition
    if partition is None and record.key is not None:
        partition = partition_of(record.key, store.topic_partitions(record.topic) or 1)
    if partition is None:
        partition = -1  # the log chose
    tp = TP(record.topic, partition)
    timestamp = None if record.ts_ms is None else record.ts_ms / 1000
    send.future.set_result(RecordMetadata(record.topic, partition, tp, offset, timestamp, 0))


def _fail(sends: list[_Send], error: ProducerSendError) -> None:
    for send in sends:
        if not send.future.done():
            send.future.set_exception(error)


async def _create_topic(
    store: SqliteLog,
    topic: str,
    partitions: int,
    *,
    config: Mapping[str, Any] | None = None,
    retention: Any = None,
    compacting: bool | None = None,
    deleting: bool | None = None,
    timeout: Any = None,
    ensure_created: bool = False,
) -> None:
    """Kafka's settings as the log has them; `timeout` and `ensure_created` mean nothing here."""
    settings = dict(config or {})
    retention_ms = round(want_seconds(retention) * 1000) if retention else None
    if "retention.ms" in settings:
        retention_ms = int(settings["retention.ms"])
    retention_bytes = settings.get("retention.bytes")
    compacted = bool(compacting) or "compact" in str(settings.get("cleanup.policy", ""))
    await asyncio.wrap_future(
        store.create_topic_soon(
            topic,
            partitions,
            compacted=compacted,
            retention_ms=retention_ms,
            retention_bytes=None if retention_bytes is None else int(retention_bytes),
        )
    )


def _assign_all(assignor: Any, counts: Mapping[str, int]) -> None:
    """Let Faust's own assignor give everything to this only member of the group."""
    metadata = assignor.metadata(set(counts))
    assignments = assignor.assign(_Cluster(counts), {_MEMBER: metadata})
    assignor.on_assignment(assignments[_MEMBER])


class _Cluster:
    """What the assignor asks of Kafka's cluster metadata."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._counts.get(topic, 0)))
