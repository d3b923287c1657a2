"""A message larger than memory: bounded memory, a dead letter, and a line that goes on.

The short form sends some megabytes, the long form 250 MB, almost the most that MQTT allows.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest.bridge import Bridge
from ingest.mqtt.broker import mosquitto_program
from ingest.settings import IngestSettings
from tests.attack.account import Attack
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port

TOPIC = "sensors/plant/press-1/engine"
MB = 1_000_000
CHUNK = b"x" * 65_536


@asynccontextmanager
async def running(port: int, log: FakeLog, **settings: Any) -> AsyncIterator[Bridge]:
    bridge = Bridge(IngestSettings(mqtt_port=port, **settings), log)
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: bridge.health().connected or task.done())
    try:
        yield bridge
    finally:
        bridge.stop()
        await asyncio.wait_for(task, 120)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_broker_that_sends_it_costs_no_memory(attack: Attack, version: str) -> None:
    """A broker that ignores Maximum Packet Size, or speaks 3.1.1, which has none."""
    size = attack.size(24 * MB, 250 * MB)
    log = FakeLog()
    async with (
        ScriptedBroker() as broker,
        running(broker.port, log, mqtt_protocol=version) as bridge,
    ):
        broker.publish(1, TOPIC, body(1))
        tracemalloc.start()
        try:
            head = struct.pack("!H", len(TOPIC)) + TOPIC.encode() + b"\x00\x02"
            head += b"\x00" if version == "5" else b""
            await broker.stream(0x32, head, CHUNK, size)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        broker.publish(3, TOPIC, body(3))
        await until(lambda: broker.acks == [1, 2, 3])
        assert log.numbers() == [1.0, 3.0]
        (letter,) = log.dead_letters()
        attack.note(f"{peak / MB:.1f} MB for a message of {size / MB:.0f} MB")
        attack.report(count=size // MB, unit="MB in one message")
        assert (letter.reason, letter.mqtt_topic) == ("too_large", TOPIC)
        assert f"{len(head) + size} bytes" in letter.detail
        assert peak < 4 * MB
        assert bridge.counters.oversized_total == 1
        assert bridge.counters.connects_total == 1


async def test_nothing_else_of_that_size_holds_the_line(attack: Attack) -> None:
    """An answer, a message without a topic, a length that never comes: reconnect, and say so."""
    log = FakeLog()
    odd = [
        b"\x90\xff\xff\xff\x7f",  # a SUBACK of 256 MB
        b"\x34\xff\xff\xff\x7f",  # QoS 2, which was never requested
        b"\x32\xff\xff\xff\xff\x7f",  # a length of five bytes
    ]
    async with ScriptedBroker() as broker, running(broker.port, log) as bridge:
        for number, packet in enumerate(odd, start=1):
            await until(lambda: broker.ready)
            broker.send(packet)
            await until(lambda seen=number: bridge.counters.connects_total > seen)
            await until(lambda: bridge.health().connected)
            broker.publish(number, TOPIC, body(number))
            await until(lambda seen=number: len(log.numbers()) == seen)
        attack.report(count=len(odd), unit="packets")
        assert bridge.health().running
        assert bridge.health().connection_faults >= 2


@dataclass
class Mosquitto:
    port: int
    log: Path


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker without a limit of its own."""
    program = mosquitto_program()
    assert program is not None
    found = Mosquitto(free_port(), tmp_path / "mosquitto.log")
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {found.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        + ("user root\n" if os.geteuid() == 0 else "")
    )
    with found.log.open("wb") as output:
        process = subprocess.Popen([program, "-c", str(config)], stderr=output)
    try:
        yield found
    finally:
        process.kill()
        process.wait()


def publish(port: int, payload_bytes: int) -> None:
    """Publish one message with QoS 1 (MQTT 3.1.1), and return when the broker has it."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03big")
        assert sock.recv(4)[3] == 0
        head = struct.pack("!H", len(TOPIC)) + TOPIC.encode() + b"\x00\x01"
        length, left = bytearray(), len(head) + payload_bytes
        while left:
            left, digit = left >> 7, left & 0x7F
            length.append(digit | (0x80 if left else 0))
        sock.sendall(b"\x32" + length + head)
        for at in range(0, payload_bytes, len(CHUNK)):
            sock.sendall(CHUNK[: payload_bytes - at])
        assert sock.recv(4) == b"\x40\x02\x00\x01"


@pytest.mark.needs_mosquitto
@pytest.mark.parametrize(("version", "short_mb"), [("3.1.1", 20), ("5", 12)])
async def test_mosquitto_sends_it_once_and_not_again(
    mosquitto: Mosquitto, attack: Attack, version: str, short_mb: int
) -> None:
    """The dead letter is acknowledged, so no reconnect brings the message again."""
    size = short_mb * MB if version == "5" else attack.size(short_mb * MB, 250 * MB)
    log = FakeLog()
    for number in (1, 2):
        async with running(mosquitto.port, log, mqtt_protocol=version) as bridge:
            if number == 1:
                await asyncio.to_thread(publish, mosquitto.port, size)
                await until(lambda: log.dead_letters() and not bridge.unconfirmed)
            command = ["mosquitto_pub", "-p", str(mosquitto.port), "-q", "1", "-t", TOPIC, "-m"]
            await asyncio.to_thread(subprocess.run, [*command, body(number)], check=True)
            await until(lambda seen=number: len(log.numbers()) == seen)
    attack.report(count=size // MB, doubled=len(log.dead_letters()) - 1, unit="MB in one message")
    assert log.numbers() == [1.0, 2.0]


@pytest.mark.needs_mosquitto
async def test_mosquitto_drops_what_connect_excludes_and_says_so_in_its_log(
    mosquitto: Mosquitto, attack: Attack
) -> None:
    """Above 16 times the limit only the broker knows: nothing about it reaches a client."""
    log = FakeLog()
    size = attack.size(20 * MB, 250 * MB)
    async with running(mosquitto.port, log, mqtt_protocol="5") as bridge:
        await asyncio.to_thread(publish, mosquitto.port, size)
        await until(lambda: "Dropping too large outgoing PUBLISH" in mosquitto.log.read_text())
        command = ["mosquitto_pub", "-p", str(mosquitto.port), "-q", "1", "-t", TOPIC, "-m"]
        await asyncio.to_thread(subprocess.run, [*command, body(2)], check=True)
        await until(lambda: log.numbers() == [2.0])
        attack.note("dropped by the broker, named in its log only")
        attack.report(count=size // MB, unit="MB in one message")
        assert bridge.counters.received_bytes_total < 1000
        assert bridge.counters.connects_total == 1
