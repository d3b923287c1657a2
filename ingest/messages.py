"""What a record of the log topic `readings` holds: batches, ticks; and bundles, its old form.

A record is written as columns (`ingest.blocks`). Earlier versions wrote a **bundle**: a JSON array
with one envelope per line, all of one partition, in the order in which they were received. If one
line of a bundle is damaged, only that line is lost, and it is returned as an `Unreadable`, so no
loss is silent. `ingest.payloads` defines the bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.errors import RefusalReason, RefusedMessage
from ingest.payloads import check_document, event_times
from ingest.topics import Address, are_names

__all__ = [
    "MAX_RECV_MS",
    "Batch",
    "Tick",
    "Unreadable",
    "columns",
    "decode_lines",
    "encode_envelope",
]

MAX_RECV_MS = 2**53
"""Receive times are below it; sums with a limit still fit into 64 bits."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The readings of one accepted message.

    Attributes:
        site: First level of the address.
        device: Second level; `site` and `device` together are the log key.
        stream: Third level: the group of channels.
        recv_ms: Time at which the bridge received it, epoch ms.
        ts_ms: Event times as sent, in any order, int64 `[n]`, n >= 1.
        values: Channel name -> n finite numbers.
    """

    site: str
    device: str
    stream: str
    recv_ms: int
    ts_ms: NDArray[np.int64]
    values: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Tick:
    """Processing time in the log.

    Ticks close the windows of idle devices, so that a replayed log closes the same windows.

    Attributes:
        now_ms: Time of the tick, epoch ms.
        since_ms: Start of the bridge's unbroken connection, epoch ms; silence before it means
            nothing.
    """

    now_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An envelope (or a whole record) that is damaged; the envelopes around it are unaffected.

    Attributes:
        raw: Body from the device if the envelope could be read, else the bytes found instead.
        reason: `unreadable`, or the reason why the body is refused.
        detail: Human-readable explanation.
        address: Address of the sender, if it could be read.
        recv_ms: Time at which the bridge received it, if it could be read.
    """

    raw: bytes
    reason: RefusalReason
    detail: str
    address: Address | None = None
    recv_ms: int | None = None


def columns(batch: Batch, channels: Sequence[str]) -> NDArray[np.float32]:
    """Return the batch's values in the order of `channels`, float32 `[n, c]`.

    Other channels are omitted. Numbers are rounded as for windows (`pipeline.windows.arrivals`).

    Raises:
        RefusedMessage: `missing_channel`, with the names of all missing channels.
    """
    values = batch.values
    try:
        wanted = [values[channel] for channel in channels]
    except KeyError:
        missing = [channel for channel in channels if channel not in values]
        detail = f"needs {', '.join(missing)}; the message has {', '.join(values)[:400]}"
        raise RefusedMessage(RefusalReason.missing_channel, detail) from None
    table: NDArray[np.float32] = np.array(wanted, dtype=np.float32).T
    return table


def encode_envelope(site: str, device: str, stream: str, recv_ms: int, payload: bytes) -> bytes:
    """Encode one line of a bundle: an accepted body, otherwise unchanged.

    Line breaks, which JSON has between tokens only, become spaces. `payload` must have passed
    `decode_payload`; it is not checked again.
    """
    if b"\n" in payload or b"\r" in payload:
        payload = payload.replace(b"\n", b" ").replace(b"\r", b" ")
    body = orjson.Fragment(payload)
    return orjson.dumps({"d": (site, device, stream), "r": recv_ms, "b": body})


def decode_lines(value: bytes) -> list[Batch | Tick | Unreadable]:
    """Decode a bundle, one item per envelope, in order.

    Never raises, whatever `value` contains: a damaged envelope becomes an `Unreadable`.
    """
    try:
        envelopes = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        return _rescue(value, str(exc))
    if type(envelopes) is not list:
        return [_unreadable(value, "a bundle is a JSON array")]
    return [_item(envelope) for envelope in envelopes]


def _item(envelope: Any) -> Batch | Tick | Unreadable:
    """Return the item of one parsed envelope."""
    try:
        address, recv_ms, body = envelope["d"], envelope["r"], envelope["b"]
        site, device, stream = address
        known = _is_time(recv_ms) and are_names((site, device, stream))
    except (KeyError, TypeError, ValueError):
        return _tick(envelope)
    if not known:
        return _unreadable(
            orjson.dumps(envelope), "the envelope's address or receive time is invalid"
        )
    try:
        document = check_document(body)
    except RefusedMessage as exc:
        where = Address(site, device, stream)
        return Unreadable(orjson.dumps(body), exc.reason, exc.detail, where, recv_ms)
    values = document["values"]
    if type(document.get("ts")) is int:
        values = {channel: (value,) for channel, value in values.items()}
    return Batch(site, device, stream, recv_ms, event_times(document), values)


def _tick(envelope: Any) -> Tick | Unreadable:
    if type(envelope) is dict and envelope.keys() == {"tick", "since"}:
        now_ms, since_ms = envelope["tick"], envelope["since"]
        if _is_time(now_ms) and _is_time(since_ms):
            return Tick(now_ms, since_ms)
    return _unreadable(orjson.dumps(envelope), "neither readings nor a tick")


def _is_time(ms: Any) -> bool:
    """Whether the bridge could have written this time."""
    return type(ms) is int and 0 <= ms < MAX_RECV_MS


def _rescue(value: bytes, problem: str) -> list[Batch | Tick | Unreadable]:
    """Decode a bundle that is not JSON as a whole line by line."""
    lines = value.removeprefix(b"[").removesuffix(b"]").split(b",\n")
    found: list[Batch | Tick | Unreadable] = []
    for line in lines:
        try:
            found.append(_item(orjson.loads(line)))
        except orjson.JSONDecodeError:
            found.append(_unreadable(line, f"not JSON ({problem})"))
    return found


def _unreadable(raw: bytes, detail: str) -> Unreadable:
    return Unreadable(raw, RefusalReason.unreadable, detail)
