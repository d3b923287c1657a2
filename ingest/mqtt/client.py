"""paho's MQTT client, kept to what the broker announced, with a socket of our own.

paho (2.1 and 2.2) sends stored publications again right after CONNACK, all at once, whatever the
broker's Receive Maximum says, and takes over its Server Keep Alive for all later connections.
`Client` corrects both. It reaches into private attributes of paho, which
`tests/ingest/mqtt/test_client.py` guards.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from paho.mqtt import MQTTException
from paho.mqtt import client as paho
from paho.mqtt.enums import (
    CallbackAPIVersion,
    MessageState,
    MQTTErrorCode,
    MQTTProtocolVersion,
)
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import LARGEST_PACKET_BYTES, PacketSocket
from ingest.patience import REACH_S
from ingest.secrettext import error_text
from ingest.tcp import open_tcp
from ingest.tls import open_tls

__all__ = ["Client", "make_client"]

_ANNOUNCED_FACTOR = 16
"""The Maximum Packet Size that CONNECT announces, in multiples of the limit.

The broker drops a message above it without telling anybody, so it is far above the limit, at which
a message becomes a dead letter. It is there to keep one message from holding up all others for
minutes on a slow line.
"""


class Client(paho.Client):
    """paho's client with a socket that is opened here and wrapped in `PacketSocket`."""

    endpoint: Endpoint
    max_packet_bytes: int
    handshake_s = REACH_S
    opening: socket.socket | None = None

    def give_up_opening(self) -> None:
        """End a TCP connection or a TLS handshake that is under way in another thread."""
        if self.opening is not None:
            with suppress(OSError):
                # Not the method of an SSLSocket, which takes away what its handshake works on.
                socket.socket.shutdown(self.opening, socket.SHUT_RDWR)

    def note_received(self) -> None:
        """Note that bytes came. Without it, a PINGRESP behind a large message comes too late."""
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()

    def limit(self, in_flight: int, keepalive_s: int) -> None:
        """Keep to the broker's limits; call it before paho sends its stored publications again.

        Publications beyond `in_flight`, in the order of publication, then wait until earlier ones
        are confirmed.

        Args:
            in_flight: Most unconfirmed publications; 0: no limit.
            keepalive_s: Seconds of silence before a ping.
        """
        with self._out_message_mutex:
            self._max_inflight_messages = in_flight
            if in_flight:
                for message in list(self._out_messages.values())[in_flight:]:
                    message.state = MessageState.MQTT_MS_QUEUED
        self._keepalive = keepalive_s

    def withdraw(self, refusal: Callable[[paho.MQTTMessage], str | None]) -> list[tuple[int, str]]:
        """Forget the stored publications that are refused now; return packet ids and reasons."""
        with self._out_message_mutex:
            found = [(mid, refusal(each)) for mid, each in self._out_messages.items()]
            refused = [(mid, text) for mid, text in found if text is not None]
            for mid, _ in refused:
                del self._out_messages[mid]
        return refused

    def _packet_handle(self) -> MQTTErrorCode:
        """Take one packet; one that the standard forbids is no plain end of the connection."""
        try:
            return super()._packet_handle()
        except MQTTException as exc:
            msg = f"the broker sent what MQTT forbids: {error_text(exc)}"
            raise MqttError(msg) from exc

    def _create_socket(self) -> Any:
        endpoint = self.endpoint
        sock: socket.socket
        try:
            if endpoint.tls:
                # Not paho's own way, which leaves the socket open when the handshake fails.
                sock = open_tls(
                    endpoint.host,
                    endpoint.port,
                    endpoint.tls_files,
                    handshake_s=self.handshake_s,
                    on_socket=self._note_opening,
                )
            else:
                sock = open_tcp(endpoint.host, endpoint.port, REACH_S, self._note_opening)
        finally:
            self.opening = None
        has_properties = self.protocol == MQTTProtocolVersion.MQTTv5
        return PacketSocket(
            sock, has_properties=has_properties, max_packet_bytes=self.max_packet_bytes
        )

    def _note_opening(self, sock: socket.socket) -> None:
        self.opening = sock


def make_client(
    endpoint: Endpoint,
    version: Literal["5", "3.1.1"],
    session_expiry_s: int,
    receive_maximum: int,
    max_packet_bytes: int,
) -> Client:
    """Return a client of one protocol version; see `ingest.mqtt.connection.Connection`."""
    is_persistent = session_expiry_s > 0
    is_5 = version == "5"
    client = Client(
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
