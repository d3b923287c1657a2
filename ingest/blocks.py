"""Records of the log topic `readings`: blocks of readings, and the ticks behind them.

Messages of one stream that have the same channels travel together from the bridge to the windows,
as the columns of a **block**. A record holds blocks and ticks of one partition:

1. the magic bytes `KPB1`;
2. its parts, each with a letter for its kind and its length in bytes, uint32. A tick (`T`) is two
   int64: its time, and the start of the bridge's connection. A line (`L`) is one message as JSON,
   because it would be larger in a block. A block (`B`) is the length of a header, uint32, the
   header as JSON, and five arrays without gaps.

All numbers are little-endian. The header names stream (`s`), channels (`c`), senders (`d`), numbers
of messages (`m`) and readings (`n`), and the form of each array:

| array | header | form |
|---|---|---|
| sender of each message | `i` | unsigned integers of 1 to 4 bytes |
| receive time of each message | `r` | the smallest one, and unsigned differences to it |
| readings of each message | `k` | one number if all have the same, else unsigned integers |
| event time of each reading | `t` | the smallest one, and unsigned differences to it |
| values | `v` | float32 if that changes no number of the block, else float64; row by row |

In a record, the messages of a device and stream keep their order of arrival, and a tick stands
behind everything that was received before it. Records of earlier versions, JSON with one message
per line (`ingest.messages`), are still read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.errors import RefusalReason
from ingest.messages import MAX_RECV_MS, Batch, Tick, Unreadable, decode_lines
from ingest.payloads import MAX_CHANNELS, MAX_FLOAT32, MAX_READINGS, YEAR_2000_MS
from ingest.topics import are_names

__all__ = [
    "Block",
    "batches_of",
    "decode_messages",
    "decode_record",
    "decode_ticks",
    "encode_record",
]

_MAGIC = b"KPB1"
_PART = struct.Struct("<cI")
_LENGTH = struct.Struct("<I")
_TICK = struct.Struct("<qq")
_UNSIGNED = {"u1": 1, "u2": 2, "u4": 4, "u8": 8}
_FLOATS = {"f4": 4, "f8": 8}
_INT64_MAX = 2**63 - 1
_MOST_SENDERS = 2**31


@dataclass(frozen=True, slots=True)
class Block:
    """Readings of `m` messages with `n` readings in all; every message has at least one.

    The order is that of arrival. A sender is a device with its site.

    Attributes:
        stream: The group of channels.
        channels: Names of the channels, in the order of the columns.
        senders: Site and device of each sender, without repetition.
        sender: Index into `senders` of each message, int32 `[m]`.
        recv_ms: Time at which the bridge received each message, epoch ms, int64 `[m]`.
        counts: Number of readings of each message, int64 `[m]`; their sum is `n`.
        ts_ms: Event times as sent, message after message, int64 `[n]`.
        values: Finite numbers as sent, float64 `[n, channels]`.
    """

    stream: str
    channels: tuple[str, ...]
    senders: tuple[tuple[str, str], ...]
    sender: NDArray[np.int32]
    recv_ms: NDArray[np.int64]
    counts: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]


class _Damaged(Exception):
    """A part is none that this software wrote; the text says what is wrong."""


def encode_record(parts: Sequence[Block | Tick | bytes]) -> bytes:
    """Encode the value of one record of the topic `readings`; bytes are an envelope.

    >>> decode_record(encode_record([Tick(now_ms=1700000001000, since_ms=1700000000000)]))
    [Tick(now_ms=1700000001000, since_ms=1700000000000)]
    """
    pieces = [_MAGIC]
    for part in parts:
        if isinstance(part, Tick):
            pieces += _PART.pack(b"T", _TICK.size), _TICK.pack(part.now_ms, part.since_ms)
        elif isinstance(part, bytes):
            pieces += _PART.pack(b"L", len(part)), part
        else:
            body = _encode_block(part)
            pieces += _PART.pack(b"B", sum(map(len, body))), *body
    return b"".join(pieces)


def decode_record(value: bytes) -> list[Block | Batch | Tick | Unreadable]:
    """Decode the value of one record, in order.

    Never raises, whatever `value` contains: a damaged part becomes an `Unreadable`, and the parts
    around it are unaffected. What is returned holds everything that the bridge checks of a message
    (`ingest.payloads`): names, numbers of channels and readings, times, and finite float32 values.
    Memory is bounded by a small multiple of the size of `value`.
    """
    if not value.startswith(_MAGIC):
        return list(decode_lines(value))
    found: list[Block | Batch | Tick | Unreadable] = []
    for kind, body in _parts(value):
        try:
            if kind == b"L":
                found += decode_lines(b"[" + body + b"]")
            else:
                found.append(_decode_part(kind, body))
        except _Damaged as exc:
            found.append(Unreadable(body, RefusalReason.unreadable, str(exc)))
    return found


def decode_ticks(value: bytes) -> list[Tick]:
    """Decode the ticks of a record with the magic bytes, in order; never raises."""
    found: list[Tick] = []
    for kind, body in _parts(value):
        with suppress(_Damaged):
            if kind == b"T":
                found.append(_decode_tick(body))
    return found


def decode_messages(value: bytes) -> list[Batch | Tick | Unreadable]:
    """Decode the value of one record as single messages, in order; never raises."""
    found: list[Batch | Tick | Unreadable] = []
    for item in decode_record(value):
        if isinstance(item, Block):
            found += batches_of(item)
        else:
            found.append(item)
    return found


def batches_of(block: Block, sender: tuple[str, str] | None = None) -> list[Batch]:
    """Return the messages of a block, or those of one sender, in order.

    Args:
        block: The block.
        sender: Site and device; None: all.
    """
    chosen: Sequence[int] = range(len(block.sender))
    if sender is not None:
        if sender not in block.senders:
            return []
        chosen = np.flatnonzero(block.sender == block.senders.index(sender)).tolist()
    stops = np.cumsum(block.counts).tolist()
    counts, who, recv_ms = block.counts.tolist(), block.sender.tolist(), block.recv_ms.tolist()
    found = []
    for at in chosen:
        start, stop = stops[at] - counts[at], stops[at]
        columns = block.values[start:stop].T.tolist()
        values = dict(zip(block.channels, columns, strict=True))
        site, device = block.senders[who[at]]
        batch = Batch(site, device, block.stream, recv_ms[at], block.ts_ms[start:stop], values)
        found.append(batch)
    return found


# -- encoding -------------------------------------------------------------------------------


def _encode_block(block: Block) -> list[bytes]:
    """Return a block in pieces: length of the header, header, arrays."""
    index_kind = _narrowest(len(block.senders) - 1)
    recv_base, recv_kind, recv_ms = _differences(block.recv_ms)
    base, kind, ts_ms = _differences(block.ts_ms)
    count, most = int(block.counts[0]), int(block.counts.max())
    is_even = count == most and count * len(block.counts) == len(block.ts_ms)
    count_kind = _narrowest(most)
    counts = b"" if is_even else block.counts.astype(f"<{count_kind}").tobytes()
    single = block.values.astype("<f4")
    is_single = np.array_equal(single, block.values)
    values = single if is_single else block.values.astype("<f8")
    header = orjson.dumps(
        {
            "s": block.stream,
            "c": block.channels,
            "d": block.senders,
            "m": len(block.counts),
            "n": len(block.ts_ms),
            "i": index_kind,
            "r": (recv_base, recv_kind),
            "k": count if is_even else count_kind,
            "t": (base, kind),
            "v": "f4" if is_single else "f8",
        }
    )
    index = block.sender.astype(f"<{index_kind}").tobytes()
    return [_LENGTH.pack(len(header)), header, index, recv_ms, counts, ts_ms, values.tobytes()]


def _narrowest(most: int) -> str:
    """The smallest unsigned type that holds numbers up to `most`."""
    return next(kind for kind, size in _UNSIGNED.items() if most < 256**size)


def _differences(times: NDArray[np.int64]) -> tuple[int, str, bytes]:
    """The smallest time, the type of the differences to it, and the differences."""
    base = int(times.min())
    differences = times - base
    kind = _narrowest(int(differences.max()))
    return base, kind, differences.astype(f"<{kind}").tobytes()


# -- decoding -------------------------------------------------------------------------------


def _parts(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each part; what is left of a record that ends too soon has no kind."""
    at, end = len(_MAGIC), len(value)
    while at < end:
        start = at + _PART.size
        kind, length = _PART.unpack_from(value, at) if start <= end else (b"", end)
        if start + length > end:
            yield b"", value[at:]
            return
        at = start + length
        yield kind, value[start:at]


