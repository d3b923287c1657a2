"""Sparkplug B as a second format of messages: births, data and deaths of nodes become readings.

A node announces in its **birth** which metrics it and its devices have, by name, alias and
datatype; then it sends only what changes (report by exception), often by alias alone. So a message
means something only together with what came before it. This decoder keeps that, and what it keeps
is durable before a message is acknowledged (`ingest.decoder`): after a kill -9 the messages that
the broker delivers again are decoded from the very state they met, or recognised and passed over.

1. The mapping file says which metrics are the channels of which stream (`ingest.sparkplug.names`).
2. Every distinct timestamp of a stream's metrics in a data message is one reading; a channel that
   the message does not carry has its last known value. Births set values, they are no readings.
3. Sequence numbers that do not follow mean that messages are missing: what was known of the node's
   values is forgotten until they are told again, and the node is asked for a new birth (NCMD
   `Node Control/Rebirth`). Data that cannot be completed becomes a dead letter, never a guess.
4. Historical values (`is_historical`) continue from what was known before the last birth, and leave
   the present values alone.
5. NDEATH, if it belongs to the present birth, takes the node and all its devices offline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ingest.decoder import Decoded, Outgoing
from ingest.errors import RefusalReason, RefusedMessage
from ingest.payloads import YEAR_2000_MS, encode_payload
from ingest.settings import IngestSettings
from ingest.sparkplug.names import SparkplugMapping, StreamMapping, read_mapping, site_and_device
from ingest.sparkplug.store import Checkpoint, SparkplugStore
from ingest.sparkplug.wire import (
    DataType,
    Metric,
    Payload,
    decode_sparkplug,
    encode_sparkplug,
    number,
)
from ingest.topics import Address

__all__ = ["Sparkplug", "SparkplugCounters", "sparkplug_of"]

log = logging.getLogger(__name__)

_MAX_NODES = 10_000
_MAX_DEVICES = 100_000
_MAX_TOPIC = 1024
_INT64_MAX = 2**63 - 1
_BODY_CELLS = 8000  # of one canonical body: below the limits of `ingest.payloads`
_REBIRTH_WAIT_MS = (5_000, 300_000)
_COMMANDS_AT_ONCE = 5  # asked four times a second: 20 nodes a second, not all of them together
_GREETING_WAIT_MS = 5_000
_SHOWN = 5
_SHOWN_OFFLINE = 50
_NODE_KINDS = ("NBIRTH", "NDATA", "NDEATH")
_DEVICE_KINDS = ("DBIRTH", "DDATA", "DDEATH")

_Values = dict[str, "float | None"]


@dataclass(slots=True)
class SparkplugCounters:
    """What was taken since the start; every number only grows.

    Attributes:
        births_total: NBIRTH and DBIRTH taken.
        deaths_total: NDEATH and DDEATH taken.
        stale_deaths_total: NDEATH of an earlier session, without effect.
        data_total: NDATA and DDATA taken, in part or as a whole.
        readings_total: Readings made of them.
        duplicates_total: Messages delivered again, without effect.
        seq_gaps_total: Times that a sequence number did not follow.
        lost_messages_total: Messages missing there, at least (the numbers end at 255).
        bdseq_gaps_total: Births whose session number follows none we know of.
        rebirths_requested_total: Commands sent to nodes.
    """

    births_total: int = 0
    deaths_total: int = 0
    stale_deaths_total: int = 0
    data_total: int = 0
    readings_total: int = 0
    duplicates_total: int = 0
    seq_gaps_total: int = 0
    lost_messages_total: int = 0
    bdseq_gaps_total: int = 0
    rebirths_requested_total: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """A stream as one device has it."""

    stream: str
    channels: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(slots=True)
class _Device:
    """A device of a node, or (with the name "") the node's own metrics."""

    name: str
    site: str
    device: str
    born: bool = False
    types: dict[str, int] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)
    live: _Values = field(default_factory=dict)
    past: _Values = field(default_factory=dict)  # before the last birth: historical values follow
    plans: tuple[_Plan, ...] = ()
    wanted: frozenset[str] = frozenset()

    def forget(self) -> None:
        """The present values may not be so any more."""
        self.past.update({name: value for name, value in self.live.items() if value is not None})
        self.live = {}


