"""Faust on Kafka, with commits that never pass an unacked record: the transport of a site's apps.

Faust's own consumer loses records around a rebalance: it commits over holes, it may ack records
that it skips, and records that it drops from its queues end up below the committed offset. Here:

- **A commit never passes a record that no agent acked.** The committed offset is the end of the
  unbroken run of acks since the assignment; acks for records of an earlier assignment are ignored.
- **A hole is detected where records are used** (`Consumer.fetches`): an agent sees each partition
  without a gap, or the app crashes with the offsets in its reason, and a restart reads them again.
  Records that Kafka deleted before they were read are skipped, logged and counted.
- **An app that was removed from its group commits nothing**, not even into an empty group.

Agents take whole fetches, past the channel of their stream: Faust's way costs a lock, a queue and
several turns of the event loop for each record. While little comes, fetches are few: the next one
waits a moment (`_PAUSE_S`), and an app may let Kafka gather records for it (`KafkaApp.gather_ms`).
So several bridges or workers that append at different moments cause no more wake-ups, and no more
requests to Kafka, than one.

`docs/faust-internals.md` lists the private parts of Faust and aiokafka that are used here; a test
on a real Kafka checks them at an upgrade.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import notify

from pipeline.errors import LogHole
from pipeline.log.handover import Handover

__all__ = ["Consumer", "KafkaApp", "Transport", "offsets_in_use"]

log = logging.getLogger(__name__)

_POLL_S = 1.0
_IDLE_WAIT_MS = 1_500
"""Time for which Kafka holds a request for records while there are none; Faust's own."""
_PAUSE_S = 0.05
"""Time from a fetch that brought little to the next one."""
_LITTLE_BYTES = 128 * 1024
"""Bytes of one fetch above which there is a backlog, and no pause."""


