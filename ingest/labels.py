"""Labels: what people say afterwards about a device. Pure.

A label is a JSON object on the MQTT topic `labels/{site}/{device}/{stream}`:

    {"id": "8f2c", "kind": "failed", "at_ms": 1764412800000, "by": "Ada"}
    {"id": "1b77", "kind": "span", "from_ms": 1764412800000, "to_ms": 1764416400000,
     "label": "climbing"}

| kind | time | meaning |
|---|---|---|
| `failed` | `at_ms` | the device failed then |
| `replaced` | `at_ms` | it, or the part that wears, was replaced then |
| `span` | `from_ms`, `to_ms` | what it did from then until then: `label` |
| `confirmed` | `at_ms`, or `from_ms` and `to_ms` | the scores of that time are right |
| `wrong` | the same | the scores of that time are wrong; `label`, if any, is what is right |

A span may say `"example": "device"`: from now on, windows of this device that resemble it get its
name; `"stream"`: those of all devices of the stream (`pipeline.scoring.examples`).

1. **The id names the label.** The same id of the same stream again is the same label: the record
   that the bridge received later counts.
2. **A revocation is the label again with `"revoked": true`**, and is final, whichever of the two
   comes first. To take it back, give a new label with a new id.

So the labels follow from the set of records: duplicates and disorder change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast, get_args

import orjson

from ingest.errors import RefusalReason, RefusedMessage
from ingest.logwriter import LogRecord
from ingest.payloads import YEAR_2000_MS, unit_advice
from ingest.topics import LABELS, Address, are_names, device_key, is_name, partition_of

__all__ = [
    "EXAMPLES_FOR",
    "LABEL_KINDS",
    "MAX_LABEL_BYTES",
    "ExampleFor",
    "Label",
    "LabelKind",
    "LabelRecord",
    "current_labels",
    "decode_label",
    "decode_label_record",
    "encode_label",
    "encode_label_record",
    "label_key",
    "label_log_record",
    "later_of",
]

LabelKind = Literal["failed", "replaced", "span", "confirmed", "wrong"]
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)
ExampleFor = Literal["", "device", "stream"]
EXAMPLES_FOR: tuple[ExampleFor, ...] = get_args(ExampleFor)

MAX_LABEL_BYTES = 4096
"""Most bytes of one label."""
MAX_TEXT = 80
"""Most characters of `label` and of `by`."""

_KEYS = frozenset({"id", "kind", "at_ms", "from_ms", "to_ms", "label", "revoked", "by", "example"})
_YEARS_MS = range(YEAR_2000_MS, 4_102_444_800_000)  # 2000 to 2099


@dataclass(frozen=True, slots=True)
class Label:
    """One label; `from_ms` and `to_ms` are equal if it is about a moment.

    Attributes:
        id: Its name within the stream of the device.
        kind: See the module.
        from_ms: Beginning, or the moment, event time in epoch ms.
        to_ms: End, exclusive unless it is a moment.
        label: Name of what happened; always for a span.
        revoked: Whether it no longer holds.
        by: Who says so, if known.
        example: For whom a span is an example; "" for nobody.
    """

    id: str
    kind: LabelKind
    from_ms: int
    to_ms: int
    label: str = ""
    revoked: bool = False
    by: str = ""
    example: ExampleFor = ""

    def check_past(self, now_ms: int, future_ms: int) -> None:
        """Refuse a label that is too far ahead of the time now.

        Raises:
            RefusedMessage: `future`.
        """
        if self.to_ms > now_ms + future_ms:
            detail = (
                f"{self.to_ms} is {self.to_ms - now_ms} ms ahead of the time {now_ms} at which it "
                "was received: a label is about what has happened"
            )
            raise RefusedMessage(RefusalReason.future, detail)


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label of one stream, as a record of the log topic `labels` has it.

    Attributes:
        address: Site, device and stream that it is about.
        recv_ms: When the bridge or the console received it, epoch ms.
        label: The label.
    """

    address: Address
    recv_ms: int
    label: Label


