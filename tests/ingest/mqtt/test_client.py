"""paho is kept to the limits of the broker, through private attributes that these tests guard."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest

from ingest.errors import MqttError
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker


def endpoint(broker: ScriptedBroker, keepalive_s: int = 30) -> Endpoint:
    return Endpoint("127.0.0.1", broker.port, "devices", keepalive_s=keepalive_s)


async def publish_many(publisher: Publisher, numbers: range) -> None:
    for number in numbers:
        await publisher.publish("a/b", b"%d" % number)


def confirmed(publisher: Publisher, count: int) -> bool:
    return publisher.confirmed_total == count


def numbers(broker: ScriptedBroker) -> list[int]:
    return [int(payload) for payload in broker.received]


async def test_no_more_are_in_flight_than_the_broker_takes_also_after_a_reconnect() -> None:
    async with ScriptedBroker() as broker:
        broker.announce(receive_maximum=10)
        async with Publisher(endpoint(broker), in_flight=400) as publisher:
            await publish_many(publisher, range(300))
            await until(lambda: len(broker.received) == 10)
            broker.confirm_all()
            await until(lambda: len(broker.received) == 20)
            assert publisher.unconfirmed == 290

            broker.announce(receive_maximum=3)
            await broker.drop()
            await until(lambda: len(broker.received) == 23)
            assert numbers(broker)[20:] == [10, 11, 12]  # the earliest unconfirmed ones, again
            broker.confirms = True
            broker.confirm_all()
            await asyncio.wait_for(publisher.flush(), 120)
            assert numbers(broker)[20:] == list(range(10, 300))
            assert broker.most_unconfirmed == 10
            assert publisher.confirmed_total == 300


async def test_a_broker_without_a_limit_gets_all_at_once() -> None:
    async with ScriptedBroker() as broker:
        async with Publisher(endpoint(broker), in_flight=200) as publisher:
            await publish_many(publisher, range(200))
            await until(lambda: len(broker.received) == 200)
            broker.received.clear()
            await broker.drop()
            await until(lambda: len(broker.received) == 200)


async def test_what_a_reconnect_no_longer_allows_is_refused_once_and_not_sent_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ScriptedBroker() as broker:
        async with Publisher(endpoint(broker)) as publisher:
            await publisher.publish("a/b", b"x" * 500)
            await publisher.publish("a/b", b"y")
            await until(lambda: len(broker.received) == 2)
            broker.announce(maximum_packet_size=100)
            broker.confirms = True
            await broker.drop()
            await asyncio.wait_for(publisher.flush(), 120)
            assert broker.received[2:] == [b"y"]
            assert (publisher.confirmed_total, publisher.refused_total) == (1, 1)
            with pytest.raises(MqttError, match="at most 100 bytes"):
                await publisher.publish("a/b", b"x" * 500)
    assert "cannot publish 500 bytes on 'a/b'" in caplog.text
    assert "access list" not in caplog.text


async def test_retained_messages_go_only_to_a_broker_that_takes_them() -> None:
    async with ScriptedBroker() as broker:
        broker.announce(retain_available=0)
        line = Connection(endpoint(broker))
        line.start()
        await until(line.connected.is_set)
        with pytest.raises(MqttError, match=r"the retained message 'note'.*Retain Available 0"):
            line.publish("note", b"", retain=True)
        line.publish("note", b"not retained")
        await until(lambda: broker.received == [b"not retained"])
        broker.announce()
        await broker.drop()
        await until(lambda: len(broker.connects) == 2 and line.connected.is_set())
        line.publish("note", b"retained", retain=True)
        await until(lambda: any(each.is_retained for each in broker.published))
        await line.stop()


async def test_nothing_is_published_before_the_broker_has_announced_its_limits() -> None:
    async with ScriptedBroker() as broker:
        broker.holds_connack = True
        line = Connection(endpoint(broker))
        line.start()
        await until(lambda: broker.version == 5)
        with pytest.raises(MqttError, match="has not accepted the connection yet"):
            line.publish("a/b", b"x")
        broker.release_connack()
        await until(line.connected.is_set)
        line.publish("a/b", b"x")
        await until(lambda: broker.received == [b"x"])
        await line.stop()


async def test_the_keep_alive_of_the_broker_counts_for_its_connection_only() -> None:
    async with ScriptedBroker() as broker:
        broker.announce(server_keep_alive=1)
        line = Connection(endpoint(broker, keepalive_s=300))
        line.start()
        await until(lambda: broker.pings >= 2)
        broker.announce()
        await broker.drop()
        await until(lambda: len(broker.connects) == 2)
        asked_s = [int.from_bytes(packet[8:10], "big") for packet in broker.connects]
        assert asked_s == [300, 300]
        await line.stop()


@pytest.mark.parametrize("has_memory", [True, False])
async def test_a_session_that_the_broker_has_forgotten_is_counted_and_logged(
    has_memory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    memory = FilterMemory(["a/#"] if has_memory else [])
    async with ScriptedBroker() as broker:
        broker.announce(session_expiry_interval=90)
        line = Connection(
            endpoint(broker), subscribe="a/#", filter_memory=memory, session_expiry_s=7200
        )
        line.start()
        await until(lambda: line.subscribed)
        assert line.sessions_lost_total == int(has_memory)
        assert ("has forgotten our session" in caplog.text) == has_memory
        broker.session_present = True
        await broker.drop()
        await until(lambda: len(broker.connects) == 2 and line.subscribed)
        assert line.sessions_lost_total == int(has_memory)
        broker.session_present = False
        await broker.drop()
        await until(lambda: len(broker.connects) == 3 and line.subscribed)
        assert line.sessions_lost_total == 1 + has_memory
        assert "it announces to keep sessions for 90 s" in caplog.text
        notice = [each for each in caplog.records if "asked for 2 hours" in each.getMessage()]
        assert [each.levelno for each in notice] == [logging.WARNING]  # once, not per connect
        await line.stop()


@pytest.mark.parametrize("tells", [True, False])
async def test_a_command_gives_up_where_the_broker_hangs_up_at_every_publication(
    tells: bool,
) -> None:
    async with ScriptedBroker() as broker:
        broker.closes_at = "publish"
        broker.goodbye_with, broker.goodbye_text = (0x99, "not JSON") if tells else (None, None)
        async with Publisher(endpoint(broker), gives_up_s=60.0) as publisher:
            await publisher.publish("a/b", b"1")
            with pytest.raises(MqttError, match="3 connections in a row") as caught:
                await asyncio.wait_for(publisher.flush(), 60)
            assert ("Payload format invalid" in str(caught.value)) == tells
            with pytest.raises(MqttError, match="without answering one publication"):
                await publisher.publish("a/b", b"2")
        assert len(broker.connects) == 3


async def test_a_device_never_gives_up_and_progress_is_no_failure() -> None:
    async with ScriptedBroker() as broker:
        broker.closes_at = "publish"
        patient = Publisher(endpoint(broker))
        async with patient:
            await patient.publish("a/b", b"1")
            await until(lambda: len(broker.connects) >= 6)
            assert patient.failure is None
        broker.closes_at = None
        broker.announce(receive_maximum=1)
        async with Publisher(endpoint(broker), gives_up_s=60.0) as publisher:
            await publish_many(publisher, range(8))
            for turn in range(1, 7):  # one confirmation per connection
                broker.received.clear()
                await until(lambda: len(broker.received) == 1)
                broker.confirm_all()
                await until(partial(confirmed, publisher, turn))
                await broker.drop()
            assert publisher.failure is None
            broker.confirms = True
            await asyncio.wait_for(publisher.flush(), 120)


class FilterMemory:
    def __init__(self, filters: list[str]) -> None:
        self.filters = filters

    def read(self) -> list[str]:
        return self.filters

    def has_session(self) -> bool:
        return bool(self.filters)

    def write(self, filters: object, *, has_session: bool) -> None:
        pass
