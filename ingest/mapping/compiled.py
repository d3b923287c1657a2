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

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final

from ingest.errors import RefusalReason, RefusedMessage
from ingest.mapping.bodies import BodyFault, body_reader
from ingest.mapping.file import ChannelTable, FromMessage, JoinRule, MappingFile, TimeTable
from ingest.mapping.paths import ABSENT, EachPath, Path, parse_each, parse_path
from ingest.mapping.patterns import Template, parse_pattern, parse_template
from ingest.mapping.times import OFFSET_FORMS, TimeForm, time_reader
from ingest.mapping.values import Converter, ValueFault, converter
from ingest.payloads import MAX_PAYLOAD_BYTES, MAX_READINGS, YEAR_2000_MS, unit_advice
from ingest.topics import Address, is_name, readable_name
from ingest.units import convert

__all__ = ["ChannelRule", "CompiledMapping", "Extract", "Piece", "compile_mapping"]

_MAX_ROUTES: Final = 20_000
_MAX_NAME: Final = 500
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """One channel of a mapping.

    Attributes:
        name: Its name.
        path: Where its value is, as text.
        source_unit: Unit of the value in the message; None: not given.
        unit: Unit of the channel; None: not given.
        scale: The number of the channel is `value * scale + offset`, conversion included.
        offset: See `scale`.
        when: Places and the values that they must have.
        find: The parsed path.
        convert: Returns the number of a value.
    """

    name: str
    path: str
    source_unit: str | None
    unit: str | None
    scale: float
    offset: float
    when: Mapping[str, frozenset[str]]
    find: Path = field(repr=False)
    convert: Converter = field(repr=False)


@dataclass(slots=True)
class Piece:
    """One reading; with `[join]`, the part of one that a message carries.

    Attributes:
        address: Who measured it.
        ts_ms: Event time, epoch ms.
        is_received_time: The time is that of receipt.
        values: Channel -> finite number.
        channels: The channels of a whole reading of this stream.
    """

    address: Address
    ts_ms: int
    is_received_time: bool
    values: dict[str, float]
    channels: tuple[str, ...]


@dataclass(slots=True)
class Extract:
    """What one message becomes.

    Attributes:
        readings: In the order of the message.
        skipped: Channels without a value, each with the reason.
        ignored: Objects that the mapping leaves out, because `when` or `devices` do not fit.
        refused: Refusal of a part of the message, beside `readings`.
    """

    readings: list[Piece] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    ignored: int = 0
    refused: RefusedMessage | None = None


class _Fault(ValueError):
    """One object is no reading; the message says why."""


