"""Sparkplug B on the wire: the protobuf message, built from the field numbers of its specification.

The only file that imports protobuf. The definition in the specification is under the EPL-2.0, and
the packages with code generated from it cannot be installed beside ours: one needs paho-mqtt 1, one
an old protobuf. Field numbers and types are facts of the wire format, so this file declares the few
that it needs with protobuf's own descriptors: no generated code, no compiler.

The parser skips properties, metadata and data sets without parsing them. The members of a Template
(UDT) are metrics with the name of the Template in front: `Motor 1/Speed`. Field names are those of
Sparkplug Specification 3.0.0, section 6.4.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from ingest.errors import RefusalReason, RefusedMessage
from ingest.payloads import MAX_FLOAT32
from ingest.sparkplug.compression import ALGORITHM_METRIC, COMPRESSED_UUID, decompress

__all__ = [
    "MAX_METRICS",
    "MAX_SPARKPLUG_BYTES",
    "TEMPLATE",
    "DataType",
    "Metric",
    "Payload",
    "decode_sparkplug",
    "encode_sparkplug",
    "first_timestamp",
    "number",
]

MAX_SPARKPLUG_BYTES = 1024 * 1024
"""Larger than the limit of a JSON message, because a birth names every metric of a device."""
MAX_METRICS = 20_000
"""Limit of a message, with the members of its Templates."""
TEMPLATE = 19
"""Number of the datatype Template."""
_MAX_DEPTH = 8


class DataType(IntEnum):
    """The datatypes that can be a channel; the others of the specification are not numbers."""

    Int8 = 1
    Int16 = 2
    Int32 = 3
    Int64 = 4
    UInt8 = 5
    UInt16 = 6
    UInt32 = 7
    UInt64 = 8
    Float = 9
    Double = 10
    Boolean = 11


_BITS: dict[int, tuple[int, bool]] = {
    DataType.Int8: (8, True),
    DataType.Int16: (16, True),
    DataType.Int32: (32, True),
    DataType.Int64: (64, True),
    DataType.UInt8: (8, False),
    DataType.UInt16: (16, False),
    DataType.UInt32: (32, False),
    DataType.UInt64: (64, False),
}
_TYPE_NAMES = {
    0: "Unknown",
    12: "String",
    13: "DateTime",
    14: "Text",
    15: "UUID",
    16: "DataSet",
    17: "Bytes",
    18: "File",
    19: "Template",
}
_Kind = FieldDescriptorProto
_PAYLOAD_FIELDS = (
    ("timestamp", 1, _Kind.TYPE_UINT64),
    ("metrics", 2, _Kind.TYPE_MESSAGE),
    ("seq", 3, _Kind.TYPE_UINT64),
    ("uuid", 4, _Kind.TYPE_STRING),
    ("body", 5, _Kind.TYPE_BYTES),
)
_TEMPLATE_FIELDS = (
    ("metrics", 2, _Kind.TYPE_MESSAGE),
    ("is_definition", 5, _Kind.TYPE_BOOL),
)
_METRIC_FIELDS = (
    ("name", 1, _Kind.TYPE_STRING),
    ("alias", 2, _Kind.TYPE_UINT64),
    ("timestamp", 3, _Kind.TYPE_UINT64),
    ("datatype", 4, _Kind.TYPE_UINT32),
    ("is_historical", 5, _Kind.TYPE_BOOL),
    ("is_null", 7, _Kind.TYPE_BOOL),
)
_VALUE_FIELDS = (
    ("int_value", 10, _Kind.TYPE_UINT32),
    ("long_value", 11, _Kind.TYPE_UINT64),
    ("float_value", 12, _Kind.TYPE_FLOAT),
    ("double_value", 13, _Kind.TYPE_DOUBLE),
    ("boolean_value", 14, _Kind.TYPE_BOOL),
    ("string_value", 15, _Kind.TYPE_STRING),
    ("bytes_value", 16, _Kind.TYPE_BYTES),
    ("template_value", 18, _Kind.TYPE_MESSAGE),
)
_NUMBER_FIELDS = frozenset(name for name, _, _ in _VALUE_FIELDS[:5])


class Metric(NamedTuple):
    """One metric of a message.

    Attributes:
        name: Name in the birth; data may omit it.
        alias: Number that stands for the name.
        ts_ms: Time of the measurement, epoch ms.
        datatype: Number of the datatype; data may omit it.
        is_historical: Sent later than measured; not the present value.
        is_null: There is no value now.
        field: Wire field that carries the value, e.g. "int_value"; None: none does.
        value: Raw value of that field; `number` converts it.
        members: Members of a Template, nested ones too, each with its path in it as name.
    """

    name: str | None = None
    alias: int | None = None
    ts_ms: int | None = None
    datatype: int | None = None
    is_historical: bool = False
    is_null: bool = False
    field: str | None = None
    value: int | float | bool | None = None
    members: tuple[Metric, ...] = ()


class Payload(NamedTuple):
    """One message: time of sending, sequence number of the node, metrics."""

    ts_ms: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


def decode_sparkplug(payload: bytes) -> Payload:
    """Decode one message body; a compressed one is decompressed.

    Raises:
        RefusedMessage: `not_sparkplug`, `empty` or `too_large`.
    """
    if len(payload) > MAX_SPARKPLUG_BYTES:
        detail = f"{len(payload)} bytes; a message may have at most {MAX_SPARKPLUG_BYTES}"
        raise RefusedMessage(RefusalReason.too_large, detail)
    if not payload:
        raise RefusedMessage(RefusalReason.empty, "the message has no body")
    found = outer = _parse(payload)
    if _is_compressed(found):
        found = _parse(decompress(found.body, _algorithm(found), MAX_SPARKPLUG_BYTES))
    if found.HasField("body") and (not found.metrics or _is_compressed(found)):
        shown = f"uuid {str(found.uuid)[:40]!r}"
        detail = f"a body of {len(found.body)} bytes with {shown} instead of metrics is not known"
        raise RefusedMessage(RefusalReason.not_sparkplug, detail)
    seq = next((each.seq for each in (found, outer) if each.HasField("seq")), None)
    if seq is not None and seq > 255:
        detail = f"sequence number {seq} is not in 0 to 255"
        raise RefusedMessage(RefusalReason.not_sparkplug, detail)
    ts_ms = next((each.timestamp for each in (found, outer) if each.HasField("timestamp")), None)
    return Payload(ts_ms, seq, tuple(map(_metric, found.metrics)))


def _parse(payload: bytes) -> Any:
    """Return the protobuf message.

    Raises:
        RefusedMessage: `not_sparkplug` or `too_large`.
    """
    try:
        found = _Message.FromString(payload)
    except DecodeError as exc:
        detail = f"not a Sparkplug B payload ({exc}); it begins with {payload[:40]!r}"
        raise RefusedMessage(RefusalReason.not_sparkplug, detail) from exc
    count = sum(map(_count, found.metrics))
    if count > MAX_METRICS:
        detail = f"{count} metrics; a message may have at most {MAX_METRICS}"
        raise RefusedMessage(RefusalReason.too_large, detail)
    return found


def _count(metric: Any, depth: int = 0) -> int:
    """Return the number of a metric and the members of its Template.

    Raises:
        RefusedMessage: `too_large`, if Templates are nested too deep.
    """
    if not metric.HasField("template_value"):
        return 1
    if depth >= _MAX_DEPTH:
        detail = f"Templates are nested in each other more than {_MAX_DEPTH} times"
        raise RefusedMessage(RefusalReason.too_large, detail)
    return 1 + sum(_count(member, depth + 1) for member in metric.template_value.metrics)


def _is_compressed(found: Any) -> bool:
    return str(found.uuid).upper() == COMPRESSED_UUID


def _algorithm(found: Any) -> str | None:
    for metric in found.metrics:
        if metric.name == ALGORITHM_METRIC and metric.HasField("string_value"):
            return str(metric.string_value)
    return None


def encode_sparkplug(ts_ms: int, metrics: Iterable[Metric], seq: int | None = None) -> bytes:
    """Encode the body of a command, or of a message of a simulated node.

    >>> rebirth = Metric("Node Control/Rebirth", datatype=11, field="boolean_value", value=True)
    >>> decode_sparkplug(encode_sparkplug(1700000000000, [rebirth])).metrics[0] == rebirth
    True
    """
    message = _Message(timestamp=ts_ms)
    if seq is not None:
        message.seq = seq
    for metric in metrics:
        fields: dict[str, Any] = {
            "name": metric.name,
            "alias": metric.alias,
            "timestamp": metric.ts_ms,
            "datatype": metric.datatype,
            "is_historical": metric.is_historical or None,
            "is_null": metric.is_null or None,
        }
        if metric.field is not None:
            fields[metric.field] = metric.value
        message.metrics.add(**{name: value for name, value in fields.items() if value is not None})
    encoded: bytes = message.SerializeToString()
    return encoded


def number(metric: Metric, datatype: int) -> float:
    """Return the value of a metric of this datatype as a number; Boolean is 0 or 1.

    Negative integers arrive as two's complement in an unsigned field. Some senders extend the sign
    to 32 or 64 bits, some do not, and some use the 64-bit field for everything; all are accepted.

    >>> number(Metric(field="int_value", value=0xFFFF_FFFE), DataType.Int32)
    -2
    >>> number(Metric(field="int_value", value=0xFE), DataType.Int8)
    -2

    Raises:
        RefusedMessage: `wrong_type` if the datatype cannot be a channel or the value does not fit
            it, `not_finite` if the value has no finite float32.
    """
    value, field = metric.value, metric.field
    if datatype in _BITS:
        bits, is_signed = _BITS[datatype]
        if field in ("int_value", "long_value") and value is not None:
            whole = _integer(int(value), bits, is_signed, 32 if field == "int_value" else 64)
            if whole is not None:
                return whole
    elif datatype in (DataType.Float, DataType.Double):
        if field in ("float_value", "double_value") and value is not None:
            if not (math.isfinite(value) and abs(value) <= MAX_FLOAT32):
                raise RefusedMessage(RefusalReason.not_finite, f"{value} has no finite float32")
            return float(value)
    elif datatype == DataType.Boolean:
        if field == "boolean_value" and value is not None:
            return int(value)
    else:
        known = ", ".join(each.name for each in DataType)
        shown = _TYPE_NAMES.get(datatype, datatype)
        detail = f"datatype {shown} is not a number; a channel is one of {known}"
        raise RefusedMessage(RefusalReason.wrong_type, detail)
    shown = "no value" if field is None else f"{str(value)[:40]} as {field}"
    detail = f"datatype {DataType(datatype).name}, but {shown}"
    raise RefusedMessage(RefusalReason.wrong_type, detail)


def _integer(raw: int, bits: int, is_signed: bool, field_bits: int) -> int | None:
    if not is_signed:
        return raw if raw < 1 << bits else None
    half = 1 << bits - 1
    if raw < half:
        return raw
    if raw < 1 << bits:  # exactly as wide as the datatype
        return raw - (1 << bits)
    for extended in (32, field_bits):  # the sign extended to 32 bits, or to the width of the field
        if bits < extended and (1 << extended) - half <= raw < 1 << extended:
            return raw - (1 << extended)
    return None


def _metric(found: Any) -> Metric:
    has = found.HasField
    field = found.WhichOneof("value")
    value = getattr(found, field) if field in _NUMBER_FIELDS else None
    name = found.name if has("name") else None
    if isinstance(name, bytes):  # protobuf returns invalid UTF-8 as bytes
        name = name.decode("utf-8", "replace")
    return Metric(
        name or None,
        found.alias if has("alias") else None,
        found.timestamp if has("timestamp") else None,
        found.datatype if has("datatype") else None,
        found.is_historical,
        found.is_null,
        field,
        value,
        tuple(_members(found)) if field == "template_value" else (),
    )


def _members(found: Any) -> Iterator[Metric]:
    """Yield the members of a Template that are no Templates themselves, by their paths in it."""
    template = found.template_value
    if template.is_definition:
        return
    for each in map(_metric, template.metrics):
        if each.name is None:
            continue
        ts_ms = _metric_time(found) if each.ts_ms is None else each.ts_ms
        is_historical = each.is_historical or found.is_historical
        if not each.members:
            yield each._replace(ts_ms=ts_ms, is_historical=is_historical)
        for member in each.members:
            yield member._replace(
                name=f"{each.name}/{member.name}",
                ts_ms=ts_ms if member.ts_ms is None else member.ts_ms,
                is_historical=is_historical or member.is_historical,
            )


def _metric_time(found: Any) -> int | None:
    return found.timestamp if found.HasField("timestamp") else None


def _message_class() -> Any:
    """Return the class of a payload, in a pool of its own so that others may define it too."""
    file = FileDescriptorProto(name="kpstream/sparkplug.proto", package="kpstream", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    template = payload.nested_type.add(name="Template")
    for fields, holder in (
        (_PAYLOAD_FIELDS, payload),
        (_TEMPLATE_FIELDS, template),
        (_METRIC_FIELDS, metric),
        (_VALUE_FIELDS, metric),
    ):
        for name, tag, kind in fields:
            field = holder.field.add(name=name, number=tag, type=kind, label=_Kind.LABEL_OPTIONAL)
            if name == "metrics":
                field.label = _Kind.LABEL_REPEATED
                field.type_name = ".kpstream.Payload.Metric"
            elif name == "template_value":
                field.type_name = ".kpstream.Payload.Template"
            if fields is _VALUE_FIELDS:
                field.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("kpstream.Payload"))


_Message = _message_class()


def first_timestamp(payload: bytes) -> int | None:
    """Return the timestamp of a payload without decoding the rest, None if it is not in front.

    Protobuf libraries write fields in the order of their numbers, and the timestamp has number 1.

    >>> first_timestamp(bytes([0x08, 0x96, 0x01, 0x18, 0x00])), first_timestamp(bytes([0x18, 0x00]))
    (150, None)
    """
    if payload[:1] != b"\x08":
        return None
    value = 0
    for place, byte in enumerate(payload[1:11]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value
    return None
