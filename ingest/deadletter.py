"""A dead letter: what was refused, and why, so that nothing vanishes and all can be replayed."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import orjson

from ingest.errors import RefusalReason, RefusedMessage

__all__ = ["DeadLetter", "Source", "decode_dead_letter", "encode_dead_letter"]

Source = Literal["bridge", "windows", "store"]
"""Who refused: the bridge (whole messages), the windower (readings it cannot place) or a store
(points it will not take)."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused message, or the refused readings of a message that was accepted otherwise.

    Attributes:
        reason: Why.
        detail: For a person: the offending value and what would be right.
        mqtt_topic: Where it was published, and where a replay publishes `raw` again; from `store`,
            whose score it is ("" for points of no device).
        recv_ms: When the bridge received it; from `store`, when it was refused.
        raw: The bytes as they came; from `windows`, a body in the batch form that holds the
            refused readings only; from `store`, the point as a line of InfluxDB's line protocol,
            which a replay writes to InfluxDB again (or, `unreadable`, the record of the log).
        source: Who refused it.
    """

    reason: RefusalReason
    detail: str
    mqtt_topic: str
    recv_ms: int
    raw: bytes
    source: Source

    @property
    def id(self) -> str:
        """32 hex digits that follow from what was refused, where, why and by whom.

        The receive time is left out on purpose: a message that the broker delivers again after a
        crash is the same dead letter, and so is one that is replayed and refused again.
        """
        head = f"{self.source}\n{self.reason.value}\n{_printable(self.mqtt_topic)}\n"
        return hashlib.sha256(head.encode() + self.raw).hexdigest()[:32]


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """The JSON value of a record on the log topic `dead-letters`; its key is `letter.id`.

    Guaranteed to succeed for any letter: text that is no Unicode (an MQTT topic with lone
    surrogates) is stored with replacement characters.
    """
    return orjson.dumps(
        {
            "id": letter.id,
            "reason": letter.reason.value,
            "detail": _printable(letter.detail),
            "mqtt_topic": _printable(letter.mqtt_topic),
            "recv_ms": letter.recv_ms,
            "raw": base64.b64encode(letter.raw).decode("ascii"),
            "source": letter.source,
        }
    )


def decode_dead_letter(value: bytes) -> DeadLetter:
    """Read back what `encode_dead_letter` wrote.

    Raises:
        RefusedMessage: `unreadable`, when `value` is anything else.
    """
    try:
        fields = orjson.loads(value)
        source = fields["source"]
        letter = DeadLetter(
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
        and isinstance(letter.detail, str)
        and isinstance(letter.mqtt_topic, str)
        and type(letter.recv_ms) is int
    )
    if not well_typed:
        detail = f"not a dead letter, a field has the wrong type: {value[:200]!r}"
        raise RefusedMessage(RefusalReason.unreadable, detail)
    return letter


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
