"""The mapping file: its keys, their defaults, and every fault of a file at once.

```toml
topic = "tele/{device}/SENSOR"        # one or a list; {place}, + and a last #
format = "json"
site = "plant-7"                      # text with places, or { path = "..." } into the message
device = "{device}"
stream = "power"
devices = ["press-*"]                 # optional: only these devices
each = "readings"                     # optional: one object there is one reading

[time]                                # absent: the time of receipt
path = "Time"
form = "iso8601"
zone = "Europe/Berlin"                # for times without an offset

[channels]
power = { path = "ENERGY.Power", unit = "kW", to = "W" }
door = { path = "Door", values = { open = 1, closed = 0 } }
T24 = "Engine.T24"                    # a text is the path

[join]                                # optional: channels that come apart
max_age_ms = 2000
emit = "power"
```
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ingest.errors import IngestError, MappingInvalid
from ingest.mapping.paths import parse_each, parse_path
from ingest.mapping.patterns import parse_pattern, parse_template
from ingest.mapping.times import EPOCH_FORMS, OFFSET_FORMS, parse_zone
from ingest.payloads import MAX_CHANNELS
from ingest.topics import is_name
from ingest.units import convert, dimension

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "BaseTable",
    "ChannelTable",
    "FromMessage",
    "JoinRule",
    "MappingFile",
    "MappingTable",
    "OverrideTable",
    "TimeTable",
    "overridden",
    "parse_mapping",
    "read_mapping_file",
]

_MAX_FILE_BYTES = 256 * 1024


def _parsed(parse: Any) -> AfterValidator:
    """Return a validator that keeps the text if `parse` takes it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _name(text: str) -> str:
    if not is_name(text):
        rule = "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        msg = f"{text[:80]!r} is not a name: {rule}"
        raise ValueError(msg)
    return text


def _unit(text: str) -> str:
    try:
        dimension(text)
    except IngestError as exc:
        raise ValueError(str(exc)) from exc
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_channel(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


_Path = Annotated[str, _parsed(parse_path)]
_Place = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
_Text = Annotated[str, _parsed(parse_template)]
_Unit = Annotated[str, AfterValidator(_unit)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Texts = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
_When = dict[_Place, _Texts]
_Form = Literal[
    "epoch-s", "epoch-ms", "epoch-us", "epoch-ns", "iso8601", "strptime",
    "offset-s", "offset-ms", "offset-us", "offset-ns",
]  # fmt: skip


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=False)


class FromMessage(_Table):
    """A name that the message carries."""

    path: _Path


class ChannelTable(_Table):
    """One channel: where its value is, and what number it becomes.

    The number is `sign * scale * value + offset` in `unit`, then converted to `to`.
    """

    path: _Path | None = Field(default=None, description="where the value is; default: its name")
    unit: _Unit | None = Field(default=None, description="unit of the value")
    to: _Unit | None = Field(default=None, description="unit of the channel; default: `unit`")
    scale: _Number = 1.0
    offset: _Number = 0.0
    sign: Literal[1, -1] = 1
    values: dict[str, _Number] | None = Field(default=None, min_length=1, max_length=1000)
    text: bool | None = Field(default=None, description="numbers may come as text")
    when: _When = Field(default={}, description="only where places have these values")

    @model_validator(mode="after")
    def _conversion_exists(self) -> ChannelTable:
        if self.to is not None:
            if self.unit is None:
                msg = f"to = {self.to!r} needs the unit in which the values come: add unit"
                raise ValueError(msg)
            try:
                convert(self.unit, self.to)
            except IngestError as exc:
                raise ValueError(str(exc)) from exc
        if self.scale == 0:
            msg = "scale = 0 makes every value the same; leave it out, or give the factor"
            raise ValueError(msg)
        if self.values is not None and (self.scale, self.offset, self.sign) != (1.0, 0.0, 1):
            msg = "values gives the numbers: scale, offset and sign have no effect; remove them"
            raise ValueError(msg)
        return self


class _Moment(_Table):
    """A time in the message: where it is and how it is written."""

    form: _Form | None = None
    format: str | None = Field(default=None, min_length=1, max_length=200)
    zone: Annotated[str, _parsed(parse_zone)] | None = None

    @model_validator(mode="after")
    def _form_is_whole(self) -> _Moment:
        if self.form == "strptime" and self.format is None:
            msg = 'form = "strptime" needs format, like "%d.%m.%Y %H:%M:%S"'
            raise ValueError(msg)
        if self.form == "strptime" and self.zone is None and "%z" not in str(self.format):
            msg = 'the format has no %z, so the zone of the device is needed: zone = "UTC", ...'
            raise ValueError(msg)
        if self.form != "strptime" and self.format is not None:
            msg = 'format belongs to form = "strptime"'
            raise ValueError(msg)
        if self.form not in ("strptime", "iso8601") and self.zone is not None:
            msg = f"zone belongs to iso8601 and strptime; {self.form} counts in UTC"
            raise ValueError(msg)
        return self


class BaseTable(_Moment):
    """The time from which offsets count."""

    path: _Path

    @model_validator(mode="after")
    def _base_is_a_time(self) -> BaseTable:
        if self.form is None or self.form in OFFSET_FORMS:
            msg = f"the form of a base is one of {', '.join(EPOCH_FORMS)}, iso8601, strptime"
            raise ValueError(msg)
        return self


class TimeTable(_Moment):
    """When a reading was measured."""

    path: _Path | None = None
    source: Literal["received"] | None = Field(default=None, alias="from")
    base: Literal["received"] | BaseTable | None = None
    step_ms: float | None = Field(default=None, gt=0, le=86_400_000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _source_is_one(self) -> TimeTable:
        if self.source is not None and (self.path or self.form):
            msg = 'from = "received" takes the time of receipt: remove path and form, or from'
            raise ValueError(msg)
        if self.source is None and (self.path is None or self.form is None):
            msg = 'give path and form, or from = "received"'
            raise ValueError(msg)
        if (self.form in OFFSET_FORMS) != (self.base is not None):
            msg = 'an offset-... form needs a base ("received", or a table with path and form)'
            if self.base is not None:
                msg = "base belongs to the offset-... forms"
            raise ValueError(msg)
        return self


class JoinRule(_Table):
    """How channels that come apart become readings."""

    max_age_ms: int = Field(ge=1, le=86_400_000)
    emit: Annotated[str, AfterValidator(_name)] | None = None
    rate_hz: float | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _emits_once(self) -> JoinRule:
        if (self.emit is None) == (self.rate_hz is None):
            msg = "give one of emit (a channel) and rate_hz"
            raise ValueError(msg)
        return self


_Channels = dict[
    Annotated[str, AfterValidator(_name)], Annotated[ChannelTable, BeforeValidator(_as_channel)]
]


class OverrideTable(_Table):
    """What is different at some devices: keys of channels, instead of those of `[channels]`."""

    devices: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1, max_length=1000)]
    channels: dict[str, dict[str, Any]] = Field(min_length=1, max_length=MAX_CHANNELS)