@dataclass(slots=True)
class _Node:
    group: str
    node: str
    bdseq: int | None = None
    seq: int | None = None
    online: bool = False
    qos: int = 0
    devices: dict[str, _Device] = field(default_factory=dict)
    ask_at_ms: int = 0
    ask_wait_ms: int = _REBIRTH_WAIT_MS[0]


class _Faults:
    """What is wrong with one message: the first reason counts, the first few details are told."""

    def __init__(self) -> None:
        self.reason: RefusalReason | None = None
        self._details: dict[str, None] = {}
        self._more = 0

    def add(self, reason: RefusalReason, detail: str) -> None:
        self.reason = self.reason or reason
        if len(self._details) < _SHOWN:
            self._details[detail] = None
        elif detail not in self._details:
            self._more += 1

    @property
    def refused(self) -> RefusedMessage | None:
        if self.reason is None:
            return None
        more = f"; and {self._more} more" if self._more else ""
        return RefusedMessage(self.reason, "; ".join(self._details) + more)


class Sparkplug:
    """Implements `ingest.decoder.Decoder`; its state survives in a `SparkplugStore`."""

    prefix = "spBv1.0/"

    def __init__(self, mapping: SparkplugMapping, store: SparkplugStore) -> None:
        """Take up what the store knows.

        Raises:
            LogUnavailable: The store's disk refuses.
        """
        self.counters = SparkplugCounters()
        self.filters: Sequence[str] = mapping.filters()
        self._mapping = mapping
        self._mapped = frozenset(m for s in mapping.stream for m in s.metrics.values())
        self._store = store
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._devices_total = 0
        self._due: dict[tuple[str, str], None] = {}  # nodes to be asked for a birth
        self._seen: deque[bytes] = deque()
        self._seen_set: set[bytes] = set()
        self._dirty_nodes: dict[tuple[str, str], _Node] = {}
        self._dirty_births: dict[tuple[str, str, str], _Device] = {}
        self._dirty_live: dict[tuple[str, str, str], _Device] = {}
        self._new_seen: list[bytes] = []
        self._since_ms = 0
        self._greet_at_ms: int | None = None
        self._restore()

    # -- the format -------------------------------------------------------------------------

    def decode(self, topic: str, payload: bytes, recv_ms: int, qos: int) -> Decoded:
        """Take one message; see `ingest.decoder.Decoder`."""
        try:
            return self._decode(topic, payload, qos)
        except RefusedMessage as exc:
            return Decoded(refused=exc)

    def _decode(self, topic: str, payload: bytes, qos: int) -> Decoded:
        levels = topic.split("/")
        if levels[1] == "STATE":
            return self._state(levels, payload)
        if len(topic) > _MAX_TOPIC or "\ufffd" in topic or not _is_sparkplug(levels):
            detail = f"{topic[:200]!r} is not spBv1.0/<group>/<type>/<node>[/<device>]"
            raise RefusedMessage(RefusalReason.bad_topic, detail)
        _, group, kind, name, *rest = levels
        found = decode_sparkplug(payload)
        if kind == "NDEATH":  # may be the same bytes each time, and does no harm twice
            return self._ndeath(group, name, found)
        digest = blake2b(topic.encode() + b"\0" + payload, digest_size=8).digest()
        if digest in self._seen_set:
            self.counters.duplicates_total += 1
            return Decoded()
        self._remember(digest)
        if kind == "NBIRTH":
            return self._nbirth(self._node(group, name), found, qos)
        node = self._nodes.get((group, name))
        if node is None or not node.online:
            self._ask(self._node(group, name))
            what = "no birth of the node is known" if node is None else "the node is offline"
            raise RefusedMessage(RefusalReason.no_birth, f"{what}; a new birth is asked for")
        self._dirty_nodes[group, name] = node
        node.qos = qos
        lost = self._follow(node, found.seq)
        device = "".join(rest)
        if kind == "DBIRTH":
            return self._birth(node, self._device(node, device), found)
        known = node.devices.get(device)
        if kind == "DDEATH":
            self._ddeath(node, known)
            return Decoded()
        if known is None or not known.born:
            self._ask(node)
            detail = f"no birth of {device or 'the node'} is known; a new birth is asked for"
            raise RefusedMessage(RefusalReason.no_birth, detail)
        return self._data(node, known, found, lost)

    # -- births and deaths ------------------------------------------------------------------

    def _nbirth(self, node: _Node, found: Payload, qos: int) -> Decoded:
        bdseq = _bdseq(found)
        if node.bdseq is not None and bdseq is not None:
            if bdseq not in (node.bdseq, (node.bdseq + 1) % 256):
                self.counters.bdseq_gaps_total += 1
        node.bdseq, node.online, node.qos = bdseq, True, qos
        node.seq = found.seq or 0
        for device in node.devices.values():
            self._take_offline(node, device)
        self._due.pop((node.group, node.node), None)
        node.ask_wait_ms = _REBIRTH_WAIT_MS[0]
        self._dirty_nodes[node.group, node.node] = node
        return self._birth(node, self._device(node, ""), found)

    def _birth(self, node: _Node, device: _Device, found: Payload) -> Decoded:
        """What the metrics of a node or a device are, and their present values."""
        self.counters.births_total += 1
        faults = _Faults()
        device.forget()
        device.types, device.aliases, device.born = {}, {}, True
        for metric in found.metrics:
            if metric.name is None:
                faults.add(RefusalReason.not_sparkplug, "a metric of the birth has no name")
                continue
            device.types[metric.name] = metric.datatype or 0
            if metric.alias is not None:
                device.aliases[metric.alias] = metric.name
        self._plan(node, device, faults)
        present = [m for m in found.metrics if not m.is_historical]
        named = [(m.name, m) for m in present if m.name in device.wanted]
        updates = _updates(device, named, found.ts_ms, faults, values_needed=False)
        where = node.group, node.node, device.name
        self._dirty_births[where] = self._dirty_live[where] = device
        columns = _readings(device, updates, device.live, _Faults())
        if not self._mapping.births_are_readings:
            return Decoded(refused=faults.refused)
        return Decoded(self._messages(device, columns), faults.refused)

    def _plan(self, node: _Node, device: _Device, faults: _Faults) -> None:
        """Find the streams that the device has: those of which it has every metric."""
        path = "/".join(part for part in (node.group, node.node, device.name) if part)
        plans = []
        for stream in self._mapping.stream:
            if stream.fits(path) and _has_all(device, stream, faults):
                plans.append(
                    _Plan(stream.name, tuple(stream.metrics), tuple(stream.metrics.values()))
                )
        device.plans = tuple(plans)
        device.wanted = frozenset(metric for plan in plans for metric in plan.metrics)

    def _ndeath(self, group: str, name: str, found: Payload) -> Decoded:
        node = self._nodes.get((group, name))
        bdseq = _bdseq(found)
        if node is None or not node.online:
            return Decoded()
        if bdseq is not None and node.bdseq is not None and bdseq != node.bdseq:
            # The broker found out late that an earlier connection is dead; the node is back.
            self.counters.stale_deaths_total += 1
            return Decoded()
        self.counters.deaths_total += 1
        node.online = False
        for device in node.devices.values():
            self._take_offline(node, device)
        self._due.pop((group, name), None)
        self._dirty_nodes[group, name] = node
        return Decoded()

    def _ddeath(self, node: _Node, device: _Device | None) -> None:
        if device is not None and device.born:
            self.counters.deaths_total += 1
            self._take_offline(node, device)

    def _take_offline(self, node: _Node, device: _Device) -> None:
        if device.born:
            device.born = False
            device.forget()
            self._dirty_live[node.group, node.node, device.name] = device

    # -- data -------------------------------------------------------------------------------

    def _follow(self, node: _Node, seq: int | None) -> int:
        """Check the sequence number; how many messages are missing before this one."""
        if seq is None:
            return 0
        lost = 0 if node.seq is None else (seq - node.seq - 1) % 256
        node.seq = seq
        if lost:
            self.counters.seq_gaps_total += 1
            self.counters.lost_messages_total += lost
            for device in node.devices.values():
                if device.live:
                    device.forget()
                    self._dirty_live[node.group, node.node, device.name] = device
            self._ask(node)
        return lost

    def _data(self, node: _Node, device: _Device, found: Payload, lost: int) -> Decoded:
        self.counters.data_total += 1
        faults = _Faults()
        live: list[tuple[str, Metric]] = []
        past: list[tuple[str, Metric]] = []
        for metric in found.metrics:
            name = metric.name
            if name is None and metric.alias is not None:
                name = device.aliases.get(metric.alias)
            if name is None or (name not in device.types and name in self._mapped):
                shown = f"alias {metric.alias}" if name is None else f"metric {name[:80]!r}"
                faults.add(RefusalReason.no_birth, f"{shown} is in no birth")
                self._ask(node)
            elif name in device.wanted:
                (past if metric.is_historical else live).append((name, metric))
        messages: list[tuple[Address, bytes]] = []
        for named, values in ((past, device.past), (live, device.live)):
            if named:
                updates = _updates(device, named, found.ts_ms, faults)
                columns = _readings(device, updates, values, faults)
                messages += self._messages(device, columns)
        if live or past:
            self._dirty_live[node.group, node.node, device.name] = device
        if lost and faults.reason is not None:
            faults.add(faults.reason, f"{lost} messages are missing before this one")
        return Decoded(messages, faults.refused)

    def _messages(self, device: _Device, columns: _Columns) -> list[tuple[Address, bytes]]:
        """Canonical bodies, none too large."""
        messages = []
        for plan, (ts_ms, rows) in columns.items():
            self.counters.readings_total += len(ts_ms)
            address = Address(device.site, device.device, plan.stream)
            most = max(1, _BODY_CELLS // len(plan.channels))
            for at in range(0, len(ts_ms), most):
                part = zip(*rows[at : at + most], strict=True)
                values = dict(zip(plan.channels, part, strict=True))
                messages.append((address, encode_payload(ts_ms[at : at + most], values)))
        return messages

    # -- the host ---------------------------------------------------------------------------

    def _state(self, levels: Sequence[str], payload: bytes) -> Decoded:
        """Our own sign of presence: somebody (the broker, late) may have said that we are gone."""
        if len(levels) == 3 and levels[2] == self._mapping.host_id:
            try:
                told = orjson.loads(payload)
            except orjson.JSONDecodeError:
                told = None
            if not (isinstance(told, dict) and told.get("online") is True):
                self._greet_at_ms = self._since_ms + _GREETING_WAIT_MS
        return Decoded()

    def connected(self, now_ms: int) -> None:
        """What was sent with QoS 0 meanwhile is lost without a trace: ask those nodes anew."""
        self._greet_at_ms = now_ms
        for node in self._nodes.values():
            if node.online and node.qos == 0:
                self._ask(node)

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Our presence as a host, and requests for births: some at a time, each node rarely."""
        found: list[Outgoing] = []
        host = self._mapping.host_id
        if host is not None and self._greet_at_ms is not None and now_ms >= self._greet_at_ms:
            self._greet_at_ms = None
            found.append(self._presence(host, online=True))
        for key in list(self._due):
            if len(found) >= _COMMANDS_AT_ONCE:
                break
            node = self._nodes[key]
            if node.ask_at_ms - now_ms > _REBIRTH_WAIT_MS[1]:  # our clock was set back
                node.ask_at_ms = now_ms
            if now_ms < node.ask_at_ms:
                continue
            node.ask_at_ms = now_ms + node.ask_wait_ms
            node.ask_wait_ms = min(2 * node.ask_wait_ms, _REBIRTH_WAIT_MS[1])
            self.counters.rebirths_requested_total += 1
            found.append(_rebirth(node, now_ms))
        return found

    def farewell(self, now_ms: int) -> Outgoing | None:
        """What says that the host is gone."""
        self._since_ms = now_ms
        host = self._mapping.host_id
        return None if host is None else self._presence(host, online=False)

    def _presence(self, host: str, *, online: bool) -> Outgoing:
        payload = orjson.dumps({"online": online, "timestamp": self._since_ms})
        return Outgoing(f"spBv1.0/STATE/{host}", payload, qos=1, retain=True)

    def _ask(self, node: _Node) -> None:
        self._due.setdefault((node.group, node.node))

    # -- what is known ----------------------------------------------------------------------

    def _node(self, group: str, name: str) -> _Node:
        node = self._nodes.get((group, name))
        if node is None:
            if len(self._nodes) >= _MAX_NODES:
                detail = f"more than {_MAX_NODES} nodes"
                raise RefusedMessage(RefusalReason.too_large, detail)
            node = self._nodes[group, name] = _Node(group, name)
        return node

    def _device(self, node: _Node, name: str) -> _Device:
        device = node.devices.get(name)
        if device is None:
            if self._devices_total >= _MAX_DEVICES:
                detail = f"more than {_MAX_DEVICES} devices"
                raise RefusedMessage(RefusalReason.too_large, detail)
            self._devices_total += 1
            site, ours = site_and_device(node.group, node.node, name or None)
            device = node.devices[name] = _Device(name, site, ours)
        return device

    def _remember(self, digest: bytes) -> None:
        self._seen.append(digest)
        self._seen_set.add(digest)
        self._new_seen.append(digest)
        if len(self._seen) > self._store.remembered:
            self._seen_set.discard(self._seen.popleft())

    def status(self) -> dict[str, int | list[str]]:
        """Counters, how many nodes and devices there are now, and which are offline (some)."""
        nodes = self._nodes.values()
        devices = [device for node in nodes for device in node.devices.values()]
        offline = (f"{each.site}/{each.device}" for each in devices if not each.born)
        return asdict(self.counters) | {
            "nodes": len(self._nodes),
            "nodes_online": sum(node.online for node in nodes),
            "devices": sum(bool(device.name) for device in devices),
            "devices_online": sum(device.born for device in devices if device.name),
            "births_awaited": len(self._due),
            "offline": list(islice(offline, _SHOWN_OFFLINE)),
        }

    # -- what is kept -----------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """What has changed since the last one, as bytes."""
        found = Checkpoint(
            [(*key, _node_state(node)) for key, node in self._dirty_nodes.items()],
            [(*key, _birth_state(device)) for key, device in self._dirty_births.items()],
            [(*key, _live_state(device)) for key, device in self._dirty_live.items()],
            self._new_seen,
        )
        self._dirty_nodes, self._dirty_births, self._dirty_live = {}, {}, {}
        self._new_seen = []
        return found or None

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Write it; see `ingest.decoder.Decoder`."""
        await asyncio.to_thread(self._store.write, checkpoint)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _restore(self) -> None:
        for group, name, state in self._store.nodes():
            bdseq, seq, online, qos = orjson.loads(state)
            self._nodes[group, name] = _Node(group, name, bdseq, seq, online, qos)
        for group, name, device_name, birth, live in self._store.devices():
            node = self._node(group, name)
            device = self._device(node, device_name)
            device.types, aliases = orjson.loads(birth)
            device.aliases = {int(alias): metric for alias, metric in aliases.items()}
            if live is not None:
                device.born, device.live, device.past = orjson.loads(live)
            self._plan(node, device, _Faults())
        self._seen.extend(self._store.seen())
        self._seen_set.update(self._seen)
        if not self._store.is_of_mapping(self._mapping.digest):
            log.info("the Sparkplug mapping has changed: every node is asked for a new birth")
            for node in self._nodes.values():
                if node.online:
                    self._ask(node)


def sparkplug_of(settings: IngestSettings, state_dir: Path) -> Sparkplug | None:
    """The decoder that the settings ask for; None: they ask for none.

    Args:
        settings: With the mapping file and, if not in `state_dir`, the state file.
        state_dir: The process's folder.

    Raises:
        MappingInvalid: The mapping file cannot be used.
        StoreUnusable: The state file cannot be used.
        LogUnavailable: The disk of the state file refuses.
    """
    if settings.sparkplug is None:
        return None
    mapping = read_mapping(settings.sparkplug)
    path = settings.sparkplug_state or state_dir / "sparkplug.db"
    # Twice what may be unacknowledged, and what acknowledgements on the way may not have reached.
    return Sparkplug(mapping, SparkplugStore(path, remembered=2 * settings.receive_maximum + 4096))


# -- pure parts -----------------------------------------------------------------------------

_Columns = dict[_Plan, "tuple[list[int], list[list[float]]]"]
_Update = tuple["int | None", str, "float | None"]


def _updates(
    device: _Device,
    named: Iterable[tuple[str | None, Metric]],
    sent_ms: int | None,
    faults: _Faults,
    *,
    values_needed: bool = True,
) -> list[_Update]:
    """Time, name and value of metrics; a value that cannot be used is None, and a fault."""
    found: list[_Update] = []
    for name, metric in named:
        if name is None:
            continue
        value: float | None = None
        datatype = device.types[name]
        if metric.datatype not in (None, 0, datatype):
            detail = f"{name}: datatype {metric.datatype} here, {datatype} in the birth"
            faults.add(RefusalReason.wrong_type, detail)
        elif not metric.is_null and (values_needed or metric.field is not None):
            try:
                value = number(metric, datatype)
            except RefusedMessage as exc:
                faults.add(exc.reason, f"{name}: {exc.detail}")
        ts_ms = sent_ms if metric.ts_ms is None else metric.ts_ms
        if ts_ms is None or not YEAR_2000_MS <= ts_ms <= _INT64_MAX:
            if values_needed:
                shown = "no timestamp" if ts_ms is None else f"timestamp {ts_ms}"
                detail = f"{name}: {shown}: set the node's clock"
                faults.add(RefusalReason.clock_unset, detail)
            ts_ms = None
        found.append((ts_ms, name, value))
    return found


def _readings(
    device: _Device, updates: Sequence[_Update], values: _Values, faults: _Faults
) -> _Columns:
    """Bring `values` up to date, and give the reading of each stream at each time on the way."""
    by_time: dict[int, _Values] = {}
    for ts_ms, name, value in updates:
        if ts_ms is None:
            values[name] = value
        else:
            by_time.setdefault(ts_ms, {})[name] = value
    columns: _Columns = {}
    for ts_ms in sorted(by_time):
        changed = by_time[ts_ms]
        values.update(changed)
        for plan in device.plans:
            if changed.keys().isdisjoint(plan.metrics):
                continue
            row = [values.get(metric) for metric in plan.metrics]
            if None in row:
                _tell_missing(plan, row, values, faults)
                continue
            times, rows = columns.setdefault(plan, ([], []))
            times.append(ts_ms)
            rows.append(row)  # type: ignore[arg-type]  # none of them is None
    return columns


def _tell_missing(
    plan: _Plan, row: Sequence[float | None], values: _Values, faults: _Faults
) -> None:
    lacking = [m for m, value in zip(plan.metrics, row, strict=True) if value is None]
    shown = ", ".join(lacking[:_SHOWN])
    if all(metric in values for metric in lacking):
        detail = f"{plan.stream}: no value now of {shown}"
        faults.add(RefusalReason.missing_channel, detail)
    else:
        detail = f"{plan.stream}: {shown} not told since messages went missing"
        faults.add(RefusalReason.no_birth, detail)


def _has_all(device: _Device, stream: StreamMapping, faults: _Faults) -> bool:
    """Whether a device has all metrics of a stream; having only some of them is a fault."""
    lacking = [metric for metric in stream.metrics.values() if metric not in device.types]
    if len(lacking) == len(stream.metrics):
        return False
    odd = [m for m in stream.metrics.values() if device.types.get(m, 1) not in _NUMBERS]
    for metric in odd:
        detail = f"{stream.name}: {metric} has datatype {device.types[metric]}, which is no number"
        faults.add(RefusalReason.wrong_type, detail)
    if lacking:
        detail = f"{stream.name}: the birth has no {', '.join(lacking[:_SHOWN])}"
        faults.add(RefusalReason.missing_channel, detail)
    return not lacking and not odd


_NUMBERS = frozenset(map(int, DataType))


def _is_sparkplug(levels: Sequence[str]) -> bool:
    kinds = {4: _NODE_KINDS, 5: _DEVICE_KINDS}.get(len(levels))
    return kinds is not None and levels[2] in kinds and all(levels)


def _bdseq(found: Payload) -> int | None:
    for metric in found.metrics:
        if metric.name == "bdSeq" and isinstance(metric.value, int):
            return int(metric.value)
    return None


def _rebirth(node: _Node, now_ms: int) -> Outgoing:
    metric = Metric(
        "Node Control/Rebirth",
        ts_ms=now_ms,
        datatype=DataType.Boolean,
        field="boolean_value",
        value=True,
    )
    topic = f"spBv1.0/{node.group}/NCMD/{node.node}"
    return Outgoing(topic, encode_sparkplug(now_ms, [metric]))


def _node_state(node: _Node) -> bytes:
    return orjson.dumps((node.bdseq, node.seq, node.online, node.qos))


def _birth_state(device: _Device) -> bytes:
    aliases: dict[str, Any] = {str(alias): name for alias, name in device.aliases.items()}
    return orjson.dumps((device.types, aliases))


def _live_state(device: _Device) -> bytes:
    return orjson.dumps((device.born, device.live, device.past))
