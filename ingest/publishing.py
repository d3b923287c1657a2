"""What the bridge publishes to the broker on behalf of its decoders."""

from __future__ import annotations

import logging

from ingest.decoder import Outgoing
from ingest.decoders import Decoders
from ingest.errors import MqttError
from ingest.mqtt.connection import Connection

__all__ = ["Publications"]

log = logging.getLogger(__name__)


class Publications:
    """Messages of the decoders: those that are due, and the last will.

    Args:
        decoders: The decoders.

    Attributes:
        refused: Why the broker refused a publication on this connection; the bridge is not ready
            then. Empty if it refused none.
    """

    def __init__(self, decoders: Decoders) -> None:
        self.refused: tuple[str, ...] = ()
        self._decoders = decoders

    def publish_due(self, connection: Connection, now_ms: int) -> None:
        """Publish the messages that are due, if there is a connection."""
        if connection.connected.is_set():
            for each in self._decoders.outgoing(now_ms):
                self._publish(connection, each)

    def will(self, now_ms: int) -> tuple[str, bytes] | None:
        """Topic and payload of the last will; None without one."""
        will = self._decoders.farewell(now_ms)
        return None if will is None else (will.topic, will.payload)

    def publish_farewell(self, connection: Connection, now_ms: int) -> bool:
        """Publish the last will on a clean shutdown; False without one or a connection."""
        will = self.will(now_ms)
        if will is None or not connection.connected.is_set():
            return False
        return self._publish(connection, Outgoing(*will, qos=1, retain=True))

    def _publish(self, connection: Connection, message: Outgoing) -> bool:
        """Publish one message; False: this broker does not take it."""
        try:
            connection.publish(message.topic, message.payload, message.qos, retain=message.retain)
        except MqttError as exc:
            log.error("%s", exc)
            self.refused = (str(exc),)
            return False
        return True