class Consumer(Handover, driver.Consumer):  # type: ignore[misc]
    """Reads Kafka for one Faust app; the group is the app's id.

    Attributes:
        skipped: Records that Kafka deleted before this app had read them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped = 0
        self._taken: frozenset[str] = frozenset()
        self._may_fetch = asyncio.Event()
        self._seeking: set[asyncio.Future[Any]] = set()
        self._next_offsets: dict[TP, int] = {}  # the next record that an agent uses
        self._acked_until: dict[TP, int] = {}  # end of the unbroken run of acks

    # -- reading ----------------------------------------------------------------------------

    async def fetches(self, topics: Iterable[str]) -> AsyncIterator[list[Any]]:
        """Read `topics` for the agent that calls this, until it is cancelled.

        An app that uses this reads all its topics with it. At a hole in a partition, and when
        Kafka's client fails, the app crashes, and this waits for the end: an exception must not
        leave the body of an agent, because Faust would restart the agent alone.

        Yields:
            Faust events, in the order of each partition. The stream of the agent gets none of
            them, and each has to be acked.
        """
        self._taken |= frozenset(topics)
        while not self.should_stop:
            await self._may_fetch.wait()
            try:
                events, size = await self._fetch()
            except Exception as exc:
                if not self.app.should_stop:
                    await self.app.crash(exc)
                break
            self._gather(has_come=bool(events))
            if events:
                yield events
                if size < _LITTLE_BYTES:
                    await asyncio.sleep(_PAUSE_S)
        await asyncio.Event().wait()  # until the agent is cancelled

    async def _fetch(self) -> tuple[list[Any], int]:
        """Return the next records as events, and their size in bytes; waits `_POLL_S` at most."""
        app = self.app
        found: list[Any] = []
        size = 0
        async for tp, message in self.getmany(_POLL_S):
            if await self._is_new(message):
                self._read_offset[tp] = message.offset
                found.append(message)
                size += len(message.value or b"")
        if not self.flow_active:  # partitions are about to move: their next owner reads them
            return [], 0
        events = []
        for message in found:
            if message.generation_id == app.consumer_generation_id:
                message.tracked = True
                self._unacked_messages.add(message)
                headers = message.headers
                events.append(app.create_event(message.key, message.value, headers, message))
        return events, size

    def _gather(self, *, has_come: bool) -> None:
        """Let Kafka gather records for the fetches to come, unless it has none anyway.

        The first record after a silence is then delivered at once. aiokafka reads these two when
        it makes a request, in the consumer's thread.
        """
        client = self._thread._consumer  # noqa: SLF001
        if self.app.gather_ms and client is not None:
            fetcher = client._fetcher  # noqa: SLF001
            fetcher._fetch_max_wait_ms = self.app.gather_ms if has_come else _IDLE_WAIT_MS  # noqa: SLF001
            fetcher._fetch_min_bytes = _LITTLE_BYTES if has_come else 1  # noqa: SLF001

    async def _drain_messages(self, fetcher: Any) -> None:
        """Do what Faust does only for agents that do not call `fetches`."""
        if not self._taken:
            await super()._drain_messages(fetcher)
            return
        self._may_fetch.set()  # partitions are assigned, and flow has resumed
        try:
            await fetcher.wait_until_stopped()
        finally:
            self._may_fetch.clear()

    async def _is_new(self, message: Any) -> bool:
        """Whether an agent has not got a record in this assignment; notes that it gets it now.

        False, and nothing is noted, if partitions begin to move meanwhile.

        Raises:
            LogHole: The record before it was not seen, although Kafka still has it.
        """
        tp, offset = message.tp, message.offset
        expected = self._next_offsets.get(tp)
        if expected is None:
            expected = await self._first_expected(tp)
        first = 0 if offset <= expected else (await self.earliest_offsets(tp))[tp] or 0
        is_current = message.generation_id == self.app.consumer_generation_id
        if offset < expected or not (self.flow_active and is_current):
            return False
        self._acked_until.setdefault(tp, expected)
        if offset > expected:
            if first <= expected or offset > first:
                msg = (
                    f"{tp.topic}[{tp.partition}] continued with record {offset} instead of "
                    f"{expected}; a restart reads them again"
                )
                raise LogHole(msg)
            self.skipped += offset - expected
            log.error("%s: Kafka deleted %d records before they were read", tp, offset - expected)
            self._acked_until[tp] = offset
        self._next_offsets[tp] = offset + 1
        return True

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek each partition to its committed offset; Faust calls this before records flow again.

        Partitions without a committed offset begin at their first record. Faust and aiokafka leave
        them where fetching has got to since the assignment, although Faust discarded what was
        fetched. This does not wait for the partition leaders; fetching does.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        fresh = [tp for tp, offset in committed.items() if not offset]
        for tp in fresh:
            self._committed_offset[TP(*tp)] = None  # left from an earlier assignment, not confirmed
        if fresh:
            await self._thread.call_thread(self._seek_to_first, fresh)
        return committed

    async def _seek_to_first(self, partitions: Sequence[TP]) -> None:
        """Runs in the consumer's thread; returns before the partition leaders have answered."""
        client = self._thread._consumer  # noqa: SLF001
        here = client.assignment()
        fresh = [tp for tp in partitions if tp in here]
        if fresh:
            seeking = asyncio.ensure_future(client.seek_to_beginning(*fresh))
            self._seeking.add(seeking)
            seeking.add_done_callback(self._log_failed_seek)
            await asyncio.sleep(0)  # run its first step

    def _log_failed_seek(self, seeking: asyncio.Future[Any]) -> None:
        self._seeking.discard(seeking)
        if not seeking.cancelled() and seeking.exception() is not None:
            log.debug("seeking to the first record failed", exc_info=seeking.exception())

    def next_offset(self, tp: TP) -> int | None:
        """Next record that an agent uses; None before the first one of this assignment."""
        return self._next_offsets.get(tp)

    async def _first_expected(self, tp: TP) -> int:
        """Start of this assignment: the committed offset, or the first stored record."""
        start = self._committed_offset[tp]
        if start is None:
            start = (await self.earliest_offsets(tp))[tp] or 0
        return int(start)

    # -- committing -------------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Note that an agent is done with a record; must be called in the order of delivery.

        Acks of records that Faust skipped (not `tracked`) or fetched under an earlier assignment
        are ignored: these records are redelivered to the current owner.
        """
        counts = message.tracked and message.generation_id == self.app.consumer_generation_id
        message.acked = True
        self._unacked_messages.discard(message)
        if counts and self._acked_until.get(message.tp) == message.offset:
            self._acked_until[message.tp] = message.offset + 1
        notify(self._waiting_for_ack)
        return bool(counts)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in list(self._acked_until):
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        return self._acked_until.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: Faust would commit over the gap; see `follow`."""

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        """As in Faust, without the table that it draws of all offsets for its debug log."""
        assigned = self.assignment()
        held = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        if not held:
            return False
        await self.app.producer.flush()  # what was computed from the records
        did_commit = await self._commit(held)
        self._committed_offset.update(held)
        return did_commit

    @Service.task  # type: ignore[untyped-decorator]
    async def _commit_livelock_detector(self) -> None:
        """Do nothing: `deploy.processes.partitionwatch` notices partitions without progress."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self._abandoned or self.app.crashed or not self.is_member:
            return False
        return bool(await super()._commit(offsets))

    @property
    def is_member(self) -> bool:
        """Whether this consumer believes that it is a member of its group."""
        client = self._thread._consumer  # noqa: SLF001
        return client is not None and client._coordinator.generation >= 0  # noqa: SLF001

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let Faust wait for acks and commit, then forget this assignment.

        Faust clears its own committed offsets before its last commit, so these must outlive it.
        """
        try:
            await super().on_partitions_revoked(revoked)
        finally:
            self._next_offsets.clear()
            self._acked_until.clear()


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's Kafka transport with the `Consumer` of this file."""

    Consumer: ClassVar[type[Consumer]] = Consumer


