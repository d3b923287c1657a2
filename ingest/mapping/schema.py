"""The keys of a mapping file and their defaults; `file` reads it, docs/mapping.md explains it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from ingest.conversion import Conversion, FiniteNumber
from ingest.mapping.joining import JoinPlan
from ingest.mapping.paths import parse_each, parse_path
from ingest.mapping.patterns import parse_pattern, parse_template
from ingest.mapping.times import EPOCH_FORMS, OFFSET_FORMS, parse_zone
from ingest.payloads import MAX_CHANNELS
from ingest.tomltables import Name, Table

__all__ = [
    "LINE_FORMATS",
    "OWN_PLACES",
    "BaseTable",
    "ChannelTable",
    "CsvTable",
    "FromMessage",
    "JoinRule",
    "MappingTable",
    "OverrideTable",
    "PackedTable",
    "TimeTable",
    "overridden",
]

_MAX_PACKED = 4096
_LATENESS_MS = 1000
LINE_FORMATS = ("csv", "line-protocol")
"""Formats of which every line is an object."""
OWN_PLACES = frozenset({"its_site", "its_device", "its_stream"})
"""Places for names that the message carries (`senders`)."""


def _parsed(parse: Any) -> AfterValidator:
    """Return a validator that keeps the text if `parse` takes it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _delimiter(text: str) -> str:
    if text != "whitespace" and (len(text) != 1 or text in '"\r\n\x00'):
        msg = f'{text[:20]!r} is not one character like ";" or "\\t", nor "whitespace"'
        raise ValueError(msg)
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_channel(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


_Path = Annotated[str, _parsed(parse_path)]
_Place = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
_Text = Annotated[str, _parsed(parse_template)]
_Texts = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
_When = dict[_Place, _Texts]
_Form = Literal[
    "epoch-s", "epoch-ms", "epoch-us", "epoch-ns", "iso8601", "strptime",
    "offset-s", "offset-ms", "offset-us", "offset-ns",
]  # fmt: skip


class FromMessage(Table):
    """A name that the message carries."""

    path: _Path


class ChannelTable(Conversion):
    """One channel: where its value is, and what number it becomes."""

    path: _Path | None = Field(default=None, description="where the value is; default: its name")
    values: dict[str, FiniteNumber] | None = Field(default=None, min_length=1, max_length=1000)
    text: bool | None = Field(default=None, description="numbers may come as text")
    when: _When = Field(default={}, description="only where places have these values")

    @model_validator(mode="after")
    def _values_are_numbers(self) -> ChannelTable:
        if self.values is not None and (self.scale, self.offset, self.sign) != (1.0, 0.0, 1):
            msg = "values gives the numbers: scale, offset and sign have no effect; remove them"
            raise ValueError(msg)
        return self


class _Moment(Table):
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


class CsvTable(Table):
    """How rows are written."""

    delimiter: Annotated[str, AfterValidator(_delimiter)] = ","
    header: bool = Field(default=True, description="the first line of a message names the columns")
    columns: list[str] | None = Field(default=None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _columns_differ(self) -> CsvTable:
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            msg = "columns: two have the same name"
            raise ValueError(msg)
        return self


class PackedTable(Table):
    """How numbers are packed: a format of Python's `struct`, and a name for each number."""

    format: str = Field(min_length=2, max_length=1000)
    fields: list[Name] = Field(min_length=1, max_length=MAX_CHANNELS)
    encoding: Literal["raw", "base64", "hex"] = "raw"
    path: _Path | None = Field(default=None, description="where the text is in a JSON message")
    repeat: bool = Field(default=False, description="the body is several records")

    @model_validator(mode="after")
    def _format_gives_the_fields(self) -> PackedTable:
        if self.format[0] not in "<>!" or set(self.format[1:]) - set("0123456789xbBhHiIlLqQefd?"):
            msg = (
                "format begins with < or > (little or big endian) and has letters of "
                "x b B h H i I l L q Q e f d ? of Python's struct"
            )
            raise ValueError(msg)
        try:
            size = struct.calcsize(self.format)
            count = len(struct.unpack(self.format, bytes(size))) if size <= _MAX_PACKED else 0
        except (struct.error, OverflowError) as exc:
            msg = f"format {self.format!r} is no format of Python's struct: {exc}"
            raise ValueError(msg) from exc
        if size > _MAX_PACKED:
            msg = f"format {self.format!r} takes {size} bytes; at most {_MAX_PACKED} are read"
            raise ValueError(msg)
        if count != len(self.fields) or len(set(self.fields)) != count:
            msg = f"format {self.format!r} gives {count} numbers, so fields needs {count} names"
            raise ValueError(msg)
        if self.path is not None and self.encoding == "raw":
            msg = 'numbers in a JSON message are text: encoding = "base64" or "hex"'
            raise ValueError(msg)
        return self


class JoinRule(Table):
    """How channels that come apart become readings."""

    max_age_ms: int = Field(ge=1, le=86_400_000)
    lateness_ms: int | None = Field(
        default=None, ge=0, le=3_600_000, description="default: 1000; 0 with the time of receipt"
    )
    emit: Name | None = None
    rate_hz: float | None = Field(default=None, gt=0, le=1000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _plan_is_possible(self) -> JoinRule:
        self.plan(is_received_time=False)
        return self

    def plan(self, *, is_received_time: bool) -> JoinPlan:
        """Return what a `Joiner` does.

        Messages whose time is that of receipt come in order, so the lateness is 0 by default.

        Raises:
            ValueError: It cannot be done.
        """
        lateness_ms = self.lateness_ms
        if lateness_ms is None:
            lateness_ms = 0 if is_received_time else _LATENESS_MS
        return JoinPlan(self.max_age_ms, lateness_ms, self.emit, self.rate_hz)


_Channels = dict[Name, Annotated[ChannelTable, BeforeValidator(_as_channel)]]


class OverrideTable(Table):
    """What is different at some devices: keys of channels, instead of those of `[channels]`."""

    devices: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1, max_length=1000)]
    channels: dict[str, dict[str, Any]] = Field(min_length=1, max_length=MAX_CHANNELS)


class MappingTable(Table):
    """The whole mapping file."""

    topic: Annotated[
        list[Annotated[str, _parsed(parse_pattern)]],
        BeforeValidator(_as_list),
        Field(min_length=1, max_length=64),
    ]
    format: Literal["json", "value", "csv", "line-protocol", "cbor", "msgpack", "packed"] = "json"
    csv: CsvTable | None = None
    packed: PackedTable | None = None
    site: _Text | FromMessage = "{site}"
    device: _Text | FromMessage = "{device}"
    stream: _Text | FromMessage = "{stream}"
    devices: list[str] = Field(default=["*"], min_length=1, max_length=1000)
    each: Annotated[str, _parsed(parse_each)] | None = None
    places: dict[_Place, _Path] = Field(default={}, max_length=16)
    when: _When = Field(default={})
    text: bool | None = Field(default=None, description="default of the channels")
    decimal: Literal[".", ","] = "."
    missing: list[str] = Field(default=[], max_length=100)
    time: TimeTable | None = None
    channels: _Channels = Field(min_length=1, max_length=MAX_CHANNELS)
    override: list[OverrideTable] = Field(default=[], max_length=1000)
    join: JoinRule | None = None

    @property
    def each_text(self) -> str | None:
        """The path of the objects; of CSV and line protocol these are the lines."""
        if self.packed is not None and self.packed.repeat:
            return self.each or "packed"
        return "$" if self.format in LINE_FORMATS else self.each

    def channel_path(self, name: str) -> str:
        """Return the path of a channel that has none in the file."""
        if self.format == "value":
            return "$"
        if self.format == "line-protocol":
            return f'fields."{name}"'
        is_record = self.packed is not None and not self.packed.repeat
        return f'packed."{name}"' if is_record else name

    @property
    def has_texts(self) -> bool:
        """Whether numbers come as text where a channel does not say it."""
        return self.format in ("value", "csv") if self.text is None else self.text

    @property
    def times(self) -> TimeTable | None:
        """The table `[time]`; line protocol has its own."""
        if self.time is None and self.format == "line-protocol":
            return TimeTable(path="time", form="epoch-ns")
        return self.time


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
