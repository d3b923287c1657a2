"""A broker scripted by the test, for acknowledgements, epochs and refusals.

It speaks the part of MQTT 5 and 3.1.1 that the bridge needs. It keeps no queue: the test publishes,
drops the connection, publishes again.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from tests.fakes.mqttproperties import properties, varint

Step = Literal["connect", "connack", "subscribe", "suback", "publish"]

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x40, 0x80, 0xC0, 0xE0
UNSUBSCRIBE = 0xA0


class Published(NamedTuple):
    """A message that the client has published."""

    topic: str
    qos: int
    is_retained: bool
    payload: bytes


class ScriptedBroker:
    """One client at a time.

    `acks` has the packet ids of all PUBACKs, `received` the payloads of what was published, in
    order of arrival (`published`: with topic and flags); `confirms` decides whether those are
    confirmed at once.

    Attributes:
        connack_properties: Properties of CONNACK (MQTT 5); `announce` sets them by name.
        connack_delay_s: Seconds before the answer to CONNECT.
        holds_connack: Answer CONNECT only after `release_connack`.
        refuse_with: Reason code of CONNACK; None: accept.
        hangs_up_on: Protocol level (4, 5) whose CONNECT ends the connection; None: no level.
        greets_with: Bytes to send instead of CONNACK; None: CONNACK.
        suback_codes: Codes of SUBACK, one per filter; None: `subscription_code` for each filter.
        suback_properties: Properties of SUBACK (MQTT 5).
        closes_at: Close the connection at this step: before the answer to `connect`, `subscribe` or
            `publish`, or right behind the answer `connack` or `suback`. None: never.
        goodbye_with: Reason code of a DISCONNECT before that (MQTT 5); None: close without a word.
        goodbye_text: Reason string of that DISCONNECT.
        most_unconfirmed: Most publications of QoS 1 that one connection had unconfirmed.
        echoes: Deliver every publication back to its sender.
        is_silent_to_publish: Never answer a publication, whatever `confirms` and `puback_code` say.
        puback_code: Reason code of every PUBACK of MQTT 5, sent at once; None: see `confirms`.
        goodbyes: Bodies of the DISCONNECT packets of clients.
        retained: Payload by topic, delivered to whom subscribes to the topic itself.
        forbidden: Topics and filters whose SUBSCRIBE ends the connection, as RabbitMQ does.
    """

    def __init__(self, *, session_present: bool = False) -> None:
        self.session_present = session_present
        self.refuse_with: int | None = None
        self.refuse_version_5 = False
        self.silent_to_version_5 = False
        self.hang_up = False
        self.hangs_up_on: int | None = None
        self.greets_with: bytes | None = None
        self.is_silent_to_subscribe = False
        self.subscription_code = 1
        self.suback_codes: Sequence[int] | None = None
        self.suback_properties = b""
        self.confirms = False
        self.connack_properties = b""
        self.connack_delay_s = 0.0
        self.holds_connack = False
        self._released = asyncio.Event()
        self.closes_at: Step | None = None
        self.goodbye_with: int | None = None
        self.goodbye_text: str | None = None
        self.most_unconfirmed = 0
        self.answers_pings = True
        self.pings = 0
        self.acks: list[int] = []
        self.received: list[bytes] = []
        self.published: list[Published] = []
        self._unconfirmed: list[int] = []
        self.connects: list[bytes] = []
        self.subscriptions: list[bytes] = []
        self.unsubscriptions: list[bytes] = []
        self.said_goodbye = 0
        self.goodbyes: list[bytes] = []
        self.retained: dict[str, bytes] = {}
        self.forbidden: Sequence[str] = ()
        self.echoes = False
        self.is_silent_to_publish = False
        self.puback_code: int | None = None
        self.version = 0
        self.port = 0
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedBroker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.release_connack()
        await self.drop()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def announce(self, **values: int | str | None) -> None:
        """Announce these properties in every CONNACK from now on, see `properties`."""
        self.connack_properties = properties(**values)

    def release_connack(self) -> None:
        """Answer the CONNECT that waits (`holds_connack`), and all that follow."""
        self._released.set()

    def disconnect(self, code: int, text: str | None = None) -> None:
        """Send DISCONNECT with a reason code (MQTT 5) and close the connection."""
        writer, self._writer = self._writer, None
        assert writer is not None, "no client"
        _write_goodbye(writer, code, text)
        writer.close()

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
            head += varint(len(properties)) + properties
        self.send(bytes([0x30 | qos << 1]) + varint(len(head) + len(payload)) + head + payload)

    def send(self, data: bytes) -> None:
        assert self._writer is not None, "no client"
        self._writer.write(data)

    async def stream(self, first: int, head: bytes, chunk: bytes, size: int) -> None:
        """Send a packet with `size` bytes behind its head, which is never in memory as a whole."""
        assert self._writer is not None, "no client"
        self.send(bytes([first]) + varint(len(head) + size) + head)
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
                first, packet = await _read_packet(reader)
                if not await self._answer(first, packet, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()

    async def _answer(self, first: int, packet: bytes, writer: asyncio.StreamWriter) -> bool:
        """Take one packet; False: close the connection."""
        kind = first & 0xF0
        if kind == CONNECT:
            return await self._connect(packet, writer)
        if kind == SUBSCRIBE:
            return self._subscribe(packet, writer)
        if kind == UNSUBSCRIBE:
            self.unsubscriptions.append(packet)
            body = packet[:2] + (b"\x00\x00" if self.version == 5 else b"")
            writer.write(bytes([0xB0, len(body)]) + body)
        elif kind == PUBACK:
            self.acks.append(int.from_bytes(packet[:2], "big"))
        elif kind == PUBLISH:
            return self._take(first, packet, writer)
        elif kind == PINGREQ:
            self.pings += 1
            if self.answers_pings:
                writer.write(b"\xd0\x00")
        elif kind == DISCONNECT:
            self.said_goodbye += 1
            self.goodbyes.append(packet)
            return False
        return True

    async def _connect(self, packet: bytes, writer: asyncio.StreamWriter) -> bool:
        if packet[:6] != b"\x00\x04MQTT":
            return False  # a TLS handshake, for example
        self.version = packet[6]
        if self.hang_up or self.hangs_up_on == self.version:
            return False
        if self.greets_with is not None:
            writer.write(self.greets_with)
            return True
        if self.version == 5 and self.silent_to_version_5:
            return True
        await asyncio.sleep(self.connack_delay_s)
        if self.holds_connack:
            await self._released.wait()
        if self._closes("connect", writer):
            return False
        code = self.refuse_with or 0
        if self.version == 5 and self.refuse_version_5:
            code = 132
        body = bytes([int(self.session_present and not code), code])
        if self.version == 5:
            body += varint(len(self.connack_properties)) + self.connack_properties
        writer.write(bytes([0x20]) + varint(len(body)) + body)
        if not code:
            self.connects.append(packet)
            self._writer = writer
            self._unconfirmed.clear()
        return not code and not self._closes("connack", writer)

    def _subscribe(self, packet: bytes, writer: asyncio.StreamWriter) -> bool:
        filters = _filters(packet, self.version)
        if self._closes("subscribe", writer) or set(filters) & set(self.forbidden):
            return False
        self.subscriptions.append(packet)
        if self.is_silent_to_subscribe:
            return True
        codes = self.suback_codes
        if codes is None:
            codes = [self.subscription_code] * len(filters)
        body = packet[:2]
        if self.version == 5:
            body += varint(len(self.suback_properties)) + self.suback_properties
        body += bytes(codes)
        writer.write(bytes([0x90]) + varint(len(body)) + body)
        for each in filters:
            if each in self.retained:
                self.publish(0, each, self.retained[each], qos=0)
        return not self._closes("suback", writer)

    def _take(self, first: int, packet: bytes, writer: asyncio.StreamWriter) -> bool:
        qos, at = first >> 1 & 3, 2 + int.from_bytes(packet[:2], "big")
        topic = packet[2:at].decode()
        if qos:
            self._unconfirmed.append(int.from_bytes(packet[at : at + 2], "big"))
            self.most_unconfirmed = max(self.most_unconfirmed, len(self._unconfirmed))
            at += 2
        self.received.append(packet[at + (self.version == 5) :])
        self.published.append(Published(topic, qos, bool(first & 1), self.received[-1]))
        if self._closes("publish", writer):
            return False
        if self.is_silent_to_publish:
            return True
        if self.puback_code is not None:
            writer.write(b"\x40\x03" + packet[at - 2 : at] + bytes([self.puback_code]))
        elif self.confirms:
            self.confirm_all()
        if self.echoes:
            self.publish(len(self.published), topic, self.received[-1])
        return True

    def _closes(self, step: Step, writer: asyncio.StreamWriter) -> bool:
        if self.closes_at != step:
            return False
        if self.goodbye_with is not None and self.version == 5:
            _write_goodbye(writer, self.goodbye_with, self.goodbye_text)
        return True


def _write_goodbye(writer: asyncio.StreamWriter, code: int, text: str | None) -> None:
    said = properties(reason_string=text)
    body = bytes([code]) + varint(len(said)) + said
    writer.write(bytes([DISCONNECT]) + varint(len(body)) + body)


def _filters(packet: bytes, version: int) -> list[str]:
    """Return the filters of a SUBSCRIBE without subscription properties."""
    at, found = 2 + (version == 5), []
    while at < len(packet):
        end = at + 2 + int.from_bytes(packet[at : at + 2], "big")
        found.append(packet[at + 2 : end].decode())
        at = end + 1
    return found


async def _read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return first, await reader.readexactly(length)