@dataclass(slots=True)
class _Route:
    """What a topic decides: places, and the address if no part of it is in the message."""

    places: dict[str, str]
    address: Address | None


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
        self._patterns = [parse_pattern(topic) for topic in table.topic]
        self.filters = tuple(dict.fromkeys(pattern.filter for pattern in self._patterns))
        self._body = body_reader(table)
        self._each: EachPath | None = None if table.each is None else parse_each(table.each)
        self._places = {name: parse_path(path) for name, path in table.places.items()}
        self._when = _when(table.when)
        self._names = tuple(_name_source(each) for each in (table.site, table.device, table.stream))
        self._devices = () if table.devices == ["*"] else tuple(table.devices)
        self._time = _Time(table.time)
        is_text = table.text if table.text is not None else table.format == "value"
        missing = frozenset(text.strip() for text in table.missing)
        self.channels = tuple(
            _channel(name, each, table.format, is_text, table.decimal, missing)
            for name, each in table.channels.items()
        )
        self._address_places = {
            name for source in self._names if isinstance(source, Template) for name in source.names
        }
        self._routes: dict[str, _Route | None] = {}
        self._whole: dict[tuple[str, ...], tuple[str, ...]] = {}

    def match(self, topic: str) -> Mapping[str, str] | None:
        """Return the places of a topic; None if the mapping does not take it."""
        for pattern in self._patterns:
            places = pattern.places(topic)
            if places is not None:
                return None if self._is_foreign(places) else places
        return None

    def read(self, topic: str, payload: bytes, recv_ms: int) -> Extract:
        """Return the readings of one message.

        Without `[join]`, each is whole.

        Raises:
            RefusedMessage: Nothing of the message is a reading: `missing_channel` if channels are
                missing, else `mapping`.
        """
        route = self._route(topic)
        if route is None:
            detail = f"the mapping {self.name} does not take the topic {topic[:200]!r}"
            raise RefusedMessage(RefusalReason.mapping, detail)
        if len(payload) > MAX_PAYLOAD_BYTES:
            detail = f"{len(payload)} bytes; a message may have at most {MAX_PAYLOAD_BYTES}"
            raise RefusedMessage(RefusalReason.mapping, detail)
        try:
            document = self._body(payload)
        except BodyFault as exc:
            raise RefusedMessage(RefusalReason.mapping, f"{self.name}: {exc}") from exc
        return self._extract(route, document, recv_ms)

    def _route(self, topic: str) -> _Route | None:
        """Return what the topic decides; remembered, because devices send on the same topics."""
        try:
            return self._routes[topic]
        except KeyError:
            pass
        places = self.match(topic)
        route = None if places is None else _Route(dict(places), self._topic_address(places))
        if len(topic) <= _MAX_NAME:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _topic_address(self, places: Mapping[str, str]) -> Address | None:
        filled = []
        for source in self._names:
            if not isinstance(source, Template) or not set(source.names) <= set(places):
                return None
            filled.append(source.fill(places))
        return Address(*filled)

    def _is_foreign(self, places: Mapping[str, str]) -> bool:
        """Whether the topic alone says that the device is not of this mapping."""
        source = self._names[1]
        if not self._devices or not isinstance(source, Template):
            return False
        return set(source.names) <= set(places) and not self._has_device(source, places)

    def _has_device(self, source: Template, places: Mapping[str, str]) -> bool:
        names = {source.fill(places), source.raw(places)}
        return any(fnmatchcase(name, pattern) for pattern in self._devices for name in names)

    def _extract(self, route: _Route, document: Any, recv_ms: int) -> Extract:
        objects = [(document, route.places)]
        if self._each is not None:
            found = islice(self._each.objects(document), MAX_READINGS + 1)
            objects = [(each, {**route.places, **places}) for each, places in found]
            if len(objects) > MAX_READINGS:
                detail = f"{self.name}: more than {MAX_READINGS} objects at {self._each.text}"
                raise RefusedMessage(RefusalReason.mapping, detail)
            if not objects:
                detail = f"{self.name}: the message has nothing at {self._each.text}"
                raise RefusedMessage(RefusalReason.mapping, detail)
        extract = Extract()
        faults = _Faults(self.name)
        for each, places in objects:
            try:
                pieces = self._pieces(document, each, places, route, recv_ms, extract)
            except _Fault as exc:
                faults.add(RefusalReason.mapping, str(exc))
                continue
            extract.readings += pieces
            if len(extract.readings) > MAX_READINGS:
                detail = f"{self.name}: more than {MAX_READINGS} readings in a message"
                raise RefusedMessage(RefusalReason.mapping, detail)
        if self._time.is_since_receipt:
            _place_before(extract.readings, recv_ms)
        if len(objects) > 1:
            extract.readings = _merged(extract.readings)
        self._keep_whole(extract, faults)
        self._keep_valid_times(extract, faults)
        extract.refused = faults.refusal()
        if extract.refused is not None and not extract.readings:
            raise extract.refused
        return extract

    def _pieces(
        self,
        document: Any,
        each: Any,
        places: dict[str, str],
        route: _Route,
        recv_ms: int,
        extract: Extract,
    ) -> list[Piece]:
        """Return the readings of one object, complete or not.

        Raises:
            _Fault: It has none.
        """
        if self._places:
            places = dict(places)
            for name, path in self._places.items():
                places[name] = _text(_find(path, document, each), f"place {name}", path)
        if not _fits(self._when, places):
            extract.ignored += 1
            return []
        address = route.address
        if address is None:
            address = self._address(document, each, places)
        if address is None:
            extract.ignored += 1
            return []
        rules = [rule for rule in self.channels if _fits(rule.when, places)]
        if not rules:
            extract.ignored += 1
            return []
        raws = [(rule, _find(rule.find, document, each)) for rule in rules]
        rows = _row_count(raws)
        times = self._time.read(document, each, rows or 1, recv_ms)
        columns: dict[str, list[float | None]] = {}
        for rule, raw in raws:
            if raw is ABSENT:
                _skip(extract, f"{rule.name}: the message has nothing at {rule.path}")
                continue
            cells = raw if type(raw) is list else [raw] * (rows or 1)
            try:
                columns[rule.name] = [rule.convert(cell) for cell in cells]
            except ValueFault as exc:
                msg = f"{rule.name}: {exc} (at {rule.path})"
                raise _Fault(msg) from exc
            if None in columns[rule.name]:
                _skip(extract, f"{rule.name}: no value at {rule.path}")
        whole = self._channels_of(places)
        found = []
        for at, ts_ms in enumerate(times):
            values = {
                name: value for name, column in columns.items() if (value := column[at]) is not None
            }
            found.append(Piece(address, ts_ms, self._time.is_received, values, whole))
        return found

    def _address(self, document: Any, each: Any, places: dict[str, str]) -> Address | None:
        """Return the sender; None if the mapping is not for this device.

        Raises:
            _Fault: The message does not name it.
        """
        names = []
        for key, source in zip(("site", "device", "stream"), self._names, strict=True):
            if isinstance(source, Template):
                name, raw = source.fill(places), source.raw(places)
            else:
                raw = _text(_find(source, document, each), key, source)
                name = raw if is_name(raw) else readable_name(raw)
            is_device = key == "device"
            if is_device and self._devices:
                if not any(fnmatchcase(n, p) for p in self._devices for n in (name, raw)):
                    return None
            names.append(name)
        return Address(*names)

    def _channels_of(self, places: Mapping[str, str]) -> tuple[str, ...]:
        """Return the channels of a whole reading.

        A channel belongs to the streams whose address fits its `when`: where a place in the address
        has another value, the channel is one of another stream.
        """
        key = tuple(places.get(name, "") for name in sorted(self._address_places))
        found = self._whole.get(key)
        if found is None:
            of_address = {name: places[name] for name in self._address_places if name in places}
            found = tuple(
                rule.name
                for rule in self.channels
                if _fits({k: v for k, v in rule.when.items() if k in of_address}, of_address)
            )
            if len(self._whole) >= _MAX_ROUTES:
                self._whole.clear()
            self._whole[key] = found
        return found

    def _keep_whole(self, extract: Extract, faults: _Faults) -> None:
        """Refuse readings without a value, and without `[join]` those that lack a channel."""
        kept = []
        for piece in extract.readings:
            lacking = [name for name in piece.channels if name not in piece.values]
            if lacking and (self.join is None or not piece.values):
                why = "; ".join(extract.skipped[:_SHOWN])
                shown = ", ".join(lacking[:10])
                detail = f"{piece.address.stream} needs {shown}" + (f": {why}" if why else "")
                faults.add(RefusalReason.missing_channel, detail)
            else:
                kept.append(piece)
        extract.readings = kept

    def _keep_valid_times(self, extract: Extract, faults: _Faults) -> None:
        kept = []
        for piece in extract.readings:
            if piece.ts_ms < YEAR_2000_MS:
                advice = unit_advice(piece.ts_ms).partition(",")[0] or "set the device's clock"
                detail = f"event time {piece.ts_ms} ms is before the year 2000: {advice}"
                faults.add(RefusalReason.mapping, detail)
            else:
                kept.append(piece)
        extract.readings = kept


