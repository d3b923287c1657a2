"""Memory of Sparkplug nodes and their devices, with checkpoints.

The memory changes with every message. `checkpoint` returns what has changed, to be written to the
store (`ingest.sparkplug.store`) before the messages are acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from ingest.errors import RefusalReason, RefusedMessage
from ingest.sparkplug.names import site_and_device
from ingest.sparkplug.store import Checkpoint, SparkplugStore

__all__ = ["Device", "Node", "Nodes", "Plan", "Values"]

_MAX_NODES = 10_000
_MAX_DEVICES = 100_000

Values = dict[str, "float | None"]
"""Values by metric name; None: known to have no value."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream of one device, with the metric behind each channel."""

    stream: str
    channels: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(slots=True)
class Device:
    """A device of a node; the one with the name "" holds the node's own metrics.

    Attributes:
        name: Sparkplug name.
        site: Our name of the group.
        device: Our name of the device.
        is_online: Its birth is valid.
        types: Datatypes of the birth, by metric name.
        aliases: Metric names of the birth, by alias.
        current: Current values.
        earlier: Values before the last birth, which historical values follow.
        before_gap: Values before the gap in the sequence, which overtaken messages follow.
        plans: Streams that the device has.
        wanted: Metrics of all these streams.
        notice: Why it has no stream, in words; None: it has one, or needs none.
    """

    name: str
    site: str
    device: str
    is_online: bool = False
    types: dict[str, int] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)
    current: Values = field(default_factory=dict)
    earlier: Values = field(default_factory=dict)
    before_gap: Values = field(default_factory=dict)
    plans: tuple[Plan, ...] = ()
    wanted: frozenset[str] = frozenset()
    notice: str | None = None

    def discard_current(self) -> None:
        """Move the current values to the earlier ones, because they may have changed unseen."""
        known = {name: value for name, value in self.current.items() if value is not None}
        self.earlier.update(known)
        self.current, self.before_gap = {}, {}

    def begin_gap(self) -> None:
        """Suspend the current values: messages are missing that may have changed them."""
        before = self.before_gap | self.current
        self.discard_current()
        self.before_gap = before

    def end_gap(self) -> None:
        """Continue with the suspended values: no message is missing any more."""
        self.current, self.before_gap = self.before_gap | self.current, {}


