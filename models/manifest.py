"""The manifest of a student: all facts that a gateway needs about it.

Training fills in a `Draft`; a `Manifest` is a draft with the digest of `model.onnx`. Both are
frozen and refuse unknown fields, numbers that are not finite in float32 and fields that contradict
each other, so code that receives one does not check again.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from models.errors import ChannelMismatch, ManifestInvalid, Misfit
from models.seen import Seen
from models.tasks.contract import Subject
from models.tasks.fields import (
    MAX_CHANNELS,
    Count,
    Decoding,
    EpochMs,
    Float32,
    Frozen,
    Label,
    Name,
    Sha256,
    Text,
    require_unique,
)
from models.tasks.number import Interval
from models.tasks.registry import find_task

__all__ = [
    "MAX_ONNX_BYTES",
    "MAX_OPSET",
    "MIN_OPSET",
    "Channel",
    "Draft",
    "Lineage",
    "Manifest",
    "OnnxFile",
    "Scaler",
    "WindowShape",
    "check_fit",
    "decode_manifest",
    "encode_manifest",
    "gives_same_scores",
]

MAX_ONNX_BYTES = 4_000_000
# 13 is the first opset whose Softmax and reductions have today's meaning; 21 is the newest one that
# the oldest supported ONNX Runtime (1.19) runs.
MIN_OPSET = 13
MAX_OPSET = 21


def _known(task: str) -> str:
    return find_task(task).name


# Not Literal[1]: that accepts true and 1.0 as well.
Format = Annotated[int, Strict(), Field(ge=1, le=1)]
TaskName = Annotated[str, Strict(), AfterValidator(_known)]


class Channel(Frozen):
    """One column of a window: the key in a message's `values`, and its unit."""

    name: Name
    unit: Label


class WindowShape(Frozen):
    """The shape of the stream's windows, in readings.

    With `min_readings` below `length`, a short window is padded in front by repeating its first
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


class Scaler(Frozen):
    """The scaling of each channel, in float32: scaled = x * scale + offset."""

    kind: Literal["affine"]
    scale: Annotated[tuple[Float32, ...], Field(min_length=1)]
    offset: Annotated[tuple[Float32, ...], Field(min_length=1)]


class Lineage(Frozen):
    """The origin of a student; `teacher` is null for a student without one."""

    teacher: Text | None
    method: Text
    data: Text
    data_digest: Text
    code_revision: Text
    seed: Annotated[int, Strict()]
    created_ms: EpochMs
    command: Text


class OnnxFile(Frozen):
    """Digest, size and opset of `model.onnx`."""

    sha256: Sha256
    size_bytes: Annotated[Count, Field(le=MAX_ONNX_BYTES)]
    opset: Annotated[Count, Field(ge=MIN_OPSET, le=MAX_OPSET)]


class Draft(Frozen):
    """A manifest before the graph is on disk; `models.artifact.write_artifact` completes it.

    `subject` is what wears the sensors, where it is not what the task expects: a machine whose
    state is an activity, say. `subject` and `seen` were added later. None is not written, so that
    manifests without them keep their bytes.
    """

    format: Format = 1
    name: Name
    version: Count = 1
    task: TaskName
    stream: Name
    subject: Subject | None = None
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=MAX_CHANNELS)]
    rate_hz: Annotated[Float32, Field(gt=0)] | None
    window: WindowShape
    scaler: Scaler
    seen: Seen | None = None
    input: Literal["windows"] = "windows"
    decoding: SerializeAsAny[Decoding]
    interval: Interval | None
    metrics: dict[Label, dict[Label, Float32]]
    lineage: Lineage
    licence: Text

    @property
    def wearer(self) -> Subject:
        """What wears the sensors: `subject`, or what the task expects."""
        return self.subject or find_task(self.task).subject

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Channel names in model order."""
        return tuple(channel.name for channel in self.channels)

    @field_validator("decoding", mode="before")
    @classmethod
    def _decoding_of_the_task(cls, value: Any, info: ValidationInfo) -> Decoding:
        if "task" not in info.data:
            msg = "cannot be read without a known task"
            raise ValueError(msg)
        task = find_task(info.data["task"])
        if isinstance(value, task.decoding):
            return value
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        if kind != task.decoding_kind:
            msg = f"task {task.name!r} needs kind {task.decoding_kind!r}, not {kind!r:.80}"
            raise ValueError(msg)
        return task.decoding.model_validate(value)

    @model_validator(mode="after")
    def _consistent(self) -> Draft:
        require_unique("channels", self.channel_names)
        for part in ("scale", "offset"):
            numbers = getattr(self.scaler, part)
            if len(numbers) != len(self.channels):
                msg = f"scaler.{part} has {len(numbers)} numbers for {len(self.channels)} channels"
                raise ValueError(msg)
        if self.seen is not None and len(self.seen.low) != len(self.channels):
            msg = f"seen has {len(self.seen.low)} numbers for {len(self.channels)} channels"
            raise ValueError(msg)
        if self.interval is not None and not find_task(self.task).answer.has_interval:
            msg = f"task {self.task!r} has no interval: set interval to null"
            raise ValueError(msg)
        switching = None if self.interval is None else self.interval.switching
        if switching is not None and max(switching.channels) >= len(self.channels):
            msg = (
                f"interval.switching has channel {max(switching.channels)} of {len(self.channels)}"
            )
            raise ValueError(msg)
        misfit = self.decoding.misfit(self.channel_names, self.window.length, self.rate_hz)
        if misfit is not None:
            raise ValueError(misfit)
        return self

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        for name in ("subject", "seen"):
            if fields.get(name) is None:
                fields.pop(name, None)
        return fields


