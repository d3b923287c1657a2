"""One MQTT connection that stays up: policy, socket loop and subscriptions combined."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from ingest.errors import MqttError
from ingest.mqtt.announced import Announced
from ingest.mqtt.callbacks import Callbacks
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import MAX_PACKET_BYTES, Oversized
from ingest.mqtt.policy import ConnectionPolicy, State, Timing
from ingest.mqtt.promise import (
    Wanted,
    keep_alive_s,
    lost_session_text,
    unusable_filter,
    void_promises,
    weaker_promises,
)
from ingest.mqtt.reasons import Ending
from ingest.mqtt.socketloop import SocketLoop
from ingest.mqtt.subscriptions import FilterMemory, Reason, Subscriptions
from ingest.mqtt.versionprobe import answers_version_5
from ingest.mqtt.versions import VersionMemory
from ingest.patience import REACH_S
from ingest.secrettext import error_text
from ingest.tls import TlsError, speaks_tls, tls_advice

__all__ = ["Connection"]

log = logging.getLogger(__name__)

_NO_SUBSCRIBERS = 0x10  # PUBACK of MQTT 5
_MAY_NOT = (0x80, 0x87)  # unspecified error, not authorised: codes of access lists
_TICK_S = 0.25


class Connection:
    """Keeps one MQTT connection up on the running event loop, which also runs all callbacks.

    Every connection that ends starts a new `epoch`. Messages are never acknowledged automatically:
    call `ack` in the order of arrival, and only for messages of the current epoch.

    `ingest.mqtt.policy.ConnectionPolicy` decides when to connect and how; its table lists the
    states.

    Attributes:
        endpoint: The broker.
        epoch: Number of connections that have ended.
        connected: Set while the broker has accepted the connection.
        announced: What the broker announced at the last connect; None before the first one.
        void: Why messages may be lost although we are connected (`ingest.mqtt.promise`); empty
            while the promise holds or while there is no connection.
        weaker: How the broker gives less than asked for, at the last connect.
        sessions_lost_total: Connects at which the broker had forgotten our session. What it had
            taken for us since we were last connected is lost.
        may_end_session: Set by a client that leaves once it has taken everything that was due:
            `stop` then lets the broker delete the session.
        refused_total: Publications that the broker refused (MQTT 5; 3.1.1 cannot report it).
        faults_total: Connections ended by an unforeseen exception, each of which is in the log.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_message: Callable[[int, int, str, bytes, bool, bool], None] | None = None,
        on_oversized: Callable[[Oversized], None] | None = None,
        on_confirmed: Callable[[int], None] | None = None,
        on_refused: Callable[[int], None] | None = None,
        on_no_subscriber: Callable[[int], None] | None = None,
        on_connected: Callable[[bool], None] | None = None,
        on_disconnected: Callable[[str], None] | None = None,
        after_read: Callable[[], None] | None = None,
        subscribe: str | Sequence[str] = (),
        stale_filters: Sequence[str] = (),
        filter_memory: FilterMemory | None = None,
        leaves: bool = False,
        will: Callable[[], tuple[str, bytes] | None] | None = None,
        session_expiry_s: int = 0,
        receive_maximum: int = 65_535,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        rest_s: float = 0.0,
        timing: Timing | None = None,
        version_memory: VersionMemory | None = None,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            endpoint: The broker.
            on_message: Called with the fields of a `Publish`. Must not raise.
            on_oversized: Called with what is left of a message above `max_packet_bytes`. Must
                acknowledge it as any other, or the broker sends it again at every connect.
            on_confirmed: Called with the packet id of a publication that the broker confirmed.
            on_refused: Called with the packet id of a publication that the broker refused (MQTT 5).
            on_no_subscriber: Called instead of `on_confirmed` with the packet id of a publication
                that the broker confirmed although it has no subscriber (MQTT 5).
            on_connected: Called when connected, with whether the broker kept our session.
            on_disconnected: Called at the end of a connection, with the reason.
            after_read: Called after a handful of messages was read.
            subscribe: MQTT filter(s) to subscribe to with QoS 1 at every connect.
            stale_filters: Filters that an earlier process with this client id may have subscribed
                to. Dropped once the broker has accepted `subscribe`, where it kept the session.
            filter_memory: Filters that earlier processes subscribed to, dropped in the same way;
                None: there is no memory of them.
            leaves: Drop these subscriptions instead, take what is due, and end the session at
                `stop` if `may_end_session` is set (MQTT 5).
            will: Returns topic and payload of the last-will message (retained, QoS 1), or None for
                no such message; evaluated on each connect.
            session_expiry_s: Seconds that the broker keeps our session; 0: no session.
            receive_maximum: Most unacknowledged messages that the broker may send (MQTT 5).
            max_packet_bytes: Largest MQTT packet to take whole. MQTT 5 brokers are told not to send
                packets of more than 16 times as much.
            rest_s: Seconds for which the socket is left alone after a read that brought a few
                messages; 0: it is read at once.
            timing: Pauses and limits; None: the defaults.
            version_memory: Memory of the MQTT version that this broker has accepted; None: there is
                none.
        """
        self.endpoint = endpoint
        self.epoch = 0
        self.connected = asyncio.Event()
        self.announced: Announced | None = None
        self.void: tuple[str, ...] = ()
        self.weaker: tuple[str, ...] = ()
        self.sessions_lost_total = 0
        self.may_end_session = False
        self.refused_total = 0
        self.faults_total = 0
        self._on_confirmed = on_confirmed
        self._on_refused = on_refused
        self._on_no_subscriber = on_no_subscriber or on_confirmed
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._will = will
        self._leaves = leaves
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._max_packet_bytes = max_packet_bytes
        self._policy = ConnectionPolicy(
            endpoint,
            publishes=on_confirmed is not None,
            timing=timing,
            versions=version_memory,
        )
        filters = (subscribe,) if isinstance(subscribe, str) else tuple(subscribe)
        self._wanted = Wanted(endpoint.client_id, () if leaves else filters, session_expiry_s)
        self._subscriptions = Subscriptions(
            filters, stale_filters, leaves=leaves, memory=filter_memory
        )
        self._callbacks = Callbacks(
            on_message=on_message,
            on_oversized=on_oversized,
            after_read=after_read,
            on_connack=self._connack,
            on_suback=self._suback,
            on_unsuback=self._subscriptions.on_unsuback,
            on_puback=self._puback,
            on_ended=self._ended,
            on_broken=self._broken,
        )
        self._told_at_connack: tuple[str, ...] = ()  # verdicts that are in the log
        self._told_at_suback: tuple[str, ...] = ()
        self._rest_s = rest_s
        self._line: SocketLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._last_turn_s = 0.0

    # -- state ------------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """The MQTT version spoken: "5" or "3.1.1"."""
        return self._policy.version

    @property
    def error(self) -> str | None:
        """Current problem as text.

        Set while connected too after several short connections, or if the broker cannot keep the
        promise (`void`).
        """
        return self._policy.error or next(iter(self.void), None)

    @property
    def waiting(self) -> str | None:
        """What the connection waits for, as text; None: for nothing, or for the next attempt."""
        return self._policy.waiting(time.monotonic())

    @property
    def connects_total(self) -> int:
        """Connections that the broker has accepted."""
        return self._policy.connects_total

    @property
    def subscribed(self) -> bool:
        """Whether all subscriptions are in place, and none loses messages (`void`)."""
        return self._subscriptions.in_place and not self.void

    @property
    def alive(self) -> bool:
        """Whether the task that keeps the connection up is running."""
        return self._task is not None and not self._task.done()

    @property
    def idle_s(self) -> float:
        """Seconds since the task that keeps the connection up last ran.

        It runs once a second at least.
        """
        return time.monotonic() - self._last_turn_s

    @property
    def is_discarding(self) -> bool:
        """Whether a message above the limit is arriving; messages behind it wait."""
        return self._line is not None and self._line.is_discarding

    @property
    def session_present(self) -> bool:
        """Whether the broker kept our session at the last connect."""
        return self.announced is not None and self.announced.session_present

    # -- start and stop ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, and stay connected until `stop`."""
        loop = asyncio.get_running_loop()
        self._last_turn_s = time.monotonic()
        self._task = loop.create_task(self._keep_up(), name="mqtt")

    def hold_filters(self, filters: Sequence[str]) -> None:
        """Hold these subscriptions from now on: the new ones first, then without the others."""
        self._wanted = replace(self._wanted, filters=tuple(filters))
        self._subscriptions.replace(filters)
        if self.connected.is_set() and self.announced is not None:
            self._hold(self.announced)

    async def wait_connected(self, give_up_s: float = REACH_S) -> bool:
        """Wait until the broker has accepted the connection; returns whether it has.

        Gives up after `give_up_s`, but neither during an attempt nor after one that ended in
        silence, while the next one is more patient (`ingest.patience`).
        """
        until_s = time.monotonic() + give_up_s
        while not self.connected.is_set() and self.alive:
            if time.monotonic() > until_s and not self._policy.is_promising:
                break
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.connected.wait(), _TICK_S)
        return self.connected.is_set()

    def on_task_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the task that keeps the connection up ends."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: callback())

    def raise_for_failure(self) -> None:
        """Raise the exception that ended the task that keeps the connection up, if there is one."""
        task, is_stopped = self._task, self._policy.state is State.STOPPED
        if task is not None and task.done() and not task.cancelled() and not is_stopped:
            task.result()

    async def stop(self) -> None:
        """Disconnect cleanly; the broker keeps a persistent session."""
        self._policy.stop()
        if self._line is not None and self.connected.is_set():
            self._line.disconnect(end_session=self._leaves and self.may_end_session)
        self._closing.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})  # a caller's own time limit still ends this
            if not self._task.cancelled():
                self._task.result()
        self._close("stopped")

    # -- requests ---------------------------------------------------------------------------

    def ack(self, *packet_ids: int) -> None:
        """Send the PUBACKs of messages of the current epoch, in this order."""
        if self._line is not None:
            self._line.ack(packet_ids)

    def hurry(self) -> None:
        """Read at once for a moment, whatever `rest_s`: messages follow what was acknowledged."""
        if self._line is not None:
            self._line.hurry()

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> int:
        """Queue a publication and return its packet id; see `ingest.mqtt.publisher`.

        Raises:
            MqttError: The connection was not started, the broker has not accepted it, no packet id
                is free, or the broker announced that it does not take such a publication.
        """
        if self._line is None:
            msg = f"cannot publish on {topic!r}: the connection was never opened; call start()"
            raise MqttError(msg)
        packet_id = self._line.publish(topic, payload, qos, retain=retain)
        if qos:
            self._policy.published(topic)
        return packet_id

    def pause(self) -> None:
        """Stop reading from the socket, so that TCP holds the broker back."""
        if self._line is not None:
            self._line.pause()

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._line is not None:
            self._line.resume()

    def poll(self) -> None:
        """Take what has already arrived, without waiting."""
        if self._line is not None:
            self._line.poll()

    # -- the task ---------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Connect again and again, whatever happens; only an unusable paho ends it.

        Raises:
            MqttError: The connection cannot work with what is installed.
        """
        loop = asyncio.get_running_loop()
        while self._policy.state is not State.STOPPED:
            self._last_turn_s = time.monotonic()
            try:
                self._policy.begin(loop.time())
                await self._connect_once()
                if self._policy.wants_tls_check:
                    await self._check_tls()
            except MqttError:
                raise
            except Exception as exc:
                log.exception("the MQTT connection ends after an unforeseen exception")
                self.faults_total += 1
                self._policy.crashed(exc)
            self._last_turn_s = time.monotonic()
            await asyncio.sleep(self._policy.pause_s())

    async def _connect_once(self) -> None:
        """Make one connection and drive it from the attempt to its end."""
        policy, loop = self._policy, asyncio.get_running_loop()
        self._closing.clear()
        line = self._line = self._line_of_version()
        try:
            await self._open(line)
        except (OSError, ValueError, TlsError) as exc:
            policy.unreachable(exc)
            return
        checking: asyncio.Task[None] | None = None
        try:
            policy.opened(loop.time())
            line.attach()
            while policy.is_open:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), self._pulse_s)
                self._last_turn_s = time.monotonic()
                if policy.is_open:
                    is_heard = line.keep_alive()
                    policy.tick(loop.time(), is_heard=is_heard)
                if policy.wants_version_check and checking is None:
                    checking = asyncio.ensure_future(self._check_version())
        finally:
            if checking is not None:
                checking.cancel()
            self._close(policy.error or "connection lost")
        policy.closed(loop.time())
        if line.version != policy.version:
            self._line = None

    @property
    def _pulse_s(self) -> float:
        """Seconds until time limits and pings are looked at again; rarely on a quiet connection."""
        if self.announced is None or not (self.connected.is_set() and self.subscribed):
            return _TICK_S
        ping_s = keep_alive_s(self.announced, self.endpoint.keepalive_s)
        return min(1.0, max(_TICK_S, ping_s / 4))

    async def _open(self, line: SocketLoop) -> None:
        """Open a socket; raises as `SocketLoop.open`. With TLS, it can take a minute or two."""
        will = None if self._will is None else self._will()
        opening = asyncio.ensure_future(line.open(will, handshake_s=self._policy.limit_s))
        try:
            while not opening.done():
                await asyncio.wait({opening}, timeout=1.0)
                self._last_turn_s = time.monotonic()
        except asyncio.CancelledError:
            opening.cancel()
            await asyncio.wait({opening})
            raise
        opening.result()

    async def _check_version(self) -> None:
        """Find out whether the broker answers MQTT 5, which it may only have done too late."""
        answers = await answers_version_5(self.endpoint)
        self._policy.version_checked(answers)

    async def _check_tls(self) -> None:
        """Find out whether a port that ends our connections speaks TLS."""
        if await asyncio.to_thread(speaks_tls, self.endpoint.host, self.endpoint.port):
            self._policy.speaks_tls()

    def _line_of_version(self) -> SocketLoop:
        return self._line or SocketLoop(
            self.endpoint,
            self._policy.version,
            self._callbacks,
            session_expiry_s=self._session_expiry_s,
            receive_maximum=self._receive_maximum,
            max_packet_bytes=self._max_packet_bytes,
            rest_s=self._rest_s,
        )

    def _close(self, reason: str) -> None:
        if self._line is not None:
            self._line.close()
        self._subscriptions.on_disconnect()
        self.void = ()
        if self.connected.is_set():
            self.connected.clear()
            self.epoch += 1
            if self._on_disconnected is not None:
                self._on_disconnected(reason)

    # -- callbacks of the socket loop -------------------------------------------------------

    def _connack(self, reason: Reason, announced: Announced) -> None:
        if reason.is_failure:
            self._policy.refused(*reason)
            self._closing.set()
            return
        self._policy.accepted(asyncio.get_running_loop().time(), is_kept=announced.session_present)
        self._note_lost_session(announced)
        self._judge(announced)
        self.connected.set()
        self._hold(announced)
        if self._on_connected is not None:
            self._on_connected(announced.session_present)

    def _hold(self, announced: Announced) -> None:
        """Request the subscriptions."""
        subscribe, unsubscribe = self._subscriptions.on_connect()
        problem = unusable_filter(announced, subscribe)
        if problem is not None:
            self._policy.subscription_refused(problem)
            self._closing.set()
            return
        if subscribe:
            self._policy.subscribing(subscribe, asyncio.get_running_loop().time())
        else:
            self._policy.ready()
        self._request(subscribe, unsubscribe)

    def _note_lost_session(self, announced: Announced) -> None:
        asked_s = self._wanted.session_expiry_s
        if announced.session_present or not asked_s or not self._subscriptions.has_session:
            return
        self.sessions_lost_total += 1
        self._subscriptions.has_session = False  # until it accepts the subscription of a new one
        log.error("%s", lost_session_text(announced, asked_s))

    def _judge(self, announced: Announced) -> None:
        """Decide what the announcements mean, and log each verdict when it changes."""
        self.announced = announced
        self.void = void_promises(announced, self._wanted)
        weaker = weaker_promises(announced, self._wanted)
        for level, texts in ((logging.ERROR, self.void), (logging.WARNING, weaker)):
            for text in texts:
                if text not in (*self._told_at_connack, *self._told_at_suback):
                    log.log(level, "%s", text)
        if announced.granted:
            self._told_at_suback = (*self.void, *weaker)
        else:
            self._told_at_connack = (*self.void, *weaker)
        self.weaker = weaker

    def _suback(self, reasons: Sequence[Reason]) -> None:
        error, stale = self._subscriptions.on_suback(reasons, session_present=self.session_present)
        if error is not None:
            self._policy.subscription_refused(error)
            self._closing.set()
        else:
            self._policy.ready()
        if self.announced is not None:
            codes = [reason.code for reason in reasons]
            self._judge(self.announced.with_granted(self._wanted.filters, codes))
        self._request((), stale)

    def _request(self, subscribe: Sequence[str], unsubscribe: Sequence[str]) -> None:
        if self._line is not None and subscribe:
            self._line.subscribe(subscribe)
        if self._line is not None and unsubscribe:
            self._line.unsubscribe(unsubscribe)

    def _puback(self, packet_id: int, reason: Reason) -> None:
        answered = self._on_confirmed
        self._policy.publication_answered(is_refused=reason.is_failure)
        if reason.is_failure:
            answered = self._on_refused
            self.refused_total += 1
            if self.refused_total == 1:
                advice = "; check its access list" if reason.code in _MAY_NOT else ""
                log.error("the broker refuses our publications: %s%s", reason.text, advice)
        elif reason.code == _NO_SUBSCRIBERS:
            answered = self._on_no_subscriber
        if answered is not None:
            answered(packet_id)

    def _ended(self, ending: Ending) -> None:
        self._policy.ended(ending)
        self._closing.set()

    def _broken(self, exc: Exception) -> None:
        self._closing.set()
        if not isinstance(exc, OSError):
            cause = None if isinstance(exc, MqttError) else exc
            log.error("the MQTT connection ends: %s", error_text(exc), exc_info=cause)
            self.faults_total += 1
            self._policy.faulted(exc)
            return
        where = f"{self.endpoint.host}:{self.endpoint.port}"
        advice = tls_advice(exc, where, self.endpoint.tls_files, shaking_hands=False)
        self._policy.broken(exc, advice)
