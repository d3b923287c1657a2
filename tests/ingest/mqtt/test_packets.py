"""Messages are parsed from the byte stream whole and in order, whatever their properties."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import MqttError
from ingest.mqtt.packets import Oversized, PacketSocket, Publish
from tests.fakes.mqttproperties import varint

PINGRESP = b"\xd0\x00"
# MQTT 5 user property "a\ufeff" = "b", which paho refuses to parse
POISON = b"\x26" + b"\x00\x04a\xef\xbb\xbf" + b"\x00\x01b"


def publish_bytes(message: Publish, properties: bytes | None = b"") -> bytes:
    topic = message.topic.encode()
    head = struct.pack("!H", len(topic)) + topic
    if message.qos:
        head += struct.pack("!H", message.packet_id)
    if properties is not None:
        head += varint(len(properties)) + properties
    length = varint(len(head) + len(message.payload))
    first = 0x30 | message.is_dup << 3 | message.qos << 1 | message.is_retained
    return bytes([first]) + length + head + message.payload


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def packets_of(sock: PacketSocket) -> list[Publish | Oversized | bytes]:
    found: list[Publish | Oversized | bytes] = []
    while (packet := sock.next_packet()) is not None:
        found.append(packet)
    return found


messages = st.builds(
    Publish,
    packet_id=st.integers(1, 65535),
    qos=st.just(1),
    topic=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    payload=st.binary(max_size=400),
) | st.builds(
    Publish,
    packet_id=st.just(0),
    qos=st.just(0),
    topic=st.just("sensors/a/b/c"),
    payload=st.binary(max_size=40),
)


@given(
    st.lists(messages | st.just(PINGRESP), max_size=12),
    st.lists(st.integers(1, 300), min_size=1),
    st.binary(max_size=200) | st.none(),
)
def test_any_chunks_give_the_same_packets_in_order(
    sent: list[Publish | bytes], sizes: list[int], properties: bytes | None
) -> None:
    stream = b"".join(
        item if isinstance(item, bytes) else publish_bytes(item, properties) for item in sent
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        sock = PacketSocket(ours, has_properties=properties is not None)
        found: list[Publish | Oversized | bytes] = []
        at = 0
        while at < len(stream):
            size = sizes[at % len(sizes)]
            theirs.sendall(stream[at : at + size])
            at += size
            assert sock.fill()
            found += packets_of(sock)
    assert found == sent


def test_properties_that_paho_refuses_do_no_harm(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=True)
    message = Publish(7, 1, "sensors/a/b/c", b"{}")
    theirs.sendall(publish_bytes(message, POISON) + publish_bytes(message))
    sock.fill()
    assert packets_of(sock) == [message, message]


@pytest.mark.parametrize(
    "packet",
    [
        b"\x32\x00",  # no room for a topic
        b"\x32\x04\x00\x09ab",  # the topic ends beyond the packet
        b"\x32\x05\x00\x01a\x00\x01",  # no property length
        b"\x32\x07\x00\x01a\x00\x01\x05x",  # properties end beyond the packet
        b"\x34\x06\x00\x01a\x00\x01\x00",  # QoS 2
    ],
)
def test_a_malformed_message_is_left_to_paho(
    pair: tuple[socket.socket, socket.socket], packet: bytes
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=True)
    theirs.sendall(packet + PINGRESP)
    sock.fill()
    assert packets_of(sock) == [packet, PINGRESP]


def test_topic_that_is_no_utf8_arrives_marked(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=False)
    theirs.sendall(b"\x30\x05\x00\x02a\xff" + b"x")
    sock.fill()
    assert packets_of(sock) == [Publish(0, 0, "a\ufffd", b"x")]


def test_paho_receives_offered_bytes_and_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=True)
    assert not sock.fill()
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock.offer(PINGRESP)
    assert sock.pending() == 2
    assert sock.recv(1) + sock.recv(5) == PINGRESP
    theirs.close()
    assert not sock.fill()
    assert sock.ended
    assert sock.recv(1) == b""


def test_writes_only_when_flushed_and_keeps_what_does_not_fit(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=True)
    data = bytes(range(256)) * 8192
    assert sock.send(data) == len(data)
    got = bytearray()
    while not sock.flush():
        got += theirs.recv(1 << 20)
    theirs.setblocking(False)
    while len(got) < len(data):
        got += theirs.recv(1 << 20)
    assert got == data


def fed(sock: PacketSocket, theirs: socket.socket, stream: bytes, size: int) -> list[object]:
    found: list[object] = []
    for at in range(0, len(stream), size):
        theirs.sendall(stream[at : at + size])
        assert sock.fill()
        found += packets_of(sock)
    return found


@pytest.mark.parametrize("properties", [None, b"", POISON])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_message_above_the_limit_is_recognised_at_its_header_and_discarded(
    pair: tuple[socket.socket, socket.socket], properties: bytes | None, qos: int, size: int
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=properties is not None, max_packet_bytes=300)
    largest = Publish(5, 1, "a/b", b"x" * (300 - 7 - (properties is not None)))
    large = Publish(9 * qos, qos, "sensors/a/b/c", bytes(range(256)) * 3)
    stream = publish_bytes(large, properties)
    found = fed(sock, theirs, publish_bytes(largest, None if properties is None else b""), size)
    assert found == [largest]
    found = fed(sock, theirs, stream[:-1], size)
    assert found == []
    assert sock.is_discarding
    found = fed(sock, theirs, stream[-1:] + PINGRESP + stream, size)
    told = Oversized(9 * qos, qos, "sensors/a/b/c", large.payload, len(stream) - 3)
    assert found == [told, PINGRESP, told]
    assert not sock.is_discarding


def test_of_a_large_message_only_the_head_is_kept(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=True, max_packet_bytes=1000)
    found = fed(sock, theirs, publish_bytes(Publish(1, 1, "a/b", b"x" * 400_000)), 8192)
    assert isinstance(found[0], Oversized)
    assert 60_000 < len(found[0].head) < 80_000
    # properties that fill the head leave no payload, but topic and id
    found = fed(sock, theirs, publish_bytes(Publish(1, 1, "a/b", b"x"), b"p" * 400_000), 8192)
    assert isinstance(found[0], Oversized)
    assert found[0][:4] == (1, 1, "a/b", b"")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"\x90\xff\xff\xff\x7f", "type 9 with 268435455 bytes"),
        (b"\x34\xff\xff\xff\x7f", "type 3"),  # QoS 2, which was not requested
    ],
)
def test_another_packet_above_the_limit_ends_the_connection_at_its_header(
    pair: tuple[socket.socket, socket.socket], header: bytes, words: str
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=True, max_packet_bytes=1000)
    theirs.sendall(header)
    sock.fill()
    with pytest.raises(MqttError, match=words):
        sock.next_packet()


def test_a_large_message_without_a_readable_topic_ends_the_connection(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    sock = PacketSocket(ours, has_properties=False, max_packet_bytes=10)
    theirs.sendall(b"\x32\x14" + b"\xff" * 20)
    sock.fill()
    with pytest.raises(MqttError, match="cannot be acknowledged"):
        sock.next_packet()