def _decode_part(kind: bytes, body: bytes) -> Block | Tick:
    """Decode one part.

    Raises:
        _Damaged: It is none that this software wrote.
    """
    if kind == b"T":
        return _decode_tick(body)
    if kind != b"B":
        msg = f"a part of {len(body)} bytes that is no block, line or tick"
        raise _Damaged(msg)
    try:
        (size,) = _LENGTH.unpack_from(body)
        header = orjson.loads(body[_LENGTH.size : _LENGTH.size + size])
        return _decode_block(header, body, _LENGTH.size + size)
    except _Damaged:
        raise
    except (KeyError, TypeError, ValueError, struct.error) as exc:
        msg = f"the header of a block is invalid ({type(exc).__name__})"
        raise _Damaged(msg) from exc


def _decode_tick(body: bytes) -> Tick:
    """Decode a tick; raises _Damaged."""
    _require(len(body) == _TICK.size, "a tick has two times")
    now_ms, since_ms = _TICK.unpack(body)
    is_right = 0 <= now_ms < MAX_RECV_MS and 0 <= since_ms < MAX_RECV_MS
    _require(is_right, "the times of a tick are invalid")
    return Tick(now_ms, since_ms)


def _decode_block(header: dict[str, Any], body: bytes, at: int) -> Block:
    """Decode the arrays of a block, and check them.

    Raises:
        _Damaged: An array is not one of readings.
        KeyError, TypeError, ValueError: The header is no header.
    """
    stream, channels, senders = _names(header)
    messages, readings, count = header["m"], header["n"], header["k"]
    (recv_base, recv_kind), (base, kind) = header["r"], header["t"]
    counts_are_even = type(count) is int
    forms: list[tuple[Any, Any, Mapping[str, int]]] = [
        (messages, header["i"], _UNSIGNED),
        (messages, recv_kind, _UNSIGNED),
        (messages, count, _UNSIGNED),
        (readings, kind, _UNSIGNED),
        (readings * len(channels), header["v"], _FLOATS),
    ]
    if counts_are_even:
        del forms[2]
    sender, recv_off, *some, ts_off, values = _read_arrays(body, at, forms)
    if counts_are_even:
        is_right = 1 <= count <= MAX_READINGS and count * messages == readings
        counts = np.full(messages, count if is_right else 0, np.int64)
    else:
        counts = some[0].astype(np.int64)
        is_right = 1 <= counts.min() and counts.max() <= MAX_READINGS and counts.sum() == readings
    _require(is_right, "the numbers of readings are invalid")
    _require(sender.max() < len(senders), "a message without a sender")
    is_right = np.isfinite(values).all() and np.abs(values).max() <= MAX_FLOAT32
    _require(is_right, "a value has no finite float32")
    return Block(
        stream=stream,
        channels=channels,
        senders=senders,
        sender=sender.astype(np.int32),
        recv_ms=_times(recv_base, recv_off, 0, MAX_RECV_MS - 1),
        counts=counts,
        ts_ms=_times(base, ts_off, YEAR_2000_MS, _INT64_MAX),
        values=values.astype(np.float64).reshape(readings, len(channels)),
    )


