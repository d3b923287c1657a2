"""The gateway's MQTT connection to its centre: notes come in, reports go out.

It is a connection of its own, so that the bridge's promise to the devices depends on nothing here.
A note is never trusted; it only causes an early look. Of reports the newest one counts: one is on
its way at most, and the broker keeps it (retained), so a broker that is away costs nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ingest.errors import MqttError
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import Oversized
from ingest.secrettext import error_text
from ingest.topics import NOTE_TOPIC, report_topic

__all__ = ["Reporter"]

log = logging.getLogger(__name__)

_LARGEST_NOTE_BYTES = 1_000
_MOST_NOTES = 20
"""Notes that are read in a second; with more, the connection is not read until the next one."""


class Reporter:
    """Publishes reports and passes notes on, on the running event loop.

    Args:
        endpoint: The broker.
        gateway: Name of this gateway.
        on_note: Called with the payload of a note.

    Attributes:
        published_total: Reports that the broker has confirmed.
        problem: Why reports do not reach the broker; "" while they do.
    """

    def __init__(self, endpoint: Endpoint, gateway: str, on_note: Callable[[bytes], None]) -> None:
        """Prepare; nothing happens before `start`."""
        self.published_total = 0
        self.problem = ""
        self._topic = report_topic(gateway)
        self._on_note = on_note
        self._newest: bytes | None = None
        self._sent: bytes | None = None
        self._is_unconfirmed = False
        self._second, self._notes = 0, 0
        self._connection = Connection(
            endpoint,
            on_message=self._take,
            on_oversized=self._skip,
            on_confirmed=self._confirmed,
            on_refused=self._refused,
            on_connected=self._connected,
            subscribe=NOTE_TOPIC,
            max_packet_bytes=_LARGEST_NOTE_BYTES,
        )

    def start(self) -> None:
        """Connect, and stay connected."""
        self._connection.start()

    async def stop(self) -> None:
        """Disconnect cleanly; the broker keeps the last report."""
        await self._connection.stop()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._connection.connected.is_set()

    def offer(self, report: bytes) -> None:
        """Publish a report as soon as possible; a newer one takes the place of one that waits."""
        self._newest = report
        self._publish()

    def tick(self) -> None:
        """Read again after too many notes, and publish what waits; call it every second."""
        if self._notes > _MOST_NOTES:
            self._notes = 0
            self._connection.resume()
        self._publish()

    def _publish(self) -> None:
        if self._newest is None or self._is_unconfirmed or not self.is_connected:
            return
        try:
            self._connection.publish(self._topic, self._newest, retain=True)
        except MqttError as exc:
            self._complain(error_text(exc))
            return
        self._sent, self._newest = self._newest, None
        self._is_unconfirmed = True

    def _connected(self, is_kept: bool) -> None:
        del is_kept
        # A broker that lost its retained messages gets the report again.
        if self._newest is None and not self._is_unconfirmed:
            self._newest = self._sent
        self._publish()

    def _confirmed(self, packet_id: int) -> None:
        del packet_id
        self.published_total += 1
        self.problem = ""
        self._is_unconfirmed = False
        self._publish()

    def _refused(self, packet_id: int) -> None:
        del packet_id
        self._is_unconfirmed = False
        self._complain(f"the broker refuses {self._topic}: look at its access list")

    def _take(self, packet_id: int, qos: int, topic: str, payload: bytes, *flags: bool) -> None:
        del topic, flags
        second = int(time.monotonic())
        self._notes = self._notes + 1 if second == self._second else 1
        self._second = second
        if self._notes > _MOST_NOTES:
            self._connection.pause()
        self._on_note(payload)
        self._acknowledge(packet_id, qos)

    def _skip(self, message: Oversized) -> None:
        self._acknowledge(message.packet_id, message.qos)

    def _acknowledge(self, packet_id: int, qos: int) -> None:
        if qos:
            self._connection.ack(packet_id)

    def _complain(self, text: str) -> None:
        if text != self.problem:
            log.warning("%s", text)
        self.problem = text
