"""The delivery promise with mosquitto: kills, restarts, back-pressure, both MQTT versions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.bridge import Bridge
from ingest.errors import LogUnavailable
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from tests.fakes.log import FakeLog, body, until
from tests.fakes.ports import free_port

pytestmark = pytest.mark.needs_mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as found:
        yield found


@asynccontextmanager
async def running(broker: LocalBroker, log: FakeLog, **settings: Any) -> AsyncIterator[Bridge]:
    bridge = Bridge(IngestSettings(mqtt_port=broker.port, **settings), log)
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: bridge.health().connected)
    try:
        yield bridge
    finally:
        bridge.stop()
        await asyncio.wait_for(task, 120)


def publisher(broker: LocalBroker, **options: Any) -> Publisher:
    return Publisher(Endpoint(broker.host, broker.port, "test-devices"), **options)


async def publish(to: Publisher, first: int, last: int, devices: int = 1) -> None:
    for number in range(first, last + 1):
        await to.publish(f"sensors/plant/press-{number % devices}/engine", body(number))
    await to.flush()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_every_message_arrives_once_and_in_order(broker: LocalBroker, version: str) -> None:
    log = FakeLog()
    async with running(broker, log, mqtt_protocol=version) as bridge, publisher(broker) as devices:
        await publish(devices, 1, 3000, devices=10)
        await until(lambda: bridge.counters.logged_total == 3000)
        assert bridge.health().protocol == version
        for device in range(10):
            expected = [n for n in range(1, 3001) if n % 10 == device]
            assert log.numbers(f"press-{device}") == expected


@contextmanager
def broker_that_allows_20(tmp_path: Path) -> Iterator[LocalBroker]:
    """Run mosquitto with its default of 20 messages in flight."""
    port = free_port()
    listener = f"listener {port} 127.0.0.1\nallow_anonymous true\n"
    with LocalBroker(tmp_path, port=port, kind="mosquitto", listeners=listener) as broker:
        config = tmp_path / "mosquitto.conf"
        limited = config.read_text().replace("max_inflight_messages 0", "max_inflight_messages 20")
        assert limited != config.read_text()
        broker.stop()
        config.write_text(limited)
        process = subprocess.Popen(["mosquitto", "-c", str(config)])
        try:
            yield broker
        finally:
            process.terminate()
            process.wait()


async def test_a_broker_that_allows_20_in_flight_never_waits_for_a_beat(tmp_path: Path) -> None:
    """A beat lasts longer than the test, so only full windows can close loads."""
    log = FakeLog()
    settings = {"mqtt_protocol": "3.1.1", "beat_ms": 60_000}
    with broker_that_allows_20(tmp_path) as broker:
        async with running(broker, log, **settings), publisher(broker) as devices:
            await publish(devices, 1, 600, devices=10)
            await until(lambda: len(log.numbers()) >= 560, 50)
            assert log.appends <= 560 / 15


async def test_in_mqtt_5_a_broker_that_allows_20_in_flight_waits_for_a_beat_at_most(
    tmp_path: Path,
) -> None:
    """Mosquitto 2.0.11 sends up to 41 after the first acknowledgement, and later 20 again.

    The bridge takes 41 for the window then, and the beat ends what would be a wait without end.
    """
    log = FakeLog()
    settings = {"mqtt_protocol": "5", "beat_ms": 500}
    with broker_that_allows_20(tmp_path) as broker:
        async with running(broker, log, **settings), publisher(broker) as devices:
            await publish(devices, 1, 600, devices=10)
            await until(lambda: len(log.numbers()) == 600)
            for device in range(10):
                assert log.numbers(f"press-{device}") == [
                    number for number in range(1, 601) if number % 10 == device
                ]


async def test_killed_bridge_loses_nothing(broker: LocalBroker, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    command = [sys.executable, "-m", "tests.ingest.bridge_process", str(broker.port), str(path)]

    def lines() -> list[str]:
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    process = subprocess.Popen(command)
    try:
        # Nothing is kept for a bridge that has never been there.
        async with publisher(broker) as devices:
            while not lines():
                await publish(devices, 0, 0, devices=5)
                await asyncio.sleep(0.05)
            for first in (1, 701, 1401):  # each kill has messages of its own to interrupt
                seen = len(lines())
                publishing = asyncio.ensure_future(publish(devices, first, first + 699, devices=5))
                await until(lambda seen=seen: len(lines()) >= seen + 100)
                process.kill()
                process.wait()
                process = subprocess.Popen(command)
                await publishing
        await until(lambda: {int(x.split()[1]) for x in lines()} >= set(range(1, 2101)))
        for device in range(5):
            numbers = [int(x.split()[1]) for x in lines() if x.startswith(f"press-{device} ")]
            first_times = list(dict.fromkeys(n for n in numbers if n))
            assert first_times == sorted(first_times), "the order of a device's readings changed"
    finally:
        process.kill()
        process.wait()


async def test_bridge_that_gave_up_gets_everything_the_next_time(broker: LocalBroker) -> None:
    log = FakeLog()
    async with running(broker, log):
        pass
    log.failures_left = 10**9
    first = asyncio.ensure_future(
        Bridge(IngestSettings(mqtt_port=broker.port, log_patience_s=0.3), log).run()
    )
    async with publisher(broker) as devices:
        await publish(devices, 1, 500)
    with pytest.raises(LogUnavailable):
        await asyncio.wait_for(first, 120)
    log.failures_left = 0
    async with running(broker, log) as second:
        await until(lambda: second.counters.logged_total == 500)
    assert log.numbers() == list(range(1, 501))


async def test_broker_keeps_messages_while_the_log_is_unavailable(broker: LocalBroker) -> None:
    log = FakeLog()
    async with running(broker, log, receive_maximum=100) as bridge, publisher(broker) as devices:
        log.open.clear()
        await publish(devices, 1, 1000)
        await until(lambda: bridge.unconfirmed == 100)
        # The bridge continues to read: the broker waits, and the connection stays alive.
        assert bridge.health().saturated
        assert bridge.health().connected
        log.open.set()
        await until(lambda: bridge.counters.logged_total == 1000)
        assert log.numbers() == list(range(1, 1001))


async def test_restarted_broker_is_found_again_with_everything(
    broker: LocalBroker, tmp_path: Path
) -> None:
    log = FakeLog()
    async with running(broker, log) as bridge, publisher(broker) as devices:
        await publish(devices, 1, 100)
        log.open.clear()
        await publish(devices, 101, 200)
        await until(lambda: bridge.unconfirmed > 0)
        broker.stop()
        await until(lambda: not bridge.health().connected)
        assert bridge.connected_since_ms is None
        publishing = asyncio.ensure_future(publish(devices, 201, 300))
        broker.start()
        await until(lambda: bridge.health().connected)
        log.open.set()
        await publishing
        await until(lambda: set(log.numbers()) >= set(range(1, 301)))
        assert list(dict.fromkeys(log.numbers())) == list(range(1, 301))
        assert bridge.counters.connects_total == 2


async def test_message_that_paho_cannot_parse_does_not_stop_the_bridge(broker: LocalBroker) -> None:
    """mosquitto forwards a user property with U+FEFF; paho would end the connection."""
    log = FakeLog()
    async with running(broker, log) as bridge:

        def publish_poison() -> None:
            client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
            client.connect(broker.host, broker.port)
            client.loop_start()
            for number in (1, 2, 3):
                properties = Properties(PacketTypes.PUBLISH)
                properties.UserProperty = ("a\ufeff", "b")
                topic = "sensors/plant/press-0/engine"
                client.publish(topic, body(number), 1, properties=properties).wait_for_publish(60)
            client.disconnect()
            client.loop_stop()

        await asyncio.to_thread(publish_poison)
        await until(lambda: bridge.counters.logged_total == 3)
        assert bridge.counters.connects_total == 1


@pytest.mark.slow
async def test_silent_connection_stays_up_by_its_keepalive(broker: LocalBroker) -> None:
    log = FakeLog()
    async with running(broker, log, keepalive_s=5) as bridge, publisher(broker) as devices:
        loop = asyncio.get_running_loop()
        end = loop.time() + 12
        number = 0
        # Messages, but nothing that paho itself reads: only its pings keep it convinced.
        while loop.time() < end:
            number += 1
            await publish(devices, number, number)
            await asyncio.sleep(0.5)
        await until(lambda: bridge.counters.logged_total == number)
        assert bridge.counters.connects_total == 1
