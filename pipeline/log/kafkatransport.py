"""Faust on Kafka, with commits that never pass a record: the transport of a site's apps.

Faust's own consumer loses records around a rebalance: it commits over holes, it may ack what it
skips, and what it drops from its queues is then below the committed offset. Here

- **a commit never passes a record that was not acked by an agent.** The committed offset is the
  end of the unbroken run of acks since the assignment; acks of what came with an earlier
  assignment count for nothing.
- **a hole is noticed where records are used** (`follow`): an agent sees each partition without a
  gap, or the app crashes with the offsets in its reason, and a restart reads them again. Records
  that Kafka has deleted before they were read are passed over, logged and counted.
- **an app that was thrown out of its group commits nothing**, also not into an empty group.

It leans on these parts of Faust 0.15 that are not public; a test on a real Kafka guards an upgrade:
`_committed_offset`, `_unacked_messages`, `_filter_tps_with_pending_acks`, `_new_offset`, and the
consumer thread's `_consumer._coordinator.generation` of aiokafka.
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

__all__ = ["Consumer", "KafkaApp", "Transport", "follow", "places"]

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
        self._due: dict[TP, int] = {}  # the next record that an agent shall see
        self._settled: dict[TP, int] = {}  # the end of the unbroken run of acks

    # -- without holes ----------------------------------------------------------------------

    async def follow(self, message: Any) -> None:
        """Take notice that an agent is about to use a record.

        Raises:
            LogHole: The record before it was not seen, although Kafka has it.
        """
        tp, offset = message.tp, message.offset
        due = self._due.get(tp)
        if due is None:
            due = await self._begin(tp)
        if offset > due:
            first = (await self.earliest_offsets(tp))[tp] or 0
            if first <= due or offset > first:
                msg = (
                    f"{tp.topic}[{tp.partition}] went on with record {offset} where {due} was due; "
                    "a restart reads them again"
                )
                raise LogHole(msg)
            self.skipped += offset - due
            log.error("%s: Kafka has deleted %d records before they were read", tp, offset - due)
            self._settled[tp] = offset
        self._due[tp] = max(due, offset + 1)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Back to where each partition goes on; Faust asks for it before records flow again.

        Partitions that nobody has committed begin at their first record: Faust and aiokafka let
        them stand where fetching has got to since the assignment, and Faust has thrown away what
        was fetched. This does not wait for their leaders; fetching does.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        fresh = [tp for tp, offset in committed.items() if not offset]
        for tp in fresh:
            self._committed_offset[TP(*tp)] = None  # of an earlier assignment, never confirmed
        if fresh:
            await self._thread.call_thread(self._begin_anew, fresh)
        return committed

    async def _begin_anew(self, partitions: Sequence[TP]) -> None:
        """In the consumer's thread; returns before the partitions' leaders have answered."""
        client = self._thread._consumer  # noqa: SLF001
        here = client.assignment()
        fresh = [tp for tp in partitions if tp in here]
        if fresh:
            seeking = asyncio.ensure_future(client.seek_to_beginning(*fresh))
            self._seeking.add(seeking)
            seeking.add_done_callback(self._sought)
            await asyncio.sleep(0)  # its first step

    def _sought(self, seeking: asyncio.Future[Any]) -> None:
        self._seeking.discard(seeking)
        if not seeking.cancelled() and seeking.exception() is not None:
            log.debug("not sought to the beginning", exc_info=seeking.exception())

    def next_offset(self, tp: TP) -> int | None:
        """The record that an agent uses next; None before the first one of this assignment."""
        return self._due.get(tp)

    async def _begin(self, tp: TP) -> int:
        """Where this assignment began: the committed offset, or the first record there is."""
        start = self._committed_offset[tp]
        if start is None:
            start = (await self.earliest_offsets(tp))[tp] or 0
        self._settled.setdefault(tp, start)
        return int(start)

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> Any:
        """Wait for one of several; what is done at its first step costs no task.

        Faust asks this for every record: hand it over, unless the flow is suspended meanwhile. As
        long as there is room for the record that is done at once, and four tasks a record were
        half of what a record costs.
        """
        if len(coros) != 2 or timeout is not None or self.suspend_flow.is_set():
            return await super().wait_first(*coros, timeout=timeout)
        hand_over, suspended = coros
        try:
            pending = hand_over.send(None)
        except StopIteration as done:
            suspended.close()
            return WaitResults([hand_over], [done.value], False)
        except BaseException:
            suspended.close()
            raise
        return await super().wait_first(_go_on(hand_over, pending), suspended)

    # -- committing -------------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Note that an agent is done with a record; must be called in the order of delivery.

        What Faust skips was handed to no agent (`tracked`) and counts for nothing, nor does what
        was fetched under an earlier assignment: it comes again, to whoever has the partition now.
        """
        counts = message.tracked and message.generation_id == self.app.consumer_generation_id
        message.acked = True
        self._unacked_messages.discard(message)
        if counts and self._settled.get(message.tp) == message.offset:
            self._settled[message.tp] = message.offset + 1
        notify(self._waiting_for_ack)
        return bool(counts)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for tp in list(self._settled):
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        return self._settled.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Faust would commit over it; see `follow`."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self._abandoned or self.app.crashed or not self.is_member:
            return False
        return bool(await super()._commit(offsets))

    @property
    def is_member(self) -> bool:
        """Whether the group still counts us in, as far as we know."""
        client = self._thread._consumer  # noqa: SLF001
        return client is not None and client._coordinator.generation >= 0  # noqa: SLF001

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Wait for acks and commit (Faust does); then nothing of this assignment counts any more.

        Faust forgets what is committed before it commits for the last time.
        """
        try:
            await super().on_partitions_revoked(revoked)
        finally:
            self._due.clear()
            self._settled.clear()


async def _go_on(coroutine: Any, pending: Any) -> Any:
    """The rest of a coroutine that was started by hand and waits for `pending`."""
    return await _rest(coroutine, pending)


@types.coroutine
def _rest(coroutine: Any, pending: Any) -> Any:
    while True:
        try:
            try:
                sent = yield pending
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as exc:  # a cancellation, usually
                pending = coroutine.throw(exc)
            else:
                pending = coroutine.send(sent)
        except StopIteration as done:
            return done.value


class Transport(driver.Transport):  # type: ignore[misc]
    """Kafka, read by our `Consumer`."""

    Consumer: ClassVar[type[Consumer]] = Consumer


class KafkaApp(faust.App):  # type: ignore[misc]
    """A Faust app whose broker is ``kafka://`` over our `Transport`.

    Attributes:
        on_rebalance_begin: Called, in the app's thread, when partitions are about to move.
        may_not_end: See `Handover.may_not_end`.
    """

    on_rebalance_begin: Callable[[], None] | None = None
    may_not_end: Callable[[], bool] | None = None
    has_joined = False
    """Whether it has had partitions (or was told that there are none for it) since its start."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_consumer(self) -> Any:
        consumer = super()._new_consumer()
        consumer.may_not_end = self.may_not_end
        return consumer

    def on_rebalance_return(self) -> None:
        """Faust calls it when our handlers have ended; with state to read, that is after the end.

        Then it has no notes of its sensors any more, and would warn of it every time.
        """
        if self._rebalancing_sensor_state:
            super().on_rebalance_return()

    def on_rebalance_end(self) -> None:
        """Faust calls it when records flow again."""
        super().on_rebalance_end()
        self.has_joined = True

    def on_rebalance_start(self) -> None:
        """Faust calls it in the consumer's thread, before anything else happens."""
        super().on_rebalance_start()
        if self.on_rebalance_begin is not None:
            self.loop.call_soon_threadsafe(self.on_rebalance_begin)


async def follow(app: Any, message: Any) -> None:
    """`Consumer.follow`; does not return after a hole.

    An exception must not leave an agent's body, so the app is crashed with the reason instead.
    """
    try:
        await app.consumer.follow(message)
    except LogHole as exc:
        await app.crash(exc)
        await asyncio.Event().wait()  # wait to be stopped


def places(app: Any) -> dict[tuple[str, int], tuple[int | None, int | None]]:
    """Of every partition a started app has: the record it uses next, and what it has committed.

    None where it has not begun, or has committed nothing yet.
    """
    consumer = app.consumer
    found = {}
    for tp in consumer.assignment():
        if app.topics.acks_enabled_for(tp.topic):
            committed = consumer._committed_offset.get(tp)  # noqa: SLF001
            found[tp.topic, tp.partition] = (consumer.next_offset(tp), committed)
    return found
