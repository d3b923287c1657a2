r"""Recorded MQTT messages as text: one message a line, as `mosquitto_sub` and our tools write them.

Four forms of a line are read, and they may be mixed:

```
{"topic": "tele/plug/SENSOR", "payload": "{\"Time\": ...}", "recv_ms": 1700000000000}
{"topic": "tele/plug/SENSOR", "payload_base64": "eyJUaW1lIjogLi4ufQ=="}
{"topic": "tele/plug/SENSOR", "payload_hex": "7b22...", "tst": "2026-11-29T13:58:22+0000"}
tele/plug/SENSOR {"Time": ...}
```

The first is also what `mosquitto_sub -F %j` and `-F %J` print, the last what `mosquitto_sub -v`
prints. In the first, a payload that is no text (an object, a number) stands for its JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

__all__ = ["BadLine", "RecordedMessage", "read_recorded"]

_TST = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z)?(?:([+-]\d\d):?(\d\d))?", re.ASCII
)
_MOST_SPLITS = 16
_BODIES = ("payload", "payload_base64", "payload_hex")
_FORMS = (
    'write {"topic": "...", "payload": "..."} (or payload_base64, payload_hex), or TOPIC PAYLOAD'
)


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One message of a recording.

    Attributes:
        topic: MQTT topic.
        payload: The body.
        recv_ms: Time of receipt, epoch ms; None if the recording does not tell.
        line: Number of the line, from 1; 0 if the message comes from elsewhere.
    """

    topic: str
    payload: bytes
    recv_ms: int | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no message; `detail` says why and what to write instead."""

    line: int
    detail: str


def read_recorded(
    lines: Iterable[bytes], is_topic: Callable[[str], bool] = lambda _: False
) -> Iterator[RecordedMessage | BadLine]:
    """Read messages from lines; empty lines are skipped, and every other line gives one item.

    >>> lines = [b"a/power 21.5", b'{"topic": "a/b", "payload": {"x": 1}, "recv_ms": 5}', b"{}"]
    >>> for each in read_recorded(lines):
    ...     print(each)
    RecordedMessage(topic='a/power', payload=b'21.5', recv_ms=None, line=1)
    RecordedMessage(topic='a/b', payload=b'{"x":1}', recv_ms=5, line=2)
    BadLine(line=3, detail='the object has no "topic"')

    Args:
        lines: The lines, as bytes.
        is_topic: Whether a text is a topic that is waited for. It decides where the topic ends in
            lines of `mosquitto_sub -v` whose topic contains spaces.
    """
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip(b"\r\n")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            if line.lstrip().startswith(b"{"):
                yield _of_object(line, number)
            else:
                yield _of_text(line, number, is_topic)
        except ValueError as exc:
            yield BadLine(number, str(exc))


def _of_object(line: bytes, number: int) -> RecordedMessage:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        msg = f"begins with {{ but is not JSON ({exc}); {_FORMS}"
        if _is_not_text(line):
            msg = (
                "the payload is not UTF-8 text: record with "
                """mosquitto_sub -F '{"topic": "%t", "payload_hex": "%x", "tst": "%I"}'"""
            )
        raise ValueError(msg) from exc
    topic = fields.get("topic")
    if topic is None:
        msg = 'the object has no "topic"'
        raise ValueError(msg)
    if not isinstance(topic, str) or not topic:
        msg = f'"topic" is {topic!r:.80}, not text'
        raise ValueError(msg)
    return RecordedMessage(topic, _body(fields), _recv_ms(fields), number)


def _of_text(line: bytes, number: int, is_topic: Callable[[str], bool]) -> RecordedMessage:
    """Split `TOPIC PAYLOAD` at the first space, or at the one after a topic that is waited for."""
    parts = line.split(b" ", _MOST_SPLITS)
    try:
        words = [part.decode() for part in parts[:1]]
    except UnicodeDecodeError as exc:
        msg = f"the topic is not UTF-8 text; {_FORMS}"
        raise ValueError(msg) from exc
    if len(parts) == 1:
        msg = f"{line[:80].decode()!r} is one word: a message has a topic and a payload; {_FORMS}"
        raise ValueError(msg)
    topic, rest = words[0], line[len(parts[0]) + 1 :]
    if not is_topic(topic):
        for count in range(2, len(parts)):
            head = b" ".join(parts[:count])
            candidate = head.decode("utf-8", "replace")
            if is_topic(candidate):
                topic, rest = candidate, line[len(head) + 1 :]
                break
    return RecordedMessage(topic, b"" if rest == b"(null)" else rest, None, number)


def _body(fields: dict[str, Any]) -> bytes:
    found = [name for name in _BODIES if name in fields]
    if len(found) != 1:
        shown = " and ".join(found) or "no payload"
        msg = f"the object has {shown}; write one of {', '.join(_BODIES)}"
        raise ValueError(msg)
    name, value = found[0], fields[found[0]]
    if name == "payload":
        if value is None:
            return b""
        return value.encode() if isinstance(value, str) else orjson.dumps(value)
    if not isinstance(value, str):
        msg = f'"{name}" is {value!r:.80}, not text'
        raise ValueError(msg)
    try:
        if name == "payload_hex":
            return bytes.fromhex(value)
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        msg = f'"{name}" is not {name.removeprefix("payload_")}: {value[:80]!r}'
        raise ValueError(msg) from exc


def _recv_ms(fields: dict[str, Any]) -> int | None:
    recv_ms, tst = fields.get("recv_ms"), fields.get("tst")
    if recv_ms is not None:
        if type(recv_ms) is not int or not 0 <= recv_ms < 2**53:
            msg = f'"recv_ms" is {recv_ms!r:.80}, not a time in epoch milliseconds'
            raise ValueError(msg)
        return recv_ms
    return None if tst is None else _epoch_ms(tst)


def _epoch_ms(tst: Any) -> int:
    """Return the time of receipt that `mosquitto_sub` prints, such as 2026-11-29T13:58:22+0000.

    It prints fractions as 2026-11-29T13:58:21.636824Z+0000, which is not ISO 8601.
    """
    found = _TST.fullmatch(tst) if isinstance(tst, str) else None
    try:
        if found is None or not (found[3] or found[4]):
            raise ValueError
        offset = f"{found[4]}:{found[5]}" if found[4] else "+00:00"
        when = datetime.fromisoformat(found[1] + offset)
        return int(when.timestamp()) * 1000 + int((found[2] or "0").ljust(3, "0")[:3])
    except (ValueError, OverflowError) as exc:
        msg = f'"tst" is {tst!r:.80}, not a time such as 2026-11-29T13:58:22+0000'
        raise ValueError(msg) from exc


def _is_not_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False
