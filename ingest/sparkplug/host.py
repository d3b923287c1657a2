"""The Sparkplug host: its presence, and its requests for births.

A host announces on `spBv1.0/STATE/{host_id}` whether it is online, so that nodes can buffer while
it is not. It asks nodes for a new birth with the command `Node Control/Rebirth`.
"""

from __future__ import annotations

import orjson

from ingest.backoff import Backoff
from ingest.decoder import Outgoing
from ingest.sparkplug.counters import SparkplugCounters
from ingest.sparkplug.names import state_topic
from ingest.sparkplug.nodes import Node
from ingest.sparkplug.wire import DataType, Metric, encode_sparkplug

__all__ = ["Host"]

_REQUEST_BACKOFF = Backoff(first_ms=5_000, max_ms=300_000)  # per node, until its birth
_MOST_AT_ONCE = 5  # called four times a second: 20 nodes a second, not all of them together
_PRESENCE_WAIT_MS = 5_000


class Host:
    """Decides what to publish and when; publishes nothing itself."""

    def __init__(self, host_id: str | None, counters: SparkplugCounters) -> None:
        """Prepare.

        Args:
            host_id: Name of the host; None: request births, but announce no presence.
            counters: Counters of the decoder, updated here.
        """
        self._host_id = host_id
        self._counters = counters
        self._requested: dict[tuple[str, str], Node] = {}
        self._since_ms = 0
        self._presence_due_ms: int | None = None

    @property
    def births_awaited(self) -> int:
        """Nodes whose birth is still to be requested."""
        return len(self._requested)

    def request_birth(self, node: Node) -> None:
        """Ask a node for a new birth, now and repeatedly until it arrives."""
        self._requested.setdefault(node.key, node)

    def cancel_request(self, node: Node) -> None:
        """Stop asking a node for a birth."""
        self._requested.pop(node.key, None)

    def connected(self, now_ms: int) -> None:
        """Announce the presence at the next opportunity."""
        self._presence_due_ms = now_ms

    def note_state(self, levels: list[str], payload: bytes) -> None:
        """Take a message on a STATE topic.

        If it says that we are offline, announce the presence again: the broker may have published
        our last will late.
        """
        if len(levels) != 3 or levels[2] != self._host_id:
            return
        try:
            state = orjson.loads(payload)
        except orjson.JSONDecodeError:
            state = None
        if not (isinstance(state, dict) and state.get("online") is True):
            self._presence_due_ms = self._since_ms + _PRESENCE_WAIT_MS

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return the presence if it is due, and some of the requests for births that are due."""
        found: list[Outgoing] = []
        due_ms = self._presence_due_ms
        if self._host_id is not None and due_ms is not None and now_ms >= due_ms:
            self._presence_due_ms = None
            found.append(self._presence(self._host_id, online=True))
        for node in [node for node in self._requested.values() if node.is_gone]:
            self.cancel_request(node)
        for node in self._requested.values():
            if len(found) >= _MOST_AT_ONCE:
                break
            if node.request_at_ms - now_ms > _REQUEST_BACKOFF.max_ms:  # the clock was set back
                node.request_at_ms = now_ms
            if now_ms < node.request_at_ms:
                continue
            node.requests += 1
            node.request_at_ms = now_ms + _REQUEST_BACKOFF.delay_ms(node.requests)
            self._counters.rebirths_requested_total += 1
            found.append(_rebirth(node, now_ms))
        return found

    def farewell(self, now_ms: int) -> Outgoing | None:
        """Return the last-will message, for the connection that begins now; None: no host."""
        self._since_ms = now_ms
        return None if self._host_id is None else self._presence(self._host_id, online=False)

    def _presence(self, host_id: str, *, online: bool) -> Outgoing:
        payload = orjson.dumps({"online": online, "timestamp": self._since_ms})
        return Outgoing(state_topic(host_id), payload, qos=1, retain=True)


def _rebirth(node: Node, now_ms: int) -> Outgoing:
    metric = Metric(
        "Node Control/Rebirth",
        ts_ms=now_ms,
        datatype=DataType.Boolean,
        field="boolean_value",
        value=True,
    )
    topic = f"spBv1.0/{node.group}/NCMD/{node.node}"
    return Outgoing(topic, encode_sparkplug(now_ms, [metric]))
