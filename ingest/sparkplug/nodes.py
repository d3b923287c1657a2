"""Memory of Sparkplug nodes and their devices, with checkpoints.

The memory changes with every message. `checkpoint` returns what has changed, to be written to the
store (`ingest.sparkplug.store`) before the messages are acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from ingest.errors import RefusalReason, RefusedMessage
from ingest.roster import Elapsed, Roster, RosterLimits
from ingest.sparkplug.names import site_and_device
from ingest.sparkplug.store import Checkpoint, SparkplugStore

__all__ = ["NODE_LIMITS", "Device", "Factors", "Moment", "Node", "Nodes", "Plan", "Values"]

_DAY_MS = 86_400_000
NODE_LIMITS = RosterLimits(
    most=10_000,
    most_strangers=5_000,
    keep_ms=30 * _DAY_MS,
    keep_stranger_ms=7 * _DAY_MS,
    protect_ms=_DAY_MS,
)
"""A node is known once one of its messages has become readings."""
_MAX_DEVICES = 100_000
_MAX_DEVICES_OF_NODE = 2_000
_EXPIRE_EVERY_MS = 60_000

Values = dict[str, "float | None"]
"""Values by metric name; None: known to have no value."""
Factors = tuple[tuple[float, float], ...]
"""Scale and offset of each channel."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream of one device, with the metric behind each channel.

    Attributes:
        stream: Its name.
        channels: Its channels.
        metrics: The metric of each channel.
        factors: Scale and offset of each channel; None: its values are those of the metrics.
    """

    stream: str
    channels: tuple[str, ...]
    metrics: tuple[str, ...]
    factors: Factors | None = None


class Moment(NamedTuple):
    """The newest reading of a stream, while more metrics of its moment may come.

    Attributes:
        ts_ms: Event time.
        row: Values in the order of the channels.
        names: Metrics that have come with this time.
        channels: Channels of the stream.
        since_ms: Receive time of its first message.
    """

    ts_ms: int
    row: list[float]
    names: frozenset[str]
    channels: tuple[str, ...]
    since_ms: int


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
        moments: Readings that wait until they are complete, by stream.
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
    moments: dict[str, Moment] = field(default_factory=dict)
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
        is_known: One of its messages has become readings.
        is_gone: It is no longer in the table.
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
    is_known: bool = False
    is_gone: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Group and name."""
        return self.group, self.node


