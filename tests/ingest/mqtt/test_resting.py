"""A socket that is left alone for a moment: what comes meanwhile is read later, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker


@asynccontextmanager
async def resting(broker: ScriptedBroker, found: list[int]) -> AsyncIterator[Connection]:
    """A connection that rests for longer than any test, and acknowledges what it takes."""
    line = Connection(
        Endpoint("127.0.0.1", broker.port, "test"),
        on_message=lambda packet_id, *_: found.append(packet_id),
        subscribe="sensors/#",
        rest_s=3600,
    )
    line.start()
    await until(lambda: line.subscribed and broker.ready)
    try:
        yield line
    finally:
        await line.stop()


async def settle(broker: ScriptedBroker, line: Connection) -> None:
    """Wait until what the broker has sent lies in the socket, as an answer of it proves."""
    answers = len(broker.received)
    line.publish("other", b"", qos=0)
    await until(lambda: len(broker.received) > answers)


async def test_what_comes_while_the_socket_rests_is_read_when_asked_for() -> None:
    found: list[int] = []
    async with ScriptedBroker() as broker, resting(broker, found) as line:
        broker.publish(1, "sensors/a/b/c", b"x")
        await until(lambda: found == [1])
        broker.publish(2, "sensors/a/b/c", b"x")
        broker.publish(3, "sensors/a/b/c", b"x")
        await settle(broker, line)
        assert found == [1]
        line.poll()
        assert found == [1, 2, 3]
        line.ack(*found)
        await until(lambda: broker.acks == [1, 2, 3])


async def test_a_poll_that_finds_nothing_ends_the_rest() -> None:
    found: list[int] = []
    async with ScriptedBroker() as broker, resting(broker, found) as line:
        broker.publish(1, "sensors/a/b/c", b"x")
        await until(lambda: found == [1])
        line.poll()
        broker.publish(2, "sensors/a/b/c", b"x")
        await until(lambda: found == [1, 2])


async def test_in_a_hurry_every_message_is_read_at_once() -> None:
    found: list[int] = []
    async with ScriptedBroker() as broker, resting(broker, found) as line:
        for number in range(1, 6):
            broker.publish(number, "sensors/a/b/c", b"x")
            await asyncio.sleep(0)
            line.hurry()
            await until(lambda number=number: found[-1:] == [number])


async def test_a_pause_ends_the_rest_and_an_end_of_the_connection_is_noticed() -> None:
    found: list[int] = []
    async with ScriptedBroker() as broker, resting(broker, found) as line:
        broker.publish(1, "sensors/a/b/c", b"x")
        await until(lambda: found == [1])
        line.pause()
        broker.publish(2, "sensors/a/b/c", b"x")
        await settle(broker, line)
        assert found == [1]
        line.resume()
        await until(lambda: found == [1, 2])
        line.hurry()
        await broker.drop()
        await until(lambda: line.epoch == 1 and line.subscribed and broker.ready)
        broker.publish(3, "sensors/a/b/c", b"x")
        await until(lambda: found == [1, 2, 3])
