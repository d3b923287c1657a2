"""Faust on Kafka, with commits that never pass an unacked record: the transport of a site's apps.

Faust's own consumer loses records around a rebalance: it commits over holes, it may ack records
that it skips, and records that it drops from its queues end up below the committed offset. Here:

- **A commit never passes a record that no agent acked.** The committed offset is the end of the
  unbroken run of acks since the assignment; acks for records of an earlier assignment are ignored.
- **A hole is detected where records are used** (`follow`): an agent sees each partition without a
  gap, or the app crashes with the offsets in its reason, and a restart reads them again. Records
  that Kafka deleted before they were read are skipped, logged and counted.
- **An app that was removed from its group commits nothing**, not even into an empty group.

`docs/faust-internals.md` lists the private parts of Faust and aiokafka that are used here; a test
on a real Kafka checks them at an upgrade.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import WaitResults
from mode.utils.futures import notify

from pipeline.errors import LogHole
from pipeline.log.backpressure import WaitsForRoom
from pipeline.log.handover import Handover

__all__ = ["Consumer", "KafkaApp", "Transport", "follow", "offsets_in_use"]

log = logging.getLogger(__name__)


class Consumer(Handover, WaitsForRoom, driver.Consumer):  # type: ignore[misc]
    """Reads Kafka for one Faust app; the group is the app's id.

    Attributes:
        skipped: Records that Kafka deleted before this app had read them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped = 0
        self._seeking: set[asyncio.Future[Any]] = set()
        self._next_offsets: dict[TP, int] = {}  # the next record that an agent uses
        self._acked_until: dict[TP, int] = {}  # end of the unbroken run of acks

    # -- without holes ----------------------------------------------------------------------

    async def follow(self, message: Any) -> None:
        """Note that an agent is about to use a record.

        Raises:
            LogHole: The record before it was not seen, although Kafka still has it.
        """
        tp, offset = message.tp, message.offset
        expected = self._next_offsets.get(tp)
        if expected is None:
            expected = await self._begin(tp)
        if offset > expected:
            first = (await self.earliest_offsets(tp))[tp] or 0
            if first <= expected or offset > first:
                msg = (
                    f"{tp.topic}[{tp.partition}] continued with record {offset} instead of "
                    f"{expected}; a restart reads them again"
                )
                raise LogHole(msg)
            self.skipped += offset - expected
            log.error("%s: Kafka deleted %d records before they were read", tp, offset - expected)
            self._acked_until[tp] = offset
        self._next_offsets[tp] = max(expected, offset + 1)

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

    async def _begin(self, tp: TP) -> int:
        """Start of this assignment: the committed offset, or the first stored record."""
        start = self._committed_offset[tp]
        if start is None:
            start = (await self.earliest_offsets(tp))[tp] or 0
        self._acked_until.setdefault(tp, start)
        return int(start)

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> Any:
        """Wait for one of several; a coroutine that completes at its first step costs no task.

        Faust calls this for every record, to deliver it unless the flow is suspended meanwhile.
        With room in the buffer, delivery completes at once; the four tasks per record of Faust's
        method were half of the cost of a record.
        """
        if len(coros) != 2 or timeout is not None or self.suspend_flow.is_set():
            return await super().wait_first(*coros, timeout=timeout)
        delivery, suspended = coros
        try:
            pending = delivery.send(None)
        except StopIteration as done:
            suspended.close()
            return WaitResults([delivery], [done.value], False)
        except BaseException:
            suspended.close()
            raise
        return await super().wait_first(_continue(delivery, pending), suspended)

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


async def _continue(coroutine: Any, pending: Any) -> Any:
    """Continue a coroutine that was started with `send` and waits for `pending`."""
    return await _resume(coroutine, pending)


@types.coroutine
def _resume(coroutine: Any, pending: Any) -> Any:
    while True:
        try:
            try:
                sent = yield pending
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as exc:  # usually a cancellation
                pending = coroutine.throw(exc)
            else:
                pending = coroutine.send(sent)
        except StopIteration as done:
            return done.value


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's Kafka transport with the `Consumer` of this file."""

    Consumer: ClassVar[type[Consumer]] = Consumer


class KafkaApp(faust.App):  # type: ignore[misc]
    """A Faust app on ``kafka://`` with the `Transport` of this file.

    Attributes:
        on_rebalance_begin: Called in the app's thread when partitions are about to move.
        may_not_end: See `Handover.may_not_end`.
    """

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


async def follow(app: Any, message: Any) -> None:
    """Call `Consumer.follow`; crash the app at a hole, and do not return.

    An exception must not leave an agent's body, because Faust would ack the record.
    """
    try:
        await app.consumer.follow(message)
    except LogHole as exc:
        await app.crash(exc)
        await asyncio.Event().wait()  # until the crash stops the agent


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