class _Time:
    """The time of each reading of an object."""

    def __init__(self, table: TimeTable | None) -> None:
        self.is_received = table is None or table.path is None
        self.is_since_receipt = table is not None and table.base == "received"
        self._step_ms = None if table is None else table.step_ms
        self._path: Path | None = None
        self._base: tuple[Path, TimeForm] | None = None
        if table is None or table.path is None:
            return
        self._path = parse_path(table.path)
        self._read = time_reader(str(table.form), table.format, table.zone)
        self._is_offset = table.form in OFFSET_FORMS
        base = table.base
        if base is not None and base != "received":
            read = time_reader(str(base.form), base.format, base.zone)
            self._base = parse_path(base.path), read

    def read(self, document: Any, each: Any, rows: int, recv_ms: int) -> list[int]:
        """Return `rows` event times (offsets, if they count from the receipt).

        Raises:
            _Fault: The message does not have them.
        """
        if self._path is None:
            step = self._step(rows)
            return [recv_ms - round((rows - 1 - at) * step) for at in range(rows)]
        raw = _find(self._path, document, each)
        cells = raw if type(raw) is list else [raw]
        if len(cells) not in (1, rows):
            msg = f"{len(cells)} times for {rows} readings (at {self._path.text})"
            raise _Fault(msg)
        base = 0
        if self._base is not None:
            base = _time(self._base[0], self._base[1], _find(self._base[0], document, each))
        times = [base + _time(self._path, self._read, cell) for cell in cells]
        if len(times) == rows:
            return times
        step = self._step(rows)
        return [times[0] + round(at * step) for at in range(rows)]

    def _step(self, rows: int) -> float:
        if rows > 1 and self._step_ms is None:
            msg = f"{rows} readings have one time: give step_ms in [time]"
            raise _Fault(msg)
        return self._step_ms or 0.0


