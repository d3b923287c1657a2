"""The state of a windower as bytes: compact, versioned, checksummed.

```
magic "KPW3" | crc32 of the rest | spec, channels | numbers | times | receive times | values
             | versions | rate, sizes | resampler | resampled readings as above
```

The formats KPW2 of earlier versions, which knew no resampling, and KPW1, which knew no corrections
either, are read too.

All numbers are little-endian; a series of times is encoded as in `pipeline.windows.series`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SnapshotError
from pipeline.windows.series import Series, cut_bytes, decode_series, encode_series
from pipeline.windows.spec import WindowSpec

__all__ = [
    "GridState",
    "SavedGrids",
    "SavedRows",
    "WindowerState",
    "decode_state",
    "encode_states",
]

_MAGIC = b"KPW3"
_MAGIC_2 = b"KPW2"
_MAGIC_1 = b"KPW1"
_HEAD = struct.Struct("<4sI")
_SPEC = struct.Struct("<5qI?")
_NUMBERS = struct.Struct("<12q4I")
_FORMER_NUMBERS = struct.Struct("<11q3I")
_GRID = struct.Struct("<dIII")
_NUMBER_COLUMNS = np.dtype([("numbers", "<i8", (12,)), ("counts", "<u4", (4,))])
_NO_GRID = _GRID.pack(0.0, 0, 0, 0)


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

    @property
    def numbers(self) -> tuple[int, ...]:
        """The first 12 fields."""
        return _numbers_of(self)


class SavedGrids(NamedTuple):
    """Resampled readings of `k` rows; see `GridState`.

    Attributes:
        rate_hz: Rate of the windows.
        waiting: int64 `[k]`.
        resamplers: int64 `[k, ...]`, with the bytes of `Resampler.snapshot`.
        times: Event times.
        recv: Receive times, as many.
        values: float32 `[n, c + 1]`, row after row.
    """

    rate_hz: float
    waiting: NDArray[np.int64]
    resamplers: NDArray[np.int64]
    times: Series
    recv: Series
    values: NDArray[np.float32]


class SavedRows(NamedTuple):
    """The states of `k` rows as columns; see `WindowerState`.

    Attributes:
        numbers: Its first 12 fields, int64 `[k, 12]`.
        released: int64 `[k]`.
        times: Event times.
        recv: Receive times.
        values: float32 `[n, c]`, as many as receive times.
        versions: Event times and digests, 16 bytes each, of every row.
        grid: None without resampling.
    """

    numbers: NDArray[np.int64]
    released: NDArray[np.int64]
    times: Series
    recv: Series
    values: NDArray[np.float32]
    versions: list[bytes]
    grid: SavedGrids | None


_NUMBER_NAMES = tuple(field.name for field in fields(WindowerState))[:-5]
"""Fields in `_NUMBERS`, in this order, before the counts of times, of rows and of versions."""
_numbers_of = attrgetter(*_NUMBER_NAMES[:-1])
_FORMER_NAMES = tuple(name for name in _NUMBER_NAMES if name != "corrected")


def encode_states(spec: WindowSpec, channels: int, rows: SavedRows) -> list[bytes]:
    """Encode rows as snapshots, many at once; equal states give equal bytes."""
    head = _SPEC.pack(*_fingerprint(spec, channels))
    numbers = np.empty(len(rows.numbers), dtype=_NUMBER_COLUMNS)
    numbers["numbers"] = rows.numbers
    numbers["counts"][:, 0] = rows.released
    numbers["counts"][:, 1] = rows.times.counts
    numbers["counts"][:, 2] = rows.recv.counts
    numbers["counts"][:, 3] = [len(each) // 16 for each in rows.versions]
    grids = [_NO_GRID] * len(numbers) if rows.grid is None else _encode_grids(rows.grid)
    parts = zip(
        cut_bytes(numbers, np.arange(1, len(numbers) + 1)),
        *encode_series(rows.times),
        *encode_series(rows.recv),
        cut_bytes(rows.values.astype("<f4", copy=False), rows.recv.counts.cumsum()),
        rows.versions,
        grids,
        strict=True,
    )
    bodies = (b"".join((head, *each)) for each in parts)
    return [_HEAD.pack(_MAGIC, zlib.crc32(body)) + body for body in bodies]


def decode_state(spec: WindowSpec, channels: int, data: bytes) -> WindowerState:
    """Read one output of `encode_states` for the same windows.

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
        ts_ms, at = decode_series(body, at, times)
        recv_ms, at = decode_series(body, at, rows)
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


def _encode_grids(grid: SavedGrids) -> list[bytes]:
    sizes = grid.times.counts.tolist()
    resampler = grid.resamplers.shape[1] * 8
    parts = zip(
        (
            _GRID.pack(grid.rate_hz, waiting, resampler, size)
            for waiting, size in zip(grid.waiting.tolist(), sizes, strict=True)
        ),
        cut_bytes(grid.resamplers, np.arange(1, len(sizes) + 1)),
        *encode_series(grid.times),
        *encode_series(grid.recv),
        cut_bytes(grid.values.astype("<f4", copy=False), grid.times.counts.cumsum()),
        strict=True,
    )
    return [b"".join(each) for each in parts]


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
    ts_ms, at = decode_series(body, at + size, rows)
    recv_ms, at = decode_series(body, at, rows)
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
