"""Sparkplug B as a second message format: births, data and deaths of nodes become readings.

A node announces in its **birth** which metrics it and its devices have, by name, alias and
datatype. Then it sends only changes (report by exception), often by alias alone, so a message can
be understood only together with those before it. This decoder keeps that memory, and the memory is
durable before a message is acknowledged (`ingest.decoder`). After a kill -9, the messages that the
broker delivers again are decoded from the same state as the first time, or recognised as
duplicates and skipped.

1. The mapping file defines which metrics are the channels of which stream
   (`ingest.sparkplug.names`).
2. Every distinct timestamp of a stream's metrics is one reading, which waits for a moment in case
   more messages belong to it (`ingest.sparkplug.moments`). A channel that they do not carry keeps
   its last known value. Births set values; they are not readings.
3. A gap in the sequence numbers means that messages are missing. The decoder then suspends the
   node's values until they are sent again or the missing messages come, and asks the node for a
   new birth (NCMD `Node Control/Rebirth`). Data that cannot be completed becomes a dead letter,
   never a guess.
4. Historical values (`is_historical`) continue from the values before the last birth, and leave the
   present values alone.
5. NDEATH, if it belongs to the current birth, takes the node and all its devices offline.
   `ingest.sparkplug.sessions` has the tables of cases.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from ingest.decoder import Decoded, Outgoing, Sent
from ingest.errors import RefusalReason, RefusedMessage
from ingest.roster import RosterLimits
from ingest.settings import IngestSettings
from ingest.sparkplug.births import announce, plan_streams, session_number, with_members
from ingest.sparkplug.counters import Faults, SparkplugCounters
from ingest.sparkplug.data import Columns, canonical_messages, readings_of, updates_of
from ingest.sparkplug.host import Host
from ingest.sparkplug.moments import due_moments, hold_newest
from ingest.sparkplug.names import SparkplugMapping, read_mapping
from ingest.sparkplug.nodes import NODE_LIMITS, Device, Node, Nodes
from ingest.sparkplug.sessions import OVERTAKEN, Step, ends_session, step_of
from ingest.sparkplug.store import Checkpoint, SparkplugStore
from ingest.sparkplug.wire import Metric, Payload, decode_sparkplug, first_timestamp
from ingest.topics import SPARKPLUG_PREFIX, Address

__all__ = ["Sparkplug", "sparkplug_of"]

log = logging.getLogger(__name__)

_MAX_TOPIC = 1024
_SHOWN_OFFLINE = 50
_SHOWN_NOTICES = 20
_NODE_KINDS = ("NBIRTH", "NDATA", "NDEATH", "NCMD")
_DEVICE_KINDS = ("DBIRTH", "DDATA", "DDEATH", "DCMD")
_COMMANDS = ("NCMD", "DCMD")
_DEATH_WITHOUT_BODY = Payload(None, None, ())
_FORMER = "it comes from a subscription of former settings"
_TIMED_KINDS = ("NBIRTH", "NDATA", "DBIRTH", "DDATA")


def sparkplug_of(settings: IngestSettings, state_dir: Path) -> Sparkplug | None:
    """Return the decoder that the settings configure, or None.

    Args:
        settings: With the mapping file and, if not in `state_dir`, the state file.
        state_dir: Folder of the process.

    Raises:
        MappingInvalid: The mapping file is unusable.
        StoreUnusable: The state file is unusable.
        LogUnavailable: The state file cannot be written.
    """
    if settings.sparkplug is None:
        return None
    mapping = read_mapping(settings.sparkplug)
    path = settings.sparkplug_state or state_dir / "sparkplug.db"
    # Twice the messages that may be unacknowledged, and those whose acknowledgement got lost.
    return Sparkplug(mapping, SparkplugStore(path, remembered=2 * settings.receive_maximum + 4096))


class Sparkplug:
    """Implements `ingest.decoder.Decoder`; its memory survives in a `SparkplugStore`.

    Attributes:
        counters: Counters since the start.
        filters: MQTT filters to subscribe to.
    """

    def __init__(
        self, mapping: SparkplugMapping, store: SparkplugStore, limits: RosterLimits = NODE_LIMITS
    ) -> None:
        """Continue from the stored memory.

        Raises:
            LogUnavailable: The store cannot be written.
        """
        self.counters = SparkplugCounters()
        self.filters: Sequence[str] = mapping.filters()
        self._mapping = mapping
        self._groups = None if mapping.groups is None else frozenset(mapping.groups)
        self._mapped = frozenset(m for s in mapping.stream for m in s.metric_names)
        self._store = store
        self._nodes = Nodes(store, limits)
        self._host = Host(mapping.host_id, self.counters)
        self._waiting: dict[tuple[str, str, str], tuple[Node, Device]] = {}
        for node in self._nodes:
            for device in node.devices.values():
                plan_streams(node, device, mapping.stream, Faults())
                if device.moments:
                    self._waiting[node.group, node.node, device.name] = (node, device)
        if not store.is_of_mapping(mapping.digest):
            log.info("the Sparkplug mapping has changed: asking every node for a new birth")
            for node in self._nodes:
                if node.is_online:
                    self._host.request_birth(node)

    # -- messages ---------------------------------------------------------------------------

    def takes(self, topic: str) -> bool:
        """Whether a topic belongs to Sparkplug B."""
        return topic.startswith(SPARKPLUG_PREFIX)

    def sent_at(self, topic: str, payload: bytes, recv_ms: int) -> Sent | None:
        """Return node and timestamp of a birth or data message, for whose clock is wrong."""
        levels = topic.split("/")
        if len(levels) < 4 or levels[2] not in _TIMED_KINDS:
            return None
        sent_ms = first_timestamp(payload)
        return None if sent_ms is None else Sent(f"{levels[1]}/{levels[3]}", sent_ms, sent_ms)

    def decode(
        self,
        topic: str,
        payload: bytes,
        recv_ms: int,
        qos: int,
        *,
        is_dup: bool = False,
        is_retained: bool = False,
    ) -> Decoded:
        """Take one message; see `ingest.decoder.Decoder`."""
        self._released: list[tuple[Address, bytes]] = []
        try:
            decoded = self._decode(topic, payload, recv_ms, qos, is_dup=is_dup)
        except RefusedMessage as exc:
            decoded = Decoded(refused=exc)
        if self._released:
            decoded = decoded._replace(messages=[*self._released, *decoded.messages])
        return decoded

    def _decode(
        self, topic: str, payload: bytes, recv_ms: int, qos: int, *, is_dup: bool
    ) -> Decoded:
        levels = topic.split("/")
        if levels[1] == "STATE":
            self._host.note_state(levels, payload)
            return Decoded()
        if len(topic) > _MAX_TOPIC or "\ufffd" in topic or not _is_sparkplug(levels):
            detail = f"{topic[:200]!r} is not spBv1.0/<group>/<type>/<node>[/<device>]"
            raise RefusedMessage(RefusalReason.bad_topic, detail)
        _, group, kind, name, *rest = levels
        if kind in _COMMANDS:
            self.counters.commands_total += 1
            return Decoded()
        if self._groups is not None and group not in self._groups:
            detail = f"group {group[:80]!r} is not among `groups` of the mapping; {_FORMER}"
            raise RefusedMessage(RefusalReason.bad_topic, detail)
        self._nodes.hear(group, name, recv_ms)
        is_death = kind == "NDEATH"
        found = _DEATH_WITHOUT_BODY if is_death and not payload else decode_sparkplug(payload)
        digest = blake2b(topic.encode() + b"\0" + payload, digest_size=8).digest()
        if self._is_known(group, name, kind, found.seq, digest, is_dup=is_dup):
            self.counters.duplicates_total += 1
            return Decoded()
        self._nodes.note_message(digest)
        if is_death:
            self._take_node_death(group, name, found)
            return Decoded()
        if kind == "NBIRTH":
            node = self._nodes.node(group, name)
            node.birth = digest.hex()
            return self._take_node_birth(node, found, qos)
        node = self._online_node(group, name)
        self._nodes.note_node(node)
        node.qos = qos
        step = self._check_sequence(node, found.seq)
        decoded = self._take_of_device(node, kind, "".join(rest), found, step, recv_ms)
        if step.is_overtaken and not node.missing:
            self._close_gap(node)
        return decoded

    def _take_of_device(
        self, node: Node, kind: str, device: str, found: Payload, step: Step, recv_ms: int
    ) -> Decoded:
        """Take a message of a device, or data of the node itself; refusals are in the result."""
        if kind == "DBIRTH":
            return self._take_birth(node, self._nodes.device(node, device), found)
        known = node.devices.get(device)
        if kind == "DDEATH":
            self._take_device_death(node, known)
            return Decoded()
        if known is None or not known.is_online:
            self._host.request_birth(node)
            detail = f"no birth of {device or 'the node'} is known; a new birth was requested"
            return Decoded(refused=RefusedMessage(RefusalReason.no_birth, detail))
        return self._take_data(node, known, found, step, recv_ms)

    def _is_known(
        self, group: str, name: str, kind: str, seq: int | None, digest: bytes, *, is_dup: bool
    ) -> bool:
        """Whether a message was taken before; `ingest.sparkplug.sessions` has the table."""
        if is_dup:
            return self._nodes.was_seen(digest)
        node = self._nodes.find(group, name)
        if kind in ("NBIRTH", "NDEATH") or node is None or not self._nodes.was_seen(digest, node):
            return False
        return seq is None or node.seq is None or (node.seq - seq) % 256 < OVERTAKEN

    def _online_node(self, group: str, name: str) -> Node:
        node = self._nodes.find(group, name)
        if node is not None and node.is_online:
            return node
        self._host.request_birth(self._nodes.node(group, name))
        state = "no birth of the node is known" if node is None else "the node is offline"
        raise RefusedMessage(RefusalReason.no_birth, f"{state}; a new birth was requested")

    def _check_sequence(self, node: Node, seq: int | None) -> Step:
        """Return what a sequence number says; suspend the node's values where messages miss."""
        if seq is None:
            return Step()
        step = Step() if node.seq is None else step_of(node.seq, seq, node.missing)
        if step.is_overtaken:
            self.counters.overtaken_total += 1
            node.missing = tuple(number for number in node.missing if number != seq)
            return step
        node.seq = seq
        if step.is_gap:
            self.counters.seq_gaps_total += 1
            self.counters.lost_messages_total += len(step.missing)
            can_come = bool(step.missing) and len(node.missing + step.missing) < OVERTAKEN
            node.missing = node.missing + step.missing if can_come else ()
            for device in node.devices.values():
                if device.current or device.before_gap:
                    self._release(device)
                    device.begin_gap()
                    self._nodes.note_values(node, device)
            self._host.request_birth(node)
        return step

    def _close_gap(self, node: Node) -> None:
        """Continue with the suspended values, because no message of the gap is missing."""
        for device in node.devices.values():
            if device.before_gap:
                device.end_gap()
                self._nodes.note_values(node, device)
        self._host.cancel_request(node)

    # -- births and deaths ------------------------------------------------------------------

    def _take_node_birth(self, node: Node, found: Payload, qos: int) -> Decoded:
        bdseq = session_number(found)
        if node.bdseq is not None and bdseq is not None:
            if bdseq not in (node.bdseq, (node.bdseq + 1) % 256):
                self.counters.bdseq_gaps_total += 1
        if not node.is_online or bdseq != node.bdseq:  # else it may be the answer to a request
            node.is_stuck = bdseq is not None and bdseq == node.bdseq
        node.bdseq, node.is_online, node.qos = bdseq, True, qos
        node.seq, node.missing = found.seq or 0, ()
        for device in node.devices.values():
            self._take_offline(node, device)
        self._host.cancel_request(node)
        node.requests = 0
        self._nodes.note_node(node)
        return self._take_birth(node, self._nodes.device(node, ""), found)

    def _take_birth(self, node: Node, device: Device, found: Payload) -> Decoded:
        """Take the metrics of a node or a device, and their current values."""
        self.counters.births_total += 1
        self._release(device)
        faults = Faults()
        announce(node, device, found, self._mapping.stream, faults)
        present = [
            (name, metric)
            for each in found.metrics
            if each.name is not None
            for name, metric in with_members(device, each.name, each)
            if name in device.wanted and not metric.is_historical
        ]
        updates = updates_of(device, present, found.ts_ms, faults, in_birth=True)
        self._nodes.note_birth(node, device)
        columns = readings_of(device, updates, device.current, Faults())
        if not self._mapping.births_are_readings:
            return Decoded(refused=faults.refused)
        return Decoded(self._messages(device, columns), faults.refused)

    def _take_node_death(self, group: str, name: str, found: Payload) -> None:
        node = self._nodes.find(group, name)
        bdseq = session_number(found)
        if node is None or not node.is_online:
            return
        if not ends_session(node.bdseq, bdseq):
            # The broker noticed the end of an earlier connection late; the node is back.
            self.counters.stale_deaths_total += 1
            return
        self.counters.deaths_total += 1
        is_unsure = bdseq is None or node.bdseq is None or node.is_stuck
        node.is_online, node.bdseq = False, node.bdseq if bdseq is None else bdseq
        for device in node.devices.values():
            self._take_offline(node, device)
        if is_unsure:
            self.counters.unsure_deaths_total += 1
            self._host.request_birth(node)
        else:
            self._host.cancel_request(node)
        self._nodes.note_node(node)

    def _take_device_death(self, node: Node, device: Device | None) -> None:
        if device is not None and device.is_online:
            self.counters.deaths_total += 1
            self._take_offline(node, device)

    # -- data -------------------------------------------------------------------------------

    def _take_data(
        self, node: Node, device: Device, found: Payload, step: Step, recv_ms: int
    ) -> Decoded:
        self.counters.data_total += 1
        faults = Faults()
        current, historical = self._sort_metrics(node, device, found, faults)
        messages: list[tuple[Address, bytes]] = []
        present = device.before_gap if step.is_overtaken else device.current
        for metrics, values in ((historical, device.earlier), (current, present)):
            if metrics:
                updates = updates_of(device, metrics, found.ts_ms, faults)
                columns = readings_of(device, updates, values, faults)
                if values is device.current and self._mapping.complete_within_ms:
                    columns = hold_newest(device, columns, updates, recv_ms)
                    if device.moments:
                        self._waiting[node.group, node.node, device.name] = (node, device)
                messages += self._messages(device, columns)
        if current or historical:
            self._nodes.note_values(node, device)
        if messages or device.moments:
            self._nodes.know(node)
        if step.is_gap and faults.reason is not None:
            lost = f"{len(step.missing)} messages" if step.missing else "messages"
            faults.add(faults.reason, f"{lost} are missing before this one")
        return Decoded(messages, faults.refused)

    def _sort_metrics(
        self, node: Node, device: Device, found: Payload, faults: Faults
    ) -> tuple[list[tuple[str, Metric]], list[tuple[str, Metric]]]:
        """Return the metrics of the device's streams with their names: current, historical."""
        current: list[tuple[str, Metric]] = []
        historical: list[tuple[str, Metric]] = []
        for metric in found.metrics:
            name = metric.name
            if name is None and metric.alias is not None:
                name = device.aliases.get(metric.alias)
            if name is None or (name not in device.types and name in self._mapped):
                shown = f"alias {metric.alias}" if name is None else f"metric {name[:80]!r}"
                faults.add(RefusalReason.no_birth, f"{shown} is in no birth")
                self._host.request_birth(node)
                continue
            for path, each in with_members(device, name, metric):
                if path in device.wanted:
                    (historical if each.is_historical else current).append((path, each))
        return current, historical

    def _messages(self, device: Device, columns: Columns) -> list[tuple[Address, bytes]]:
        self.counters.readings_total += sum(len(ts_ms) for ts_ms, _ in columns.values())
        return canonical_messages(device, columns)

    # -- moments ----------------------------------------------------------------------------

    def due(
        self, now_ms: int | None, quiet_since_ms: int | None = None
    ) -> list[tuple[Address, bytes]]:
        """Return the readings that have waited long enough for the rest of their moment."""
        messages: list[tuple[Address, bytes]] = []
        for key, (node, device) in list(self._waiting.items()):
            columns = due_moments(device, now_ms, self._mapping.complete_within_ms)
            if columns:
                messages += self._messages(device, columns)
                if not node.is_gone:
                    self._nodes.note_values(node, device)
            if not device.moments:
                del self._waiting[key]
        return messages

    def _release(self, device: Device) -> None:
        """Take the readings of a device that wait as they are, before what follows."""
        if device.moments:
            self._released += self._messages(device, due_moments(device, None, 0))

    def _take_offline(self, node: Node, device: Device) -> None:
        self._release(device)
        self._nodes.take_offline(node, device)

    # -- host -------------------------------------------------------------------------------

    def connected(self, now_ms: int) -> None:
        """Announce the presence, and ask nodes that send with QoS 0 for a new birth.

        Messages that they sent while the bridge was disconnected are lost undetected.
        """
        self._host.connected(now_ms)
        for node in self._nodes:
            if node.is_online and node.qos == 0:
                self._host.request_birth(node)

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return the presence and the requests for births that are due."""
        return self._host.outgoing(now_ms)

    def farewell(self, now_ms: int) -> Outgoing | None:
        """Return the last-will message: the host is offline."""
        return self._host.farewell(now_ms)

    # -- memory -----------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint | None:
        """Return what has changed since the last checkpoint, as bytes."""
        return self._nodes.checkpoint()

    async def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; see `ingest.decoder.Decoder`."""
        await asyncio.to_thread(self._store.write, checkpoint)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def status(self) -> dict[str, int | list[str]]:
        """Return counters, numbers of nodes and devices, and some that need attention, by name."""
        devices = [device for node in self._nodes for device in node.devices.values()]
        offline = (f"{each.site}/{each.device}" for each in devices if not each.is_online)
        notices = [each.notice for each in devices if each.is_online and each.notice is not None]
        return asdict(self.counters) | {
            "nodes": len(self._nodes),
            "nodes_online": sum(node.is_online for node in self._nodes),
            "devices": sum(bool(device.name) for device in devices),
            "devices_online": sum(device.is_online for device in devices if device.name),
            "nodes_removed_total": self._nodes.gone_total,
            "births_awaited": self._host.births_awaited,
            "offline": list(islice(offline, _SHOWN_OFFLINE)),
            "without_stream": len(notices),
            "notices": notices[:_SHOWN_NOTICES],
        }


def _is_sparkplug(levels: Sequence[str]) -> bool:
    kinds = {4: _NODE_KINDS, 5: _DEVICE_KINDS}.get(len(levels))
    return kinds is not None and levels[2] in kinds and all(levels)
