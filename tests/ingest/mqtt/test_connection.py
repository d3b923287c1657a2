"""The connection finds the version its broker speaks, and reports what is wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.backoff import Backoff
from ingest.errors import MqttError
from ingest.mqtt.broker import mosquitto_program
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import Oversized
from ingest.mqtt.policy import Timing
from ingest.mqtt.publisher import Publisher
from ingest.mqtt.versions import Version
from ingest.patience import Patience
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port

FAST = Backoff(first_ms=10, max_ms=50)
QUICK = Timing(backoff=FAST, patience=Patience(first_s=0.2, most_s=1.0))


@contextmanager
def tls_broker(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run mosquitto with TLS; yields its port and its certificate."""
    openssl, mosquitto = shutil.which("openssl"), mosquitto_program()
    if openssl is None:
        pytest.skip("needs the openssl command to make certificates")
    assert mosquitto is not None
    key, cert = folder / "key.pem", folder / "cert.pem"
    request = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [openssl, *request.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile {cert}\nkeyfile {key}\n"
        + ("user root\n" if os.geteuid() == 0 else "")
    )
    process = subprocess.Popen([mosquitto, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield port, cert
    finally:
        process.kill()
        process.wait()


class VersionMemory:
    def __init__(self) -> None:
        self.version: Version | None = None

    def read(self) -> Version | None:
        return self.version

    def write(self, version: Version) -> None:
        self.version = version


@asynccontextmanager
async def connection(
    port: int,
    protocol: Any = "auto",
    timing: Timing | None = None,
    memory: VersionMemory | None = None,
) -> AsyncIterator[Connection]:
    endpoint = Endpoint("127.0.0.1", port, "test", protocol=protocol)
    line = Connection(endpoint, subscribe="sensors/+/+/+", timing=timing, version_memory=memory)
    line.start()
    try:
        yield line
    finally:
        await line.stop()


@pytest.mark.parametrize("trait", ["refuse_version_5", "silent_to_version_5"])
async def test_falls_back_to_the_version_that_the_broker_speaks(trait: str) -> None:
    async with ScriptedBroker() as broker:
        setattr(broker, trait, True)
        async with connection(broker.port, timing=QUICK) as line:
            await until(line.connected.is_set)
            assert line.protocol == "3.1.1"
            # ... and back, should the broker be replaced.
            setattr(broker, trait, False)
            broker.hangs_up_on = 4
            await broker.drop()
            await until(lambda: line.connected.is_set() and line.protocol == "5")


async def test_a_proxy_that_hangs_up_while_its_broker_starts_costs_no_version() -> None:
    async with ScriptedBroker() as broker:
        broker.hangs_up_on = 5
        async with connection(broker.port, timing=QUICK) as line:
            await until(lambda: line.error is not None)
            broker.hangs_up_on = None
            await until(line.connected.is_set)
            await broker.drop()
            await until(lambda: line.connected.is_set() and line.protocol == "5")


async def test_a_broker_that_ends_every_connection_of_version_5_is_known_at_once() -> None:
    """RabbitMQ 3.10 does; a probe while 3.1.1 is accepted proves that it is not just starting."""
    memory = VersionMemory()
    async with ScriptedBroker() as broker:
        broker.hangs_up_on = 5
        async with connection(broker.port, timing=QUICK, memory=memory) as line:
            await until(lambda: memory.version == "3.1.1")
            assert line.connects_total == 1


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
async def test_a_slow_login_is_waited_for(protocol: str) -> None:
    """A login back end that needs longer than our first patience: no flipping, and ready."""
    timing = Timing(backoff=FAST, patience=Patience(first_s=0.3, most_s=5.0))
    async with ScriptedBroker() as broker:
        broker.connack_delay_s = 0.8
        async with connection(broker.port, protocol, timing) as line:
            await until(lambda: line.subscribed)
            assert line.protocol == ("3.1.1" if protocol == "3.1.1" else "5")
            assert line.error is None


async def test_a_version_that_worked_is_tried_first_after_a_restart() -> None:
    memory = VersionMemory()
    async with ScriptedBroker() as broker:
        broker.silent_to_version_5 = True
        async with connection(broker.port, timing=QUICK, memory=memory) as line:
            await until(line.connected.is_set)
        assert memory.version == "3.1.1"
        async with connection(broker.port, memory=memory) as line:
            await until(line.connected.is_set)
            assert line.protocol == "3.1.1"
    assert [packet[6] for packet in broker.connects] == [4, 4]


async def test_fixed_version_is_not_given_up() -> None:
    async with ScriptedBroker() as broker:
        broker.refuse_version_5 = True
        async with connection(broker.port, "5") as line:
            await until(lambda: line.error is not None)
            assert "the broker does not speak MQTT 5" in str(line.error)
            assert "KPSTREAM_INGEST_MQTT_PROTOCOL=auto" in str(line.error)
            broker.refuse_version_5 = False
            await until(line.connected.is_set)
            assert line.protocol == "5"
            assert line.error is None


async def test_refusals_are_reported_and_retried() -> None:
    async with ScriptedBroker() as broker:
        broker.refuse_with = 0x86
        async with connection(broker.port) as line:
            await until(lambda: line.error is not None)
            assert "Bad user name or password" in str(line.error)
            assert not line.connected.is_set()
            broker.refuse_with = None
            broker.subscription_code = 0x87
            await until(lambda: "refuses the subscription" in str(line.error))
            assert not line.subscribed
            broker.subscription_code = 1
            await until(lambda: line.subscribed)


@pytest.mark.parametrize("broker_tells", [True, False])
async def test_two_clients_of_one_id_take_turns_ever_more_slowly_and_report_it(
    broker_tells: bool,
) -> None:
    quick = Backoff(first_ms=50, max_ms=400, jitter=(0.75, 1.25), reset_after_ms=3000)
    timing = Timing(backoff=quick, sound_s=3.0)
    async with ScriptedBroker() as broker, connection(broker.port, timing=timing) as line:
        loop = asyncio.get_running_loop()
        pauses = []
        for turn in range(6):
            await until(lambda: line.subscribed)
            await asyncio.sleep(0.45)  # longer than the longest back-off: that is no recovery
            began_s = loop.time()
            if broker_tells:
                broker.send(b"\xe0\x02\x8e\x00")
            else:
                await broker.drop()
            await until(lambda: not line.connected.is_set())
            if broker_tells or turn > 2:
                assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(line.error)
            await until(line.connected.is_set)
            pauses.append(loop.time() - began_s)
        assert min(pauses[4:]) > 0.28
        assert "KPSTREAM_INGEST_MQTT_CLIENT_ID" in str(line.error)
        await until(lambda: line.error is None)  # alone again
        assert line.connected.is_set()


REASONS: list[tuple[dict[str, Any], str]] = [
    (
        {"closes_at": "subscribe"},
        "the broker closed the connection when we subscribed to 'sensors/+/+/+', and gave no "
        "reason; check that its access list lets us read that, and look into its log",
    ),
    (
        {"closes_at": "subscribe", "session_present": True},
        "the broker closed the connection when we subscribed to 'sensors/+/+/+' in the session "
        "that it had kept, and gave no reason; check",
    ),
    (
        {"closes_at": "subscribe", "goodbye_with": 0xA2, "goodbye_text": "no wildcards here"},
        "the broker ended the connection when we subscribed to 'sensors/+/+/+': Wildcard "
        "subscription not supported ('no wildcards here'); kpstream subscribes with wildcards: "
        "allow them in the broker",
    ),
    (
        {"closes_at": "suback", "goodbye_with": 0x97},
        "the broker ended the connection: Quota exceeded",
    ),
    (
        {"subscription_code": 0x80},
        "the broker refuses the subscription 'sensors/+/+/+' and gives no reason; check the "
        "broker's access list",
    ),
    (
        {"refuse_with": 0x87, "connack_properties": b"\x1f\x00\x02no"},
        "the broker refuses us: Not authorized ('no'); check KPSTREAM_INGEST_MQTT_USERNAME",
    ),
    (
        {"refuse_with": 5},  # a code of 3.1.1 in answer to MQTT 5
        "the broker refuses us: Not authorized; check KPSTREAM_INGEST_MQTT_USERNAME",
    ),
    (
        {"greets_with": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
        "speaks HTTP, not MQTT; check KPSTREAM_INGEST_MQTT_HOST and KPSTREAM_INGEST_MQTT_PORT",
    ),
    (
        {"greets_with": b"\x15\x03\x01\x00\x02\x02\x46"},
        "speaks TLS: set KPSTREAM_INGEST_MQTT_TLS=true, or connect to its plain port",
    ),
    (
        {"closes_at": "suback"},
        "3 connections in a row were cut within seconds and without a reason. Possible: another "
        "client with this client id (KPSTREAM_INGEST_MQTT_CLIENT_ID), or a fault in the network",
    ),
    (
        {"closes_at": "connect"},
        "the connection was closed before the broker answered our CONNECT (MQTT 5), and no reason "
        "was given",
    ),
]


@pytest.mark.parametrize(("traits", "said"), REASONS)
async def test_what_the_broker_does_again_and_again_is_told_and_stays(
    traits: dict[str, Any], said: str
) -> None:
    async with ScriptedBroker() as broker:
        for name, value in traits.items():
            setattr(broker, name, value)
        async with connection(broker.port, "5", timing=QUICK) as line:
            await until(lambda: said in str(line.error))
            lasting = "3 connections" not in said
            connects = len(broker.connects)
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert said in str(line.error)
            assert lasting or len(broker.connects) > connects


async def test_a_pinned_version_that_the_broker_refuses_is_not_a_question_of_tls() -> None:
    """paho itself says nothing about code 1 in MQTT 3.1.1; the connection just ends."""
    async with ScriptedBroker() as broker:
        broker.refuse_with = 1
        async with connection(broker.port, "3.1.1", timing=QUICK) as line:
            await until(lambda: "the broker does not speak MQTT 3.1.1" in str(line.error))
            broker.greets_with = b"\x20\x03\x00\x84\x00"  # the CONNACK of MQTT 5
            broker.refuse_with = None
            await until(lambda: "the broker does not speak MQTT 3.1.1" in str(line.error))
            broker.greets_with = None
            await until(lambda: line.subscribed)
            assert line.error is None


async def test_a_broker_that_never_answers_subscribe_is_told() -> None:
    async with ScriptedBroker() as broker:
        broker.suback_codes = None
        broker.is_silent_to_subscribe = True
        async with connection(broker.port, timing=QUICK) as line:
            await until(lambda: "to our subscription to 'sensors/+/+/+'" in str(line.waiting))
            await until(
                lambda: "has not answered our subscription to 'sensors/+/+/+'" in str(line.error)
            )
            broker.is_silent_to_subscribe = False
            await until(lambda: line.subscribed)
            assert line.error is None


@pytest.mark.needs_mosquitto
async def test_a_port_for_tls_that_only_hangs_up_is_known_by_a_handshake(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as (port, _):
        async with connection(port, "5", timing=QUICK) as line:
            await until(lambda: "speaks TLS: set KPSTREAM_INGEST_MQTT_TLS=true" in str(line.error))


async def test_a_publisher_that_may_not_publish_is_told_the_topic() -> None:
    async with ScriptedBroker() as broker:
        broker.closes_at = "publish"
        async with Publisher(Endpoint("127.0.0.1", broker.port, "test")) as publisher:
            await publisher.publish("out/a", b"x")
            said = "the broker closed the connection when we published on 'out/a'"
            await until(lambda: said in str(publisher.connection.error))
            broker.closes_at, broker.confirms = None, True
            await publisher.flush()


async def test_waiting_for_a_connection_gives_up_only_between_attempts() -> None:
    async with ScriptedBroker() as broker:
        broker.holds_connack = True
        async with connection(broker.port, timing=QUICK) as line:
            assert not await line.wait_connected(0.0), "after patience has grown to its limit"
            assert "has not answered our CONNECT" in str(line.error)
            broker.release_connack()
            assert await line.wait_connected(30.0)


async def test_an_absent_broker_is_awaited() -> None:
    port = free_port()
    async with connection(port) as line:
        await until(lambda: line.error is not None)
        assert f"cannot reach 127.0.0.1:{port}" in str(line.error)
        broker = ScriptedBroker()
        broker.port = port
        async with broker:
            await until(line.connected.is_set)


async def test_stop_while_connecting_leaves_nothing_behind() -> None:
    # 192.0.2.0/24 is reserved for documentation, so no host answers.
    line = Connection(Endpoint("192.0.2.1", 1883, "test"))
    line.start()
    await asyncio.sleep(0)
    await asyncio.wait_for(line.stop(), 120)
    assert not line.alive


async def test_a_slow_tls_handshake_is_waited_for_longer_and_ends_at_stop() -> None:
    timing = Timing(backoff=FAST, patience=Patience(first_s=0.2, most_s=60.0))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        line = Connection(Endpoint("127.0.0.1", port, "test", tls=True), timing=timing)
        line.start()
        await until(lambda: "our TLS handshake for 0.4 s" in str(line.error))
        timing_out = Timing(patience=Patience(first_s=60.0))
        patient = Connection(Endpoint("127.0.0.1", port, "test", tls=True), timing=timing_out)
        patient.start()
        await until(lambda: "opening a connection" in str(patient.waiting))
        await asyncio.wait_for(patient.stop(), 30)  # not after a minute, wherever its thread is
        await asyncio.wait_for(line.stop(), 30)


@pytest.mark.needs_mosquitto
async def test_speaks_tls_and_refuses_an_authority_it_does_not_know(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as (port, cert):
        got: list[bytes] = []
        trusting = Endpoint("localhost", port, "devices", tls=True, ca_file=cert)
        line = Connection(
            Endpoint("localhost", port, "bridge", tls=True, ca_file=cert),
            subscribe="#",
            on_message=lambda _id, _qos, _topic, payload, *_: got.append(payload),
        )
        line.start()
        await until(lambda: line.subscribed)
        async with Publisher(trusting) as publisher:
            for number in range(200):
                await publisher.publish("a/b", b"%05d" % number * 1000)
            await publisher.flush()
        await until(lambda: len(got) == 200)
        assert got == [b"%05d" % number * 1000 for number in range(200)]
        await line.stop()
        stranger = Connection(Endpoint("localhost", port, "stranger", tls=True))
        stranger.start()
        await until(lambda: "set KPSTREAM_INGEST_MQTT_CA_FILE" in str(stranger.error))
        await stranger.stop()


async def test_stop_waits_for_the_farewell(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with ScriptedBroker() as broker:
        async with connection(broker.port) as line:
            await until(lambda: line.subscribed)
        await until(lambda: broker.said_goodbye == 1)
    assert caplog.text == ""


async def test_connect_announces_the_largest_packet_and_connack_bounds_what_is_sent() -> None:
    async with ScriptedBroker() as broker:
        broker.connack_properties = b"\x27" + (100).to_bytes(4, "big")
        line = Connection(Endpoint("127.0.0.1", broker.port, "test"), max_packet_bytes=20_000)
        line.start()
        await until(line.connected.is_set)
        assert b"\x27" + (320_000).to_bytes(4, "big") in broker.connects[0]
        assert line.announced is not None
        assert line.announced.maximum_packet_bytes == 100
        with pytest.raises(MqttError, match=r"cannot publish 90 bytes on 'a/b'.*at most 100"):
            line.publish("a/b", b"x" * 90)
        line.publish("a/b", b"x" * 87)  # 5 for the header, 2 + 3 for topic, 2 for id, 1 for none
        await until(lambda: broker.received == [b"x" * 87])
        broker.connack_properties = b""
        await broker.drop()
        await until(lambda: len(broker.connects) == 2 and line.connected.is_set())
        assert line.announced.maximum_packet_bytes is None
        line.publish("a/b", b"x" * 90)
        await until(lambda: b"x" * 90 in broker.received)
        await line.stop()


@pytest.mark.parametrize("where", ["on_message", "on_connected", "after_read"])
async def test_an_exception_in_a_callback_is_logged_and_the_connection_made_again(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults = 0

    def raising(*_: object) -> None:
        nonlocal faults
        if faults < 2:
            faults += 1
            raise MemoryError("told to fail")

    async with ScriptedBroker() as broker:
        endpoint = Endpoint("127.0.0.1", broker.port, "test")
        callbacks: dict[str, Any] = {where: raising}
        line = Connection(endpoint, subscribe="a/#", **callbacks)
        line.start()
        errors = set()
        while faults < 2 or not line.subscribed:
            if broker.ready:
                broker.publish(1, "a/b", b"x")
            await asyncio.sleep(0.01)
            errors.add(line.error)
        assert line.alive
        assert line.faults_total == 2
        assert line.idle_s < 20
        assert any("unforeseen error (see the log)" in str(error) for error in errors)
        assert caplog.text.count("told to fail") >= 2
        await line.stop()


async def test_a_failure_of_the_task_itself_is_no_end() -> None:
    left = [ZeroDivisionError("told to fail")]

    def will() -> None:
        if left:
            raise left.pop()

    async with ScriptedBroker() as broker:
        line = Connection(Endpoint("127.0.0.1", broker.port, "test"), will=will)
        line.start()
        await until(lambda: line.error is not None)
        assert "ZeroDivisionError: told to fail" in str(line.error)
        await until(line.connected.is_set)
        assert line.error is None
        assert line.faults_total == 1
        await line.stop()


async def test_bytes_of_a_large_message_are_a_sign_of_life() -> None:
    """A PINGRESP that waits behind a message of minutes must not end the connection."""
    got: list[Oversized] = []
    async with ScriptedBroker() as broker:
        broker.answers_pings = False
        endpoint = Endpoint("127.0.0.1", broker.port, "test", keepalive_s=1)
        line = Connection(endpoint, subscribe="a/#", on_oversized=got.append, max_packet_bytes=100)
        line.start()
        await until(lambda: line.subscribed)
        broker.send(b"\x30\xc8\x01\x00\x03a/b\x00")  # 200 bytes, of which 6 have come
        while broker.pings < 3:  # the second silence would be the last without a byte between
            broker.send(b"x")
            await asyncio.sleep(0.1)
        assert line.is_discarding
        assert line.connects_total == 1
        await line.stop()
    assert got == []
