"""Messages are parsed from the byte stream whole and in order, whatever their properties."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mqtt.packets import PacketSocket, Publish

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
    return bytes([0x30 | message.qos << 1]) + length + head + message.payload


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = number >> 7, number & 0x7F
        out.append(digit | 0x80 if number else digit)
        if not number:
            return bytes(out)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def packets_of(sock: PacketSocket) -> list[Publish | bytes]:
    found = []
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
        found: list[Publish | bytes] = []
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
