"""A mapping at work: from one message to its readings. Pure.

A message becomes readings in these steps:

1. The topic gives the places and, with them, the channels that the topic can carry.
2. The body becomes a document (`bodies`).
3. `each` finds the objects in it; without `each`, the document is the one object.
4. Each object has site, device, stream, a time, and a value per channel. Values that are arrays
   are columns: one reading per row.
5. Objects of one message with the same sender and time are one reading.

What is wrong with one object harms this object only: the other readings are kept, and
`Extract.refused` says what was refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ingest.errors import RefusalReason, RefusedMessage
from ingest.mapping.bodies import body_reader
from ingest.mapping.channels import ChannelRule, channel_rules, fits, when_of
from ingest.mapping.errors import BodyFault, ObjectFault, ValueFault
from ingest.mapping.eventtimes import EventTimes
from ingest.mapping.extract import Block, Extract, Faults, Piece, blocks_of, merged
from ingest.mapping.file import MappingFile
from ingest.mapping.paths import ABSENT, parse_each, parse_path
from ingest.mapping.patterns import parse_pattern
from ingest.mapping.schema import JoinRule, overridden
from ingest.mapping.senders import Sender, Senders, has_device, text_at
from ingest.mapping.straight import NOT_PLAIN, Straight, straight
from ingest.payloads import MAX_PAYLOAD_BYTES, MAX_READINGS, YEAR_2000_MS, unit_advice
from ingest.topicfilters import takes_topic
from ingest.topics import Address

__all__ = ["Block", "ChannelRule", "CompiledMapping", "Extract", "Piece", "compile_mapping"]

_MAX_ROUTES: Final = 20_000
_MAX_TOPIC: Final = 500
_SHOWN: Final = 3


@dataclass(slots=True)
class _Route:
    """What a topic decides: places, and the sender if no part of its name is in the message."""

    places: dict[str, str]
    sender: Sender | None
    straight: Straight | None = None
    whole: tuple[str, ...] = ()


def compile_mapping(file: MappingFile) -> CompiledMapping:
    """Compile a mapping file."""
    return CompiledMapping(file)


class CompiledMapping:
    """One mapping file, ready for messages.

    Attributes:
        name: Name of the file.
        filters: MQTT filters of its topics.
        digest: Digest of the file's content.
        join: How channels that come apart are joined; None: every message brings whole readings.
        channels: All channels of the file.
    """

    def __init__(self, file: MappingFile) -> None:
        table = file.table
        self.name = file.name
        self.digest = file.digest
        self.join: JoinRule | None = table.join
        self.channels = channel_rules(table.channels, table)
        self._patterns = [parse_pattern(topic) for topic in table.topic]
        self.filters = tuple(dict.fromkeys(pattern.filter for pattern in self._patterns))
        self._format = table.format
        self._body = body_reader(table)
        self._each = None if table.each_text is None else parse_each(table.each_text)
        self._places = {name: parse_path(path) for name, path in table.places.items()}
        self._when = when_of(table.when)
        self._senders = Senders(table)
        self._times = EventTimes(table.times)
        self._overrides = [
            (each.devices, channel_rules(overridden(table.channels, each.channels), table))
            for each in table.override
        ]
        self._routes: dict[str, _Route] = {}
        self._wholes: dict[tuple[str, ...], tuple[str, ...]] = {}

    def match(self, topic: str) -> Mapping[str, str] | None:
        """Return the places of a topic; None if the mapping does not take it."""
        for pattern in self._patterns:
            places = pattern.places(topic)
            if places is not None:
                return None if self._senders.is_foreign(places) else places
        return None

    def read(self, topic: str, payload: bytes, recv_ms: int) -> Extract:
        """Return the readings of one message.

        Without `[join]`, each is whole. A topic that only the filter takes has none: a filter is
        wider than a pattern with text beside a place, or with `devices`.

        Raises:
            RefusedMessage: Nothing of the message is a reading: `missing_channel` if channels are
                missing, else `mapping`.
        """
        route = self._routes.get(topic) or self._route(topic)
        if route is None:
            return Extract(ignored=1)
        if len(payload) > MAX_PAYLOAD_BYTES:
            detail = f"{len(payload)} bytes; a message may have at most {MAX_PAYLOAD_BYTES}"
            raise self._refused(detail)
        try:
            document = self._body(payload)
        except BodyFault as exc:
            raise self._refused(str(exc)) from exc
        if route.straight is not None and route.sender is not None:
            try:
                return self._straight(route.straight, route.sender, route.whole, document, recv_ms)
            except NOT_PLAIN:
                pass  # the general way decides, and names the fault
        return self._general(route, document, recv_ms)

    def _route(self, topic: str) -> _Route | None:
        """Return what the topic decides; remembered, because devices send on the same topics.

        None if only the filter takes the topic.

        Raises:
            RefusedMessage: The mapping does not take the topic.
        """
        places = self.match(topic)
        if places is None and any(takes_topic(each, topic) for each in self.filters):
            return None
        if places is None:
            detail = f"the mapping does not take the topic {topic[:200]!r}"
            raise self._refused(detail)
        route = _Route(dict(places), self._senders.of_topic(places))
        self._find_straight(route)
        if len(topic) <= _MAX_TOPIC:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _find_straight(self, route: _Route) -> None:
        """Prepare the straight way, if the topic decides who sends which channels."""
        binds = self._places or (self._each is not None and self._each.places)
        if route.sender is None or binds or not fits(self._when, route.places):
            return
        rules = [r for r in self._rules_of(route.sender) if fits(r.when, route.places)]
        whole = self._whole(route.places)
        if self.join is None and len(rules) != len(whole):
            return
        route.straight = straight(rules, self._times, self._format)
        route.whole = whole

    def _rules_of(self, sender: Sender) -> Sequence[ChannelRule]:
        """Return the channels of a device: those of the last override that names it, or all."""
        for devices, rules in reversed(self._overrides):
            if has_device(devices, (sender.address.device, sender.device)):
                return rules
        return self.channels

    def _whole(self, places: Mapping[str, str]) -> tuple[str, ...]:
        """Return the channels of a whole reading.

        A channel belongs to the streams whose address fits its `when`: where a place in the address
        has another value, the channel is one of another stream.
        """
        key = tuple(places.get(name, "") for name in self._senders.places)
        found = self._wholes.get(key)
        if found is None:
            known = dict(zip(self._senders.places, key, strict=True))
            found = tuple(
                rule.name
                for rule in self.channels
                if fits({p: texts for p, texts in rule.when.items() if p in known}, known)
            )
            if len(self._wholes) >= _MAX_ROUTES:
                self._wholes.clear()
            self._wholes[key] = found
        return found

    def _straight(
        self, way: Straight, sender: Sender, whole: tuple[str, ...], document: Any, recv_ms: int
    ) -> Extract:
        """Return the readings of a message whose objects are all plain.

        Raises:
            one of NOT_PLAIN: One is not.
        """
        address, received = sender.address, self._times.is_received
        if self._each is None:
            ts_ms, columns = way.read(document, document, recv_ms)
            values = dict(zip(way.names, columns))  # noqa: B905  # as many by construction, and costly
            return Extract([Block(address, ts_ms, received, values, whole)], [], 0, None)
        objects = [each for each, _ in self._each.objects(document)]
        if self.join is not None and len(way.names) != len(whole):
            raise ValueError  # parts of readings may have to be put together
        ts_ms, columns = way.table(document, objects, recv_ms)
        values = dict(zip(way.names, columns))  # noqa: B905  # as above
        return Extract([Block(address, ts_ms, received, values, whole)], [], 0, None)

    def _general(self, route: _Route, document: Any, recv_ms: int) -> Extract:
        """Return the readings of any message.

        Raises:
            RefusedMessage: There are none.
        """
        extract, faults = Extract(), Faults(self.name)
        pieces: list[Piece] = []
        objects = self._objects(route, document)
        for each, places in objects:
            try:
                pieces += self._pieces(document, each, places, route.sender, recv_ms, extract)
            except ObjectFault as exc:
                faults.add(RefusalReason.mapping, str(exc))
            if len(pieces) > MAX_READINGS:
                detail = f"more than {MAX_READINGS} readings in a message"
                raise self._refused(detail)
        if self._times.is_since_receipt:
            _end_at_receipt(pieces, recv_ms)
        if len(objects) > 1:
            pieces = merged(pieces)
            if self._times.path is None:
                pieces = self._spread(pieces, recv_ms, faults)
        extract.blocks = blocks_of(self._kept(pieces, extract, faults))
        extract.refused = faults.refusal()
        if extract.refused is not None and not extract.blocks:
            raise extract.refused
        return extract

    def _objects(self, route: _Route, document: Any) -> list[tuple[Any, dict[str, str]]]:
        if self._each is None:
            return [(document, route.places)]
        found = list(islice(self._each.objects(document), MAX_READINGS + 1))
        if len(found) > MAX_READINGS:
            detail = f"more than {MAX_READINGS} objects at {self._each.text}"
            raise self._refused(detail)
        if not found:
            detail = f"the message has nothing at {self._each.text}"
            raise self._refused(detail)
        return [
            (each, {**route.places, **places} if places else route.places) for each, places in found
        ]

    def _pieces(
        self,
        document: Any,
        each: Any,
        places: dict[str, str],
        sender: Sender | None,
        recv_ms: int,
        extract: Extract,
    ) -> list[Piece]:
        """Return the readings of one object, complete or not.

        Raises:
            ObjectFault: It has none.
        """
        if isinstance(each, ObjectFault):
            raise each
        if self._places:
            places = {**places, **self._places_of(document, each)}
        if fits(self._when, places):
            self._check_packed(document)
            sender = sender or self._senders.of_object(document, each, places)
            rules = [] if sender is None else self._rules_of(sender)
            rules = [rule for rule in rules if fits(rule.when, places)]
        else:
            rules = []
        if not rules or sender is None:
            extract.ignored += 1
            return []
        raws = [(rule, rule.find.of(document, each)) for rule in rules]
        rows = _row_count(raws)
        times = self._times.of(document, each, rows or 1, recv_ms)
        columns = {rule.name: _column(rule, raw, rows, extract) for rule, raw in raws}
        if self.join is not None and _has_no_value(columns, raws):
            extract.ignored += 1
            return []
        whole = self._whole(places)
        return [
            Piece(
                sender.address,
                ts_ms,
                self._times.is_received,
                {
                    name: value
                    for name, column in columns.items()
                    if (value := column[at]) is not None
                },
                whole,
            )
            for at, ts_ms in enumerate(times)
        ]

    def _places_of(self, document: Any, each: Any) -> dict[str, str]:
        """Return the places that the message has; `when` does not fit the others.

        Raises:
            ObjectFault: One that the message does not have is part of a name.
        """
        found = {}
        for name, path in self._places.items():
            value = path.of(document, each)
            if value is ABSENT or value is None:
                if name not in self._senders.places:
                    continue
            found[name] = text_at(path, document, each, f"place {name}")
        return found

    @staticmethod
    def _check_packed(document: Any) -> None:
        """Raise the fault of packed numbers in a message that the mapping is for."""
        packed = document.get("packed") if type(document) is dict else None
        if isinstance(packed, ObjectFault):
            raise packed

    def _spread(self, pieces: Sequence[Piece], recv_ms: int, faults: Faults) -> list[Piece]:
        """Give the readings of each sender times of their own; the last one is that of receipt."""
        by_sender: dict[Address, list[Piece]] = {}
        for piece in pieces:
            by_sender.setdefault(piece.address, []).append(piece)
        kept = []
        for found in by_sender.values():
            try:
                times = self._times.before(recv_ms, len(found))
            except ObjectFault as exc:
                faults.add(RefusalReason.mapping, str(exc))
                continue
            for piece, ts_ms in zip(found, times, strict=True):
                piece.ts_ms = ts_ms
                kept.append(piece)
        return kept

    def _kept(self, pieces: Sequence[Piece], extract: Extract, faults: Faults) -> Iterator[Piece]:
        """Yield the readings to keep.

        Refused are those without a value or with a time before 2000, and without `[join]` those
        that lack a channel.
        """
        for piece in pieces:
            lacking = [name for name in piece.channels if name not in piece.values]
            if lacking and (self.join is None or not piece.values):
                why = "; ".join(extract.skipped[:_SHOWN])
                shown = ", ".join(lacking[:10])
                detail = f"{piece.address.stream} needs {shown}" + (f": {why}" if why else "")
                faults.add(RefusalReason.missing_channel, detail)
            elif piece.ts_ms < YEAR_2000_MS:
                advice = unit_advice(piece.ts_ms).partition(",")[0] or "set the device's clock"
                detail = f"event time {piece.ts_ms} ms is before the year 2000: {advice}"
                faults.add(RefusalReason.mapping, detail)
            else:
                yield piece

    def _refused(self, detail: str) -> RefusedMessage:
        return RefusedMessage(RefusalReason.mapping, f"{self.name}: {detail}")


def _column(rule: ChannelRule, raw: Any, rows: int | None, extract: Extract) -> list[float | None]:
    """Return the numbers of a channel; a single value holds for all rows.

    Raises:
        ObjectFault: A value is no number.
    """
    if raw is ABSENT:
        extract.skip(f"{rule.name}: the message has nothing at {rule.path}")
        return [None] * (rows or 1)
    try:
        if type(raw) is list:
            numbers = [rule.convert(cell) for cell in raw]
        else:
            numbers = [rule.convert(raw)] * (rows or 1)
    except ValueFault as exc:
        msg = f"{rule.name}: {exc} (at {rule.path})"
        raise ObjectFault(msg) from exc
    if None in numbers:
        extract.skip(f"{rule.name}: no value at {rule.path}")
    return numbers


def _has_no_value(
    columns: Mapping[str, Sequence[float | None]], raws: Sequence[tuple[ChannelRule, Any]]
) -> bool:
    """Whether an object holds its channels, but says that it has a value of none of them."""
    if any(value is not None for column in columns.values() for value in column):
        return False
    return any(raw is not ABSENT for _, raw in raws)


def _row_count(raws: Sequence[tuple[ChannelRule, Any]]) -> int | None:
    """Return the common length of the columns; None: there are none.

    Raises:
        ObjectFault: Their lengths differ, or there are too many rows.
    """
    lengths = {len(raw) for _, raw in raws if type(raw) is list}
    if not lengths:
        return None
    if len(lengths) > 1:
        shown = ", ".join(f"{r.name} {len(raw)}" for r, raw in raws if type(raw) is list)[:200]
        msg = f"the columns have different lengths: {shown}"
        raise ObjectFault(msg)
    rows = lengths.pop()
    if not 0 < rows <= MAX_READINGS:
        msg = f"columns of {rows} values; a message has 1 to {MAX_READINGS} readings"
        raise ObjectFault(msg)
    return rows


def _end_at_receipt(pieces: Sequence[Piece], recv_ms: int) -> None:
    """Turn offsets into times: the largest one was measured at receipt."""
    last = max((piece.ts_ms for piece in pieces), default=0)
    for piece in pieces:
        piece.ts_ms += recv_ms - last
        piece.is_received_time = True
