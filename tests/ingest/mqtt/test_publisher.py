"""Publishers wait for room, send again after a cut, and can insist on a subscriber."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.errors import MqttError
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker

pytestmark = pytest.mark.timeout(240)


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
            await asyncio.wait_for(fourth, 120)
            await asyncio.wait_for(publisher.flush(), 120)
            assert publisher.confirmed_total == publisher.published_total == 4


@pytest.mark.needs_mosquitto
def test_without_a_subscriber_a_publication_is_confirmed(tmp_path: Path) -> None:
    async def publish(port: int) -> Publisher:
        async with Publisher(Endpoint("127.0.0.1", port, "device")) as publisher:
            await publisher.publish("sensors/a/b/imu", b"1")
            await asyncio.wait_for(publisher.flush(), 120)
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
                on_message=lambda mid, qos, topic, payload, *_: heard.append(payload),
            )
            listener.start()
            await asyncio.wait_for(publisher.flush(), 120)
            await until(lambda: len(heard) >= 2)
            await listener.stop()
        return publisher

    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        publisher = asyncio.run(publish(broker.port))
    assert sorted(heard) == [b"1", b"2"]
    assert publisher.confirmed_total == publisher.published_total == 2
    assert publisher.unconfirmed == 0


async def test_a_broker_that_answers_no_publication_is_given_up() -> None:
    said: list[str] = []
    async with ScriptedBroker() as broker:
        device = Endpoint("127.0.0.1", broker.port, "device")
        async with Publisher(device, gives_up_s=6.0, on_wait=said.append) as publisher:
            await publisher.publish("a/b", b"1")
            await publisher.publish("a/c", b"2")
            with pytest.raises(MqttError, match=r"not answered 2 publications, the first on 'a/b'"):
                await asyncio.wait_for(publisher.flush(), 50)
            with pytest.raises(MqttError, match="check its access list"):
                await publisher.publish("a/b", b"3")
            assert publisher.unconfirmed == 2
    assert f"waiting for 127.0.0.1:{broker.port} to confirm 2 publications" in said[0]


@pytest.mark.slow
async def test_answers_put_off_the_giving_up() -> None:
    async with ScriptedBroker() as broker:
        device = Endpoint("127.0.0.1", broker.port, "device")
        async with Publisher(device, gives_up_s=6.0) as publisher:
            for _ in range(4):
                await publisher.publish("a/b", b"1")
                await asyncio.sleep(2.0)
                broker.confirm_all()
            await asyncio.wait_for(publisher.flush(), 120)
            await asyncio.sleep(6.5)  # nothing is on its way: that is no silence
            broker.confirms = True
            await publisher.publish("a/b", b"2")
            await asyncio.wait_for(publisher.flush(), 120)
            assert publisher.confirmed_total == 5


async def test_a_publisher_that_ends_waits_for_answers_that_come_and_for_no_others() -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedBroker() as broker:
        device = Endpoint("127.0.0.1", broker.port, "device")
        async with Publisher(device) as publisher:
            await publisher.publish("a/b", b"1")
            await until(lambda: broker.received == [b"1"])
            loop.call_later(0.05, broker.confirm_all)
            await publisher.settle()
            assert publisher.unconfirmed == 0
            await publisher.publish("a/b", b"2")
            await asyncio.wait_for(publisher.settle(60.0), 30)  # far below its limit
            assert publisher.unconfirmed == 1
            await broker.drop()
            await until(lambda: not publisher.connection.connected.is_set())
            assert publisher.waiting is not None
