"""Publish with QoS 1 and count what the broker has confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from ingest.errors import MqttError
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.promise import largest_payload_bytes

__all__ = ["Publisher"]

log = logging.getLogger(__name__)

_RESEND_S = 1.0
_MOST_FRUITLESS = 3
_WATCH_S = 0.25
_SAY_FIRST_S, _SAY_EVERY_S = 5.0, 60.0
_SETTLE_S, _SETTLE_QUIET_S = 5.0, 2.0
_LINGER_S = 1.0
"""Seconds that a publisher stays connected after its last confirmed message, with MQTT 3.1.1.

amqtt confirms a message before it forwards it. On Python 3.12 and later it drops messages that it
has not forwarded when the publisher disconnects. It speaks 3.1.1 only, so MQTT 5 needs no wait.
"""


class Publisher:
    """Publishes with QoS 1 over a connection of its own; an async context manager.

    Nothing is dropped while the process runs: at most `in_flight` messages are unconfirmed, and
    `publish` waits for room, also while the broker is unavailable. Of these, as many are on their
    way as the broker's Receive Maximum allows. There is no queue on disk, so
    unconfirmed messages are lost when the process ends. After a reconnect the unconfirmed messages
    are sent again, so a message can arrive twice.

    Attributes:
        connection: The connection, with its state and its error.
        published_total: Messages taken by `publish`.
        confirmed_total: Messages that the broker has confirmed.
        no_subscriber_total: Messages sent again because they had no subscriber.
        failure: Why `publish` and `flush` have given up; None: they have not.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        in_flight: int = 500,
        require_subscriber: bool = False,
        gives_up_s: float | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            endpoint: The broker.
            in_flight: Most unconfirmed messages (1 to 60 000).
            require_subscriber: Treat a message as unconfirmed when the broker confirmed it but had
                no subscriber for it, and send it again every second. Needs MQTT 5. Use it for
                readings that must survive the restart of a broker that loses its subscriptions.
            gives_up_s: Raise from `publish` and `flush` once the broker, while it is connected, has
                answered no publication for so many seconds, or has accepted and ended three
                connections in a row without answering any. A broker that refuses a message in
                silence or by hanging up does that, and would do it for ever. A broker that is away
                does not count. For commands that somebody waits for. None: never.
            on_wait: Called with what the publisher waits for when nothing has moved for 5 s, then
                after 10, 20, 40 and 60 s, and every minute.
        """
        self.published_total = 0
        self.confirmed_total = 0
        self.no_subscriber_total = 0
        self._require_subscriber = require_subscriber
        self._kept: dict[int, tuple[str, bytes, bool]] = {}
        self._in_flight = in_flight
        self._waiting: dict[int, str] = {}  # topics by packet id, oldest first
        self._gives_up_s = gives_up_s
        self._on_wait = on_wait
        self._moved_s = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._fruitless = 0
        self._answered_before = 0
        self.failure: str | None = None
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._room.set()
        self._empty.set()
        self.connection = Connection(
            endpoint,
            on_confirmed=self._confirmed,
            on_refused=self._settle,
            on_no_subscriber=self._resend_later if require_subscriber else None,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
        )

    async def __aenter__(self) -> Publisher:
        self.connection.start()
        self._note_move()
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
        is_old = self.confirmed_total and self.connection.protocol == "3.1.1"
        if is_old and self.connection.connected.is_set():
            await asyncio.sleep(_LINGER_S)
        await self.connection.stop()

    @property
    def refused_total(self) -> int:
        """Messages that the broker discarded because we may not publish them; not confirmed.

        MQTT 5 only: a broker that speaks 3.1.1 confirms such messages too.
        """
        return self.connection.refused_total

    @property
    def unconfirmed(self) -> int:
        """Messages that the broker has not answered yet."""
        return len(self._waiting)

    @property
    def waiting(self) -> str | None:
        """What the publisher waits for, as text; None: for nothing."""
        connection = self.connection
        where = f"{connection.endpoint.host}:{connection.endpoint.port}"
        if not connection.connected.is_set():
            return connection.error or connection.waiting or f"no connection to {where} yet"
        if not self._waiting:
            return None
        return f"waiting for {where} to confirm {self._unconfirmed_text}"

    def largest_payload_bytes(self, topic: str) -> int | None:
        """Return the largest payload that the broker takes on a topic; None: it has no limit."""
        announced = self.connection.announced
        return None if announced is None else largest_payload_bytes(announced, topic)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send one message; return once there is room for it, not when it is confirmed (`flush`).

        Args:
            topic: MQTT topic.
            payload: Payload.
            retain: Let the broker keep it as the last message of the topic.

        Raises:
            MqttError: The broker announced that it does not take such a message: too large, or no
                QoS 1 at all (`ingest.mqtt.promise`). Or `gives_up_s` applies.
        """
        connected = self.connection.connected
        self._raise_failure()
        while not (self._room.is_set() and connected.is_set()):
            await self._room.wait()
            await connected.wait()
        self._raise_failure()
        self._send(topic, payload, retain=retain)
        self.published_total += 1
        self._empty.clear()
        if len(self._waiting) >= self._in_flight:
            self._room.clear()

    async def flush(self) -> None:
        """Wait until all messages so far are confirmed or refused (`refused_total`).

        Raises:
            MqttError: `gives_up_s` applies.
        """
        await self._empty.wait()
        self._raise_failure()

    async def settle(self, most_s: float = _SETTLE_S) -> None:
        """Wait for the answers to what is on its way, when the process is to end.

        Returns after `most_s`, and sooner without a connection or when no answer comes for 2 s.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + most_s
        while self._waiting and self.connection.connected.is_set() and self.failure is None:
            if loop.time() > min(until_s, self._moved_s + _SETTLE_QUIET_S):
                break
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _WATCH_S)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise MqttError(self.failure)

    @property
    def _unconfirmed_text(self) -> str:
        topic = next(iter(self._waiting.values()))
        count = len(self._waiting)
        if count == 1:
            return f"one publication, on {topic!r}"
        return f"{count} publications, the first on {topic!r}"

    def _note_move(self) -> None:
        self._moved_s = asyncio.get_running_loop().time()

    async def _watch(self) -> None:
        """Say what the publisher waits for, and give up on a broker that leaves it unanswered."""
        loop, moved_s, say_at_s = asyncio.get_running_loop(), self._moved_s, _SAY_FIRST_S
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._moved_s != moved_s:
                moved_s, say_at_s = self._moved_s, _SAY_FIRST_S
            text, waited_s = self.waiting, loop.time() - moved_s
            if text is None or self.failure is not None:
                self._note_move()
                continue
            if self._on_wait is not None and waited_s > say_at_s:
                self._on_wait(f"{text} ({waited_s:.0f} s so far)")
                say_at_s += min(say_at_s, _SAY_EVERY_S)
            is_silent = self.connection.connected.is_set()
            if is_silent and self._gives_up_s is not None and waited_s > self._gives_up_s:
                self._give_up(
                    f"the broker has kept the connection for {waited_s:.0f} s and not answered "
                    f"{self._unconfirmed_text}; look into its log, and check its access list"
                )

    def _give_up(self, why: str) -> None:
        self.failure = why
        self._room.set()
        self._empty.set()

    def _connected(self, session_present: bool) -> None:
        del session_present
        self._note_move()
        self._answered_before = self.confirmed_total + self.refused_total

    def _disconnected(self, reason: str) -> None:
        answered = self.confirmed_total + self.refused_total
        is_fruitless = bool(self._waiting) and answered == self._answered_before
        self._fruitless = self._fruitless + 1 if is_fruitless else 0
        if self._gives_up_s is not None and self._fruitless >= _MOST_FRUITLESS:
            self._give_up(
                f"the broker has ended {_MOST_FRUITLESS} connections in a row without answering "
                f"{self._unconfirmed_text}: {reason}"
            )

    def _send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        packet_id = self.connection.publish(topic, payload, retain=retain)
        if not self._waiting:
            self._note_move()
        self._waiting[packet_id] = topic
        if self._require_subscriber:
            self._kept[packet_id] = (topic, payload, retain)

    def _confirmed(self, packet_id: int) -> None:
        self.confirmed_total += packet_id in self._waiting
        self._settle(packet_id)

    def _resend_later(self, packet_id: int) -> None:
        """Send a message again after a second; until then a negative id stands for it."""
        if packet_id not in self._waiting:
            return
        self.no_subscriber_total += 1
        topic, payload, retain = self._kept.pop(packet_id)
        substitute_id = -self.no_subscriber_total
        self._waiting[substitute_id] = self._waiting.pop(packet_id)
        self._note_move()

        def resend() -> None:
            if not self.connection.connected.is_set():
                asyncio.get_running_loop().call_later(_RESEND_S, resend)
                return
            try:
                self._send(topic, payload, retain=retain)
            except MqttError as exc:  # a new connection, with narrower limits
                log.error("%s", exc)
                self.connection.refused_total += 1
                self._settle(substitute_id)
            else:
                del self._waiting[substitute_id]

        asyncio.get_running_loop().call_later(_RESEND_S, resend)

    def _settle(self, packet_id: int) -> None:
        """Make room: the broker has confirmed or refused this message."""
        self._kept.pop(packet_id, None)
        if packet_id not in self._waiting:
            return
        del self._waiting[packet_id]
        self._note_move()
        self._room.set()
        if not self._waiting:
            self._empty.set()
