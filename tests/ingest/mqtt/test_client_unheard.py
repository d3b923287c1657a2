"""A publication that the broker gave to nobody: confirmed, or sent again until somebody listens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.client import Connection, Endpoint, Publisher

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.timeout(60)]


async def _until(holds: object, timeout_s: float = 20.0) -> None:
    assert callable(holds)
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "never came true"
        await asyncio.sleep(0.02)


def test_without_a_subscriber_a_publication_is_confirmed(tmp_path: Path) -> None:
    async def publish(port: int) -> Publisher:
        async with Publisher(Endpoint("127.0.0.1", port, "device")) as publisher:
            await publisher.publish("sensors/a/b/imu", b"1")
            await asyncio.wait_for(publisher.flush(), 20)
        return publisher

    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        publisher = asyncio.run(publish(broker.port))
    assert (publisher.confirmed_total, publisher.unheard_total) == (1, 0)


def test_until_heard_it_is_sent_again_and_arrives_once_somebody_listens(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def publish(port: int) -> Publisher:
        device = Endpoint("127.0.0.1", port, "device")
        async with Publisher(device, in_flight=2, until_heard=True) as publisher:
            for payload in (b"1", b"2"):
                await publisher.publish("sensors/a/b/imu", payload)
            await _until(lambda: publisher.unheard_total >= 2)
            assert publisher.unconfirmed == 2
            assert publisher.confirmed_total == 0
            listener = Connection(
                Endpoint("127.0.0.1", port, "listener"),
                subscribe="sensors/#",
                on_message=lambda mid, qos, topic, payload: heard.append(payload),
            )
            listener.start()
            await asyncio.wait_for(publisher.flush(), 20)
            await _until(lambda: len(heard) >= 2)
            await listener.stop()
        return publisher

    with LocalBroker(tmp_path, kind="mosquitto") as broker:
        publisher = asyncio.run(publish(broker.port))
    assert sorted(heard) == [b"1", b"2"]
    assert publisher.confirmed_total == publisher.published_total == 2
    assert publisher.unconfirmed == 0
