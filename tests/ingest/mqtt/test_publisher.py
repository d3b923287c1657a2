"""Publishers wait for room, send again after a cut, and can insist on a subscriber."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker

pytestmark = pytest.mark.timeout(60)


async def test_publisher_waits_for_room_and_sends_again_after_a_cut() -> None:
    async with ScriptedBroker() as broker:
        endpoint = Endpoint("127.0.0.1", broker.port, "devices")
        async with Publisher(endpoint, in_flight=3) as publisher:
            for number in range(3):
                await publisher.publish("a/b", b"%d" % number)
            fourth = asyncio.ensure_future(publisher.publish("a/b", b"4"))
            await until(lambda: broker.received == [b"0", b"1", b"2"])
            assert not fourth.done()
            await broker.drop()
            await until(lambda: broker.received == [b"0", b"1", b"2"] * 2)
            assert publisher.unconfirmed == 3
            broker.confirms = True
            broker.confirm_all()
            await asyncio.wait_for(fourth, 30)
            await asyncio.wait_for(publisher.flush(), 30)
            assert publisher.confirmed_total == publisher.published_total == 4


@pytest.mark.needs_mosquitto
def test_without_a_subscriber_a_publication_is_confirmed(tmp_path: Path) -> None:
    async def publish(port: int) -> Publisher:
        async with Publisher(Endpoint("127.0.0.1", port, "device")) as publisher:
            await publisher.publish("sensors/a/b/imu", b"1")
            await asyncio.wait_for(publisher.flush(), 20)
        return publisher

    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        publisher = asyncio.run(publish(broker.port))
    assert (publisher.confirmed_total, publisher.no_subscriber_total) == (1, 0)


@pytest.mark.needs_mosquitto
def test_with_a_required_subscriber_it_is_sent_again_until_one_exists(
    tmp_path: Path,
) -> None:
    heard: list[bytes] = []

    async def publish(port: int) -> Publisher:
        device = Endpoint("127.0.0.1", port, "device")
        async with Publisher(device, in_flight=2, require_subscriber=True) as publisher:
            for payload in (b"1", b"2"):
                await publisher.publish("sensors/a/b/imu", payload)
            await until(lambda: publisher.no_subscriber_total >= 2)
            assert publisher.unconfirmed == 2
            assert publisher.confirmed_total == 0
            listener = Connection(
                Endpoint("127.0.0.1", port, "listener"),
                subscribe="sensors/#",
                on_message=lambda mid, qos, topic, payload, _again: heard.append(payload),
            )
            listener.start()
            await asyncio.wait_for(publisher.flush(), 20)
            await until(lambda: len(heard) >= 2)
            await listener.stop()
        return publisher

    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        publisher = asyncio.run(publish(broker.port))
    assert sorted(heard) == [b"1", b"2"]
    assert publisher.confirmed_total == publisher.published_total == 2
    assert publisher.unconfirmed == 0
