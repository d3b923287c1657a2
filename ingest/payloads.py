"""The body of one message: its three JSON forms, strictly checked.

A message carries readings of one stream of one device in one of three JSON forms. The pydantic
models below document and decide them: `ReadingMessage`, `BatchMessage`, `SteadyBatchMessage`. A
fast path accepts plain messages within a few microseconds, and only messages that the models accept
too. The models check everything else and name the fault, so both paths always agree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from math import hypot
from typing import Annotated, Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ingest.errors import RefusalReason, RefusedMessage
from ingest.topics import are_names, is_name

__all__ = [
    "MAX_CHANNELS",
    "MAX_FLOAT32",
    "MAX_PAYLOAD_BYTES",
    "MAX_READINGS",
    "YEAR_2000_MS",
    "YEAR_2100_MS",
    "BatchMessage",
    "ReadingMessage",
    "SteadyBatchMessage",
    "check_document",
    "decode_payload",
    "encode_payload",
    "event_times",
    "unit_advice",
]

MAX_PAYLOAD_BYTES = 256 * 1024
MAX_READINGS = 10_000
MAX_CHANNELS = 256
YEAR_2000_MS = 946_684_800_000
"""2000-01-01T00:00:00Z. An earlier event time means that the device's clock was never set."""
YEAR_2100_MS = 4_102_444_800_000

_INT64_MAX = 2**63 - 1
MAX_FLOAT32 = float(np.finfo(np.float32).max)
_NUMBERS = frozenset({int, float})
_REASONS = {reason.value: reason for reason in RefusalReason} | {
    "finite_number": RefusalReason.not_finite,
    "float_type": RefusalReason.wrong_type,
    "int_type": RefusalReason.wrong_type,
    "greater_than": RefusalReason.wrong_type,
    "too_short": RefusalReason.empty,
}
"""Reason by error type of pydantic and of our own; every other fault is a `wrong_shape`."""


