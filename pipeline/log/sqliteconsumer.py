"""The Faust consumer on the local log; one per app, whose id is the consumer group.

Deliberate differences from Kafka:

- There is one process per log, so an app is assigned all partitions at once.
- **A commit never passes an unacknowledged record.** Faust's own arithmetic commits over a gap of
  one record; here the committed offset is the first record that has not been acknowledged, also
  with ``stream.noack()`` and acks out of order.

Between `subscribe()` and the end of recovery, Faust's flow control delivers only changelogs;
afterwards the other partitions are read from their committed offsets.

**The agents of this product take whole fetches** (`Consumer.fetches`), past the channel of their
stream, which would cost a lock, a queue and several turns of the loop for each record. Every other
agent gets its records from Faust, as usual. Nothing here wakes up while nothing is appended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from faust.exceptions import ImproperlyConfigured
from faust.transport.consumer import Consumer as BaseConsumer
from faust.types import TP, ConsumerMessage
from mode import Service

from ingest.topics import partition_of
from pipeline.errors import LogFull
from pipeline.log.handover import Handover
from pipeline.log.locallog import SqliteLog
from pipeline.log.sqliteproducer import create_log_topic
from pipeline.log.state import StoredRecord
from pipeline.wakeup import WakeUp

__all__ = ["Consumer"]

log = logging.getLogger(__name__)

_MEMBER = "local"
_POLL_RECORDS = 500
_POLL_BYTES = 1024 * 1024
_COMMIT_WITHIN_MS = 200
"""Longest time for which a commit waits for a transaction that it can join: about a beat."""


class Consumer(Handover, BaseConsumer):  # type: ignore[misc]
    """Reads the log for one Faust app; the group is the app's id.

    Attributes:
        skipped: Records deleted before this app had read them (soft groups, see `pipeline.log`; a
            repaired log). Reading continues behind them.
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
        self._taken: frozenset[str] = frozenset()
        self._new_for_faust = WakeUp()
        self._new_for_agent = WakeUp()
        self._uncommitted = WakeUp()
        self._stop_listening: Any = None
        self._rebalancing: asyncio.Future[Any] | None = None

    async def on_start(self) -> None:
        """Open the log and subscribe to its changes."""
        transport = self.transport
        self._log = await transport.open()
        self._stop_listening = self._log.add_listener(self._note_appended)
        await super().on_start()

    async def on_stop(self) -> None:
        """Wait for outstanding acks, commit, close the log."""
        if self._rebalancing is not None:
            self._rebalancing.cancel()  # of a start that is stopped: it must not find a closed log
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
        """Take all partitions of `topics`; the rebalance runs in a task of its own.

        It cannot run here, because it waits for the subscription that the caller is making.
        """
        self._topics = frozenset(topics)
        store = self._store()
        for topic in self._topics:
            if store.topic_partitions(topic) is None:
                wanted = self.app.conf.topic_partitions
                await store.in_loop(store.create_topic_soon(topic, wanted))
        self.app.on_rebalance_start()
        self._rebalancing = self.add_future(self._rebalance())

    async def _rebalance(self) -> None:
        await self.on_partitions_revoked(set(self._assigned))
        store, app = self._store(), self.app
        counts = {topic: store.topic_partitions(topic) or 0 for topic in self._topics}
        assigned = {TP(topic, n) for topic, count in counts.items() for n in range(count)}
        _assign_all(app.assignor, counts)
        acking = {topic for topic in self._topics if app.topics.acks_enabled_for(topic)}
        await store.in_loop(
            store.register_group(app.conf.id, acking, start=app.conf.consumer_auto_offset_reset)
        )
        for tp in assigned:
            next_offset = store.committed(app.conf.id, *tp)
            if next_offset is not None and tp not in self._assigned:
                self._note_skipped(tp, next_offset, self._start_of(tp))
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
        """Partition of a key, as Kafka computes it; None lets the log choose."""
        if partition is not None or key is None:
            return partition
        return partition_of(key, self._store().topic_partitions(topic) or 1)

    async def create_topic(self, topic: str, partitions: int, replication: int, **kw: Any) -> None:
        """Create a topic unless it exists; see `Producer.create_topic`."""
        await create_log_topic(self._store(), topic, partitions, **kw)

    # -- offsets ----------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets, or to the start of the group before its first commit."""
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
        """Seek, and reset what was read; otherwise recovery would drop records as seen."""
        for tp, offset in partitions.items():
            await self._seek(tp, offset)
            self._read_offset[tp] = offset if offset else None

    async def position(self, tp: TP) -> int | None:
        """Next offset to be read."""
        return self._positions.get(tp)

    def highwater(self, tp: TP) -> int:
        """Next offset to be written."""
        return self._store().end_offset(*tp)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """`highwater` of several partitions."""
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """First offset still stored."""
        return {tp: self._store().earliest_offset(*tp) for tp in partitions}

    # -- committing -------------------------------------------------------------------------

    @Service.task  # type: ignore[untyped-decorator]
    async def _commit_handler(self) -> None:
        """Commit as often as in Faust, but only while something delivered is not committed."""
        while not self.should_stop:
            await self._uncommitted.wait()
            self._uncommitted.clear()
            await self.sleep(self.commit_interval)
            await self.commit()
            if self._unacked_messages or any(self._acked_index.values()):
                self._uncommitted.set()

    @Service.task  # type: ignore[untyped-decorator]
    async def _commit_livelock_detector(self) -> None:
        """Do nothing: Faust's method looks for faults of Kafka."""

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        """As in Faust, without the table that it draws of all offsets for its debug log."""
        held = {tp: offset for tp, offset in offsets.items() if tp in self._assigned}
        if not held:
            return False
        await self.app.producer.flush()
        did_commit = await self._commit(held)
        if did_commit:
            self.app.tables.on_commit(held)
        self._committed_offset.update(held)
        return did_commit

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self._abandoned or self.app.producer.failure is not None:  # sent records are not durable
            return False
        within_ms = 0 if self.app.should_stop else _COMMIT_WITHIN_MS
        store = self._store()
        try:
            await store.in_loop(store.commit(self.app.conf.id, offsets, within_ms=within_ms))
        except LogFull as exc:  # the next commit covers this one; a restart only repeats work
            log.warning("offsets of %s are not committed yet: %s", self.app.conf.id, exc)
            return False
        return True

    def _new_offset(self, tp: TP) -> int | None:
        """The first unacknowledged offset; None if nothing new was acknowledged.

        Replaces Faust's arithmetic, which commits over a hole of one record and, before the first
        commit, over any hole. Offsets that do not exist in the log (`_holes`) count as acked.
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
        """Do nothing: holes are noted where they are read, see `_read`."""

    # -- reading ----------------------------------------------------------------------------

    async def fetches(self, topics: Iterable[str]) -> AsyncIterator[list[Any]]:
        """Read `topics` for the agent that calls this, until it is cancelled.

        Yields:
            Faust events, in the order of each partition; at most `_POLL_RECORDS`. The stream of the
            agent gets none of them, and each has to be acked.
        """
        self._taken |= frozenset(topics)
        app, new = self.app, self._new_for_agent
        while True:
            new.clear()  # before reading, so that no record that arrives meanwhile is missed
            events: list[Any] = []
            if self.flow_active and app.flow_control.is_active():
                active = {tp for tp in self._get_active_partitions() if tp.topic in self._taken}
                for tp, records in (await self._read(active)).items():
                    events += [self._to_event(tp, record) for record in records]
            if not events:
                await new.wait()
            elif self.flow_active:  # else the app stops: they are read again after a restart
                yield events

    def _to_event(self, tp: TP, record: StoredRecord) -> Any:
        message = self._to_message(tp, record)
        message.tracked = True
        self._unacked_messages.add(message)
        return self.app.create_event(message.key, message.value, message.headers, message)

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        """As in Faust, but a pause of all partitions ends when one resumes, not after a second."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions()
        return await self._getmany(active, timeout), active

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> Mapping[TP, list[StoredRecord]]:
        """Records that Faust delivers; waits without a limit, because stopping cancels the wait."""
        new = self._new_for_faust
        if self._log is None or not self.flow_active:
            return {}
        new.clear()
        wanted = self._assigned if active_partitions is None else active_partitions
        records = await self._read({tp for tp in wanted if tp.topic not in self._taken})
        if not records and self.flow_active:
            await new.wait()
        return records

    async def _read(self, active: set[TP]) -> dict[TP, list[StoredRecord]]:
        store = self._store()
        wanted = sorted(self._assigned & active)
        records: dict[TP, list[StoredRecord]] = {}
        room = _POLL_RECORDS
        self._turn += 1
        turn = self._turn  # a copy: while this reads from the disk, another task may read, too
        for n in range(len(wanted)):
            tp = wanted[(n + turn) % len(wanted)]
            at, end = self._positions[tp], store.end_offset(*tp)
            if at >= end:
                continue
            found = store.read_recent(tp.topic, tp.partition, at, room, _POLL_BYTES)
            if found is None:
                found = await asyncio.to_thread(
                    store.read, tp.topic, tp.partition, at, room, _POLL_BYTES
                )
                if self._positions.get(tp) != at:  # a seek happened meanwhile
                    continue
            if not found:  # only a hole up to the end
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
        if to > at and not self._store().is_compacted(tp.topic):  # compaction leaves holes
            self.skipped += to - at
            log.error(
                "%s skips records %d to %d of %s[%d]: they were deleted before it read them",
                self.app.conf.id,
                at,
                to - 1,
                *tp,
            )

    def _to_message(self, tp: TP, record: StoredRecord) -> ConsumerMessage:
        self._uncommitted.set()
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
        """Resume reading when the buffer of an agent has room again."""
        super().on_buffer_drop(tp)
        self._wake()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume reading from partitions."""
        super().resume_partitions(tps)
        self._wake()

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def resume_flow(self) -> None:
        """Resume reading."""
        super().resume_flow()
        self._wake()

    def _note_appended(self, changed: frozenset[tuple[str, int]]) -> None:
        for topic, _ in changed:
            if topic in self._taken:
                self._new_for_agent.set()
            elif topic in self._topics:
                self._new_for_faust.set()

    def _wake(self) -> None:
        self._new_for_faust.set()
        self._new_for_agent.set()

    def _store(self) -> SqliteLog:
        if self._log is None:
            msg = "the consumer was used before it was started"
            raise ImproperlyConfigured(msg)
        return self._log


def _assign_all(assignor: Any, counts: Mapping[str, int]) -> None:
    """Have Faust's own assignor assign everything to this only member of the group."""
    metadata = assignor.metadata(set(counts))
    assignments = assignor.assign(_Cluster(counts), {_MEMBER: metadata})
    assignor.on_assignment(assignments[_MEMBER])


class _Cluster:
    """The part of Kafka's cluster metadata that the assignor needs."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._counts.get(topic, 0)))