class Manifest(Draft):
    """The complete content of manifest.json."""

    # With a default, a manifest without its identity would pass as format 1, version 1.
    format: Format
    version: Count
    input: Literal["windows"]
    onnx: OnnxFile


_NOT_IN_SCORES = {
    *("format", "name", "version", "subject", "seen", "metrics", "lineage", "licence"),
}


def decode_manifest(data: bytes) -> Manifest:
    """Decode manifest.json.

    Raises:
        ManifestInvalid: The bytes are not UTF-8 or not JSON, an object has a duplicate key, or a
            field is missing, unknown, of the wrong type or out of range; the message names it.
    """
    try:
        # pydantic's JSON reader silently takes the last of two equal keys.
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
    """Encode manifest.json; equal manifests have equal bytes and hence equal digests."""
    text = json.dumps(
        manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode("utf-8")


def gives_same_scores(one: Manifest, other: Manifest) -> bool:
    """Whether two students answer every window alike: the same graph, read in the same way.

    Name, version, measures and origin may differ.
    """
    return all(
        getattr(one, field) == getattr(other, field)
        for field in Manifest.model_fields
        if field not in _NOT_IN_SCORES
    )


def check_fit(running: Draft, candidate: Draft) -> None:
    """Check that `candidate` may score the windows that are open for `running`.

    Raises:
        ChannelMismatch: Channels, units or order differ.
        Misfit: Task, stream, rate, a field of the window, or a field of the decoding that the
            task wants to match (the unit) differs.
    """
    for place in range(max(len(running.channels), len(candidate.channels))):
        has, wants = (
            f"{side.channels[place].name!r} in {side.channels[place].unit!r}"
            if place < len(side.channels)
            else "nothing"
            for side in (running, candidate)
        )
        if has != wants:
            msg = (
                f"channels[{place}] is {wants}, but the running {running.name} "
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
    if running.task == candidate.task:
        fields += [
            (
                f"decoding.{field}",
                getattr(running.decoding, field),
                getattr(candidate.decoding, field),
            )
            for field in find_task(running.task).must_match
        ]
    return fields


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
