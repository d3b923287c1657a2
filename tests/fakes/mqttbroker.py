"""A broker scripted by the test, for acknowledgements, epochs and refusals.

It speaks the part of MQTT 5 and 3.1.1 that the bridge needs. It keeps no queue: the test publishes,
drops the connection, publishes again.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x40, 0x80, 0xC0, 0xE0
UNSUBSCRIBE = 0xA0


class ScriptedBroker:
    """One client at a time.

    `acks` has the packet ids of all PUBACKs, `received` the payloads of what was published, in
    order of arrival; `confirms` decides whether those are confirmed at once.
    """

    def __init__(self, *, session_present: bool = False) -> None:
        self.session_present = session_present
        self.refuse_with: int | None = None
        self.refuse_version_5 = False
        self.silent_to_version_5 = False
        self.hang_up = False
        self.subscription_code = 1
        self.confirms = False
        self.connack_properties = b""
        self.answers_pings = True
        self.pings = 0
        self.acks: list[int] = []
        self.received: list[bytes] = []
        self._unconfirmed: list[int] = []
        self.connects: list[bytes] = []
        self.subscriptions: list[bytes] = []
        self.unsubscriptions: list[bytes] = []
        self.said_goodbye = 0
        self.version = 0
        self.port = 0
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.drop()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def ready(self) -> bool:
        return self._writer is not None and len(self.subscriptions) == len(self.connects)

    def publish(
        self, packet_id: int, topic: str, payload: bytes, *, qos: int = 1, properties: bytes = b""
    ) -> None:
        head = struct.pack("!H", len(topic.encode())) + topic.encode()
        if qos:
            head += struct.pack("!H", packet_id)
        if self.version == 5:
            head += _varint(len(properties)) + properties
        self.send(bytes([0x30 | qos << 1]) + _varint(len(head) + len(payload)) + head + payload)

    def send(self, data: bytes) -> None:
        assert self._writer is not None, "no client"
        self._writer.write(data)

    async def stream(self, first: int, head: bytes, chunk: bytes, size: int) -> None:
        """Send a packet with `size` bytes behind its head, which is never in memory as a whole."""
        assert self._writer is not None, "no client"
        self.send(bytes([first]) + _varint(len(head) + size) + head)
        for at in range(0, size, len(chunk)):
            self.send(chunk[: size - at])
            await self._writer.drain()

    def confirm_all(self) -> None:
        """Send the PUBACKs of everything this connection has received."""
        for packet_id in self._unconfirmed:
            self.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))
        self._unconfirmed.clear()

    async def drop(self) -> None:
        """Drop the connection without a DISCONNECT."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, packet = await _read_packet(reader)
                if kind == CONNECT:
                    if not self._connect(packet, writer):
                        break
                elif kind == SUBSCRIBE:
                    self.subscriptions.append(packet)
                    body = packet[:2] + (b"\x00" if self.version == 5 else b"")
                    body += bytes([self.subscription_code])
                    writer.write(bytes([0x90, len(body)]) + body)
                elif kind == UNSUBSCRIBE:
                    self.unsubscriptions.append(packet)
                    body = packet[:2] + (b"\x00\x00" if self.version == 5 else b"")
                    writer.write(bytes([0xB0, len(body)]) + body)
                elif kind == PUBACK:
                    self.acks.append(int.from_bytes(packet[:2], "big"))
                elif kind == PUBLISH:
                    at = 2 + int.from_bytes(packet[:2], "big")
                    self._unconfirmed.append(int.from_bytes(packet[at : at + 2], "big"))
                    self.received.append(packet[at + 2 + (self.version == 5) :])
                    if self.confirms:
                        self.confirm_all()
                elif kind == PINGREQ:
                    self.pings += 1
                    if self.answers_pings:
                        writer.write(b"\xd0\x00")
                elif kind == DISCONNECT:
                    self.said_goodbye += 1
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()

    def _connect(self, packet: bytes, writer: asyncio.StreamWriter) -> bool:
        self.version = packet[6]
        if self.hang_up:
            return False
        if self.version == 5 and self.silent_to_version_5:
            return True
        code = self.refuse_with or 0
        if self.version == 5 and self.refuse_version_5:
            code = 132
        body = bytes([int(self.session_present and not code), code])
        if self.version == 5:
            body += _varint(len(self.connack_properties)) + self.connack_properties
        writer.write(bytes([0x20, len(body)]) + body)
        if not code:
            self.connects.append(packet)
            self._writer = writer
            self._unconfirmed.clear()
        return not code


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return first & 0xF0, await reader.readexactly(length)


def _varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = number >> 7, number & 0x7F
        out.append(digit | 0x80 if number else digit)
        if not number:
            return bytes(out)
