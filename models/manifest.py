"""The self-description of a student: everything a gateway needs to know, and nothing guessed.

`Draft` is what training fills in; `Manifest` is a draft plus the digest of `model.onnx`. Both are
frozen and refuse unknown fields, numbers that are not finite in float32 and fields that contradict
each other, so code behind them does not check again.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from models.errors import ChannelMismatch, ManifestInvalid, Misfit

__all__ = [
    "MAX_ONNX_BYTES",
    "MAX_OPSET",
    "MIN_OPSET",
    "NAME_PATTERN",
    "UNKNOWN",
    "Channel",
    "ClassesDecoding",
    "Draft",
    "Interval",
    "IntervalTable",
    "Lineage",
    "Manifest",
    "OnnxFile",
    "RulDecoding",
    "Scaler",
    "Unknown",
    "WindowShape",
    "check_fit",
    "decode_manifest",
    "encode_manifest",
]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MAX_ONNX_BYTES = 4_000_000
UNKNOWN = "unknown"
"""The activity of a window that looks like none of the labels; see `Unknown`."""
# 13 is the first opset whose Softmax and reductions mean what exporters of today mean; 21 is the
# newest that the oldest supported ONNX Runtime (1.19) runs.
MIN_OPSET = 13
MAX_OPSET = 21

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        msg = f"{text!r} holds control characters or surrounding blanks"
        raise ValueError(msg)
    return text


# Not Literal[1]: that takes true and 1.0 as well.
Format = Annotated[int, Strict(), Field(ge=1, le=1)]
Number = Annotated[float, Strict(), Field(ge=-_MAX_FLOAT32, le=_MAX_FLOAT32)]
Count = Annotated[int, Strict(), Field(ge=1, le=2**31 - 1)]
EpochMs = Annotated[int, Strict(), Field(ge=0, lt=2**53)]
Name = Annotated[str, StringConstraints(strict=True, pattern=NAME_PATTERN)]
Label = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=64), AfterValidator(_printable)
]
Text = Annotated[str, StringConstraints(strict=True, max_length=4000)]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Channel(_Frozen):
    """One column of a window: the key in a message's `values`, and its unit."""

    name: Label
    unit: Label


class WindowShape(_Frozen):
    """How windows of the stream are cut, in readings.

    `min_readings` below `length` allows short windows, front-padded by repeating the first
    reading. A jump of event time above `gap_ms` between two readings breaks the window.
    """

    length: Annotated[Count, Field(le=4096)]
    hop: Annotated[Count, Field(le=4096)]
    min_readings: Count
    gap_ms: Count | None

    @model_validator(mode="after")
    def _consistent(self) -> WindowShape:
        if self.min_readings > self.length:
            msg = f"min_readings {self.min_readings} is above length {self.length}"
            raise ValueError(msg)
        return self


class Scaler(_Frozen):
    """Per channel, in float32: scaled = x * scale + offset."""

    kind: Literal["affine"]
    scale: Annotated[tuple[Number, ...], Field(min_length=1)]
    offset: Annotated[tuple[Number, ...], Field(min_length=1)]


class RulDecoding(_Frozen):
    """Output `rul` [batch] is the remaining useful life itself, between 0 and `max_rul`."""

    kind: Literal["rul"]
    output: Literal["rul"]
    unit: Literal["cycles", "hours"]
    max_rul: Annotated[Number, Field(gt=0)]


class Unknown(_Frozen):
    """When a window is of no known activity: its largest probability is below `threshold`.

    `rejects` is the share of windows of known activities that fell below it at calibration.
    """

    threshold: Annotated[Number, Field(gt=0, lt=1)]
    rejects: Annotated[Number, Field(ge=0, lt=1)]


class _Growing(_Frozen):
    """Fields that came later default to None and are then not written.

    So what was written before them keeps its bytes, and gateways of that time read it.
    """

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if value is not None}


class ClassesDecoding(_Growing):
    """Output `probabilities` [batch, classes], in the order of `labels`."""

    kind: Literal["classes"]
    output: Literal["probabilities"]
    labels: Annotated[tuple[Label, ...], Field(min_length=2, max_length=256)]
    unknown: Unknown | None = None

    @model_validator(mode="after")
    def _unique(self) -> ClassesDecoding:
        _require_unique("labels", self.labels)
        if self.unknown is not None and UNKNOWN in self.labels:
            msg = f"labels hold {UNKNOWN!r}, which is what windows below unknown.threshold get"
            raise ValueError(msg)
        return self


class IntervalTable(_Frozen):
    """Ends of the interval as functions of the score, relative to it and in its unit.

    Linear between the knots `rul`, constant outside of them.
    """

    rul: Annotated[tuple[Number, ...], Field(min_length=2, max_length=64)]
    low: tuple[Number, ...]
    high: tuple[Number, ...]

    @model_validator(mode="after")
    def _consistent(self) -> IntervalTable:
        if not len(self.rul) == len(self.low) == len(self.high):
            msg = f"{len(self.rul)} knots rul, {len(self.low)} low and {len(self.high)} high"
            raise ValueError(msg)
        if any(left >= right for left, right in zip(self.rul, self.rul[1:], strict=False)):
            msg = "the knots rul do not ascend"
            raise ValueError(msg)
        for knot, low, high in zip(self.rul, self.low, self.high, strict=True):
            if low > high:
                msg = f"low {low} is above high {high} at rul {knot}"
                raise ValueError(msg)
        return self


