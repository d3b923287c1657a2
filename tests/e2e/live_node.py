"""A live Sparkplug edge node: an MQTT session with a will, births, and answers to commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.sparkplugnode import EdgeNode, is_rebirth


class LiveNode:
    """Sends `EdgeNode`'s messages, by exception; a context manager.

    With a `host` it behaves like a node with a primary host: it is silent while the host is
    offline, and then sends the missed values as history.
    """

    def __init__(self, port: int, node: EdgeNode, *, qos: int, host: str | None = None) -> None:
        self.node = node
        self.rebirths = 0
        self.kept = 0
        self._port, self._qos, self._host = port, qos, host
        self._lock = threading.RLock()
        self._online = threading.Event()
        self._is_born = False
        self._buffer: list[tuple[str, int, dict[str, float | None]]] = []
        self._last_ms = 0
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, f"node-{node.node}")
        client.max_inflight_messages_set(1000)
        client.on_connect = lambda *_: self._subscribe()
        client.on_message = lambda _client, _data, message: self._hear(message)

    def __enter__(self) -> LiveNode:
        self._client.will_set(*self.node.ndeath(0), qos=1)
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_online(self) -> None:
        assert self._online.wait(30), "no host came online"

    def report(self, device: str, ts_ms: int, values: Mapping[str, float]) -> None:
        """Send the changed values of a device, or keep them while the host is offline."""
        with self._lock:
            present = self.node.devices[device]
            changed: dict[str, float | None] = {
                name: value for name, value in values.items() if present[name] != value
            }
            self._last_ms = max(self._last_ms, ts_ms)
            if self._host is not None and not self._online.is_set():
                present.update(changed)
                self._buffer.append((device, ts_ms, changed))
                self.kept += 1
            else:
                self._send(*self.node.data(device, ts_ms, changed))

    def _subscribe(self) -> None:
        with self._lock:
            topics = [(self.node.topic("NCMD"), 0)]
            if self._host is not None:
                topics.append((f"spBv1.0/STATE/{self._host}", 1))
            self._client.subscribe(topics)
            if self._host is None:
                self._bear()
                self._online.set()

    def _hear(self, message: paho.MQTTMessage) -> None:
        with self._lock:
            if "/STATE/" not in message.topic:
                if is_rebirth(message.topic, message.payload):
                    self.rebirths += 1
                    self._bear()
                return
            if json.loads(message.payload)["online"] is True:
                if not self._online.is_set():
                    self._bear()
                    for device, ts_ms, values in self._buffer:
                        self._send(*self.node.data(device, ts_ms, values, historical=True))
                    self._buffer.clear()
                    self._online.set()
            elif self._online.is_set():
                self._online.clear()
                self._send(*self.node.ndeath(self._last_ms))
                self.node.bdseq += 1

    def _bear(self) -> None:
        for message in self.node.births(max(self._last_ms, 1_000_000_000_000)):
            self._send(*message)

    def _send(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=self._qos)

    def flush(self) -> None:
        """Wait until the broker has confirmed everything (QoS 1)."""
        info = self._client.publish("flushed", b"", qos=1)
        info.wait_for_publish(30)
        assert info.is_published()
