"""paho's MQTT client on the asyncio event loop: one client, one socket at a time.

The only file that imports paho. paho's own thread is not used: the event loop drives the client
through paho's interface for external loops (`loop_read`, `loop_write`, `loop_misc`). That saves two
thread switches and a wake-up per acknowledgement. Because everything about one connection happens
in one thread, it is always clear whether an acknowledgement belongs to the current connection. Only
connecting (name lookup, TCP, TLS) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import LARGEST_PACKET_BYTES, Oversized, PacketSocket, Publish
from ingest.mqtt.subscriptions import Reason
from ingest.tls import TlsError, open_tls

__all__ = ["Callbacks", "SocketLoop"]

_CONNECT_TIMEOUT_S = 5.0
_MOST_CHUNKS = 4  # read from one socket before other tasks run
_ANNOUNCED_FACTOR = 16
"""The Maximum Packet Size that CONNECT announces, in multiples of the limit.

The broker drops a message above it without telling anybody, so it is far above the limit, at which
a message becomes a dead letter. It is there to keep one message from holding up all others for
minutes on a slow line.
"""

_HEADER_BYTES = 5  # the longest fixed header

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Callbacks of a socket loop, all called on the event loop.

    None may raise. If one does, the exception is logged and the connection reported as broken.

    Attributes:
        on_message: A message: the fields of a `Publish`.
        on_oversized: A message above the limit, of which only the head is left.
        after_read: A handful of messages has been read.
        on_connack: The broker answered CONNECT: reason, and whether it kept our session.
        on_suback: The broker answered a subscription: one reason per filter.
        on_unsuback: The broker answered an unsubscription.
        on_puback: The broker answered a publication: packet id and reason.
        on_ended: The connection ended, with the reason where there is one.
        on_broken: Reading or writing failed, or a callback raised.
    """

    on_message: Callable[[int, int, str, bytes, bool], None] | None
    on_oversized: Callable[[Oversized], None] | None
    after_read: Callable[[], None] | None
    on_connack: Callable[[Reason, bool], None]
    on_suback: Callable[[Sequence[Reason]], None]
    on_unsuback: Callable[[Sequence[Reason]], None]
    on_puback: Callable[[int, Reason], None]
    on_ended: Callable[[Reason | None], None]
    on_broken: Callable[[Exception], None]


class _Client(paho.Client):
    """paho's client with a socket that is opened here and wrapped in `PacketSocket`."""

    endpoint: Endpoint
    max_packet_bytes: int

    def note_received(self) -> None:
        """Note that bytes came. Without it, a PINGRESP behind a large message comes too late."""
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()

    def _create_socket(self) -> Any:
        endpoint, timeout_s = self.endpoint, _CONNECT_TIMEOUT_S
        sock: socket.socket
        if endpoint.tls:
            # Not paho's own way, which leaves the socket open when the handshake fails.
            sock = open_tls(endpoint.host, endpoint.port, endpoint.tls_files, timeout_s=timeout_s)
        else:
            sock = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        has_properties = self.protocol == MQTTProtocolVersion.MQTTv5
        return PacketSocket(
            sock, has_properties=has_properties, max_packet_bytes=self.max_packet_bytes
        )