def unit_advice(ts: int) -> str:
    """What to do about an event time that is no time of this century in milliseconds.

    "" if it is none in seconds, microseconds or nanoseconds either.

    >>> unit_advice(1_750_000_000)
    "it looks like seconds, send milliseconds; or set the device's clock"
    """
    for unit, per_second in (("seconds", 1), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if YEAR_2000_MS * per_second <= ts * 1000 < YEAR_2100_MS * per_second:
            return f"it looks like {unit}, send milliseconds; or set the device's clock"
    return ""


def _event_time(ts_ms: int) -> int:
    if ts_ms < YEAR_2000_MS:
        message = "event time {ts} ms is before the year 2000: {advice}"
        advice = unit_advice(ts_ms) or "set the device's clock"
        context = {"ts": ts_ms, "advice": advice}
        raise PydanticCustomError(RefusalReason.clock_unset.value, message, context)
    if ts_ms > _INT64_MAX:
        message = "event time {ts} is not a 64-bit integer of milliseconds"
        raise PydanticCustomError(RefusalReason.wrong_type.value, message, {"ts": ts_ms})
    return ts_ms


def _float32(value: float) -> float:
    if not abs(value) <= MAX_FLOAT32:
        message = "{value} has no finite float32"
        raise PydanticCustomError(RefusalReason.not_finite.value, message, {"value": value})
    return value


def _channel_name(name: str) -> str:
    if not is_name(name):
        message = "channel {name} is not 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        shown = repr(name[:80])
        raise PydanticCustomError(RefusalReason.wrong_shape.value, message, {"name": shown})
    return name


_EventTime = Annotated[int, AfterValidator(_event_time)]
_Value = Annotated[float, AfterValidator(_float32)]
_Channel = Annotated[str, AfterValidator(_channel_name)]
_T = TypeVar("_T")
_Column = Annotated[list[_T], Field(min_length=1, max_length=MAX_READINGS), FailFast()]
_Values = Annotated[dict[_Channel, _T], Field(min_length=1, max_length=MAX_CHANNELS)]


class _WireForm(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ReadingMessage(_WireForm):
    """One reading: `{"ts": 1700000000000, "values": {"T24": 641.8, "T30": 1589}}`."""

    ts: _EventTime = Field(description="event time, epoch ms, since 2000-01-01")
    values: _Values[_Value] = Field(description="channel -> number with a finite float32")


class BatchMessage(_WireForm):
    """In columns: `{"ts": [1700000000000, 1700000000020], "values": {"acc_x": [0, 0.1]}}`."""

    ts: _Column[_EventTime] = Field(description="event times, epoch ms, in any order")
    values: _Values[_Column[_Value]] = Field(description="channel -> one number per event time")

    @model_validator(mode="after")
    def _columns_are_even(self) -> BatchMessage:
        for channel, column in self.values.items():
            if len(column) != len(self.ts):
                message = "channel {channel} has {length} values for {readings} event times"
                context = {"channel": channel, "length": len(column), "readings": len(self.ts)}
                raise PydanticCustomError(RefusalReason.wrong_shape.value, message, context)
        return self


class SteadyBatchMessage(_WireForm):
    """At a steady rate: `{"t0": 1700000000000, "dt_ms": 20, "values": {"acc_x": [0, 0.1]}}`."""

    t0: _EventTime = Field(description="event time of the first reading, epoch ms")
    dt_ms: int = Field(gt=0, description="from one reading to the next, ms")
    values: _Values[_Column[_Value]] = Field(description="channel -> equally many numbers")

    @model_validator(mode="after")
    def _columns_are_even(self) -> SteadyBatchMessage:
        lengths = {len(column) for column in self.values.values()}
        if len(lengths) != 1:
            message = "channels have different numbers of values: {lengths}"
            context = {"lengths": sorted(lengths)[:8]}
            raise PydanticCustomError(RefusalReason.wrong_shape.value, message, context)
        _event_time(self.t0 + (lengths.pop() - 1) * self.dt_ms)
        return self


def decode_payload(payload: bytes) -> dict[str, Any]:
    """Decode and check one message body.

    >>> decode_payload(b'{"ts": 1700000000000, "values": {"T24": 641.8}}')
    {'ts': 1700000000000, 'values': {'T24': 641.8}}
    >>> decode_payload(b'{"ts": 1700000000000, "values": {"T24": true}}')
    Traceback (most recent call last):
    ingest.errors.RefusedMessage: wrong_type: values.T24: Input should be a valid number, got True

    Returns:
        The body as sent, in one of the three forms; `event_times` accepts it.

    Raises:
        RefusedMessage: The body has none of the three forms; with the reason.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        detail = f"{len(payload)} bytes; a message may have at most {MAX_PAYLOAD_BYTES}"
        raise RefusedMessage(RefusalReason.too_large, detail)
    if not payload or payload.isspace():
        raise RefusedMessage(RefusalReason.empty, "the message has no body")
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as exc:
        detail = f"{exc}; the body begins with {payload[:80]!r}"
        raise RefusedMessage(RefusalReason.not_json, detail) from exc
    return check_document(document)


def event_times(document: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the event times of a checked body, in the order of sending, int64 `[n]`.

    >>> event_times({"t0": 1700000000000, "dt_ms": 20, "values": {"acc_x": [0, 0.1]}}).tolist()
    [1700000000000, 1700000000020]
    """
    ts = document.get("ts")
    if type(ts) is list:
        return np.array(ts, dtype=np.int64)
    if ts is not None:
        return np.array((ts,), dtype=np.int64)
    readings = len(next(iter(document["values"].values())))
    steps = np.arange(readings, dtype=np.int64)
    steps *= document["dt_ms"] if readings > 1 else 0
    steps += document["t0"]
    return steps


def encode_payload(ts_ms: Sequence[int], values: Mapping[str, Sequence[float]]) -> bytes:
    """Encode a message body in the batch form.

    >>> encode_payload([1700000000000], {"T24": [641.8]})
    b'{"ts":[1700000000000],"values":{"T24":[641.8]}}'
    """
    body = {"ts": list(ts_ms), "values": {name: list(column) for name, column in values.items()}}
    return orjson.dumps(body)


def check_document(document: Any) -> dict[str, Any]:
    """Check a parsed body and return it.

    Raises:
        RefusedMessage: The body has none of the three forms; with the reason.
    """
    if type(document) is not dict:
        detail = f"a message is a JSON object, not {_shown(document)}"
        raise RefusedMessage(RefusalReason.wrong_shape, detail)
    if not _is_plain(document):
        _check_with_models(document)
    return document


def _is_plain(document: dict[str, Any]) -> bool:
    """The fast path: True only for bodies that the models accept (a property test checks it)."""
    values = document.get("values")
    if type(values) is not dict or not 0 < len(values) <= MAX_CHANNELS:
        return False
    if not are_names(tuple(values)):
        return False
    ts = document.get("ts")
    if type(ts) is int:
        are_fields = len(document) == 2 and YEAR_2000_MS <= ts <= _INT64_MAX
        return are_fields and _are_numbers(values.values())
    found = list(values.values())
    if set(map(type, found)) != {list}:
        return False
    lengths = set(map(len, found))
    if len(lengths) != 1:
        return False
    readings = lengths.pop()
    times: Sequence[Any]
    if type(ts) is list:
        if len(ts) != readings or set(map(type, ts)) != {int}:
            return False
        times = ts
        fields = 2
    else:
        t0, dt_ms = document.get("t0"), document.get("dt_ms")
        if type(t0) is not int or type(dt_ms) is not int or dt_ms < 1:
            return False
        times = (t0, t0 + (readings - 1) * dt_ms)
        fields = 3
    return (
        0 < readings <= MAX_READINGS
        and len(document) == fields
        and min(times) >= YEAR_2000_MS
        and max(times) <= _INT64_MAX
        and _are_numbers(list(chain.from_iterable(found)))
    )


def _are_numbers(cells: Collection[Any]) -> bool:
    """Whether all cells are numbers with a finite float32; the norm is no less than any of them."""
    if not _NUMBERS.issuperset(map(type, cells)):
        return False
    return hypot(*cells) <= MAX_FLOAT32 or max(map(abs, cells)) <= MAX_FLOAT32


def _check_with_models(document: dict[str, Any]) -> None:
    """Check a body with the models; their verdict is final.

    Raises:
        RefusedMessage: With the first fault that a model names.
    """
    form: type[_WireForm]
    if "t0" in document or "dt_ms" in document:
        form = SteadyBatchMessage
    else:
        form = BatchMessage if type(document.get("ts")) is list else ReadingMessage
    _refuse_oversize(document)
    try:
        form.model_validate(document)
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(step) for step in fault["loc"])[:120]
        reason = _REASONS.get(fault["type"], RefusalReason.wrong_shape)
        if fault["type"] == "dict_type" or (fault["type"] == "list_type" and place != "ts"):
            reason = RefusalReason.wrong_shape
        message = fault["msg"]
        detail = f"{place}: {message}" if place else message
        if fault["type"] not in RefusalReason.__members__:
            detail += f", got {_shown(fault['input'])}"
        raise RefusedMessage(reason, detail) from None


def _refuse_oversize(document: dict[str, Any]) -> None:
    """Refuse oversized bodies early; the models' `max_length` applies only after a full read."""
    values = document.get("values")
    if type(values) is not dict:
        return
    if len(values) > MAX_CHANNELS:
        detail = f"{len(values)} channels; a message may have at most {MAX_CHANNELS}"
        raise RefusedMessage(RefusalReason.too_large, detail)
    for column in (document.get("ts"), *values.values()):
        if type(column) is list and len(column) > MAX_READINGS:
            detail = f"{len(column)} readings; a message may have at most {MAX_READINGS}"
            raise RefusedMessage(RefusalReason.too_many_readings, detail)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return repr(value)[:80]
