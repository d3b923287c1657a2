"""Dead letters: refused input with its reason, kept so that it can be inspected and replayed."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import orjson

from ingest.errors import RefusalReason, RefusedMessage
from ingest.topics import MQTT_PREFIX

__all__ = ["DeadLetter", "Source", "decode_dead_letter", "encode_dead_letter", "sender_of"]

_SPARKPLUG = "spBv1.0"
_MOST_LEVEL = 64
"""Characters of a level that count; no valid name has more."""

Source = Literal["bridge", "windows", "store"]
"""Component that refused: the bridge (whole messages), the windower (readings that fit no window)
or a store (points)."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused message, or the refused readings of a message that was accepted otherwise.

    Attributes:
        reason: Reason of the refusal.
        detail: Human-readable explanation: the offending value and what would be right.
        mqtt_topic: Topic of the message, to which a replay publishes `raw` again. From `store`: the
            topic of the device whose score it is ("" for points of no device).
        recv_ms: Time at which the bridge received it, epoch ms. From `store`: time of the refusal.
        raw: The bytes as received. From `windows`: a body in the batch form with the refused
            readings only. From `store`: the point as a line of InfluxDB's line protocol, which a
            replay writes to InfluxDB again, or the record of the log if the reason is `unreadable`.
        source: Component that refused it.
    """

    reason: RefusalReason
    detail: str
    mqtt_topic: str
    recv_ms: int
    raw: bytes
    source: Source

    @property
    def id(self) -> str:
        """32 hex digits derived from source, reason, topic and raw bytes.

        The receive time is omitted on purpose: a message that the broker delivers again after a
        crash is the same dead letter, and so is one that is replayed and refused again.
        """
        head = f"{self.source}\n{self.reason.value}\n{_printable(self.mqtt_topic)}\n"
        return hashlib.sha256(head.encode() + self.raw).hexdigest()[:32]


def encode_dead_letter(dead_letter: DeadLetter) -> bytes:
    """Encode the JSON value of a record of the topic `dead-letters`; its key is `dead_letter.id`.

    Never fails: text that is not valid Unicode (an MQTT topic with lone surrogates) is stored with
    replacement characters.
    """
    return orjson.dumps(
        {
            "id": dead_letter.id,
            "reason": dead_letter.reason.value,
            "detail": _printable(dead_letter.detail),
            "mqtt_topic": _printable(dead_letter.mqtt_topic),
            "recv_ms": dead_letter.recv_ms,
            "raw": base64.b64encode(dead_letter.raw).decode("ascii"),
            "source": dead_letter.source,
        }
    )


def decode_dead_letter(value: bytes) -> DeadLetter:
    """Decode the value of a record of the log topic `dead-letters`.

    Raises:
        RefusedMessage: `unreadable`, if `value` is not a dead letter.
    """
    try:
        fields = orjson.loads(value)
        source = fields["source"]
        dead_letter = DeadLetter(
            reason=RefusalReason(fields["reason"]),
            detail=fields["detail"],
            mqtt_topic=fields["mqtt_topic"],
            recv_ms=fields["recv_ms"],
            raw=base64.b64decode(fields["raw"], validate=True),
            source=source,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, binascii.Error) as exc:
        detail = f"not a dead letter: {value[:80]!r} ({exc})"
        raise RefusedMessage(RefusalReason.unreadable, detail) from exc
    well_typed = (
        source in get_args(Source)
        and isinstance(dead_letter.detail, str)
        and isinstance(dead_letter.mqtt_topic, str)
        and type(dead_letter.recv_ms) is int
    )
    if not well_typed:
        detail = f"not a dead letter: a field of {value[:200]!r} has the wrong type"
        raise RefusedMessage(RefusalReason.unreadable, detail)
    return dead_letter


def sender_of(value: bytes, prefix: str = MQTT_PREFIX) -> str:
    """Return who sent a dead letter or late readings, as far as the MQTT topic tells.

    `site/device` for topics below `prefix`, `group/node` for Sparkplug, else the first two levels.
    All streams of a device and all devices of a Sparkplug node are one sender, so none of them can
    use several shares of the log. Empty if the value is not a dead letter, or has no topic.

    >>> sender_of(b'{"mqtt_topic": "sensors/plant-7/press-2/engine"}')
    'plant-7/press-2'
    >>> sender_of(b'{"mqtt_topic": "spBv1.0/plant/DDATA/node-1/press-2"}'), sender_of(b"[]")
    ('plant/node-1', '')
    """
    try:
        topic = orjson.loads(value)["mqtt_topic"]
        levels = topic.removeprefix(f"{prefix}/").split("/")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
    if levels[0].startswith(_SPARKPLUG):
        levels = [level for at, level in enumerate(levels[1:4]) if at != 1]
    return "/".join(level[:_MOST_LEVEL] for level in levels[:2])


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