class MappingTable(_Table):
    """The whole mapping file."""

    topic: Annotated[
        list[Annotated[str, _parsed(parse_pattern)]],
        BeforeValidator(_as_list),
        Field(min_length=1, max_length=64),
    ]
    format: Literal["json", "value"] = "json"
    site: _Text | FromMessage = "{site}"
    device: _Text | FromMessage = "{device}"
    stream: _Text | FromMessage = "{stream}"
    devices: list[str] = Field(default=["*"], min_length=1, max_length=1000)
    each: Annotated[str, _parsed(parse_each)] | None = None
    places: dict[_Place, _Path] = Field(default={}, max_length=16)
    when: _When = {}
    text: bool | None = Field(default=None, description="default of the channels")
    decimal: Literal[".", ","] = "."
    missing: list[str] = Field(default=[], max_length=100)
    time: TimeTable | None = None
    channels: _Channels = Field(min_length=1, max_length=MAX_CHANNELS)
    override: list[OverrideTable] = Field(default=[], max_length=1000)
    join: JoinRule | None = None


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A valid mapping file.

    Attributes:
        name: Its name, without `.toml`.
        digest: Digest of its content; it changes with every key.
        table: Its content.
    """

    name: str
    digest: str
    table: MappingTable


def read_mapping_file(path: Path) -> MappingFile:
    """Read a mapping file.

    Raises:
        MappingInvalid: The file is missing, is not TOML, or is no mapping; with all its faults.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as exc:
        msg = f"cannot read the mapping {path} ({exc.strerror}); check KPSTREAM_INGEST_MAPPINGS"
        raise MappingInvalid(msg) from exc
    except UnicodeDecodeError as exc:
        msg = f"the mapping {path} is not UTF-8: save it as UTF-8 text"
        raise MappingInvalid(msg) from exc
    if len(raw) > _MAX_FILE_BYTES:
        msg = f"the mapping {path} is larger than {_MAX_FILE_BYTES // 1024} KiB"
        raise MappingInvalid(msg)
    return parse_mapping(text, path.stem, str(path))


