"""A consumer with full buffers continues when one has room, not a second later."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from faust.types import TP
from mode import Service

from pipeline.log.backpressure import WaitsForRoom

FULL, QUIET = TP("readings", 0), TP("readings", 1)


class FaustsPart(Service):
    """The relevant part of `faust.transport.consumer.Consumer`: full buffers are not fetched."""

    flow_active = True

    def __init__(self, *active: TP) -> None:
        super().__init__()
        self.active = set(active)
        self._buffered_partitions = {FULL}

    def _get_active_partitions(self) -> set[TP]:
        return self.active

    def on_buffer_drop(self, tp: TP) -> None:
        self.active.add(tp)
        self._buffered_partitions.discard(tp)

    async def _wait_next_records(self, timeout: float) -> Any:
        """Return records of `FULL` only, if it is active."""
        active = set(self.active)
        if not active:
            await self.sleep(1)
        elif FULL not in active:
            await asyncio.sleep(timeout)
        return {FULL: ["record"]} if FULL in active else {}, active


class Consumer(WaitsForRoom, FaustsPart):
    pass


async def seconds_until_records(consumer: Consumer) -> float:
    asyncio.get_running_loop().call_later(0.05, consumer.on_buffer_drop, FULL)
    began = time.monotonic()
    while True:
        records, _ = await consumer._wait_next_records(1.0)
        if records:
            return time.monotonic() - began


async def test_reading_continues_as_soon_as_there_is_room() -> None:
    assert await seconds_until_records(Consumer()) < 0.9  # Faust's own takes a second


async def test_a_quiet_partition_does_not_delay_the_others() -> None:
    assert await seconds_until_records(Consumer(QUIET)) < 0.9


async def test_without_room_the_wait_returns_and_is_no_busy_loop() -> None:
    consumer = Consumer()
    turns, began = 0, time.monotonic()
    while time.monotonic() - began < 0.5:
        assert await consumer._wait_next_records(0.1) == ({}, set())
        turns += 1
    assert turns <= 6
    await consumer.crash(RuntimeError("somebody else's"))
    began = time.monotonic()
    assert await consumer._wait_next_records(0.2) == ({}, set())
    assert time.monotonic() - began > 0.1
