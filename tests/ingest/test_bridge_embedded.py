"""The bridge with the embedded broker, on MQTT 3.1.1 and without its delivery promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from ingest.bridge import Bridge
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from tests.fakes.log import FakeLog, body, until

pytest.importorskip("amqtt")


@pytest.fixture(scope="module")
def broker() -> Iterator[LocalBroker]:
    with LocalBroker(kind="amqtt") as found:
        yield found


async def test_messages_go_from_device_to_log(broker: LocalBroker) -> None:
    log = FakeLog()
    bridge = Bridge(IngestSettings(mqtt_port=broker.port), log)
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: bridge.health().connected)  # auto: it ignores MQTT 5
    assert bridge.health().protocol == broker.protocol == "3.1.1"
    endpoint = Endpoint(broker.host, broker.port, "devices", protocol=broker.protocol)
    async with Publisher(endpoint) as devices:
        for number in range(1, 301):
            await devices.publish(f"sensors/plant/press-{number % 3}/engine", body(number))
        await devices.publish("sensors/plant/press-0/engine", b"{")
        await devices.flush()
        assert devices.confirmed_total == 301
        # Stay until it has arrived: on Python 3.12 and later amqtt drops what it has confirmed
        # when the publisher leaves.
        await until(lambda: bridge.counters.logged_total == 300 and len(log.dead_letters()) == 1)
    for device in range(3):
        expected = [n for n in range(1, 301) if n % 3 == device]
        assert log.numbers(f"press-{device}") == expected
    bridge.stop()
    await asyncio.wait_for(task, 120)
    assert bridge.unconfirmed == 0
