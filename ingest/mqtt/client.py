"""MQTT client side: one connection that asyncio drives, and a publisher on top of it.

The only file that imports paho. paho's own thread is not used: the connection is driven from the
event loop through paho's interface for external loops (`loop_read`, `loop_write`, `loop_misc`).
That spares two thread switches and a wake-up per acknowledgement, and everything about one
connection happens in one thread, so "does this acknowledgement belong to the present connection"
has a plain answer. Only connecting (name lookup, TCP, TLS) runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.backoff import Backoff
from ingest.errors import IngestError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import PacketSocket, Publish
from ingest.mqtt.tls import TlsError, open_tls, tls_advice

__all__ = ["Connection", "Endpoint", "MqttError", "Publisher"]

log = logging.getLogger(__name__)

_UNSUPPORTED_VERSION = (1, 132)  # CONNACK: 1 in MQTT 3.1.1, 0x84 in MQTT 5
_TAKEN_OVER = 0x8E  # DISCONNECT of MQTT 5
_NO_SUBSCRIBERS = 0x10  # PUBACK of MQTT 5
_AGAIN_S = 1.0
_TAKEN_OVER_ERROR = "another client uses this client id (KPSTREAM_INGEST_MQTT_CLIENT_ID)"
_CUT_SHORT = 3
_CUT_SHORT_ERROR = (
    "the broker ends our connections within seconds: "
    "does another client use this client id (KPSTREAM_INGEST_MQTT_CLIENT_ID)?"
)
"""What a taken over session looks like with a broker that does not tell (3.1.1, old mosquitto)."""
_SOUND_S = 30.0
"""How long a connection must hold until two clients of one id are no concern any more."""
_CONNECT_TIMEOUT_S = 5.0
_BACKOFF = Backoff(first_ms=200, max_ms=5_000, jitter=(0.75, 1.25), reset_after_ms=10_000)
_CONNACK_S = 2.0
_MISC_S = 0.25
_MOST_CHUNKS = 4  # read from one socket before others get their turn


class MqttError(IngestError):
    """The MQTT client cannot do what it is asked to; the message says why."""


class _Client(paho.Client):
    """paho's client over a `PacketSocket` (see there why) that is connected here."""

    endpoint: Endpoint

    def _create_socket(self) -> Any:
        endpoint, timeout_s = self.endpoint, _CONNECT_TIMEOUT_S
        sock: socket.socket
        if endpoint.tls:
            # Not paho's own way: it forgets to close the socket when the handshake fails.
            sock = open_tls(endpoint.host, endpoint.port, endpoint.tls_files, timeout_s=timeout_s)
        else:
            sock = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        has_properties = self.protocol == MQTTProtocolVersion.MQTTv5
        return PacketSocket(sock, has_properties=has_properties)