def _read_arrays(
    body: bytes, at: int, forms: Sequence[tuple[Any, Any, Mapping[str, int]]]
) -> list[NDArray[Any]]:
    """Return the arrays that fill `body` from `at` on.

    Args:
        body: A block.
        at: Where its arrays begin.
        forms: Length and type of each array, with the bytes of a number of each allowed type.

    Raises:
        _Damaged: They do not fill it.
        KeyError, TypeError: A type is not allowed.
    """
    sizes = []
    for length, kind, allowed in forms:
        _require(type(length) is int and length > 0, "a block without readings")
        sizes.append(length * allowed[kind])
    _require(at + sum(sizes) == len(body), "the arrays of a block do not fill it")
    found = []
    for (length, kind, _), size in zip(forms, sizes, strict=True):
        found.append(np.frombuffer(body, f"<{kind}", length, at))
        at += size
    return found


def _names(
    header: dict[str, Any],
) -> tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The checked names in a header: stream, channels, senders; raises as `_decode_block`."""
    stream, names, lists = header["s"], header["c"], header["d"]
    are_lists = type(names) is list and type(lists) is list and set(map(type, lists)) == {list}
    _require(are_lists, "channels or senders are no lists")
    channels = tuple(names)
    senders: tuple[tuple[str, str], ...] = tuple(map(tuple, lists))
    is_right = 0 < len(channels) <= MAX_CHANNELS and len(set(channels)) == len(channels)
    _require(is_right and are_names((stream,)) and are_names(channels), "a channel is invalid")
    is_right = len(set(senders)) == len(senders) < _MOST_SENDERS and all(map(_is_sender, senders))
    _require(is_right, "a sender is invalid")
    return stream, channels, senders


@lru_cache(maxsize=16_384)
def _is_sender(names: tuple[str, ...]) -> bool:
    """Whether these are names of a site and a device; cached, because devices send again."""
    return len(names) == 2 and are_names.__wrapped__(names)


def _times(base: Any, differences: NDArray[Any], least: int, most: int) -> NDArray[np.int64]:
    """Return times between two limits; raises _Damaged."""
    is_right = type(base) is int and least <= base and base + int(differences.max()) <= most
    _require(is_right, "a time is invalid")
    times: NDArray[np.int64] = differences.astype(np.int64) + base
    return times


def _require(is_right: Any, problem: str) -> None:
    if not is_right:
        raise _Damaged(problem)