class KafkaApp(faust.App):  # type: ignore[misc]
    """A Faust app on ``kafka://`` with the `Transport` of this file.

    Attributes:
        on_rebalance_begin: Called in the app's thread when partitions are about to move.
        may_not_end: See `Handover.may_not_end`.
        gather_ms: Milliseconds for which Kafka gathers records for a fetch while some come; 0: a
            fetch brings what is there. On average a record waits for half of it.
    """

    gather_ms = 0
    on_rebalance_begin: Callable[[], None] | None = None
    may_not_end: Callable[[], bool] | None = None
    has_joined = False
    """Whether the app has finished a rebalance since its start, with or without partitions."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_consumer(self) -> Any:
        consumer = super()._new_consumer()
        consumer.may_not_end = self.may_not_end
        return consumer

    def on_rebalance_return(self) -> None:
        """Called by Faust when the rebalance handlers have ended.

        Reading state outlasts the rebalance. Faust has dropped its sensor state by then and would
        log a warning every time, so its method is skipped.
        """
        if self._rebalancing_sensor_state:
            super().on_rebalance_return()

    def on_rebalance_end(self) -> None:
        """Called by Faust when records flow again."""
        super().on_rebalance_end()
        self.has_joined = True

    def on_rebalance_start(self) -> None:
        """Called by Faust in the consumer's thread, before anything else happens."""
        super().on_rebalance_start()
        if self.on_rebalance_begin is not None:
            self.loop.call_soon_threadsafe(self.on_rebalance_begin)


def offsets_in_use(app: Any) -> dict[tuple[str, int], tuple[int | None, int | None]]:
    """Next record and committed offset of every partition of a started app.

    None where no record was used, or nothing committed, yet.
    """
    consumer = app.consumer
    found = {}
    for tp in consumer.assignment():
        if app.topics.acks_enabled_for(tp.topic):
            committed = consumer._committed_offset.get(tp)  # noqa: SLF001
            found[tp.topic, tp.partition] = (consumer.next_offset(tp), committed)
    return found