def decode_label(payload: bytes) -> Label:
    """Decode and check the body of a label.

    >>> decode_label(b'{"id": "a", "kind": "failed", "at_ms": 1764412800000}').from_ms
    1764412800000
    >>> decode_label(b'{"id": "a", "kind": "broken", "at_ms": 1764412800000}')
    Traceback (most recent call last):
    ingest.errors.RefusedMessage: wrong_shape: kind 'broken' is none of failed, replaced, ...

    Raises:
        RefusedMessage: It is no valid label; with the reason.
    """
    if len(payload) > MAX_LABEL_BYTES:
        detail = f"{len(payload)} bytes; a label may have at most {MAX_LABEL_BYTES}"
        raise RefusedMessage(RefusalReason.too_large, detail)
    if not payload.strip():
        raise RefusedMessage(RefusalReason.empty, "the label has no body")
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as exc:
        detail = f"{exc}; the body begins with {payload[:80]!r}"
        raise RefusedMessage(RefusalReason.not_json, detail) from exc
    return _label(document)


def encode_label(label: Label) -> bytes:
    """Encode the body of a label; `decode_label` returns the label again.

    Raises:
        RefusedMessage: It has text that is no Unicode, as from a terminal with another encoding.
    """
    try:
        return orjson.dumps(_document(label))
    except TypeError as exc:
        detail = "a label has text that is no UTF-8: set the terminal to UTF-8"
        raise RefusedMessage(RefusalReason.unreadable, detail) from exc


def decode_label_record(value: bytes) -> LabelRecord:
    """Decode the value of a record of the log topic `labels`, or a line of `labels.jsonl`.

    Raises:
        RefusedMessage: `unreadable`, if it is none.
    """
    try:
        document = orjson.loads(value)
        address = Address(document.pop("site"), document.pop("device"), document.pop("stream"))
        recv_ms = document.pop("recv_ms")
        known = are_names(tuple(address)) and type(recv_ms) is int and 0 <= recv_ms < 2**53
        label = _label(document)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, RefusedMessage) as exc:
        detail = f"not a label: {value[:200]!r} ({exc})"
        raise RefusedMessage(RefusalReason.unreadable, detail) from exc
    if not known:
        detail = f"not a label: its address or receive time is invalid: {value[:200]!r}"
        raise RefusedMessage(RefusalReason.unreadable, detail)
    return LabelRecord(address, recv_ms, label)


def encode_label_record(record: LabelRecord) -> bytes:
    """Encode the value of a record of the log topic `labels`; also a line of `labels.jsonl`."""
    place = record.address._asdict()
    return orjson.dumps({**_document(record.label), **place, "recv_ms": record.recv_ms})


def label_log_record(record: LabelRecord, partitions: int) -> LogRecord:
    """Return the record of the log topic `labels`; those of a device are in its partition."""
    key = device_key(record.address.site, record.address.device)
    partition = partition_of(key, partitions)
    value = encode_label_record(record)
    return LogRecord(LABELS, partition, label_key(record), value, record.recv_ms)


def label_key(record: LabelRecord) -> bytes:
    """Return the key of a record in the compacted log topic `labels`.

    A revocation has a key of its own, so that no label that arrives after it removes it.

    >>> label = Label("8f2c", "failed", 1764412800000, 1764412800000)
    >>> label_key(LabelRecord(Address("plant-7", "press-2", "engine"), 0, label))
    b'plant-7/press-2/engine/8f2c'
    """
    end = "/revoked" if record.label.revoked else ""
    return "/".join((*record.address, record.label.id)).encode() + end.encode()


def later_of(one: LabelRecord, other: LabelRecord) -> LabelRecord:
    """Return the record that counts, of two of the same label: a revocation, or the later one.

    The order of the arguments does not matter.
    """
    return max(one, other, key=_rank)


def current_labels(records: Iterable[LabelRecord]) -> dict[tuple[Address, str], LabelRecord]:
    """Return the record that counts of each label, by address and id."""
    found: dict[tuple[Address, str], LabelRecord] = {}
    for record in records:
        name = (record.address, record.label.id)
        known = found.get(name)
        found[name] = record if known is None else later_of(known, record)
    return found


def _rank(record: LabelRecord) -> tuple[bool, int, bytes]:
    return record.label.revoked, record.recv_ms, encode_label(record.label)


