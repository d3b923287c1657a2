"""Publish with QoS 1 and count what the broker has confirmed."""

from __future__ import annotations

import asyncio
import logging

from ingest.errors import MqttError
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.promise import largest_payload_bytes

__all__ = ["Publisher"]

log = logging.getLogger(__name__)

_RESEND_S = 1.0
_MOST_FRUITLESS = 3


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
        gives_up: bool = False,
    ) -> None:
        """Prepare.

        Args:
            endpoint: The broker.
            in_flight: Most unconfirmed messages (1 to 60 000).
            require_subscriber: Treat a message as unconfirmed when the broker confirmed it but had
                no subscriber for it, and send it again every second. Needs MQTT 5. Use it for
                readings that must survive the restart of a broker that loses its subscriptions.
            gives_up: Raise from `publish` and `flush` once the broker has accepted and ended three
                connections in a row without confirming anything. A broker that refuses a message
                by hanging up does that, and would do it for ever. A broker that is away does not
                count. For commands that somebody waits for.
        """
        self.published_total = 0
        self.confirmed_total = 0
        self.no_subscriber_total = 0
        self._require_subscriber = require_subscriber
        self._kept: dict[int, tuple[str, bytes]] = {}
        self._in_flight = in_flight
        self._waiting: set[int] = set()
        self._gives_up = gives_up
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
        return self

    async def __aexit__(self, *exc_info: object) -> None:
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

    def largest_payload_bytes(self, topic: str) -> int | None:
        """Return the largest payload that the broker takes on a topic; None: it has no limit."""
        announced = self.connection.announced
        return None if announced is None else largest_payload_bytes(announced, topic)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send one message; return once there is room for it, not when it is confirmed (`flush`).

        Raises:
            MqttError: The broker announced that it does not take such a message: too large, or no
                QoS 1 at all (`ingest.mqtt.promise`). Or `gives_up` applies.
        """
        connected = self.connection.connected
        self._raise_failure()
        while not (self._room.is_set() and connected.is_set()):
            await self._room.wait()
            await connected.wait()
        self._raise_failure()
        self._send(topic, payload)
        self.published_total += 1
        self._empty.clear()
        if len(self._waiting) >= self._in_flight:
            self._room.clear()

    async def flush(self) -> None:
        """Wait until all messages so far are confirmed or refused (`refused_total`).

        Raises:
            MqttError: `gives_up` applies.
        """
        await self._empty.wait()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise MqttError(self.failure)

    def _connected(self, session_present: bool) -> None:
        del session_present
        self._answered_before = self.confirmed_total + self.refused_total

    def _disconnected(self, reason: str) -> None:
        answered = self.confirmed_total + self.refused_total
        is_fruitless = bool(self._waiting) and answered == self._answered_before
        self._fruitless = self._fruitless + 1 if is_fruitless else 0
        if not self._gives_up or self._fruitless < _MOST_FRUITLESS:
            return
        self.failure = (
            f"the broker has ended {_MOST_FRUITLESS} connections in a row without confirming any "
            f"of {len(self._waiting)} messages: {reason}"
        )
        self._room.set()
        self._empty.set()

    def _send(self, topic: str, payload: bytes) -> None:
        packet_id = self.connection.publish(topic, payload)
        self._waiting.add(packet_id)
        if self._require_subscriber:
            self._kept[packet_id] = (topic, payload)

    def _confirmed(self, packet_id: int) -> None:
        self.confirmed_total += packet_id in self._waiting
        self._settle(packet_id)

    def _resend_later(self, packet_id: int) -> None:
        """Send a message again after a second; until then a negative id stands for it."""
        if packet_id not in self._waiting:
            return
        self.no_subscriber_total += 1
        message, substitute_id = self._kept.pop(packet_id), -self.no_subscriber_total
        self._waiting.remove(packet_id)
        self._waiting.add(substitute_id)

        def resend() -> None:
            if not self.connection.connected.is_set():
                asyncio.get_running_loop().call_later(_RESEND_S, resend)
                return
            try:
                self._send(*message)
            except MqttError as exc:  # a new connection, with narrower limits
                log.error("%s", exc)
                self.connection.refused_total += 1
                self._settle(substitute_id)
            else:
                self._waiting.remove(substitute_id)

        asyncio.get_running_loop().call_later(_RESEND_S, resend)

    def _settle(self, packet_id: int) -> None:
        """Make room: the broker has confirmed or refused this message."""
        self._kept.pop(packet_id, None)
        if packet_id not in self._waiting:
            return
        self._waiting.remove(packet_id)
        self._room.set()
        if not self._waiting:
            self._empty.set()