class SocketLoop:
    """One MQTT client of one protocol version, opened and closed many times.

    The client outlives its sockets, because paho stores unconfirmed publications in it and sends
    them again after a reconnect.

    Attributes:
        version: MQTT version of this client.
        broker_max_packet_bytes: Largest packet that the broker takes (CONNACK of MQTT 5); None: it
            has not announced one.
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
    ) -> None:
        """Prepare the client; see `ingest.mqtt.connection.Connection` for the arguments."""
        self.version = version
        self.broker_max_packet_bytes: int | None = None
        self._callbacks = callbacks
        self._client = _make_client(
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
        self._reading = False
        self._paused = False
        self._flush_due = False
        self._seen_bytes = 0

    # -- life of a socket -------------------------------------------------------------------

    async def open(self, will: tuple[str, bytes] | None) -> None:
        """Open a socket and queue CONNECT; `attach` then starts to read and write.

        Args:
            will: Topic and payload of the last-will message, retained, QoS 1; None: none.

        Raises:
            OSError, ValueError, TlsError: The broker cannot be reached.
        """
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)
        self._ended = False
        self._seen_bytes = 0
        self.broker_max_packet_bytes = None
        attempt = asyncio.ensure_future(asyncio.to_thread(self._client.reconnect))
        try:
            await asyncio.shield(attempt)
        except asyncio.CancelledError:
            # A thread cannot be cancelled. Wait (5 s at most), or its socket stays open.
            with suppress(OSError, ValueError, TlsError):
                await attempt
            self.close()
            raise

    def attach(self) -> None:
        """Read and write on the event loop from now on."""
        sock = self._socket()
        if sock is None:
            self._end(None)
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

        Raises:
            MqttError: The broker does not take a packet of this size, or no packet id is free.
        """
        self._check_size(topic, payload, qos)
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            msg = "no packet id is free: too many publications are unconfirmed"
            raise MqttError(msg)
        return info.mid

    def _check_size(self, topic: str, payload: bytes, qos: int) -> None:
        """Refuse what the broker would answer by ending the connection, again and again."""
        most = self.broker_max_packet_bytes
        head = 2 + len(topic.encode()) + 2 * (qos > 0) + (self.version == "5")
        size = _HEADER_BYTES + head + len(payload)
        if most is not None and size > most:
            msg = (
                f"cannot publish {len(payload)} bytes on {topic!r}: the broker takes packets of at "
                f"most {most} bytes; send smaller messages, or raise its limit (mosquitto: "
                "max_packet_size)"
            )
            raise MqttError(msg)

    def ack(self, packet_id: int) -> None:
        """Queue the PUBACK of a message."""
        self._client.ack(packet_id, 1)

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

    def keep_alive(self) -> None:
        """Send and check MQTT pings; call it several times a second.

        Bytes of any packet are a sign of life, and what is not read cannot be missed.
        """
        sock = self._socket()
        if sock is not None and (self._paused or sock.received_bytes != self._seen_bytes):
            self._seen_bytes = sock.received_bytes
            self._client.note_received()
        self._client.loop_misc()

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
            self._end(None)
            return
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

    def _take_packets(self, sock: PacketSocket) -> bool:
        """Take all packets that have been read, in order; False when the connection has ended."""
        on_message, on_oversized = self._callbacks.on_message, self._callbacks.on_oversized
        while not self._paused:
            packet = sock.next_packet()
            if packet is None:
                break
            if isinstance(packet, Publish):
                if on_message is not None:
                    on_message(*packet)
            elif isinstance(packet, Oversized):
                if on_oversized is not None:
                    on_oversized(packet)
            else:
                sock.offer(packet)
                if self._client.loop_read():
                    self._end(None)
                    return False
        return not self._ended

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
            self._end(None)
        elif self._fd >= 0:  # else it was a DISCONNECT, and paho has closed the socket
            if sock.flush():
                loop.remove_writer(self._fd)
            else:
                loop.add_writer(self._fd, self._flush)

    def _write_wanted(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
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
        if self._fd >= 0:
            self._watch(reading=False)
            asyncio.get_running_loop().remove_writer(self._fd)
            self._fd = -1

    def _end(self, reason: Reason | None) -> None:
        self._ended = True
        self._callbacks.on_ended(reason)

    def _break(self, exc: Exception) -> None:
        self._ended = True
        self._callbacks.on_broken(exc)

    def _fail(self, exc: Exception) -> None:
        """Give up the connection after an unforeseen exception: its stream may be out of step."""
        self._unwatch()
        if isinstance(exc, MqttError):
            log.error("the MQTT connection ends: %s", exc)
        else:
            log.error("the MQTT connection ends after an unforeseen exception", exc_info=exc)
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
        self.broker_max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._callbacks.on_connack(_reason(reason), flags.session_present)

    def _subscribed(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        del client, userdata, mid, props
        self._callbacks.on_suback([_reason(each) for each in reasons])

    def _unsubscribed(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        del client, userdata, mid, props
        self._callbacks.on_unsuback([_reason(each) for each in reasons])

    def _published(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, props: Any
    ) -> None:
        del client, userdata, props
        self._callbacks.on_puback(mid, _reason(reason))

    def _disconnected(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, props: Any
    ) -> None:
        del client, userdata, flags, props
        self._end(_reason(reason))


def _reason(reason: ReasonCode) -> Reason:
    return Reason(reason.value, str(reason))


def _make_client(
    endpoint: Endpoint,
    version: Literal["5", "3.1.1"],
    session_expiry_s: int,
    receive_maximum: int,
    max_packet_bytes: int,
) -> _Client:
    is_persistent = session_expiry_s > 0
    is_5 = version == "5"
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=endpoint.client_id,
        protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
        clean_session=None if is_5 else not is_persistent,
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.endpoint = endpoint
    client.max_packet_bytes = max_packet_bytes
    client.suppress_exceptions = False  # paho would drop them; `_fail` reports them
    client.max_inflight_messages_set(0)  # bounded by Publisher
    client.enable_logger(logging.getLogger("paho"))
    if not logging.getLogger("paho").isEnabledFor(logging.DEBUG):
        client.disable_logger()
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, endpoint.password)
    properties = None
    if is_5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_expiry_s
        properties.ReceiveMaximum = receive_maximum
        properties.MaximumPacketSize = min(
            _ANNOUNCED_FACTOR * max_packet_bytes, LARGEST_PACKET_BYTES
        )
    client.connect_async(
        endpoint.host,
        endpoint.port,
        endpoint.keepalive_s,
        clean_start=not is_persistent,
        properties=properties,
    )
    return client
