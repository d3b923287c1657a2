"""The delivery promise with a scripted broker: acknowledgements, epochs, a failing log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from ingest.beat import LEAST_WINDOW
from ingest.blocks import decode_messages
from ingest.bridge import Bridge
from ingest.errors import LogUnavailable, RefusalReason
from ingest.kafka import MAX_REQUEST_BYTES
from ingest.messages import Batch, Tick
from ingest.mqtt.connection import Connection
from ingest.payloads import MAX_PAYLOAD_BYTES
from ingest.settings import IngestSettings
from ingest.topics import partition_of, probe_address
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker

TOPIC = "sensors/plant/press-1/engine"


class Clock:
    def __init__(self) -> None:
        self.ms = 1_700_000_100_000

    def __call__(self) -> int:
        return self.ms


@asynccontextmanager
async def running(
    broker: ScriptedBroker, log: FakeLog, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Bridge]:
    bridge = Bridge(IngestSettings(mqtt_port=broker.port, **settings), log, now_ms=clock or Clock())
    async with running_bridge(bridge, asyncio.CancelledError, LogUnavailable):
        yield bridge


async def test_the_partitions_of_a_log_may_become_known_after_the_bridge_is_built() -> None:
    log = FakeLog(partitions=0)  # as in Kafka, before the writer is connected
    async with ScriptedBroker() as broker:
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), log, now_ms=Clock())
        log.partitions = 4
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().connected)
        broker.publish(1, TOPIC, body(1))
        await until(lambda: broker.acks)
        bridge.stop()
        await asyncio.wait_for(task, 60)
    assert log.numbers() == [1.0]


async def test_acknowledges_in_order_and_only_what_is_in_the_log() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log):
        log.open.clear()
        for number in range(1, 301):
            broker.publish(number, f"sensors/plant/press-{number % 7}/engine", body(number))
        await until(lambda: log.under_way)
        assert broker.acks == []
        log.open.set()
        await until(lambda: len(broker.acks) == 300)
        assert broker.acks == list(range(1, 301))
        assert sorted(log.numbers()) == list(range(1, 301))
        for device in range(7):
            numbers = log.numbers(f"press-{device}")
            assert numbers == sorted(numbers)


async def test_messages_that_arrive_while_the_log_is_busy_form_bundles_per_partition() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log, bundle_messages=100) as bridge:
        log.open.clear()
        broker.publish(1, TOPIC, body(1))
        await until(lambda: log.under_way)
        for number in range(2, 252):
            broker.publish(number, TOPIC, body(number))
        broker.publish(252, "sensors/plant/press-2/engine", body(252))
        await until(lambda: bridge.unconfirmed == 252)
        assert (broker.acks, log.appends) == ([], 1)
        log.open.set()
        await until(lambda: len(broker.acks) == 252)
        assert log.most_under_way == 1
        home = partition_of(b"plant/press-1", 4)
        sizes = [len(decode_messages(record.value)) for record in log.records]
        assert max(sizes) <= 100
        assert len(log.records) < 30
        assert {r.partition for r in log.records} == {home, partition_of(b"plant/press-2", 4)}
        assert log.numbers("press-1") == list(range(1, 252))


async def test_bounds_a_record_by_readings_too() -> None:
    log = FakeLog()
    many = b'{"t0": 1700000000000, "dt_ms": 1, "values": {"n": [%s]}}' % b",".join([b"1"] * 8000)
    async with ScriptedBroker() as broker, running(broker, log, bundle_bytes=640 * 1024) as bridge:
        log.open.clear()
        broker.publish(1, TOPIC, body(1))
        await until(lambda: log.under_way)
        for number in range(2, 8):
            broker.publish(number, TOPIC, many)
        broker.publish(8, TOPIC, body(2))
        await until(lambda: bridge.unconfirmed == 8)
        log.open.set()
        await until(lambda: len(broker.acks) == 8)
        readings = [
            sum(
                len(item.ts_ms) for item in decode_messages(record.value) if isinstance(item, Batch)
            )
            for record in log.records
        ]
        assert sum(readings) == 6 * 8000 + 2
        assert max(readings) == 16_001
        assert len(readings) <= 5
        assert log.numbers()[-1] == 2  # in the order of arrival


async def test_the_largest_settings_make_no_record_that_kafka_would_refuse() -> None:
    log = FakeLog()
    numbers = b",".join([b"0.1"] * 5400)
    six = b",".join(b'"%s": [%s]' % (name, numbers) for name in (b"n", b"a", b"b", b"c", b"d"))
    most = b'{"t0": 1700000000000, "dt_ms": 1, "values": {%s}}' % six
    most += b" " * (MAX_PAYLOAD_BYTES - len(most))
    other = b'{"t0": 1700000000000, "dt_ms": 1, "values": {%s, "e": [%s]}}' % (six, numbers)
    other += b" " * (MAX_PAYLOAD_BYTES - len(other))
    settings = {"bundle_bytes": 640 * 1024, "dead_letter_bytes": 384 * 1024}
    with pytest.raises(ValidationError, match="bundle_bytes"):
        IngestSettings(bundle_bytes=640 * 1024 + 1)
    with pytest.raises(ValidationError, match="dead_letter_bytes"):
        IngestSettings(dead_letter_bytes=384 * 1024 + 1)
    async with ScriptedBroker() as broker, running(broker, log, **settings) as bridge:
        log.open.clear()
        broker.publish(1, TOPIC, body(1))
        await until(lambda: log.under_way)
        for number in range(2, 8):
            broker.publish(number, TOPIC, other if number == 4 else most)
        broker.publish(8, TOPIC, b"\x00" * 600 * 1024)
        await until(lambda: bridge.unconfirmed == 8)
        log.open.set()
        await until(lambda: len(broker.acks) == 8)
    sizes = [len(record.value) for record in log.records]
    assert max(sizes) > 640 * 1024
    assert max(sizes) < MAX_REQUEST_BYTES - 1000  # what a request has around it


async def test_connected_since_goes_back_with_the_clock() -> None:
    log, clock = FakeLog(), Clock()
    async with ScriptedBroker() as broker, running(broker, log, clock) as bridge:
        since = bridge.connected_since_ms
        assert since is not None
        clock.ms -= 3 * 3600 * 1000
        await until(lambda: bridge.connected_since_ms == clock.ms)
        clock.ms += 3 * 3600 * 1000  # and forward again, as after a stall
        await until(lambda: bridge.connected_since_ms == clock.ms)


async def test_reports_another_client_with_the_same_id() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        broker.send(b"\xe0\x02\x8e\x00")
        await until(lambda: not bridge.health().connected)
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(bridge.health().error)
        await until(lambda: bridge.health().connected)
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(bridge.health().error)
        broker.publish(1, TOPIC, body(1))
        await until(lambda: broker.acks == [1])


async def test_keeps_the_session_and_subscribes_with_every_connect() -> None:
    log = FakeLog()
    async with (
        ScriptedBroker() as broker,
        running(broker, log, receive_maximum=123, session_expiry_s=777) as bridge,
    ):
        broker.session_present = True
        await broker.drop()
        await until(lambda: bridge.counters.connects_total == 2 and broker.ready)
        first, second = broker.connects
        assert first == second
        assert first[7] & 0x02 == 0  # clean start is off, also for the first connect
        assert b"\x11" + (777).to_bytes(4, "big") in first  # session expiry interval
        assert b"\x21" + (123).to_bytes(2, "big") in first  # receive maximum
        assert b"kpstream-bridge" in first
        assert [s[3:] for s in broker.subscriptions] == [
            b"\x00\x09sensors/#\x11\x00\x08labels/#\x11"
        ] * 2


async def test_acknowledgement_of_an_old_connection_is_dropped() -> None:
    log = FakeLog()
    async with ScriptedBroker(session_present=True) as broker, running(broker, log) as bridge:
        log.open.clear()
        for number in (1, 2, 3):
            broker.publish(number, TOPIC, body(number))
        await until(lambda: bridge.unconfirmed == 3)
        await broker.drop()
        await until(lambda: bridge.counters.connects_total == 2 and broker.ready)
        # After a reconnect packet id 1 may mean another message: it must not be confirmed by
        # the append of the old one.
        broker.publish(1, TOPIC, body(4))
        await until(lambda: bridge.unconfirmed == 4)
        assert broker.acks == []
        log.open.set()
        await until(lambda: broker.acks == [1] and bridge.unconfirmed == 0)
        assert bridge.counters.stale_acks_total == 3
        assert log.numbers() == [1, 2, 3, 4]


@pytest.mark.parametrize("stores_before_failing", [False, True])
async def test_a_failing_log_loses_neither_messages_nor_order(stores_before_failing: bool) -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        log.failures_left = 2
        log.stores_before_failing = stores_before_failing
        broker.publish(1, TOPIC, body(1))
        await until(lambda: bridge.counters.append_failures_total)
        assert broker.acks == []
        assert bridge.health().log_unavailable_since_ms is not None
        for number in range(2, 20):
            broker.publish(number, TOPIC, body(number))
        await until(lambda: len(broker.acks) == 19)
        assert broker.acks == list(range(1, 20))
        assert list(dict.fromkeys(log.numbers())) == list(range(1, 20))
        assert bridge.health().log_unavailable_since_ms is None
        assert bridge.counters.logged_total == 19


async def test_a_log_that_stays_unavailable_ends_the_bridge_with_nothing_acknowledged() -> None:
    log = FakeLog()
    log.failures_left = 10**9
    async with ScriptedBroker() as broker:
        settings = IngestSettings(mqtt_port=broker.port, log_patience_s=0.5)
        bridge = Bridge(settings, log)
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().connected)
        tick = asyncio.ensure_future(bridge.append_tick([0], Tick(2, 1)))
        broker.publish(1, TOPIC, body(1))
        with pytest.raises(LogUnavailable, match="has not confirmed for"):
            await asyncio.wait_for(task, 120)
        with pytest.raises(LogUnavailable):
            await tick
        await until(lambda: broker.said_goodbye == 1)
        assert broker.acks == []
        assert not bridge.health().running


GARBAGE = [
    (TOPIC, b"{", RefusalReason.not_json),
    (TOPIC, b"\xff\xfe\x00", RefusalReason.not_json),
    (TOPIC, b"", RefusalReason.empty),
    (TOPIC, b'{"ts": 1700000000000, "values": {"n": NaN}}', RefusalReason.not_json),
    (TOPIC, b'{"ts": 1700000000000, "values": {"n": 1e300}}', RefusalReason.not_finite),
    (TOPIC, b'{"ts": "now", "values": {"n": 1}}', RefusalReason.wrong_type),
    (TOPIC, b'{"temperature": 1}', RefusalReason.wrong_shape),
    (TOPIC, b'{"ts": 86400000, "values": {"n": 1}}', RefusalReason.clock_unset),
    (TOPIC, b'{"ts": 4102444800000, "values": {"n": 1}}', RefusalReason.future),
    (TOPIC, b'{"t0": 4102444800000, "dt_ms": 1, "values": {"n": [1]}}', RefusalReason.future),
    (TOPIC, b"x" * 300_000, RefusalReason.too_large),
    (TOPIC, b'{"ts": [1], "values": {"n": []}}', RefusalReason.wrong_shape),
    ("sensors/plant/../engine", body(1), RefusalReason.bad_topic),
    ("sensors/plant/press 1/engine", body(1), RefusalReason.bad_topic),
]


async def test_garbage_becomes_dead_letters_and_affects_no_other_message() -> None:
    log = FakeLog()
    clock = Clock()
    async with (
        ScriptedBroker() as broker,
        running(broker, log, clock, dead_letter_bytes=100_000) as bridge,
    ):
        packet = 0
        for topic, payload, _ in GARBAGE:
            for each in ((topic, payload), ("sensors/plant/good/engine", body(packet))):
                packet += 1
                broker.publish(packet, *each)
        await until(lambda: len(broker.acks) == packet)
        assert broker.acks == list(range(1, packet + 1))
        assert len(log.numbers("good")) == len(GARBAGE)
        refusals = log.dead_letters()
        assert [dead_letter.mqtt_topic for dead_letter in refusals] == [
            topic for topic, _, _ in GARBAGE
        ]
        for dead_letter, (_, payload, reason) in zip(refusals, GARBAGE, strict=True):
            assert dead_letter.raw == payload[:100_000]
            assert dead_letter.recv_ms == clock.ms
            assert dead_letter.source == "bridge"
            if payload != b'{"ts": [1], "values": {"n": []}}':  # two faults: either is right
                assert dead_letter.reason == reason, dead_letter.detail
        assert refusals[10].detail.endswith("(first 100000 of 300000 bytes kept)")
        counters = bridge.counters
        assert counters.dead_lettered_total.total() == len(GARBAGE)
        assert counters.received_total == counters.logged_total + len(GARBAGE)
        assert counters.faults_total == 0


async def test_a_probe_of_the_doctor_is_acknowledged_and_leaves_nothing() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        for number, site in enumerate((None, "plant"), start=1):
            broker.publish(number, probe_address(site).mqtt_topic(), b"no reading")
        await until(lambda: broker.acks == [1, 2])
        assert log.records == []
        assert bridge.counters.probes_total == bridge.counters.logged_total == 2
        assert bridge.unconfirmed == 0
        broker.publish(3, "sensors/plant/kpstream-doctor/engine", body(1))
        await until(lambda: broker.acks == [1, 2, 3])
        assert log.numbers() == [1], "another stream of that device is no probe"


async def test_message_with_qos_0_is_logged_and_not_acknowledged() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        broker.publish(0, TOPIC, body(1), qos=0)
        broker.publish(5, TOPIC, body(2))
        await until(lambda: broker.acks == [5])
        assert log.numbers() == [1, 2]
        assert bridge.unconfirmed == 0


async def test_stops_reading_where_the_protocol_does_not_bound_unconfirmed_messages() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log, receive_maximum=50) as bridge:
        log.open.clear()
        for number in range(1, 2001):
            broker.publish(0, TOPIC, body(number), qos=0)
        await until(lambda: bridge.unconfirmed == 51)
        assert bridge.health().saturated
        log.open.set()
        await until(lambda: len(log.numbers()) == 2000)
        assert log.numbers() == list(range(1, 2001))


async def test_stops_reading_when_large_messages_wait_for_the_log() -> None:
    """2000 unconfirmed messages of 256 kB each would be half a gigabyte."""
    log = FakeLog()
    large = body(1) + b" " * (MAX_PAYLOAD_BYTES - 100)
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        log.open.clear()
        for number in range(1, 301):
            broker.publish(number, TOPIC, large)
        await until(lambda: bridge.health().saturated)
        await asyncio.sleep(0.1)
        assert 32 * 1024 * 1024 / len(large) <= bridge.unconfirmed <= 130
        log.open.set()
        await until(lambda: len(broker.acks) == 300)
        assert broker.acks == list(range(1, 301))
        assert not bridge.health().saturated


async def test_what_is_left_of_an_oversized_message_is_acknowledged_once_it_is_in_the_log() -> None:
    log = FakeLog()
    async with (
        ScriptedBroker() as broker,
        running(broker, log, max_packet_bytes=20_000, dead_letter_bytes=1024) as bridge,
    ):
        log.open.clear()
        broker.publish(1, TOPIC, b"x" * 30_000)
        broker.publish(2, "elsewhere", b"y" * 30_000)
        broker.publish(3, TOPIC, body(3))
        await until(lambda: bridge.unconfirmed == 3)
        assert broker.acks == []
        log.open.set()
        await until(lambda: broker.acks == [1, 2, 3])
        letters = log.dead_letters()
        assert [(each.reason, each.mqtt_topic) for each in letters] == [
            (RefusalReason.too_large, TOPIC),
            (RefusalReason.too_large, "elsewhere"),
        ]
        assert letters[0].raw == b"x" * 1024
        assert "KPSTREAM_INGEST_MAX_PACKET_BYTES" in letters[0].detail
        assert letters[0].detail.endswith(" bytes kept)")  # a replay leaves it out
        health, counters = bridge.health(), bridge.counters
        assert health.oversized == counters.oversized_total == 2
        assert counters.received_total == counters.logged_total + 2


async def test_health_says_when_the_mqtt_task_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        assert bridge.health().connected
        assert bridge.health().idle_ms < 20_000
        monkeypatch.setattr(Connection, "idle_s", 61.0)
        health = bridge.health()
        assert not health.connected
        assert health.error == "the MQTT task has not run for 61 s: restart the process"


async def test_stop_logs_and_acknowledges_all_messages_taken() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker:
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), log)
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().connected)
        log.open.clear()
        for number in range(1, 11):
            broker.publish(number, TOPIC, body(number))
        await until(lambda: bridge.unconfirmed == 10)
        bridge.stop()
        broker.publish(11, TOPIC, body(11))  # too late: it stays with the broker
        log.open.set()
        await asyncio.wait_for(task, 120)
        await until(lambda: broker.said_goodbye == 1)
        assert broker.acks == list(range(1, 11)) == log.numbers()


async def test_tick_comes_after_every_message_that_has_arrived_and_waits_for_the_log() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        log.open.clear()
        for number in range(1, 6):
            broker.publish(number, TOPIC, body(number))
        await until(lambda: bridge.unconfirmed == 5)
        ticking = asyncio.ensure_future(bridge.append_tick(range(4), Tick(20, 10)))
        await until(lambda: log.under_way)
        assert not ticking.done()
        log.open.set()
        await asyncio.wait_for(ticking, 120)
        items = log.items()
        assert items.count(Tick(20, 10)) == 4
        home = partition_of(b"plant/press-1", 4)
        values = [decode_messages(r.value) for r in log.records if r.partition == home]
        *before, last = [item for items in values for item in items]
        assert len(before) == 5
        assert last == Tick(20, 10)


async def test_messages_of_one_beat_are_one_append_with_a_tick_behind_them() -> None:
    log = FakeLog(partitions=1)
    async with (
        ScriptedBroker() as broker,
        running(broker, log, beat_ms=60_000, bundle_messages=100) as bridge,
    ):
        bridge.add_ticks(lambda: [0], 120_000)
        for number in range(1, LEAST_WINDOW):
            broker.publish(number, f"sensors/plant/press-{number % 3}/engine", body(number))
        await until(lambda: bridge.unconfirmed == LEAST_WINDOW - 1)
        assert (log.appends, broker.acks) == (0, [])
        broker.publish(LEAST_WINDOW, TOPIC, body(LEAST_WINDOW))
        await until(lambda: len(broker.acks) == LEAST_WINDOW, 50)  # not after a beat
        assert broker.acks == list(range(1, LEAST_WINDOW + 1))
        assert (log.appends, len(log.records)) == (1, 1)
        *batches, tick = log.items()
        assert len(batches) == LEAST_WINDOW
        assert isinstance(tick, Tick)
        for number in range(2 * LEAST_WINDOW):  # at most one tick in half a beat
            broker.publish(number + 1, TOPIC, body(number))
        await until(lambda: len(broker.acks) == 3 * LEAST_WINDOW, 50)
        assert bridge.counters.ticks_total == 1


async def test_a_lone_message_does_not_wait_for_others() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        broker.publish(1, TOPIC, body(1))
        await until(lambda: broker.acks == [1])
        broker.publish(0, TOPIC, body(2), qos=0)
        await until(lambda: log.numbers() == [1, 2])
        assert bridge.unconfirmed == 0


async def test_a_lone_message_soon_after_a_load_does_not_wait_for_the_beat() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log, beat_ms=8_000) as bridge:
        broker.publish(1, TOPIC, body(1))
        await until(lambda: broker.acks == [1])
        closed_s = asyncio.get_running_loop().time()
        broker.publish(2, TOPIC, body(2))
        await until(lambda: broker.acks == [1, 2])
        assert asyncio.get_running_loop().time() - closed_s < 7.5  # rest and wait: 3.6 s
        assert bridge.counters.appends_total == 2


async def test_a_load_that_waits_for_its_beat_is_written_at_a_stop() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker:
        async with running(broker, log, beat_ms=60_000) as bridge:
            broker.publish(1, TOPIC, body(1))
            await until(lambda: bridge.unconfirmed == 1)
        await until(lambda: broker.acks == [1])
        assert log.numbers() == [1]


async def test_without_a_beat_every_message_is_written_at_once() -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log, beat_ms=0) as bridge:
        for number in (1, 2, 3):
            broker.publish(number, TOPIC, body(number))
            await until(lambda number=number: len(broker.acks) == number)
        assert log.appends == bridge.counters.appends_total == 3


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_many_acknowledgements_arrive_whole_and_in_order(version: str) -> None:
    log = FakeLog()
    settings = {"mqtt_protocol": version, "receive_maximum": 65_535}
    async with ScriptedBroker() as broker, running(broker, log, **settings) as bridge:
        log.open.clear()
        broker.publish(1, TOPIC, body(1))
        await until(lambda: log.under_way)
        for number in range(2, 3001):
            broker.publish(number, TOPIC, body(number))
        await until(lambda: bridge.unconfirmed == 3000)
        log.open.set()
        await until(lambda: len(broker.acks) == 3000)
        assert broker.acks == list(range(1, 3001))
        assert log.appends < 8


async def test_connected_since_moves_while_messages_may_be_waiting() -> None:
    log, clock = FakeLog(), Clock()
    async with (
        ScriptedBroker() as broker,
        running(broker, log, clock, receive_maximum=10) as bridge,
    ):
        start = clock.ms
        assert bridge.connected_since_ms == start
        broker.session_present = True
        await broker.drop()
        await until(lambda: bridge.connected_since_ms is None)
        clock.ms += 100
        await until(lambda: bridge.connected_since_ms == start + 100 + 2000)
        # Saturated: the broker may hold messages back, so silence means nothing.
        log.open.clear()
        for number in range(1, 11):
            broker.publish(number, TOPIC, body(number))
        clock.ms += 5000
        await until(lambda: bridge.connected_since_ms == clock.ms)
        log.open.set()
        await until(lambda: bridge.unconfirmed == 0)
        # The process (or the machine) was held up.
        clock.ms += 60_000
        await until(lambda: bridge.connected_since_ms == clock.ms)


async def test_fault_in_checking_quarantines_the_message_and_the_bridge_continues(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def check(payload: bytes) -> dict[str, Any]:
        if payload == b"boom":
            msg = "a bug of ours"
            raise ZeroDivisionError(msg)
        found: dict[str, Any] = orjson.loads(payload)
        return found

    monkeypatch.setattr("ingest.intake.decode_payload", check)
    log = FakeLog()
    async with ScriptedBroker() as broker, running(broker, log) as bridge:
        broker.publish(1, TOPIC, b"boom")
        broker.publish(2, TOPIC, body(2))
        await until(lambda: broker.acks == [1, 2])
        (dead_letter,) = log.dead_letters()
        assert dead_letter.raw == b"boom"
        assert "a bug of ours" in dead_letter.detail
        assert bridge.counters.faults_total == 1
        assert log.numbers() == [2]
    assert "checking a message" in caplog.text
