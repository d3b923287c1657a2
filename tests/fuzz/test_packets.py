"""The byte stream of a broker, cut anywhere and damaged anywhere."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.bridge import Bridge
from ingest.errors import MqttError
from ingest.mqtt.packets import Oversized, PacketSocket, Publish
from ingest.settings import IngestSettings
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fuzz.limits import examples, within
from tests.fuzz.strategies import nearly
from tests.ingest.mqtt.test_packets import PINGRESP, packets_of, publish_bytes

GOOD = Publish(7, 1, "sensors/p/d/imu", body(1))
streams = st.binary(max_size=300) | st.sampled_from(
    [
        publish_bytes(GOOD) + PINGRESP,
        publish_bytes(GOOD, b"\x26\x00\x01a\x00\x01b"),
        b"\x30\x00" * 9,
    ]
).flatmap(nearly)


def take_packets(sock: PacketSocket, found: list[Publish | Oversized | bytes]) -> MqttError | None:
    """Append the packets that are whole; return the error that says that the rest is none."""
    try:
        while (packet := sock.next_packet()) is not None:
            found.append(packet)
    except MqttError as exc:
        return exc
    return None


@examples(200)
@example(b"\x00" * 5 + b"\x80" * 4, [1], False)
@given(streams, st.lists(st.integers(1, 50), min_size=1, max_size=8), st.booleans())
def test_any_bytes_after_good_messages_lose_none_of_them(
    garbage: bytes, cuts: list[int], is_5: bool
) -> None:
    good = publish_bytes(GOOD, b"" if is_5 else None)
    stream = good + PINGRESP + good + garbage
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs, within(10):
        sock = PacketSocket(ours, has_properties=is_5)
        found: list[Publish | Oversized | bytes] = []
        at, step = 0, 0
        refused = None
        while at < len(stream) and refused is None:
            size = cuts[step % len(cuts)]
            theirs.sendall(stream[at : at + size])
            at, step = at + size, step + 1
            sock.fill()
            refused = take_packets(sock, found)
        if refused is None:
            theirs.close()
            sock.fill()
            assert packets_of(sock) == []
            assert sock.ended
        else:  # no MQTT any more: the bridge ends this connection
            assert "the broker sends" in str(refused)
    assert found[:3] == [GOOD, PINGRESP, GOOD]
    for packet in found:
        if isinstance(packet, Publish):
            assert packet.qos in (0, 1)
            assert 0 <= packet.packet_id <= 65_535
    # What paho gets is part of the stream, byte by byte.
    assert all(packet in stream for packet in found if isinstance(packet, bytes))


GARBAGE = [
    b"\xff" * 40,
    b"\x00\x00\x00\x00",
    b"\x32\x00",  # a message without a topic
    b"\x30\x05\x00\xffab",  # a topic that ends beyond the packet
    b"\x34\x08\x00\x01a\x00\x01\x00xy",  # QoS 2
    b"\x40\x01\x00",  # a PUBACK of half a packet id
    b"\x90\x00",  # a SUBACK without anything
    b"\x20\x01\x00",  # a CONNACK of one byte
    b"\xe0\x05\x8e\xff\xff\xff\xff",  # a DISCONNECT whose properties have no end
    b"\xd0\xff\xff\xff\xff\xff\xff",  # a length without an end
    b"\xf0\x02\x18\x00",  # AUTH
    b"\x10\x02\x00\x00",  # a CONNECT, from a broker
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: data[:5].hex())
async def test_a_broker_that_sends_garbage_is_disconnected_and_loses_no_message(
    garbage: bytes,
) -> None:
    """The bridge takes the messages before the damage, reconnects, and gets the rest."""
    log = FakeLog()
    async with ScriptedBroker(session_present=True) as broker:
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), log)
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().connected)
        broker.publish(1, GOOD.topic, body(1))
        broker.send(garbage)
        broker.publish(2, GOOD.topic, body(2))
        for _ in range(15):  # nonsense is passed over, waits for more bytes, or ends the connection
            await asyncio.sleep(0.01)
        if 2 not in broker.acks:
            if bridge.counters.connects_total == 1:
                await broker.drop()  # as a broker does that hears nothing of us
            await until(lambda: bridge.counters.connects_total > 1 and broker.ready)
            for number in {1, 2} - set(broker.acks):  # what is not acknowledged comes again
                broker.publish(number, GOOD.topic, body(number))
        await until(lambda: {1, 2} <= set(broker.acks))
        assert not task.done()
        bridge.stop()
        await asyncio.wait_for(task, 120)
    assert set(log.numbers()) == {1.0, 2.0}