class Interval(_Growing):
    """With probability `level` the truth lies in [rul + low, rul + high].

    `low` and `high` are one pair for all scores; `table`, where there is one, is used instead.
    """

    level: Annotated[Number, Field(gt=0, lt=1)]
    low: Number
    high: Number
    table: IntervalTable | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            msg = f"low {self.low} is above high {self.high}"
            raise ValueError(msg)
        return self


class Lineage(_Frozen):
    """Where the student came from. `teacher` is null for a student without one."""

    teacher: Text | None
    method: Text
    data: Text
    data_digest: Text
    code_revision: Text
    seed: Annotated[int, Strict()]
    created_ms: EpochMs
    command: Text


class OnnxFile(_Frozen):
    """What `model.onnx` must be, byte for byte."""

    sha256: Sha256
    size_bytes: Annotated[Count, Field(le=MAX_ONNX_BYTES)]
    opset: Annotated[Count, Field(ge=MIN_OPSET, le=MAX_OPSET)]


class Draft(_Frozen):
    """A manifest before the graph is on disk; `models.artifact.write_artifact` completes it."""

    format: Format = 1
    name: Name
    version: Count = 1
    task: Literal["rul", "activity", "forecast"]
    stream: Name
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=256)]
    rate_hz: Annotated[Number, Field(gt=0)] | None
    window: WindowShape
    scaler: Scaler
    input: Literal["windows"] = "windows"
    decoding: Annotated[RulDecoding | ClassesDecoding, Field(discriminator="kind")]
    interval: Interval | None
    metrics: dict[Label, dict[Label, Number]]
    lineage: Lineage
    licence: Text

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Channel names in model order."""
        return tuple(channel.name for channel in self.channels)

    @model_validator(mode="after")
    def _consistent(self) -> Draft:
        _require_unique("channels", self.channel_names)
        for part in ("scale", "offset"):
            numbers = getattr(self.scaler, part)
            if len(numbers) != len(self.channels):
                msg = f"scaler.{part} has {len(numbers)} numbers for {len(self.channels)} channels"
                raise ValueError(msg)
        wanted = {"rul": "rul", "activity": "classes"}.get(self.task)
        if self.decoding.kind != wanted:
            msg = f"task {self.task!r} cannot be decoded as {self.decoding.kind!r} in format 1"
            raise ValueError(msg)
        if self.interval is not None and self.task != "rul":
            msg = f"interval is for task 'rul' only, this is {self.task!r}: set it to null"
            raise ValueError(msg)
        return self


class Manifest(Draft):
    """The complete content of manifest.json."""

    # A default would let a manifest that forgot its own identity pass as format 1, version 1.
    format: Format
    version: Count
    input: Literal["windows"]
    onnx: OnnxFile


def decode_manifest(data: bytes) -> Manifest:
    """Read manifest.json.

    Raises:
        ManifestInvalid: not UTF-8, not JSON, a key twice in one object, or a field that is
            missing, unknown, of the wrong type or out of range; the message names the field.
    """
    try:
        # pydantic's own JSON reader takes the last of two equal keys in silence.
        json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys)
        return Manifest.model_validate_json(data)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)
        fields = "; ".join(f"{_field(error['loc'])}: {error['msg']}" for error in first[:5])
        msg = f"manifest.json is invalid: {fields}"
        raise ManifestInvalid(msg) from exc
    except (ValueError, RecursionError) as exc:
        msg = f"manifest.json is not UTF-8 JSON with unique keys: {exc}"
        raise ManifestInvalid(msg) from exc


def encode_manifest(manifest: Manifest) -> bytes:
    """Write manifest.json: the same manifest always gives the same bytes (hence digest)."""
    text = json.dumps(
        manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode("utf-8")


def check_fit(running: Draft, candidate: Draft) -> None:
    """Check that windows which are open for `running` may be scored by `candidate`.

    Raises:
        ChannelMismatch: channels, units or order differ.
        Misfit: task, stream, rate, unit of the score or a field of the window differs.
    """
    for position in range(max(len(running.channels), len(candidate.channels))):
        has, wants = (
            f"{side.channels[position].name!r} in {side.channels[position].unit!r}"
            if position < len(side.channels)
            else "nothing"
            for side in (running, candidate)
        )
        if has != wants:
            msg = (
                f"channels[{position}] is {wants}, but the running {running.name} "
                f"v{running.version} reads {has}: train with the channels of the running student "
                "or publish under a new name"
            )
            raise ChannelMismatch(msg)
    for field, old, new in _window_fields(running, candidate):
        if old != new:
            msg = (
                f"{field} is {new!r}, but the running {running.name} v{running.version} "
                f"has {old!r}: train with {old!r} or publish under a new name"
            )
            raise Misfit(msg)


def _window_fields(running: Draft, candidate: Draft) -> list[tuple[str, object, object]]:
    fields: list[tuple[str, object, object]] = [
        (field, getattr(running, field), getattr(candidate, field))
        for field in ("task", "stream", "rate_hz")
    ]
    fields += [
        (f"window.{field}", getattr(running.window, field), getattr(candidate.window, field))
        for field in ("length", "hop", "min_readings", "gap_ms")
    ]
    if isinstance(running.decoding, RulDecoding) and isinstance(candidate.decoding, RulDecoding):
        fields.append(("decoding.unit", running.decoding.unit, candidate.decoding.unit))
    return fields


def _require_unique(field: str, names: tuple[str, ...]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        msg = f"{field} names {', '.join(map(repr, doubled))} more than once"
        raise ValueError(msg)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys: dict[str, Any] = dict(pairs)
    if len(keys) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = sorted({name for name in names if names.count(name) > 1})
        msg = f"key {doubled[0]!r} appears twice in one object"
        raise ValueError(msg)
    return keys


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "manifest"