def parse_mapping(text: str, name: str, where: str | None = None) -> MappingFile:
    """Parse the text of a mapping file.

    Args:
        text: The TOML.
        name: Name of the mapping.
        where: What messages call it; default: the name.

    Raises:
        MappingInvalid: The text is not TOML, or is no mapping; with all its faults.
    """
    where = where or name
    try:
        table = MappingTable.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        msg = f"the mapping {where} is not TOML: {exc}"
        raise MappingInvalid(msg) from exc
    except ValidationError as exc:
        raise MappingInvalid(_report(where, list(_faults(exc)))) from exc
    cross = list(_cross_faults(table))
    if cross:
        raise MappingInvalid(_report(where, cross))
    digest = hashlib.sha256(table.model_dump_json(by_alias=True).encode()).hexdigest()[:32]
    return MappingFile(name, digest, table)


def overridden(
    channels: Mapping[str, ChannelTable], changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, ChannelTable]:
    """Return channels with the keys of an override.

    Raises:
        ValidationError: A key is invalid.
    """
    changed = {
        name: ChannelTable.model_validate({**channels[name].model_dump(exclude_unset=True), **keys})
        for name, keys in changes.items()
    }
    return {**channels, **changed}


def _report(where: str, faults: Sequence[str]) -> str:
    lines = "".join(f"\n  {fault}" for fault in dict.fromkeys(faults))
    return f"the mapping {where} is invalid:{lines}"


def _faults(exc: ValidationError, *inside: int | str) -> Iterator[str]:
    """Yield each fault with its place, which is inside another one."""
    for fault in exc.errors(include_url=False):
        steps = [*inside, *(step for step in fault["loc"] if not _is_label(step))]
        place = ".".join(map(str, steps)) or "the file"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"no such key{_nearest(steps)}"
        elif fault["type"] == "missing":
            message = "is missing"
        elif fault["type"] == "too_short":
            message = "must not be empty"
        yield f"{place}: {message}"


def _is_label(step: int | str) -> bool:
    """Whether pydantic put a step into a place that the file does not have (a form of a union)."""
    return step in ("str", "FromMessage", "BaseTable", "[key]") or (
        isinstance(step, str) and (step.startswith(("function-", "literal[", "constrained-")))
    )


_KEYS: dict[str, type[BaseModel]] = {
    "": MappingTable,
    "channels": ChannelTable,
    "time": TimeTable,
    "join": JoinRule,
    "base": BaseTable,
}


def _nearest(steps: Sequence[int | str]) -> str:
    """Return `; did you mean ...?` or the keys that there are."""
    *table, key = map(str, steps)
    kind = _KEYS.get(table[-1] if table[-1:] == ["base"] else (table or [""])[0])
    if kind is None:
        return ""
    known = [field.alias or name for name, field in kind.model_fields.items()]
    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _cross_faults(table: MappingTable) -> Iterator[str]:
    """Yield the faults that lie between the keys of a sound file."""
    patterns = [parse_pattern(topic) for topic in table.topic]
    of_message = {*table.places, *(parse_each(table.each).places if table.each else ())}
    for pattern in patterns:
        known = {*pattern.names, *of_message}
        twice = sorted(set(pattern.names) & of_message)
        if twice:
            yield f"places: {', '.join(twice)} is a place of the topic {pattern.text}, too"
        for key in ("site", "device", "stream"):
            text = getattr(table, key)
            lacking = set(parse_template(text).names) - known if isinstance(text, str) else set()
            if lacking:
                shown = ", ".join(f"{{{name}}}" for name in sorted(lacking))
                yield (
                    f"{key}: the topic {pattern.text} has no place {shown}: "
                    f'add it there, or write {key} = "a fixed name"'
                )
    everywhere = {*(name for pattern in patterns for name in pattern.names), *of_message}
    for key, when in [("when", table.when)] + [
        (f"channels.{name}.when", channel.when) for name, channel in table.channels.items()
    ]:
        for place in when:
            if place not in everywhere:
                yield f"{key}: there is no place {{{place}}}; there are {_listed(everywhere)}"
    for at, override in enumerate(table.override):
        for name, keys in override.channels.items():
            place = f"override.{at}.channels.{name}"
            if name not in table.channels:
                yield f"{place}: there is no such channel; there are {_listed(table.channels)}"
                continue
            try:
                overridden(table.channels, {name: keys})
            except ValidationError as exc:
                yield from _faults(exc, *place.split("."))
    if table.join is not None and table.join.emit not in (None, *table.channels):
        known_channels = _listed(table.channels)
        yield f"join.emit: there is no channel {table.join.emit}; there are {known_channels}"


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))[:200] or "none"
