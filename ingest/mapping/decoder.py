"""Mapped messages as a format of the bridge: devices as they are, one file for each kind.

1. `MappingFolder` says which mappings are in force; `CompiledMapping` reads a message.
2. Without `[join]`, every message brings whole readings, and there is no memory. A reading is
   checked by its mapping and not a second time by the bridge (`ingest.decoder.Checked`).
3. With `[join]`, the values of a device wait for each other (`ingest.mapping.joins`). That memory
   is durable before a message is acknowledged, so a kill -9 changes no reading.
4. What a mapping refuses is a dead letter with the raw bytes. `kpstream dead-letters replay` sends
   it through the mended mapping.
5. A message that a file leaves out in so many words (`devices`, `when`) is counted as ignored. Any
   other message on a mapped topic that brings no reading is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from ingest.decoder import Canonical, Checked, Decoded, Outgoing, Sent
from ingest.errors import RefusalReason, RefusedMessage
from ingest.mapping.compiled import CompiledMapping
from ingest.mapping.counters import MappingCounters
from ingest.mapping.extract import Block, Extract, Piece
from ingest.mapping.folder import InForce, MappingFolder
from ingest.mapping.joins import JOIN_LIMITS, Joins, Made
from ingest.mapping.store import JoinCheckpoint, JoinStore
from ingest.roster import RosterLimits
from ingest.settings import IngestSettings
from ingest.topicfilters import takes_topic

__all__ = ["Mappings"]

_KNOWN_TOPICS = 65_536
_FORMER_MAPPINGS = 256
"""Mappings that are no longer in force and whose counters are still told."""
_BODY_CELLS = 8000  # of one canonical body: below the limits of `ingest.payloads`


class _Route:
    """What a topic means: the mapping that takes it, or why none does.

    Attributes:
        mapping: The mapping.
        counters: Its counters.
        refusal: Why no mapping reads the messages, although one claims the topic; None: it does.
        is_ignored: The file leaves the device out.
    """

    __slots__ = ("counters", "is_ignored", "mapping", "refusal")

    def __init__(
        self,
        mapping: CompiledMapping,
        counters: MappingCounters,
        refusal: str | None = None,
        *,
        is_ignored: bool = False,
    ) -> None:
        self.mapping = mapping
        self.counters = counters
        self.refusal = refusal
        self.is_ignored = is_ignored


class Mappings:
    """Implements `ingest.decoder.Decoder`; the memory survives in a `JoinStore`.

    Attributes:
        counters: Counters by the name of the mapping, since the start.
        folder: Which mappings are in force.
    """

    def __init__(
        self,
        folder: MappingFolder,
        store: JoinStore,
        settings: IngestSettings,
        reserved: Sequence[str] = (),
        limits: RosterLimits = JOIN_LIMITS,
    ) -> None:
        """Continue from the stored memory.

        Args:
            folder: The mappings.
            store: The memory.
            settings: Sites to take, and how far ahead an event time may be.
            reserved: Filters whose topics belong to others.
            limits: Limits of the streams that are joined.
        """
        self.counters: dict[str, MappingCounters] = {}
        self.folder = folder
        self._store = store
        self._sites = frozenset(settings.mqtt_sites)
        self._future_ms = settings.future_ms
        self._reserved = tuple(reserved)
        self._joins = Joins(store, limits)
        self._routes: dict[str, _Route | None] = {}
        self._released: list[Canonical] = []
        self._last: tuple[bytes, int, Extract] | None = None
        self._use()
        mappings = [one.compiled for one in folder.in_force.values()]
        self._joins.restore(mappings, lambda name: self.counters[name].join)

    @property
    def filters(self) -> Sequence[str]:
        """MQTT filters to subscribe to."""
        return self.folder.filters

    def takes(self, topic: str) -> bool:
        """Whether a mapping claims a topic."""
        return self._route(topic) is not None

    def sent_at(self, topic: str, payload: bytes, recv_ms: int) -> Sent | None:
        """Return device and event times of a message, if it has times of its own."""
        route = self._route(topic)
        if route is None or route.refusal is not None or route.is_ignored:
            return None
        try:
            extract = route.mapping.read(topic, payload, recv_ms)
        except RefusedMessage:
            return None
        self._last = (payload, recv_ms, extract)
        blocks = extract.blocks
        if not blocks or blocks[0].is_received_time:
            return None
        address, times = blocks[0].address, blocks[0].ts_ms
        if len(blocks) > 1:
            times = [ts_ms for block in blocks for ts_ms in block.ts_ms]
        sender = f"{address.site}/{address.device}"
        if len(times) == 1:
            return Sent(sender, times[0], times[0])
        return Sent(sender, min(times), max(times))

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
        route = self._route(topic)
        if route is None:
            detail = f"no mapping in force takes the topic {topic[:200]!r}"
            return Decoded(refused=RefusedMessage(RefusalReason.mapping, detail))
        counters = route.counters
        counters.messages_total += 1
        if route.is_ignored:
            counters.ignored_total += 1
            return Decoded()
        last, self._last = self._last, None
        if last is not None and last[0] is payload and last[1] == recv_ms:
            extract = last[2]  # read once, although `sent_at` and this ask
        else:
            try:
                if route.refusal is not None:
                    raise RefusedMessage(RefusalReason.mapping, route.refusal)
                extract = route.mapping.read(topic, payload, recv_ms)
            except RefusedMessage as exc:
                counters.refused_total += 1
                return Decoded(refused=exc)
        counters.ignored_total += extract.ignored
        if is_retained and any(block.is_received_time for block in extract.blocks):
            counters.retained_total += 1  # nobody knows when it was measured
            return Decoded()
        if self._sites:
            self._leave_other_sites(extract, counters)
        refused = extract.refused
        messages: list[Canonical] = []
        if route.mapping.join is None:
            for block in extract.blocks:
                messages += _bodies(block)
                counters.readings_total += len(block.ts_ms)
        else:
            messages, fault = self._join(route, extract.readings, recv_ms, is_dup)
            refused = refused or fault
        counters.refused_total += refused is not None
        return Decoded(messages, refused)

    def _join(
        self, route: _Route, pieces: Sequence[Piece], recv_ms: int, is_dup: bool
    ) -> tuple[list[Canonical], RefusedMessage | None]:
        """Add values to their joiners; returns the readings and the first refusal."""
        fit = [piece for piece in pieces if piece.ts_ms - recv_ms <= self._future_ms]
        made, refused = self._joins.add(
            route.mapping, fit, recv_ms, route.counters.join, is_dup=is_dup
        )
        if len(fit) < len(pieces):  # it would make everything that follows late
            ahead = max(piece.ts_ms for piece in pieces)
            detail = (
                f"{route.mapping.name}: event time {ahead} is {ahead - recv_ms} ms ahead of the "
                f"receive time {recv_ms}, at most {self._future_ms} allowed: set the device's clock"
            )
            refused = refused or RefusedMessage(RefusalReason.future, detail)
        return self._joined(made), refused

    def _joined(self, made: Iterable[Made]) -> list[Canonical]:
        messages: list[Canonical] = []
        for name, address, readings in made:
            self.counters[name].readings_total += len(readings)
            times = [each.ts_ms for each in readings]
            values: dict[str, Sequence[float]] = {
                channel: [each.values[channel] for each in readings]
                for channel in readings[0].values
            }
            messages += _bodies(Block(address, times, False, values, tuple(values)))
        return messages

    def _leave_other_sites(self, extract: Extract, counters: MappingCounters) -> None:
        """Leave out the readings of sites that this bridge does not take."""
        for block in extract.blocks:
            if block.address.site not in self._sites:
                counters.other_sites_total += len(block.ts_ms)
        extract.blocks = [each for each in extract.blocks if each.address.site in self._sites]

    # -- topics -----------------------------------------------------------------------------

    def _route(self, topic: str) -> _Route | None:
        """Return the route of a topic, found once and remembered."""
        try:
            return self._routes[topic]
        except KeyError:
            if len(self._routes) >= _KNOWN_TOPICS:
                self._routes.clear()
            route = self._routes[topic] = self._find(topic)
            return route

    def _find(self, topic: str) -> _Route | None:
        """Return the route of a topic; None: no mapping claims it."""
        if any(takes_topic(each, topic) for each in self._reserved):
            return None
        claiming = [
            one.compiled
            for one in self.folder.in_force.values()
            if any(takes_topic(each, topic) for each in one.compiled.filters)
        ]
        if not claiming:
            return None
        taking = [each for each in claiming if each.match(topic) is not None]
        first = (taking or claiming)[0]
        counters = self.counters[first.name]
        if len(taking) > 1:
            names = " and ".join(f"{each.name}.toml" for each in taking)
            detail = f"{names} both claim {topic[:200]!r}: change the topic of one of them"
            return _Route(first, counters, detail)
        if taking:
            return _Route(first, counters)
        if "" in topic.split("/"):
            detail = f"{first.name}: a level of the topic {topic[:200]!r} is empty"
            return _Route(first, counters, detail)
        return _Route(first, counters, is_ignored=True)

    # -- files ------------------------------------------------------------------------------

    def look(self, *, now: bool = False) -> bool:
        """Read the files again if they have changed; with `now`, in any case.

        Returns:
            Whether the filters to subscribe to may have changed.
        """
        before = dict(self.folder.in_force)
        if not (self.folder.reread() if now else self.folder.look()):
            return False
        for one in before.values():
            if self._has_changed(one) and one.compiled.join is not None:
                made = self._joins.give_up(one.compiled)
                self._released += self._joined(made)
        self._use()
        return True

    def _has_changed(self, one: InForce) -> bool:
        now = self.folder.in_force.get(one.name)
        return now is None or now.file.digest != one.file.digest

    def _use(self) -> None:
        """Use the mappings in force from now on."""
        self._routes.clear()
        self._last = None
        for name in self.folder.in_force:
            self.counters.setdefault(name, MappingCounters())
        for name in [name for name in self.counters if name not in self.folder.in_force][
            :-_FORMER_MAPPINGS
        ]:
            del self.counters[name]

    # -- what is due ------------------------------------------------------------------------

    def due(self, now_ms: int | None, quiet_since_ms: int | None) -> list[Canonical]:
        """Return the readings of devices that have fallen silent.

        Before the bridge ends, nothing is due: the values wait in the store for the next process,
        which makes the same readings of them.
        """
        messages, self._released = self._released, []
        if now_ms is not None and quiet_since_ms is not None:
            messages += self._joined(self._joins.due(now_ms, quiet_since_ms))
        return messages

    def connected(self, now_ms: int) -> None:
        """Nothing to do: the broker delivers what was not acknowledged."""

    def outgoing(self, now_ms: int) -> Sequence[Outgoing]:
        """Return nothing: mapped devices are only listened to."""
        return ()

    def farewell(self, now_ms: int) -> Outgoing | None:
        """Return None: nobody listens to us."""
        return None

    # -- memory -----------------------------------------------------------------------------

    def checkpoint(self) -> JoinCheckpoint | None:
        """Return what has changed since the last checkpoint."""
        return self._joins.checkpoint()

    async def keep(self, checkpoint: JoinCheckpoint) -> None:
        """Write a checkpoint; see `ingest.decoder.Decoder`."""
        await asyncio.to_thread(self._store.write, checkpoint)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def status(self) -> dict[str, Any]:
        """Return which mappings are in force, what is wrong, and the counters of each."""
        in_force = self.folder.in_force
        return {
            "in_force": {
                name: {
                    "topics": list(one.compiled.filters),
                    "digest": one.file.digest,
                    "is_former": one.is_former,
                }
                for name, one in in_force.items()
            },
            "faults": dict(self.folder.faults),
            "joining": len(self._joins),
            "waiting": self._joins.waiting,
            "streams_removed_total": self._joins.gone_total,
            "counters": {
                name: counters.as_dict(
                    joins=name in in_force and in_force[name].compiled.join is not None
                )
                for name, counters in self.counters.items()
            },
        }


def _bodies(block: Block) -> list[Canonical]:
    """Return canonical messages of readings, each within the limits."""
    times, columns = block.ts_ms, block.values
    count, most = len(times), max(1, _BODY_CELLS // len(columns))
    if count <= most:
        body = {"ts": times, "values": columns}
        return [Checked(block.address, body, times[0] if count == 1 else min(times), count)]
    messages: list[Canonical] = []
    for at in range(0, count, most):
        part = slice(at, at + most)
        values = {name: column[part] for name, column in columns.items()}
        body = {"ts": times[part], "values": values}
        messages.append(Checked(block.address, body, min(times[part]), len(times[part])))
    return messages