@dataclass(slots=True)
class Node:
    """An edge node.

    Attributes:
        group: Sparkplug group.
        node: Sparkplug name.
        bdseq: Session number of the last birth, if it had one.
        seq: Last sequence number.
        is_online: Its birth is valid.
        qos: QoS of its last message.
        devices: Its devices by Sparkplug name.
        request_at_ms: Earliest time of the next request for a birth.
        requests: Requests for a birth since the last birth.
        birth: Digest of the last NBIRTH, as hex; later digests are of this session.
        is_stuck: The last session began with the number of the one before.
        missing: Sequence numbers of the last gap that have not come yet.
    """

    group: str
    node: str
    bdseq: int | None = None
    seq: int | None = None
    is_online: bool = False
    qos: int = 0
    devices: dict[str, Device] = field(default_factory=dict)
    request_at_ms: int = 0
    requests: int = 0
    birth: str = ""
    is_stuck: bool = False
    missing: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Group and name."""
        return self.group, self.node


class Nodes:
    """All known nodes and devices, the digests of the last messages, and what has changed."""

    def __init__(self, store: SparkplugStore) -> None:
        """Read everything from the store; plans are left to `ingest.sparkplug.births`."""
        self._nodes: dict[tuple[str, str], Node] = {}
        self._devices_total = 0
        self._remembered = store.remembered
        self._seen: dict[bytes, int] = {}  # digest -> number of the message, oldest first
        self._count = 0
        for digest in store.seen():
            self._add_seen(digest)
        self._changed_nodes: dict[tuple[str, str], Node] = {}
        self._changed_births: dict[tuple[str, str, str], Device] = {}
        self._changed_values: dict[tuple[str, str, str], Device] = {}
        self._new_seen: list[bytes] = []
        self._restore(store)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def find(self, group: str, name: str) -> Node | None:
        """Return a node, or None if it is unknown."""
        return self._nodes.get((group, name))

    def node(self, group: str, name: str) -> Node:
        """Return a node; create it if it is unknown.

        Raises:
            RefusedMessage: There are too many nodes.
        """
        node = self._nodes.get((group, name))
        if node is None:
            if len(self._nodes) >= _MAX_NODES:
                detail = f"more than {_MAX_NODES} nodes"
                raise RefusedMessage(RefusalReason.too_large, detail)
            node = self._nodes[group, name] = Node(group, name)
        return node

    def device(self, node: Node, name: str) -> Device:
        """Return a device of a node; create it if it is unknown.

        Raises:
            RefusedMessage: There are too many devices.
        """
        device = node.devices.get(name)
        if device is None:
            if self._devices_total >= _MAX_DEVICES:
                detail = f"more than {_MAX_DEVICES} devices"
                raise RefusedMessage(RefusalReason.too_large, detail)
            self._devices_total += 1
            site, device_name = site_and_device(node.group, node.node, name or None)
            device = node.devices[name] = Device(name, site, device_name)
        return device

    # -- changes ----------------------------------------------------------------------------

    def was_seen(self, digest: bytes, node: Node | None = None) -> bool:
        """Whether a message with this digest is among the last ones (of the node's session)."""
        number = self._seen.get(digest)
        if number is None or node is None:
            return number is not None
        return number > self._seen.get(bytes.fromhex(node.birth), -1)

    def note_message(self, digest: bytes) -> None:
        """Remember the digest of a message."""
        self._add_seen(digest)
        self._new_seen.append(digest)

    def _add_seen(self, digest: bytes) -> None:
        self._seen.pop(digest, None)
        self._seen[digest] = self._count
        self._count += 1
        if len(self._seen) > self._remembered:
            del self._seen[next(iter(self._seen))]

    def note_node(self, node: Node) -> None:
        """Note that the state of a node changes with this message."""
        self._changed_nodes[node.key] = node

    def note_birth(self, node: Node, device: Device) -> None:
        """Note that the metrics and values of a device change with this message."""
        self._changed_births[node.group, node.node, device.name] = device
        self.note_values(node, device)

    def note_values(self, node: Node, device: Device) -> None:
        """Note that the values of a device change with this message."""
        self._changed_values[node.group, node.node, device.name] = device

    def take_offline(self, node: Node, device: Device) -> None:
        """Take a device offline; no effect if it is offline."""
        if device.is_online:
            device.is_online = False
            device.discard_current()
            self.note_values(node, device)

    def checkpoint(self) -> Checkpoint | None:
        """Return what has changed since the last checkpoint, as bytes; None: nothing."""
        found = Checkpoint(
            [(*key, _node_state(node)) for key, node in self._changed_nodes.items()],
            [(*key, _birth_state(device)) for key, device in self._changed_births.items()],
            [(*key, _values_state(device)) for key, device in self._changed_values.items()],
            self._new_seen,
        )
        self._changed_nodes, self._changed_births, self._changed_values = {}, {}, {}
        self._new_seen = []
        return found or None

    def _restore(self, store: SparkplugStore) -> None:
        for group, name, state in store.nodes():
            bdseq, seq, is_online, qos, *more = orjson.loads(state)
            node = self._nodes[group, name] = Node(group, name, bdseq, seq, is_online, qos)
            if more:  # earlier versions have no more
                node.birth, node.is_stuck, missing = more
                node.missing = tuple(missing)
        for group, name, device_name, birth, values in store.devices():
            device = self.device(self.node(group, name), device_name)
            device.types, aliases = orjson.loads(birth)
            device.aliases = {int(alias): metric for alias, metric in aliases.items()}
            if values is not None:
                device.is_online, device.current, device.earlier, *gap = orjson.loads(values)
                device.before_gap = gap[0] if gap else {}


def _node_state(node: Node) -> bytes:
    session = (node.birth, node.is_stuck, node.missing)
    return orjson.dumps((node.bdseq, node.seq, node.is_online, node.qos, *session))


def _birth_state(device: Device) -> bytes:
    aliases: dict[str, Any] = {str(alias): name for alias, name in device.aliases.items()}
    return orjson.dumps((device.types, aliases))


def _values_state(device: Device) -> bytes:
    return orjson.dumps((device.is_online, device.current, device.earlier, device.before_gap))