class Nodes:
    """All nodes that have state, the digests of the last messages, and what has changed.

    Attributes:
        gone_total: Nodes whose state was deleted, because they were silent for too long or had to
            make room.
    """

    def __init__(self, store: SparkplugStore, limits: RosterLimits = NODE_LIMITS) -> None:
        """Read everything from the store; plans are left to `ingest.sparkplug.births`."""
        self.gone_total = 0
        self._roster = Roster[tuple[str, str]](limits)
        self._elapsed = Elapsed()
        self._expired_ms = 0
        self._gone_nodes: dict[tuple[str, str], None] = {}
        self._gone_devices: dict[tuple[str, str, str], None] = {}
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

    def hear(self, group: str, name: str, recv_ms: int) -> None:
        """Note that a message of a node has come; also removes nodes silent for too long."""
        now_ms = self._elapsed.advance(recv_ms)
        self._roster.hear((group, name), now_ms)
        if now_ms - self._expired_ms >= _EXPIRE_EVERY_MS:
            self._expired_ms = now_ms
            for key in self._roster.expire(now_ms):
                self._remove(key)

    def know(self, node: Node) -> None:
        """Note that a message of a node has become readings."""
        node.is_known = True
        self._roster.know(node.key, self._elapsed.ms)

    def node(self, group: str, name: str) -> Node:
        """Return a node; create it if it is unknown.

        Raises:
            RefusedMessage: There is no room for it: nobody else may go.
        """
        node = self._nodes.get((group, name))
        if node is None:
            gone = self._roster.admit((group, name), self._elapsed.ms)
            if gone is None:
                limits = self._roster.limits
                detail = (
                    f"no room for the node {group[:64]}/{name[:64]}: {len(self)} of {limits.most} "
                    f"nodes, {self._roster.strangers} of {limits.most_strangers} that have never "
                    "sent a reading"
                )
                raise RefusedMessage(RefusalReason.too_many_devices, detail)
            for key in gone:
                self._remove(key)
            node = self._nodes[group, name] = Node(group, name)
        return node

    def device(self, node: Node, name: str) -> Device:
        """Return a device of a node; create it if it is unknown.

        Raises:
            RefusedMessage: There is no room for it.
        """
        device = node.devices.get(name)
        if device is None:
            if len(node.devices) >= _MAX_DEVICES_OF_NODE and not self._drop_offline_device(node):
                detail = f"{_MAX_DEVICES_OF_NODE} devices of the node {node.node[:64]} are online"
                raise RefusedMessage(RefusalReason.too_many_devices, detail)
            if self._devices_total >= _MAX_DEVICES:
                detail = f"no room for more than {_MAX_DEVICES} devices of all nodes"
                raise RefusedMessage(RefusalReason.too_many_devices, detail)
            self._devices_total += 1
            site, device_name = site_and_device(node.group, node.node, name or None)
            device = node.devices[name] = Device(name, site, device_name)
        return device

    def _drop_offline_device(self, node: Node) -> bool:
        """Remove the oldest device of a node that is offline; False if none is."""
        names = (name for name, device in node.devices.items() if name and not device.is_online)
        name = next(names, None)
        if name is None:
            return False
        self._devices_total -= 1
        del node.devices[name]
        key = (*node.key, name)
        self._changed_births.pop(key, None)
        self._changed_values.pop(key, None)
        self._gone_devices[key] = None
        return True

    def _remove(self, key: tuple[str, str]) -> None:
        """Remove a node with its devices; if it comes back, it is asked for a new birth."""
        node = self._nodes.pop(key)
        node.is_gone = True
        self.gone_total += 1
        self._devices_total -= len(node.devices)
        self._changed_nodes.pop(key, None)
        for name in node.devices:
            self._changed_births.pop((*key, name), None)
            self._changed_values.pop((*key, name), None)
        self._gone_nodes[key] = None

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
            [*self._gone_nodes],
            [*self._gone_devices],
        )
        self._gone_nodes, self._gone_devices = {}, {}
        self._changed_nodes, self._changed_births, self._changed_values = {}, {}, {}
        self._new_seen = []
        return found or None

    def _restore(self, store: SparkplugStore) -> None:
        for group, name, state in store.nodes():
            bdseq, seq, is_online, qos, *more = orjson.loads(state)
            node = self._nodes[group, name] = Node(group, name, bdseq, seq, is_online, qos)
            node.is_known = is_online  # earlier versions do not say
            if more:
                node.birth, node.is_stuck, missing, *known = more
                node.missing = tuple(missing)
                node.is_known = bool(known[0]) if known else is_online
            self._roster.restore(node.key, 0, is_known=node.is_known)
        for group, name, device_name, birth, values in store.devices():
            device = self.device(self.node(group, name), device_name)
            device.types, aliases = orjson.loads(birth)
            device.aliases = {int(alias): metric for alias, metric in aliases.items()}
            if values is not None:
                device.is_online, device.current, device.earlier, *more = orjson.loads(values)
                device.before_gap, moments = [*more, {}, {}][:2]  # earlier versions have no more
                for stream, (ts_ms, row, names, channels, since_ms) in moments.items():
                    device.moments[stream] = Moment(
                        ts_ms, row, frozenset(names), tuple(channels), since_ms
                    )


def _node_state(node: Node) -> bytes:
    session = (node.birth, node.is_stuck, node.missing, node.is_known)
    return orjson.dumps((node.bdseq, node.seq, node.is_online, node.qos, *session))


def _birth_state(device: Device) -> bytes:
    aliases: dict[str, Any] = {str(alias): name for alias, name in device.aliases.items()}
    return orjson.dumps((device.types, aliases))


def _values_state(device: Device) -> bytes:
    moments = {
        stream: (held.ts_ms, held.row, sorted(held.names), held.channels, held.since_ms)
        for stream, held in device.moments.items()
    }
    values = (device.current, device.earlier, device.before_gap)
    return orjson.dumps((device.is_online, *values, moments))
