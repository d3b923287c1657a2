"""A consumer whose buffers were all full goes on when one has room, not a second later."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from faust.types import TP
from mode import Service

from pipeline import kafkatransport, transport
from pipeline.backpressure import WaitsForRoom

PLACE = TP("readings", 0)


class FaustsPart(Service):
    """What `faust.transport.consumer.Consumer` has of it: full buffers are not fetched."""

    flow_active = True

    def __init__(self) -> None:
        super().__init__()
        self.active: set[TP] = set()

    def _get_active_partitions(self) -> set[TP]:
        return self.active

    def on_buffer_drop(self, tp: TP) -> None:
        self.active.add(tp)

    async def _wait_next_records(self, timeout: float) -> Any:
        if not self.active:
            await self.sleep(1)
        return {PLACE: ["record"]} if self.active else {}, self.active


class Consumer(WaitsForRoom, FaustsPart):
    pass


async def test_it_goes_on_as_soon_as_there_is_room() -> None:
    consumer = Consumer()
    asyncio.get_running_loop().call_later(0.05, consumer.on_buffer_drop, PLACE)
    began = time.monotonic()
    records, active = await consumer._wait_next_records(1.0)
    assert records == {PLACE: ["record"]}
    assert active == {PLACE}
    assert time.monotonic() - began < 0.9  # Faust's own takes a second, and finds nothing


async def test_without_room_it_comes_back_to_be_asked_again() -> None:
    assert await Consumer()._wait_next_records(0.05) == ({}, set())


async def test_both_of_our_consumers_do_it() -> None:
    for kind in (transport.Consumer, kafkatransport.Consumer):
        order = kind.__mro__
        fausts = next(n for n, c in enumerate(order) if c.__module__.startswith("faust."))
        assert order.index(WaitsForRoom) < fausts