def _document(label: Label) -> dict[str, Any]:
    if label.from_ms == label.to_ms:
        when = {"at_ms": label.from_ms}
    else:
        when = {"from_ms": label.from_ms, "to_ms": label.to_ms}
    document: dict[str, Any] = {"id": label.id, "kind": label.kind, **when}
    document.update({"label": label.label, "revoked": label.revoked, "by": label.by})
    if label.example:  # it came later: other labels keep their bytes
        document["example"] = label.example
    return document


def _label(document: Any) -> Label:
    """Check a parsed label.

    Raises:
        RefusedMessage: It is no valid label.
    """
    if type(document) is not dict:
        raise RefusedMessage(RefusalReason.wrong_shape, "a label is a JSON object")
    if unknown := sorted(document.keys() - _KEYS):
        _refuse(f"unknown key {unknown[0][:80]!r}; a label has {', '.join(sorted(_KEYS))}")
    label_id, kind = document.get("id"), document.get("kind")
    if type(label_id) is not str or not is_name(label_id):
        _refuse(
            f"id {_shown(label_id)} is not a name (1 to 64 of A-Z a-z 0-9 . _ -, the first a "
            "letter or digit)"
        )
    if kind not in LABEL_KINDS:
        _refuse(f"kind {_shown(kind)} is none of {', '.join(LABEL_KINDS)}")
    kind = cast("LabelKind", kind)
    from_ms, to_ms = _times(kind, document)
    revoked = document.get("revoked", False)
    if type(revoked) is not bool:
        _refuse(f"revoked is true or false, not {_shown(revoked)}", RefusalReason.wrong_type)
    label, by = (_text(document, name) for name in ("label", "by"))
    if kind == "span" and not label:
        _refuse("a span needs a `label`: what the device did")
    example = document.get("example", "")
    if example not in EXAMPLES_FOR or (example and kind != "span"):
        _refuse(f"example {_shown(example)} is none of device, stream, or this is no span")
    return Label(label_id, kind, from_ms, to_ms, label, revoked, by, example)


def _times(kind: LabelKind, document: Mapping[str, Any]) -> tuple[int, int]:
    found = {name for name in ("at_ms", "from_ms", "to_ms") if name in document}
    needs_moment, needs_span = kind in ("failed", "replaced"), kind == "span"
    if not ((found == {"at_ms"} and not needs_span) or (found == {"from_ms", "to_ms"})):
        found.clear()
    if not found or (needs_moment and "at_ms" not in found):
        wanted = "at_ms" if needs_moment else "from_ms and to_ms"
        also = "" if needs_moment or needs_span else ", or at_ms"
        _refuse(f"a label of kind {kind} has {wanted}{also}, and no other time")
    for name in sorted(found):
        if type(document[name]) is not int:
            _refuse(
                f"{name} is epoch milliseconds, not {_shown(document[name])}",
                RefusalReason.wrong_type,
            )
        if document[name] not in _YEARS_MS:
            advice = unit_advice(document[name]) or "it is in epoch milliseconds"
            _refuse(
                f"{name} {document[name]} is no time from 2000 to 2099: {advice}",
                RefusalReason.clock_unset,
            )
    if "at_ms" in found:
        return document["at_ms"], document["at_ms"]
    if document["from_ms"] >= document["to_ms"]:
        _refuse(f"from_ms {document['from_ms']} is not before to_ms {document['to_ms']}")
    return document["from_ms"], document["to_ms"]


def _text(document: Mapping[str, Any], name: str) -> str:
    text = document.get(name, "")
    if type(text) is not str:
        _refuse(f"{name} is text, not {_shown(text)}", RefusalReason.wrong_type)
    if len(text) > MAX_TEXT or not text.isprintable() or text != text.strip():
        _refuse(
            f"{name} {_shown(text)} is not up to {MAX_TEXT} printable characters without spaces at "
            "its ends"
        )
    return text


def _refuse(detail: str, reason: RefusalReason = RefusalReason.wrong_shape) -> NoReturn:
    raise RefusedMessage(reason, detail)


def _shown(value: object) -> str:
    return repr(value)[:80]
