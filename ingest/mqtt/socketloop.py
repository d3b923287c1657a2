"""paho's MQTT client on the asyncio event loop: one client, one socket at a time.

Only this file and `ingest.mqtt.client` import paho. paho's own thread is not used: the event loop
drives the client through paho's interface for external loops (`loop_read`, `loop_write`,
`loop_misc`). That saves two thread switches and a wake-up per acknowledgement. Because everything
about one connection happens in one thread, it is always clear whether an acknowledgement belongs to
the current connection. Only connecting (name lookup, TCP, TLS) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.errors import MqttError
from ingest.mqtt.announced import Announced, read_announced
from ingest.mqtt.callbacks import Callbacks
from ingest.mqtt.client import make_client
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import Oversized, PacketSocket, Publish
from ingest.mqtt.promise import keep_alive_s, refused_publication
from ingest.mqtt.reasons import Ending, greeting_problem
from ingest.mqtt.resting import Rest
from ingest.mqtt.subscriptions import Reason
from ingest.tls import TlsError

__all__ = ["SocketLoop"]

_MOST_CHUNKS = 4  # read from one socket before other tasks run
_LITTLE_BYTES = 32_768  # a read below that has emptied the socket
_PUBACK = 0x4002_0000  # with the length that follows, and a packet id of 0
_TOO_LARGE = 0x95  # Packet too large, of MQTT 5
_GREETING_BYTES = 4  # the shortest CONNACK
_CONNACK = 0x20
_REFUSALS_311 = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
"""Codes of CONNACK in MQTT 3.1.1, and those of MQTT 5 with the same meaning."""
_PROTOCOL_ERROR, _UNSUPPORTED_VERSION, _KEEP_ALIVE_TIMEOUT = 0x82, 0x84, 0x8D
_GIVE_UP_S = 0.1  # between two tries to end what a thread opens
_MOST_SAID = 300  # characters of a text of the broker
_CLOSED = Ending("closed")


class SocketLoop:
    """One MQTT client of one protocol version, opened and closed many times.

    The client outlives its sockets, because paho stores unconfirmed publications in it and sends
    them again after a reconnect.

    Attributes:
        version: MQTT version of this client.
        announced: What the broker announced for the current connection; None before its CONNACK.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        version: Literal["5", "3.1.1"],
        callbacks: Callbacks,
        *,
        session_expiry_s: int,
        receive_maximum: int,
        max_packet_bytes: int,
        rest_s: float = 0.0,
    ) -> None:
        """Prepare the client; see `ingest.mqtt.connection.Connection` for the arguments."""
        self.version = version
        self.announced: Announced | None = None
        self._rest = Rest(rest_s, lambda on: self._watch(reading=on), self.poll)
        self._endpoint = endpoint
        self._where = f"{endpoint.host}:{endpoint.port}"
        self._callbacks = callbacks
        self._client = make_client(
            endpoint, version, session_expiry_s, receive_maximum, max_packet_bytes
        )
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._subscribed
        self._client.on_unsubscribe = self._unsubscribed
        self._client.on_publish = self._published
        self._client.on_socket_register_write = self._write_wanted
        self._client.on_socket_close = self._socket_closing
        self._fd = -1
        self._ended = False
        self._greeted = False
        self._reading = False
        self._paused = False
        self._flush_due = False
        self._seen_bytes = 0
        self._messages = 0  # of the current read

    # -- life of a socket -------------------------------------------------------------------

    async def open(self, will: tuple[str, bytes] | None, *, handshake_s: float) -> None:
        """Open a socket and queue CONNECT; `attach` then starts to read and write.

        Args:
            will: Topic and payload of the last-will message, retained, QoS 1; None: none.
            handshake_s: Seconds that the broker has for an answer in the TLS handshake.

        Raises:
            OSError, ValueError, TlsError: The broker cannot be reached.
        """
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)
        self._ended = self._greeted = False
        self._seen_bytes = 0
        self.announced = None
        self._client.limit(0, self._endpoint.keepalive_s)
        self._client.handshake_s = handshake_s
        attempt = asyncio.ensure_future(asyncio.to_thread(self._client.reconnect))
        try:
            await asyncio.shield(attempt)
        except asyncio.CancelledError:
            # A thread cannot be cancelled. Wait (for a name lookup), or its socket stays open. It
            # may be between two sockets, so end whatever it works on until it returns.
            while not attempt.done():
                self._client.give_up_opening()
                await asyncio.wait({attempt}, timeout=_GIVE_UP_S)
            with suppress(OSError, ValueError, TlsError):
                attempt.result()
            self.close()
            raise

    def attach(self) -> None:
        """Read and write on the event loop from now on."""
        sock = self._socket()
        if sock is None:
            self._end()
            return
        self._fd = sock.fileno()
        self._watch(reading=True)
        self._flush()

    def close(self) -> None:
        """Close the socket, if there is one, after writing queued bytes where possible."""
        sock = self._client.socket()
        self._unwatch()
        if sock is not None:
            sock.close()
        self._paused = False  # the answer to the next CONNECT must be read

    # -- requests ---------------------------------------------------------------------------

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1."""
        if self.version == "5":
            # Retained readings once, not again with every reconnect.
            once = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            self._client.subscribe([(each, once) for each in filters])
        else:
            self._client.subscribe([(each, 1) for each in filters])

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe."""
        self._client.unsubscribe(list(filters))

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> int:
        """Queue a publication and return its packet id.

        At most as many as the broker's Receive Maximum are on their way; the others wait here.

        Raises:
            MqttError: The broker has not accepted the connection yet, it announced that it does not
                take such a publication (`ingest.mqtt.promise`), or no packet id is free.
        """
        if self.announced is None:
            msg = f"cannot publish on {topic!r}: the broker has not accepted the connection yet"
            raise MqttError(msg)
        refusal = refused_publication(self.announced, topic, len(payload), qos, retain=retain)
        if refusal is not None:
            raise MqttError(refusal)
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            msg = "no packet id is free: too many publications are unconfirmed"
            raise MqttError(msg)
        return info.mid

    def ack(self, packet_ids: Sequence[int]) -> None:
        """Queue the PUBACKs of messages, in this order.

        They do not pass through paho, which takes 15 us for each. They go behind the packets that
        it has written, and a packet is written whole into the buffer of the socket.
        """
        sock = self._socket()
        if sock is not None and packet_ids:
            pubacks = [_PUBACK | packet_id for packet_id in packet_ids]
            sock.send(struct.pack(f">{len(pubacks)}I", *pubacks))
            self._flush_soon()

    def disconnect(self, *, end_session: bool) -> None:
        """Send DISCONNECT; `end_session` makes an MQTT 5 broker delete the session."""
        properties = None
        if end_session and self.version == "5":
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        self._flush()

    # -- reading ----------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading from the socket, so that TCP holds the broker back."""
        if not self._paused:
            self._paused = True
            self._rest.stop()
            self._watch(reading=False)

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._paused:
            self._paused = False
            self._watch(reading=True)
            if self._fd >= 0:  # what has been read already makes no socket readable
                asyncio.get_running_loop().call_soon(self.poll)

    def poll(self) -> None:
        """Take what has already arrived, without waiting."""
        if self._fd >= 0 and not self._paused:
            self._readable()

    def hurry(self) -> None:
        """Read at once for a moment, because more is on its way."""
        self._rest.hurry()

    def keep_alive(self) -> bool:
        """Send and check MQTT pings; call it several times a second.

        Bytes of any packet are a sign of life, and what is not read cannot be missed.

        Returns:
            Whether there was such a sign since the last call.
        """
        sock = self._socket()
        is_heard = sock is not None and (self._paused or sock.received_bytes != self._seen_bytes)
        if sock is not None and is_heard:
            self._seen_bytes = sock.received_bytes
            self._client.note_received()
        self._client.loop_misc()
        return is_heard

    @property
    def is_discarding(self) -> bool:
        """Whether an oversized message is arriving; messages behind it wait."""
        sock = self._socket()
        return sock is not None and sock.is_discarding

    def _readable(self) -> None:
        try:
            self._read()
        except OSError as exc:
            self._break(exc)
        except Exception as exc:  # else asyncio logs it, and calls again for ever
            self._fail(exc)

    def _read(self) -> None:
        sock = self._socket()
        if sock is None:
            self._end()
            return
        before = sock.received_bytes
        self._messages = 0
        try:
            # A few chunks, then other tasks run; the loop calls again if more is there.
            for _ in range(_MOST_CHUNKS):
                if not self._take_packets(sock) or self._paused or not sock.fill():
                    break
            self._take_packets(sock)
            if sock.ended:
                self._client.loop_read()  # finds the end and reports it
            elif sock.hides_more() and not self._paused:
                asyncio.get_running_loop().call_soon(self.poll)
        finally:
            if self._callbacks.after_read is not None:
                self._callbacks.after_read()
        if not self._paused:
            is_little = sock.received_bytes - before < _LITTLE_BYTES and not sock.is_discarding
            self._rest.after_read(may_rest=is_little and self._messages > 0)

    def _take_packets(self, sock: PacketSocket) -> bool:
        """Take all packets that have been read, in order; False when the connection has ended."""
        on_message, on_oversized = self._callbacks.on_message, self._callbacks.on_oversized
        if not self._greeted:
            self._check_greeting(sock)
        while not self._paused:
            packet = sock.next_packet()
            if packet is None:
                break
            if isinstance(packet, Publish):
                self._messages += 1
                if on_message is not None:
                    on_message(*packet)
            elif isinstance(packet, Oversized):
                if on_oversized is not None:
                    on_oversized(packet)
            elif (refusal := _refusal_in(packet)) is not None:
                self._callbacks.on_connack(refusal, read_announced(self.version, False, {}))
                return False
            else:
                sock.offer(packet)
                if self._client.loop_read():
                    self._end()
                    return False
        return not self._ended

    def _check_greeting(self, sock: PacketSocket) -> None:
        """Check the first bytes of a connection.

        Raises:
            MqttError: No broker answers on that port.
        """
        first = sock.peek()
        if len(first) >= _GREETING_BYTES:
            self._greeted = True
            problem = greeting_problem(first, self._where)
            if problem is not None:
                raise MqttError(problem)

    # -- writing ----------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_due = False
        try:
            self._write()
        except OSError as exc:
            sock = self._socket()
            self._break((sock and sock.close_reason()) or exc)
        except Exception as exc:
            self._fail(exc)

    def _write(self) -> None:
        sock = self._socket()
        if sock is None or self._fd < 0:
            return
        loop = asyncio.get_running_loop()
        if self._client.loop_write():
            self._end()
        elif self._fd >= 0:  # else it was a DISCONNECT, and paho has closed the socket
            if sock.flush():
                loop.remove_writer(self._fd)
            else:
                loop.add_writer(self._fd, self._flush)

    def _write_wanted(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due and self._fd >= 0:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    # -- the socket -------------------------------------------------------------------------

    def _socket(self) -> PacketSocket | None:
        sock: Any = self._client.socket()
        if sock is not None and not isinstance(sock, PacketSocket):
            msg = "this release of paho-mqtt opens its sockets differently; install paho-mqtt<2.3"
            raise MqttError(msg)
        return sock

    def _watch(self, *, reading: bool) -> None:
        if self._fd < 0 or reading == self._reading:
            return
        loop = asyncio.get_running_loop()
        if reading:
            loop.add_reader(self._fd, self._readable)
        else:
            loop.remove_reader(self._fd)
        self._reading = reading

    def _unwatch(self) -> None:
        """Stop watching before the descriptor is closed: its number may soon be reused."""
        self._rest.stop()
        if self._fd >= 0:
            self._watch(reading=False)
            asyncio.get_running_loop().remove_writer(self._fd)
            self._fd = -1

    def _end(self, ending: Ending = _CLOSED) -> None:
        self._ended = True
        self._callbacks.on_ended(ending)

    def _break(self, exc: Exception) -> None:
        self._ended = True
        self._callbacks.on_broken(exc)

    def _fail(self, exc: Exception) -> None:
        """Give up the connection after an unforeseen exception: its stream may be out of step."""
        self._unwatch()
        self._break(exc)

    # -- paho's callbacks -------------------------------------------------------------------

    def _socket_closing(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        self._unwatch()

    def _connected(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del client, userdata
        # paho has no typed way to read them all; `json` names each by its property.
        found = {} if properties is None else properties.json()  # type: ignore[no-untyped-call]
        announced = read_announced(self.version, flags.session_present, found)
        if not reason.is_failure:
            self.announced = announced
            self._keep_to(announced)
        self._callbacks.on_connack(_reason(reason, properties), announced)

    def _keep_to(self, announced: Announced) -> None:
        """Withdraw what this broker refuses, and bound what it is sent."""

        def refusal(message: paho.MQTTMessage) -> str | None:
            size = len(message.payload)
            return refused_publication(
                announced, message.topic, size, message.qos, retain=message.retain
            )

        for packet_id, text in self._client.withdraw(refusal):
            self._callbacks.on_puback(packet_id, Reason(_TOO_LARGE, text))
        ours_s = self._endpoint.keepalive_s
        self._client.limit(announced.receive_maximum, keep_alive_s(announced, ours_s))

    def _subscribed(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        del client, userdata, mid
        self._callbacks.on_suback([_reason(each, props) for each in reasons])

    def _unsubscribed(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        del client, userdata, mid
        self._callbacks.on_unsuback([_reason(each, props) for each in reasons])

    def _published(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, props: Any
    ) -> None:
        del client, userdata
        self._callbacks.on_puback(mid, _reason(reason, props))

    def _disconnected(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, props: Any
    ) -> None:
        del client, userdata
        if flags.is_disconnect_packet_from_server:
            self._end(Ending("given", *_reason(reason, props)))
        elif reason.value == _KEEP_ALIVE_TIMEOUT:
            self._end(Ending("no_ping"))
        elif reason.value == _PROTOCOL_ERROR:
            self._end(Ending("closed", 0, "it sent a packet that MQTT does not allow"))
        else:  # a code of the library, not of the broker
            self._end()


def _reason(reason: ReasonCode, properties: Properties | None) -> Reason:
    """Return a reason with what the broker says about it (MQTT 5)."""
    text = str(reason)
    said = getattr(properties, "ReasonString", None)
    server = getattr(properties, "ServerReference", None)
    if said:
        text += f" ({said[:_MOST_SAID]!r})"
    if server:
        text += f", that is {server[:_MOST_SAID]!r}"
    return Reason(reason.value, text)


def _refusal_in(packet: bytes) -> Reason | None:
    """Return the refusal of a CONNACK in the other version than ours, which paho cannot read."""
    if packet[0] != _CONNACK or not 2 <= packet[1] < 0x80 or len(packet) < _GREETING_BYTES:
        return None  # no CONNACK, or one with so many properties that it is one of MQTT 5
    code = packet[3]
    if code in _REFUSALS_311:
        code = _REFUSALS_311[code]
    elif code != _UNSUPPORTED_VERSION:
        return None
    return _reason(ReasonCode(PacketTypes.CONNACK, identifier=code), None)