class Connection:
    """Keeps one MQTT connection up from the running event loop; all callbacks run on that loop.

    Every connect begins a new `epoch`. Messages are never acknowledged by themselves: `ack` does
    it, and must be called in the order of arrival and for the present epoch only. `error` says what
    is wrong, for a person; also while connected, if another client of the same id throws us out.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_message: Callable[[int, int, str, bytes], None] | None = None,
        on_confirmed: Callable[[int], None] | None = None,
        on_refused: Callable[[int], None] | None = None,
        on_unheard: Callable[[int], None] | None = None,
        on_up: Callable[[bool], None] | None = None,
        on_down: Callable[[str], None] | None = None,
        after_read: Callable[[], None] | None = None,
        subscribe: str | Sequence[str] = (),
        outgrown: Sequence[str] = (),
        leaves: bool = False,
        will: Callable[[], tuple[str, bytes] | None] | None = None,
        session_expiry_s: int = 0,
        receive_maximum: int = 65_535,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            endpoint: Where to.
            on_message: Called with (packet id, QoS, topic, payload), see `Publish`. Must not raise.
            on_confirmed: Called with the packet id of a publication the broker has confirmed.
            on_refused: Called with the packet id of one that the broker has thrown away (MQTT 5).
            on_unheard: Called, instead of `on_confirmed`, with the packet id of one that the broker
                confirmed and passed on to nobody, for want of a subscriber (MQTT 5).
            on_up: Called when connected, with whether the broker kept our session.
            on_down: Called when the connection ended, with the reason.
            after_read: Called after a handful of messages was read.
            subscribe: MQTT filter(s) to subscribe to with QoS 1 at every connect.
            outgrown: Filters that an earlier life of this client id may have subscribed to; given
                up where the broker kept its session, once it has accepted `subscribe`.
            leaves: Give up these subscriptions instead, take what is due, and end the session at
                `stop` once `has_left` was set (MQTT 5).
            will: Asked before every connect for the topic and the payload of a retained message
                that the broker shall publish (QoS 1) when we vanish; None: no such message.
            session_expiry_s: Seconds for which the broker shall keep our session; 0: none.
            receive_maximum: How many unacknowledged messages the broker may send (MQTT 5).
        """
        self.endpoint = endpoint
        self.epoch = 0
        self.connected = asyncio.Event()
        self.subscribed = False
        self.session_present = False
        self.has_left = False
        """Set by who leaves: all that was due is taken, so the broker may forget the session."""
        self.error: str | None = None
        self.connects_total = 0
        self.refused_total = 0
        """Publications that the broker did not take (MQTT 5; with 3.1.1 it cannot tell)."""
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._on_refused = on_refused
        self._on_unheard = on_unheard
        self._on_up = on_up
        self._on_down = on_down
        self._after_read = after_read
        self._filters = (subscribe,) if isinstance(subscribe, str) else tuple(subscribe)
        self._outgrown = tuple(outgrown)
        self._leaves = leaves
        self._will = will
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._version = "3.1.1" if endpoint.protocol == "3.1.1" else "5"
        self._client: paho.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._fd = -1
        self._reading = False
        self._paused = False
        self._flush_due = False
        self._stopping = False
        self._refused: int | None = None
        self._is_silent = False
        self._refused_tls = False
        self._suspicion: str | None = None  # about another client of our id

    @property
    def protocol(self) -> str:
        """The MQTT version spoken: "5" or "3.1.1"."""
        return self._version

    def start(self) -> None:
        """Begin to connect, and stay connected until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._keep_up(), name="mqtt")

    @property
    def alive(self) -> bool:
        """Whether the task that keeps the connection up is running."""
        return self._task is not None and not self._task.done()

    def watch_over(self, wake: Callable[[], None]) -> None:
        """Call `wake` should the task that keeps the connection up end; then call `check`."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: wake())

    def check(self) -> None:
        """Raise what ended the task that keeps the connection up, if it has ended by itself."""
        task = self._task
        if task is not None and task.done() and not task.cancelled() and not self._stopping:
            task.result()

    async def stop(self) -> None:
        """Disconnect as MQTT asks for; a persistent session stays with the broker."""
        self._stopping = True
        client = self._client
        if client is not None and self.connected.is_set():
            client.disconnect(properties=self._goodbye())
            self._flush()
        self._lost.set()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._detach("stopped")

    def _goodbye(self) -> Properties | None:
        """With the session's end, when we leave for good."""
        if not (self._leaves and self.has_left) or self._version != "5":
            return None
        goodbye = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        goodbye.SessionExpiryInterval = 0
        return goodbye

    def ack(self, packet_id: int) -> None:
        """Send the PUBACK of a message of the present epoch."""
        if self._client is not None:
            self._client.ack(packet_id, 1)

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> int:
        """Hand a publication to the client and return its packet id; see `Publisher`."""
        if self._client is None:
            msg = "not started"
            raise MqttError(msg)
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            msg = "no packet id is free: too many publications are unconfirmed"
            raise MqttError(msg)
        return info.mid

    def pause(self) -> None:
        """Read no more from the socket: the network holds the broker back."""
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

    # -- the task ---------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        failures, hang_ups, cut_short = 0, 0, 0
        while True:
            self._refused, self._is_silent, self._refused_tls = None, False, False
            connects, refused, began_s = self.connects_total, self.refused_total, loop.time()
            reached = await self._connect_once()
            if self._stopping:
                return
            if self.connects_total > connects:
                hang_ups = 0
                # Of two clients of one id, each is connected for as long as the other waits.
                held_ms = (loop.time() - began_s) * 1000
                if held_ms > _BACKOFF.reset_after_ms and self._suspicion is None:
                    failures, cut_short = 0, 0
                elif self.refused_total > refused:  # mosquitto with TLS hangs up after a refusal
                    failures = 0
                elif (self.error or "").startswith("connection lost"):
                    cut_short += 1
                    if cut_short >= _CUT_SHORT and self._suspicion is None:
                        self._suspect(_CUT_SHORT_ERROR)
            elif reached and not self._refused_tls and self._may_change_version():
                # A broker that knows no MQTT 5 says so, or hangs up, or waits for more.
                hang_ups += self._refused is None
                if self._refused in _UNSUPPORTED_VERSION or self._is_silent or hang_ups >= 2:
                    self._version = "3.1.1" if self._version == "5" else "5"
                    self._client, hang_ups = None, 0
                    log.info("the broker does not take our MQTT version, trying %s", self._version)
            failures += 1
            await asyncio.sleep(_BACKOFF.delay_ms(failures) / 1000)

    def _may_change_version(self) -> bool:
        # paho keeps unconfirmed publications in its client: such a client is not replaced.
        publishes = self._on_confirmed is not None and self.connects_total > 0
        return self.endpoint.protocol == "auto" and not publishes

    async def _connect_once(self) -> bool:
        """One connection, from the attempt to its end; whether anybody was there."""
        self._lost.clear()
        if self._client is None:
            self._client = self._new_client()
        client = self._client
        will = None if self._will is None else self._will()
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        attempt = asyncio.ensure_future(asyncio.to_thread(client.reconnect))
        try:
            await asyncio.shield(attempt)
        except (OSError, ValueError, TlsError) as exc:
            self.error = f"cannot reach {self.endpoint.host}:{self.endpoint.port}: {exc}"
            return False
        except asyncio.CancelledError:
            # A thread cannot be cancelled: wait (5 s at most), or its socket is left behind.
            with suppress(OSError, ValueError, TlsError):
                await attempt
            self._detach("stopped")
            raise
        try:
            self._attach()
            loop = asyncio.get_running_loop()
            answer_by_s = loop.time() + _CONNACK_S
            sound_at_s = loop.time() + _SOUND_S
            while not self._lost.is_set():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._lost.wait(), _MISC_S)
                if self._lost.is_set():
                    break
                client.loop_misc()
                if self._suspicion and self.connected.is_set() and loop.time() > sound_at_s:
                    self._suspicion = self.error = None
                if not self.connected.is_set() and loop.time() > answer_by_s:
                    self._is_silent = True
                    self.error = f"the broker does not answer our CONNECT (MQTT {self._version})"
                    break
        finally:
            self._detach(self.error or "connection lost")
        return True

    def _new_client(self) -> paho.Client:
        persistent = self._session_expiry_s > 0
        endpoint = self.endpoint
        is_5 = self._version == "5"
        version = MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            protocol=version,
            clean_session=None if is_5 else not persistent,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.endpoint = endpoint
        client.suppress_exceptions = True
        client.max_inflight_messages_set(0)  # bounded by Publisher
        client.enable_logger(logging.getLogger("paho"))
        if not logging.getLogger("paho").isEnabledFor(logging.DEBUG):
            client.disable_logger()
        if endpoint.username is not None:
            client.username_pw_set(endpoint.username, endpoint.password)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = self._unsubscribed
        client.on_publish = self._published
        client.on_socket_register_write = self._wants_write
        client.on_socket_close = self._closing
        properties = None
        if is_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._session_expiry_s
            properties.ReceiveMaximum = self._receive_maximum
        client.connect_async(
            endpoint.host,
            endpoint.port,
            endpoint.keepalive_s,
            clean_start=not persistent,
            properties=properties,
        )
        return client

    # -- the socket -------------------------------------------------------------------------

    def _attach(self) -> None:
        sock = self._socket()
        if sock is None:
            self._lost.set()
            return
        self._fd = sock.fileno()
        self._watch(reading=True)
        self._flush()

    def _detach(self, reason: str) -> None:
        sock = None if self._client is None else self._client.socket()
        self._unwatch()
        if sock is not None:
            sock.close()
        self.subscribed = False
        self._paused = False  # the answer to our CONNECT must be read
        if self.connected.is_set():
            self.connected.clear()
            self.epoch += 1
            if self._on_down is not None:
                self._on_down(reason)

    def _closing(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        self._unwatch()

    def _unwatch(self) -> None:
        """Before the descriptor is closed: its number may soon be another socket's."""
        if self._fd >= 0:
            self._watch(reading=False)
            asyncio.get_running_loop().remove_writer(self._fd)
            self._fd = -1

    def _watch(self, *, reading: bool) -> None:
        if self._fd < 0 or reading == self._reading:
            return
        loop = asyncio.get_running_loop()
        if reading:
            loop.add_reader(self._fd, self._readable)
        else:
            loop.remove_reader(self._fd)
        self._reading = reading

    def _readable(self) -> None:
        sock = self._socket()
        if sock is None:
            self._lost.set()
            return
        try:
            # A few chunks, then others get their turn; the loop calls again if more is there.
            for _ in range(_MOST_CHUNKS):
                if not self._take_packets(sock) or self._paused or not sock.fill():
                    break
            self._take_packets(sock)
            if sock.ended and self._client is not None:
                self._client.loop_read()  # it finds the end, and says so
            elif sock.hides_more() and not self._paused:
                asyncio.get_running_loop().call_soon(self.poll)
        except OSError as exc:
            self._broke(exc)
        finally:
            if self._after_read is not None:
                self._after_read()

    def _take_packets(self, sock: PacketSocket) -> bool:
        """Everything that has been read, in order; False when the connection has ended."""
        while not self._paused:
            packet = sock.next_packet()
            if packet is None:
                break
            if isinstance(packet, Publish):
                if self._on_message is not None:
                    self._on_message(*packet)
            else:
                sock.offer(packet)
                if self._client is None or self._client.loop_read():
                    self._lost.set()
                    return False
        return not self._lost.is_set()

    def _socket(self) -> PacketSocket | None:
        sock: Any = None if self._client is None else self._client.socket()
        if sock is not None and not isinstance(sock, PacketSocket):
            msg = "this release of paho-mqtt makes its sockets another way; install paho-mqtt<2.3"
            raise MqttError(msg)
        return sock

    def _wants_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        del client, userdata, sock
        if not self._flush_due and self._fd >= 0:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        client, sock = self._client, self._socket()
        if client is None or sock is None or self._fd < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            if client.loop_write():
                self._lost.set()
            elif self._fd >= 0:  # else it was a DISCONNECT, and paho has closed the socket
                if sock.flush():
                    loop.remove_writer(self._fd)
                else:
                    loop.add_writer(self._fd, self._flush)
        except OSError as exc:
            self._broke(sock.last_words() or exc)

    def _broke(self, exc: OSError) -> None:
        """With TLS 1.3 a broker refuses our certificate by ending a connection that stands."""
        where = f"{self.endpoint.host}:{self.endpoint.port}"
        advice = tls_advice(exc, where, self.endpoint.tls_files, shaking_hands=False)
        self._refused_tls = advice is not None
        self.error = advice or self._lost_text(exc)
        self._lost.set()

    def _lost_text(self, why: object) -> str:
        hint = ""
        if not self.connected.is_set() and not self.endpoint.tls:
            hint = "; is it a port for TLS (KPSTREAM_INGEST_MQTT_TLS)?"
        return f"connection lost: {why}{hint}"

    # -- paho's callbacks -------------------------------------------------------------------

    def _connected(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del userdata, properties
        if reason.is_failure:
            self._refused = reason.value
            self.error = f"the broker refuses us: {reason}"
            log.warning("%s:%s: %s", self.endpoint.host, self.endpoint.port, self.error)
            self._lost.set()
            return
        self.error = self._suspicion
        self.connects_total += 1
        self.session_present = flags.session_present
        self.connected.set()
        if self._filters and self._leaves:
            client.unsubscribe([*self._filters, *self._outgrown])
        elif self._filters:
            self._subscribe(client, self._filters)
        if self._on_up is not None:
            self._on_up(flags.session_present)

    def _subscribe(self, client: paho.Client, filters: Sequence[str]) -> None:
        if self._version == "5":
            # Retained readings once, not again with every reconnect.
            once = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            client.subscribe([(each, once) for each in filters])
        else:
            client.subscribe([(each, 1) for each in filters])

    def _subscribed(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        del userdata, mid, props
        answers = zip(self._filters, reasons, strict=False)
        refused = [(each, reason) for each, reason in answers if reason.is_failure]
        if refused:
            each, reason = refused[0]
            self.error = f"the broker refuses the subscription {each!r}: {reason}"
            log.error("%s", self.error)
            self._lost.set()
        else:
            self.subscribed = True
            if self.session_present and self._outgrown:
                client.unsubscribe(list(self._outgrown))

    def _unsubscribed(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], props: Any
    ) -> None:
        del client, userdata, mid, reasons, props
        if self._leaves:
            self.subscribed = True  # as much as it shall be

    def _disconnected(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, props: Any
    ) -> None:
        del client, userdata, flags, props
        if reason.value == _TAKEN_OVER and not self._stopping:
            self._suspect(_TAKEN_OVER_ERROR)
        elif self.error is None and not self._stopping:
            self.error = self._lost_text(reason)
        self._lost.set()

    def _suspect(self, error: str) -> None:
        if self._suspicion != error:
            log.error("%s:%s: %s", self.endpoint.host, self.endpoint.port, error)
        self._suspicion = self.error = error

    def _published(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, props: Any
    ) -> None:
        del client, userdata, props
        if reason.is_failure:
            self.refused_total += 1
            if self.refused_total == 1:
                log.error("the broker refuses what we publish: %s (its access list?)", reason)
        answered = self._on_refused if reason.is_failure else self._on_confirmed
        if reason.value == _NO_SUBSCRIBERS:
            answered = self._on_unheard or self._on_confirmed
        if answered is not None:
            answered(mid)


class Publisher:
    """Publishes with QoS 1 and knows what the broker has confirmed.

    Nothing is dropped while the process lives: at most `in_flight` messages are unconfirmed, and
    `publish` waits for its turn, also while the broker is away. There is no disk queue: what is
    unconfirmed when the process dies is lost. A reconnect sends the unconfirmed ones again, so a
    message may arrive twice.
    """

    def __init__(
        self, endpoint: Endpoint, *, in_flight: int = 500, until_heard: bool = False
    ) -> None:
        """Prepare.

        Args:
            endpoint: The broker.
            in_flight: Bounds the unconfirmed messages (1 to 60 000).
            until_heard: A message that the broker confirmed and gave to nobody, because nobody has
                subscribed, counts as unconfirmed and is sent again every second. Needs MQTT 5. For
                readings that must outlive the restart of a broker that forgets its subscribers.
        """
        self.published_total = 0
        self.confirmed_total = 0
        self.unheard_total = 0
        self._until_heard = until_heard
        self._kept: dict[int, tuple[str, bytes]] = {}
        self._in_flight = in_flight
        self._waiting: set[int] = set()
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._room.set()
        self._empty.set()
        self.connection = Connection(
            endpoint,
            on_confirmed=self._confirmed,
            on_refused=self._refused,
            on_unheard=self._unheard if until_heard else None,
        )

    async def __aenter__(self) -> Publisher:
        self.connection.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.connection.stop()

    @property
    def refused_total(self) -> int:
        """Messages that the broker threw away, because we may not publish them; not confirmed.

        Told with MQTT 5 only: with 3.1.1 a broker confirms them all the same.
        """
        return self.connection.refused_total

    @property
    def unconfirmed(self) -> int:
        """Messages that the broker has not answered yet."""
        return len(self._waiting)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send one message; returns when it is on its way (not yet confirmed: see `flush`)."""
        connected = self.connection.connected
        while not (self._room.is_set() and connected.is_set()):
            await self._room.wait()
            await connected.wait()
        self._send(topic, payload)
        self.published_total += 1
        self._empty.clear()
        if len(self._waiting) >= self._in_flight:
            self._room.clear()

    async def flush(self) -> None:
        """Wait until every message so far is confirmed, or refused (`refused_total`)."""
        await self._empty.wait()

    def _confirmed(self, packet_id: int) -> None:
        self.confirmed_total += packet_id in self._waiting
        self._refused(packet_id)

    def _send(self, topic: str, payload: bytes) -> None:
        packet_id = self.connection.publish(topic, payload)
        self._waiting.add(packet_id)
        if self._until_heard:
            self._kept[packet_id] = (topic, payload)

    def _unheard(self, packet_id: int) -> None:
        """Send it again in a moment; until then it is unconfirmed under a number of our own."""
        if packet_id not in self._waiting:
            return
        self.unheard_total += 1
        message, own = self._kept.pop(packet_id), -self.unheard_total
        self._waiting.remove(packet_id)
        self._waiting.add(own)

        def again() -> None:
            self._send(*message)
            self._waiting.remove(own)

        asyncio.get_running_loop().call_later(_AGAIN_S, again)

    def _refused(self, packet_id: int) -> None:
        self._kept.pop(packet_id, None)
        if packet_id not in self._waiting:
            return
        self._waiting.remove(packet_id)
        self._room.set()
        if not self._waiting:
            self._empty.set()