class _Faults:
    """The faults of one message."""

    def __init__(self, mapping: str) -> None:
        self._mapping = mapping
        self._found: list[tuple[RefusalReason, str]] = []
        self._count = 0

    def add(self, reason: RefusalReason, detail: str) -> None:
        self._count += 1
        if len(self._found) < _SHOWN and (reason, detail) not in self._found:
            self._found.append((reason, detail))

    def refusal(self) -> RefusedMessage | None:
        if not self._found:
            return None
        shown = "; ".join(detail for _, detail in self._found)[:600]
        rest = f" ({self._count} readings are refused)" if self._count > 1 else ""
        return RefusedMessage(self._found[0][0], f"{self._mapping}: {shown}{rest}")


def _channel(
    name: str,
    table: ChannelTable,
    format_: str,
    is_text: bool,
    decimal: str,
    missing: frozenset[str],
) -> ChannelRule:
    default = "$" if format_ == "value" else name
    path = parse_path(default if table.path is None else table.path)
    to_scale, to_offset = (1.0, 0.0)
    if table.unit is not None and table.to is not None:
        to_scale, to_offset = convert(table.unit, table.to)
    scale = table.sign * table.scale * to_scale
    offset = table.offset * to_scale + to_offset
    values = table.values
    if values is not None:
        values = {key: number * to_scale + to_offset for key, number in values.items()}
    read = converter(
        scale,
        offset,
        values=values,
        text=is_text if table.text is None else table.text,
        decimal=decimal,
        missing=missing,
    )
    unit = table.to or table.unit
    return ChannelRule(
        name, path.text, table.unit, unit, scale, offset, _when(table.when), path, read
    )


def _name_source(source: str | FromMessage) -> Template | Path:
    return parse_template(source) if isinstance(source, str) else parse_path(source.path)


def _when(when: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    return {place: frozenset(texts) for place, texts in when.items()}


def _fits(when: Mapping[str, frozenset[str]], places: Mapping[str, str]) -> bool:
    return all(places.get(place) in texts for place, texts in when.items())


def _find(path: Path, document: Any, each: Any) -> Any:
    return path.find(document if path.is_rooted else each)


def _text(value: Any, what: str, path: Path) -> str:
    """Return a name that a message carries.

    Raises:
        _Fault: There is none.
    """
    if type(value) is str and 0 < len(value) <= _MAX_NAME:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int and abs(value) < 10**18:
        return str(value)
    shown = "nothing" if value is ABSENT or value is None else f"a {type(value).__name__}"
    msg = f"{what}: the message has {shown} at {path.text}, not a text"
    raise _Fault(msg)


def _time(path: Path, read: TimeForm, value: Any) -> int:
    try:
        if value is ABSENT or value is None:
            msg = "the message has nothing there"
            raise ValueError(msg)
        return read(value)
    except ValueError as exc:
        msg = f"time: {exc} (at {path.text})"
        raise _Fault(msg) from exc


def _row_count(raws: list[tuple[ChannelRule, Any]]) -> int | None:
    """Return the common length of the columns; None: there are none.

    Raises:
        _Fault: Their lengths differ, or there are too many rows.
    """
    lengths = {len(raw) for _, raw in raws if type(raw) is list}
    if not lengths:
        return None
    if len(lengths) > 1:
        shown = ", ".join(f"{r.name} {len(raw)}" for r, raw in raws if type(raw) is list)[:200]
        msg = f"the columns have different lengths: {shown}"
        raise _Fault(msg)
    rows = lengths.pop()
    if not 0 < rows <= MAX_READINGS:
        msg = f"columns of {rows} values; a message has 1 to {MAX_READINGS} readings"
        raise _Fault(msg)
    return rows


def _skip(extract: Extract, detail: str) -> None:
    if len(extract.skipped) < 100 and detail not in extract.skipped:
        extract.skipped.append(detail)


def _place_before(pieces: list[Piece], recv_ms: int) -> None:
    """Turn offsets into times: the largest one was measured at receipt."""
    last = max((piece.ts_ms for piece in pieces), default=0)
    for piece in pieces:
        piece.ts_ms += recv_ms - last
        piece.is_received_time = True


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Join the pieces of one sender and time, as long as none has a channel of another."""
    found: dict[tuple[Address, int], Piece] = {}
    kept = []
    for piece in pieces:
        first = found.get((piece.address, piece.ts_ms))
        if first is None or not first.values.keys().isdisjoint(piece.values):
            found[piece.address, piece.ts_ms] = piece
            kept.append(piece)
        else:
            first.values.update(piece.values)
    return kept
