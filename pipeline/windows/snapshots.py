"""The state of a windower as bytes: compact, versioned, checksummed.

```
magic "KPW3" | crc32 of the rest | spec, channels | numbers | times | receive times | values
             | versions | rate, sizes | resampler | resampled readings as above
```

The formats KPW2 of earlier versions, which knew no resampling, and KPW1, which knew no corrections
either, are read too.

All numbers are little-endian. A series of times is its first value, its smallest step, and the
excess of each step in the smallest unsigned width that holds it, so a regular series takes 18 bytes
whatever its length.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SnapshotError
from pipeline.windows.spec import WindowSpec

__all__ = ["GridState", "WindowerState", "decode_state", "encode_state"]

_MAGIC = b"KPW3"
_MAGIC_2 = b"KPW2"
_MAGIC_1 = b"KPW1"
_HEAD = struct.Struct("<4sI")
_SPEC = struct.Struct("<5qI?")
_NUMBERS = struct.Struct("<12q4I")
_FORMER_NUMBERS = struct.Struct("<11q3I")
_GRID = struct.Struct("<dIII")
_SERIES = struct.Struct("<qqH")
_WIDTHS = (0, 1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class GridState:
    """The state of a `GridCutter` without its spec.

    Attributes:
        rate_hz: Rate of the windows.
        waiting: Number of released readings that are not resampled yet.
        resampler: See `Resampler.snapshot`.
        ts_ms: Event times of the resampled readings that a coming window needs, int64 `[g]`.
        recv_ms: Their receive times, int64 `[g]`.
        values: Their values and numbers of real readings, float32 `[g, c + 1]`.
    """

    rate_hz: float
    waiting: int
    resampler: bytes
    ts_ms: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowerState:
    """The state of one row of a slab without its spec.

    Attributes:
        watermark_ms: See `StreamSlab`.
        max_event_ms: See `StreamSlab`.
        last_recv_ms: Latest receive time of a message with an accepted reading; never later than
            the last tick.
        run: Number of readings released in the current run.
        next_close: Number of readings of the run at which the next count window closes.
        windowed: Counter.
        duplicate: Counter.
        late: Counter.
        future: Counter.
        gaps: Counter.
        windows: Counter.
        corrected: Counter.
        released: Number of `ts_ms` that the watermark has passed.
        ts_ms: Remembered and pending event times, int64 `[m]`, ascending.
        recv_ms: Receive times of the last k of them, int64 `[k]`.
        values: Values of the last k of them, float32 `[k, c]`.
        versions: Event times and digests of other versions of readings, int64 `[v, 2]`.
        grid: The resampled readings; None without resampling.
    """

    watermark_ms: int
    max_event_ms: int
    last_recv_ms: int
    run: int
    next_close: int
    windowed: int
    duplicate: int
    late: int
    future: int
    gaps: int
    windows: int
    corrected: int
    released: int
    ts_ms: NDArray[np.int64]
    recv_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    versions: NDArray[np.int64]
    grid: GridState | None = None


_NUMBER_NAMES = tuple(field.name for field in fields(WindowerState))[:-5]
"""Fields in `_NUMBERS`, in this order, before the counts of times, of rows and of versions."""
_FORMER_NAMES = tuple(name for name in _NUMBER_NAMES if name != "corrected")


def encode_state(spec: WindowSpec, channels: int, state: WindowerState) -> bytes:
    """Encode `state` as a snapshot; equal states give equal bytes."""
    body = b"".join(
        (
            _SPEC.pack(*_fingerprint(spec, channels)),
            _NUMBERS.pack(
                *(getattr(state, name) for name in _NUMBER_NAMES),
                len(state.ts_ms),
                len(state.recv_ms),
                len(state.versions),
            ),
            _encode_series(state.ts_ms),
            _encode_series(state.recv_ms),
            state.values.astype("<f4", copy=False).tobytes(),
            state.versions.astype("<i8", copy=False).tobytes(),
            _encode_grid(state.grid),
        )
    )
    return _HEAD.pack(_MAGIC, zlib.crc32(body)) + body


def decode_state(spec: WindowSpec, channels: int, data: bytes) -> WindowerState:
    """Read the output of `encode_state` for the same windows.

    Raises:
        SnapshotError: `data` is anything else; the message names the flaw.
    """
    try:
        magic, checksum = _HEAD.unpack_from(data)
        if magic not in (_MAGIC, _MAGIC_2, _MAGIC_1):
            msg = f"window snapshot begins with {magic!r}, but this version reads {_MAGIC!r}"
            raise SnapshotError(msg)
        body = data[_HEAD.size :]
        if zlib.crc32(body) != checksum:
            msg = f"window snapshot of {len(data)} bytes is damaged: its checksum does not match"
            raise SnapshotError(msg)
        found, wanted = _SPEC.unpack_from(body), _fingerprint(spec, channels)
        if found != wanted:
            needed = _described(wanted)
            msg = f"window snapshot has {_described(found)}, but the student needs {needed}"
            raise SnapshotError(msg)
        numbers, at = _decode_numbers(body, is_former=magic == _MAGIC_1)
        times, rows, count = (numbers.pop(name) for name in ("times", "rows", "versions"))
        ts_ms, at = _decode_series(body, at, times)
        recv_ms, at = _decode_series(body, at, rows)
        values = np.frombuffer(body, dtype="<f4", count=rows * channels, offset=at)
        at += values.nbytes
        versions = np.frombuffer(body, dtype="<i8", count=2 * count, offset=at)
        at += versions.nbytes
        grid, at = _decode_grid(body, at, channels) if magic == _MAGIC else (None, at)
    except (struct.error, TypeError, ValueError) as exc:
        msg = f"window snapshot of {len(data)} bytes is truncated or damaged: {exc}"
        raise SnapshotError(msg) from exc
    if at != len(body) or not (numbers["released"] <= times and rows <= times):
        msg = f"window snapshot of {len(data)} bytes has the wrong length for its readings"
        raise SnapshotError(msg)
    return WindowerState(
        **numbers,
        ts_ms=ts_ms,
        recv_ms=recv_ms,
        values=values.reshape(rows, channels).astype(np.float32),
        versions=versions.reshape(count, 2).astype(np.int64),
        grid=grid,
    )


def _encode_grid(grid: GridState | None) -> bytes:
    if grid is None:
        return _GRID.pack(0.0, 0, 0, 0)
    return b"".join(
        (
            _GRID.pack(grid.rate_hz, grid.waiting, len(grid.resampler), len(grid.ts_ms)),
            grid.resampler,
            _encode_series(grid.ts_ms),
            _encode_series(grid.recv_ms),
            grid.values.astype("<f4", copy=False).tobytes(),
        )
    )


def _decode_grid(body: bytes, at: int, channels: int) -> tuple[GridState | None, int]:
    """Decode the resampled readings at `at`; returns them and the end of what was read.

    Raises:
        struct.error: The body is too short.
        ValueError: The body is too short.
    """
    rate_hz, waiting, size, rows = _GRID.unpack_from(body, at)
    at += _GRID.size
    if rate_hz == 0.0:
        return None, at
    resampler = body[at : at + size]
    ts_ms, at = _decode_series(body, at + size, rows)
    recv_ms, at = _decode_series(body, at, rows)
    values = np.frombuffer(body, dtype="<f4", count=rows * (channels + 1), offset=at)
    table = values.reshape(rows, channels + 1).astype(np.float32)
    return GridState(rate_hz, waiting, resampler, ts_ms, recv_ms, table), at + values.nbytes


def _decode_numbers(body: bytes, *, is_former: bool) -> tuple[dict[str, int], int]:
    """Decode the numbers and the counts of what follows; returns them and where that begins.

    Raises:
        struct.error: The body is too short.
    """
    layout = _FORMER_NUMBERS if is_former else _NUMBERS
    names = (*(_FORMER_NAMES if is_former else _NUMBER_NAMES), "times", "rows", "versions")
    found = layout.unpack_from(body, _SPEC.size)
    numbers = {"corrected": 0, "versions": 0} | dict(zip(names, found, strict=False))
    return numbers, _SPEC.size + layout.size


def _fingerprint(spec: WindowSpec, channels: int) -> tuple[int, int, int, int, int, int, bool]:
    """The parts of the spec that a state depends on."""
    numbers = (spec.length, spec.hop, spec.min_readings, spec.length_ms, spec.hop_ms)
    return (*numbers, channels, spec.kind == "time")


def _described(fingerprint: tuple[int, ...]) -> str:
    length, hop, min_readings, length_ms, hop_ms, channels, timed = fingerprint
    size = f"length_ms={length_ms} hop_ms={hop_ms}" if timed else f"length={length} hop={hop}"
    return f"{size} min_readings={min_readings} channels={channels}"


def _encode_series(series: NDArray[np.int64]) -> bytes:
    """Encode int64 values with |step| < 2**63 as first value, smallest step and excesses."""
    if len(series) == 0:
        return b""
    steps = np.diff(series)
    lowest = int(steps.min()) if len(steps) else 0
    above = steps - lowest
    highest = int(above.max()) if len(above) else 0
    width = next(width for width in _WIDTHS if highest < 1 << 8 * width)
    packed = above.astype(f"<u{width}").tobytes() if width else b""
    return _SERIES.pack(int(series[0]), lowest, width) + packed


def _decode_series(body: bytes, at: int, length: int) -> tuple[NDArray[np.int64], int]:
    """Decode the series of `length` at `at`; returns it and the start of the next one.

    Raises:
        ValueError: The body is too short.
    """
    if length == 0:
        return np.empty(0, dtype=np.int64), at
    first, lowest, width = _SERIES.unpack_from(body, at)
    at += _SERIES.size
    series = np.empty(length, dtype=np.int64)
    series[0] = first
    series[1:] = lowest
    if width:
        above = np.frombuffer(body, dtype=f"<u{width}", count=length - 1, offset=at)
        series[1:] += above.astype(np.int64)
        at += above.nbytes
    return np.cumsum(series), at
