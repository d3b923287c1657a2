"""Clients beside the product: the control subscriber, and devices that know what was confirmed.

They use paho alone, so a fault of ours cannot hide in them.
"""

from __future__ import annotations

import hashlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.brokers.broker import PASSWORD, USERS

__all__ = ["Answer", "Control", "ControlFailed", "Devices", "ask", "wait_for"]

SESSION_S = 7 * 24 * 3600
_ACK_PAUSE_S = 0.3
_SUBSCRIBE_AFTER_S = 0.2
_OLDEST_MS = 1_600_000_000_000


def wait_for(holds: Callable[[], bool], timeout_s: float, poll_s: float = 0.05) -> bool:
    """Wait until a condition holds; returns whether it does."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


def _client(name: str, user: str, password: str, version: str, **options: Any) -> paho.Client:
    kind: dict[str, Any] = {"protocol": paho.MQTTv5}
    if version != "5":
        kind = {"protocol": paho.MQTTv311, "clean_session": False}
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=name,
        **kind,
        **options,
    )
    client.username_pw_set(user, password)
    client.reconnect_delay_set(1, 1)
    return client


def _connect(client: paho.Client, port: int, version: str) -> None:
    if version != "5":
        client.connect("127.0.0.1", port, 60)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_S
    properties.ReceiveMaximum = 1000
    client.connect("127.0.0.1", port, 60, clean_start=False, properties=properties)


class ControlFailed(Exception):
    """The broker does not serve the control subscriber, in which nothing of ours takes part."""


class Control:
    """A subscriber with a persistent session, which shows what the broker itself loses.

    It acknowledges some time after the arrival, so `break_off` leaves messages unacknowledged, like
    a gateway that is killed.
    """

    # topics, readings: messages and readings by topic. copies: messages that came before.

    def __init__(
        self,
        port: int,
        topic_filter: str,
        version: str,
        name: str = "control",
        ack_pause_s: float = _ACK_PAUSE_S,
    ) -> None:
        self._ack_pause_s = ack_pause_s
        self._port, self._filter, self._version, self._name = port, topic_filter, version, name
        self.topics: dict[str, int] = {}
        self.readings: dict[str, int] = {}
        self.copies = 0
        self._seen: set[bytes] = set()
        self.session_present: list[bool] = []
        self._due: list[tuple[float, int, str]] = []
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._client: paho.Client | None = None
        self._ending = threading.Event()

    def online(self) -> Control:
        """Connect with the same session, and subscribe."""
        client = _client(self._name, USERS[0], PASSWORD, self._version, manual_ack=True)
        self._client = client
        self._subscribed.clear()
        self._ending = threading.Event()
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._message
        _connect(client, self._port, self._version)
        client.loop_start()
        threading.Thread(target=self._acknowledge, args=(client, self._ending), daemon=True).start()
        if not self._subscribed.wait(60):
            msg = "the control subscriber gets no SUBACK"
            raise ControlFailed(msg)
        return self

    def break_off(self) -> None:
        """Close the socket without a DISCONNECT."""
        client, self._client = self._client, None
        if client is None:
            return
        self._ending.set()
        stream: Any = client.socket()
        client._reconnect_on_failure = False
        if stream is not None:
            stream.shutdown(socket.SHUT_RDWR)
        client.loop_stop()
        with self._lock:
            for _, _, topic in self._due:  # the broker has to send them again
                self.topics[topic] -= 1
            self.topics = {topic: count for topic, count in self.topics.items() if count}
            self._due.clear()

    def _connected(self, client: Any, _: Any, flags: Any, *__: Any) -> None:
        self.session_present.append(bool(flags.session_present))
        with self._lock:
            self._due.clear()
        # Moquette 0.17 may close a connection whose SUBSCRIBE follows the CONNACK at once.
        threading.Timer(_SUBSCRIBE_AFTER_S, client.subscribe, (self._filter, 1)).start()

    def _message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        topic, body = message.topic, bytes(message.payload)
        self.topics[topic] = self.topics.get(topic, 0) + 1
        self.readings[topic] = self.readings.get(topic, 0) + _readings(body)
        key = hashlib.sha256(topic.encode() + b" " + body).digest()
        self.copies += key in self._seen
        self._seen.add(key)
        with self._lock:
            self._due.append((time.monotonic() + self._ack_pause_s, message.mid, topic))

    def _acknowledge(self, client: paho.Client, ending: threading.Event) -> None:
        while not ending.wait(0.05):
            with self._lock:
                now = time.monotonic()
                ready = [mid for due, mid, _ in self._due if due <= now]
                self._due = [each for each in self._due if each[0] > now]
            for mid in ready:
                client.ack(mid, 1)


def _readings(body: bytes) -> int:
    """Readings in a message; 0 for one that has to be refused whole."""
    try:
        message = json.loads(body)
        at = message.get("t0", message.get("ts"))
        values = next(iter(message["values"].values()))
        first_ms = at[0] if isinstance(at, list) else at
        numbers = values if isinstance(values, list) else [values]
        is_good = first_ms > _OLDEST_MS and all(math.isfinite(number) for number in numbers)
    except (ValueError, KeyError, TypeError, StopIteration, AttributeError):
        return 0
    return len(numbers) if is_good else 0


class Devices:
    """Publishes messages at QoS 1 over one session, and knows which the broker has confirmed."""

    def __init__(self, port: int, name: str = "devices") -> None:
        self.confirmed: set[str] = set()
        self.sent: list[str] = []
        self._mids: dict[int, str] = {}
        self._client = _client(name, USERS[0], PASSWORD, "3.1.1")
        self._client.max_inflight_messages_set(10)
        self._client.on_publish = self._published
        _connect(self._client, port, "3.1.1")
        self._client.loop_start()

    def publish(self, topic: str, body: bytes, *, retain: bool = False) -> None:
        """Queue one message; paho repeats it over reconnects until it is confirmed."""
        info = self._client.publish(topic, body, qos=1, retain=retain)
        self._mids[info.mid] = topic
        self.sent.append(topic)

    def publish_all(self, messages: Iterable[tuple[str, bytes]], pause_s: float = 0.0) -> None:
        """Publish messages with a pause after each."""
        for topic, body in messages:
            self.publish(topic, body)
            if pause_s:
                time.sleep(pause_s)

    def flush(self, timeout_s: float = 120.0) -> bool:
        """Wait until everything is confirmed; returns whether it is."""
        return wait_for(lambda: len(self.confirmed) >= len(set(self.sent)), timeout_s)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _published(self, _: Any, __: Any, mid: int, *___: Any) -> None:
        # The callback may come before `publish` returns.
        wait_for(lambda: mid in self._mids, 5.0)
        self.confirmed.add(self._mids[mid])


@dataclass
class Answer:
    """What a broker answered to one client, as text for the table."""

    connack: str = "no CONNACK"
    properties: dict[str, Any] = field(default_factory=dict)
    suback: str = ""
    puback: str = ""
    ended: str = ""
    session_present: bool | None = None


def ask(
    port: int,
    version: str,
    *,
    user: str = USERS[0],
    password: str = PASSWORD,
    name: str = "ask",
    subscribe: str | None = None,
    publish: str | None = None,
    wait_s: float = 15.0,
) -> Answer:
    """Connect once, subscribe and publish if asked, and return what the broker said."""
    answer = Answer()
    client = _client(name, user, password, version, reconnect_on_failure=False)
    done = {step: threading.Event() for step in ("connack", "suback", "puback", "ended")}

    def connected(_: Any, __: Any, flags: Any, reason: Any, properties: Any) -> None:
        answer.connack, answer.session_present = str(reason), bool(flags.session_present)
        answer.properties = properties.json() if properties is not None else {}
        done["connack"].set()

    leaving = threading.Event()

    def disconnected(_: Any, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        if leaving.is_set():
            return
        answer.ended = (
            str(reason) if flags.is_disconnect_packet_from_server else "connection closed"
        )
        done["ended"].set()

    def subscribed(_: Any, __: Any, ___: Any, reasons: Any, ____: Any) -> None:
        answer.suback = ", ".join(map(str, reasons))
        done["suback"].set()

    def published(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        answer.puback = str(reason)
        done["puback"].set()

    client.on_connect, client.on_disconnect = connected, disconnected
    client.on_subscribe, client.on_publish = subscribed, published

    def await_step(step: str) -> bool:
        wait_for(lambda: done[step].is_set() or done["ended"].is_set(), wait_s)
        return done[step].is_set()

    try:
        _connect(client, port, version)
    except OSError as exc:
        answer.ended = str(exc)
        return answer
    client.loop_start()
    try:
        if await_step("connack") and answer.connack == "Success":
            if subscribe is not None:
                client.subscribe(subscribe, qos=1)
                await_step("suback")
            if publish is not None:
                client.publish(publish, b"{}", qos=1)
                await_step("puback")
    finally:
        leaving.set()
        client.disconnect()
        client.loop_stop()
    return answer
