"""Messages wait while this machine's clock is behind; nothing is lost, late or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingest.bridge import Bridge
from ingest.clock import MachineClock
from ingest.clockjudge import ALONE_S
from ingest.decoder import Decoded, Sent
from ingest.errors import LogUnavailable, RefusalReason
from ingest.settings import IngestSettings
from ingest.topics import Address
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker

NOW = 1_790_000_000_000
HOUR = 3_600_000


class Clocks:
    """The clock of a machine that is an hour behind its devices, and its monotonic clock."""

    def __init__(self, ms: int = NOW - HOUR) -> None:
        self.ms, self.s = ms, 100.0


@asynccontextmanager
async def running(
    broker: ScriptedBroker, log: FakeLog, clocks: Clocks, **more: Any
) -> AsyncIterator[Bridge]:
    bridge = Bridge(
        IngestSettings(mqtt_port=broker.port),
        log,
        now_ms=lambda: clocks.ms,
        steady_s=lambda: clocks.s,
        **more,
    )
    async with running_bridge(bridge, asyncio.CancelledError, LogUnavailable):
        yield bridge


def topic(device: int) -> str:
    return f"sensors/plant/press-{device}/engine"


async def test_all_devices_wait_for_the_right_time_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, clocks = FakeLog(), Clocks()
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        for number in range(1, 301):
            broker.publish(number, topic(number % 7), body(number, NOW))
        await until(lambda: bridge.unconfirmed == 300 and bridge.health().clock_problem)
        health = bridge.health()
        assert health.clock_problem is not None
        assert "about 60 minutes behind the devices" in health.clock_problem
        assert health.held == 300
        assert health.saturated
        assert (broker.acks, log.records) == ([], [])
        assert caplog.text.count("this machine's clock is wrong") == 1
        clocks.ms = NOW
        await until(lambda: len(broker.acks) == 300)
        assert broker.acks == list(range(1, 301))
        assert sorted(log.numbers()) == list(range(1, 301))
        assert log.dead_letters() == []
        assert {batch.recv_ms for batch in log.batches()} == {NOW}
        for device in range(7):
            numbers = log.numbers(f"press-{device}")
            assert numbers == sorted(numbers)
        assert (bridge.health().clock_problem, bridge.health().held) == (None, 0)
        assert bridge.health().held_total == 300
        assert bridge.counters.received_total == bridge.counters.logged_total == 300


async def test_a_step_back_in_the_middle_holds_the_first_message_after_it() -> None:
    log, clocks = FakeLog(), Clocks(NOW)
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        for number in range(1, 51):
            broker.publish(number, topic(number), body(number, NOW))
        await until(lambda: len(broker.acks) == 50)
        clocks.ms -= HOUR
        for number in range(51, 101):
            broker.publish(number, topic(number - 50), body(number, NOW))
        await until(lambda: bridge.health().held == 50)
        clocks.ms += HOUR
        await until(lambda: len(broker.acks) == 100)
        assert log.dead_letters() == []
        assert sorted(log.numbers()) == list(range(1, 101))


async def test_one_device_that_is_ahead_holds_nobody_back() -> None:
    log, clocks = FakeLog(), Clocks(NOW)
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        for number in range(1, 11):
            broker.publish(number, topic(number), body(number, NOW))
        broker.publish(11, topic(99), body(11, NOW + HOUR))
        broker.publish(12, topic(1), body(12, NOW))
        await until(lambda: len(broker.acks) == 12)
        assert [letter.reason for letter in log.dead_letters()] == [RefusalReason.future]
        assert bridge.health().held_total == 0


async def test_a_device_with_nobody_to_compare_waits_and_is_then_refused() -> None:
    log, clocks = FakeLog(), Clocks(NOW)
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        broker.publish(1, topic(1), body(1, NOW + HOUR))
        await until(lambda: bridge.health().held == 1)
        assert bridge.health().clock_problem is None
        clocks.s += ALONE_S
        await until(lambda: broker.acks == [1])
        broker.publish(2, topic(1), body(2, NOW + HOUR))
        await until(lambda: broker.acks == [1, 2])
        assert [letter.reason for letter in log.dead_letters()] == 2 * [RefusalReason.future]


async def test_the_vote_of_a_second_device_frees_the_first() -> None:
    log, clocks = FakeLog(), Clocks(NOW)
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        broker.publish(1, topic(1), body(1, NOW + HOUR))
        await until(lambda: bridge.health().held == 1)
        broker.publish(2, topic(2), body(2, NOW))
        await until(lambda: broker.acks == [1, 2])
        assert log.numbers() == [2.0]
        assert [letter.reason for letter in log.dead_letters()] == [RefusalReason.future]


async def test_no_tick_while_messages_wait_and_silence_begins_anew() -> None:
    log, clocks = FakeLog(), Clocks()
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        assert bridge.next_tick() is not None
        for number in (1, 2):
            broker.publish(number, topic(number), body(number, NOW))
        await until(lambda: bridge.health().held == 2)
        assert bridge.next_tick() is None
        clocks.ms = NOW
        await until(lambda: bridge.health().held == 0)
        tick = bridge.next_tick()
        assert tick is not None
        assert tick.since_ms == tick.now_ms == NOW


async def test_a_tick_reads_both_times_together() -> None:
    log, clocks = FakeLog(), Clocks(NOW)
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        clocks.ms += 40 * 24 * HOUR  # the heartbeat has not seen this step yet
        tick = bridge.next_tick()
        assert tick is not None
        assert tick.now_ms - tick.since_ms == 0


async def test_a_stop_leaves_held_messages_with_the_broker() -> None:
    log, clocks = FakeLog(), Clocks()
    async with ScriptedBroker() as broker:
        async with running(broker, log, clocks) as bridge:
            for number in (1, 2, 3):
                broker.publish(number, topic(number), body(number, NOW))
            await until(lambda: bridge.health().held == 3)
        assert (broker.acks, log.records, bridge.unconfirmed) == ([], [], 0)


async def test_held_messages_are_not_doubled_by_a_reconnect() -> None:
    log, clocks = FakeLog(), Clocks()
    async with (
        ScriptedBroker(session_present=True) as broker,
        running(broker, log, clocks) as bridge,
    ):
        for number in (1, 2, 3):
            broker.publish(number, topic(number), body(number, NOW))
        await until(lambda: bridge.health().held == 3)
        await broker.drop()
        await until(lambda: bridge.counters.connects_total == 2 and bridge.health().connected)
        for number in (1, 2, 3):
            broker.publish(number, topic(number), body(number, NOW))
        await until(lambda: bridge.unconfirmed == 3 == bridge.health().held)
        clocks.ms = NOW
        await until(lambda: broker.acks == [1, 2, 3])
        assert log.numbers() == [1.0, 2.0, 3.0]


async def test_the_clock_that_nobody_set_holds_even_a_single_device() -> None:
    log, clocks = FakeLog(), Clocks(86_400_000)
    async with ScriptedBroker() as broker, running(broker, log, clocks) as bridge:
        broker.publish(1, topic(1), body(1, NOW))
        await until(lambda: bridge.health().clock_problem)
        clocks.s += 10 * ALONE_S
        clocks.ms = NOW
        await until(lambda: broker.acks == [1])
        assert log.numbers() == [1.0]


async def test_a_clock_that_is_set_right_needs_no_minute_to_be_believed() -> None:
    log, steady_ms, ahead_ms = FakeLog(), 0, NOW - HOUR
    clock = MachineClock(lambda: steady_ms + ahead_ms, lambda: steady_ms)
    async with ScriptedBroker() as broker:
        settings = IngestSettings(mqtt_port=broker.port)
        bridge = Bridge(settings, log, now_ms=clock.now_ms, settle=clock.settle)
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().connected)
        for number in (1, 2, 3):
            broker.publish(number, topic(number), body(number, NOW))
        await until(lambda: bridge.health().clock_problem)
        ahead_ms += HOUR
        await until(lambda: broker.acks == [1, 2, 3], 50)
        assert log.numbers() == [1.0, 2.0, 3.0]
        bridge.stop()
        await asyncio.wait_for(task, 120)


class Timed:
    """A decoder whose messages are `NODE TIME`; it counts what reaches its memory."""

    filters = ("timed/+",)

    def __init__(self) -> None:
        self.decoded: list[str] = []

    def takes(self, topic: str) -> bool:
        return topic.startswith("timed/")

    def sent_at(self, topic: str, payload: bytes, recv_ms: int) -> Sent | None:
        node, ms = payload.decode().split()
        return Sent(node, int(ms), int(ms))

    def decode(
        self,
        topic: str,
        payload: bytes,
        recv_ms: int,
        qos: int,
        *,
        is_dup: bool = False,
        is_retained: bool = False,
    ) -> Decoded:
        node, ms = payload.decode().split()
        self.decoded.append(node)
        return Decoded([(Address("s", node, "imu"), body(0, int(ms)))])

    def due(self, now_ms: int | None, quiet_since_ms: int | None) -> list[Any]:
        return []

    def checkpoint(self) -> None:
        return None

    async def keep(self, checkpoint: object) -> None: ...

    def connected(self, now_ms: int) -> None: ...

    def outgoing(self, now_ms: int) -> list[Any]:
        return []

    def farewell(self, now_ms: int) -> None:
        return None


async def test_a_second_format_is_held_before_its_memory_changes() -> None:
    log, clocks, timed = FakeLog(), Clocks(), Timed()
    async with (
        ScriptedBroker() as broker,
        running(broker, log, clocks, decoders=[timed]) as bridge,
    ):
        for number in (1, 2, 3):
            broker.publish(number, "timed/x", f"node-{number} {NOW}".encode())
        await until(lambda: bridge.health().held == 3 and bridge.health().clock_problem)
        assert timed.decoded == []
        clocks.ms = NOW
        await until(lambda: broker.acks == [1, 2, 3])
        assert timed.decoded == ["node-1", "node-2", "node-3"]
        assert len(log.batches()) == 3
        assert log.dead_letters() == []
