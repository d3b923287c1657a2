"""The window of a score, cut once more from the readings in the log.

The stream's own rules decide again which readings are late, duplicates or too far in the
future. It starts somewhat before the window instead of at the first reading of the device, and with
a hop of one reading, because the phase of the hop is not known there; the window asked for is then
among the windows that close. The grid of a resampled window begins where the score says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RefusedMessage
from ingest.messages import Batch, Tick, columns
from pipeline.errors import ReadingsGone
from pipeline.explain.logscan import LogScan, LogSource
from pipeline.explain.scores import StoredScore, utc
from pipeline.windows.slab import StreamSlab
from pipeline.windows.slabwindows import SlabWindows
from pipeline.windows.spec import WindowSpec

__all__ = ["RebuiltWindow", "rebuild_window"]

_FOREVER_MS = 2**52
"""A tick after every receive time; it releases what still waits for the watermark."""


_MORE = 256
"""Readings from before the window that are read beyond its length: an earlier message decides about
a late reading only if fewer than this came in between."""


@dataclass(frozen=True, slots=True, eq=False)
class RebuiltWindow:
    """The readings that were scored.

    Attributes:
        values: [length, channels] float32 in raw units, front-padded like the window.
        ts_ms: [length] int64 event times; padding has that of the first reading. Those of a
            resampled window are equally far apart.
    """

    values: NDArray[np.float32]
    ts_ms: NDArray[np.int64]


def rebuild_window(
    source: LogSource, score: StoredScore, spec: WindowSpec, channels: Sequence[str], max_bytes: int
) -> RebuiltWindow:
    """Cut the window of a score from the log.

    Args:
        source: The log.
        score: The score.
        spec: Rules by which the window was cut, with a rate if it was resampled.
        channels: Channels of the window, in model order.
        max_bytes: Size of the log to search, from its end.

    Raises:
        ReadingsGone: Readings of the window are not in the log, or not within `max_bytes`.
        LogError: The log cannot be read.
    """
    scan = LogScan(source, score.where, max_bytes)
    items = list(_needed(scan, score, spec))[::-1]
    slab = StreamSlab(replace(spec, hop=1), len(channels) + 1)
    row = slab.add(run_ms=score.run_ms)
    times: list[int] = []
    for windows in _windows(slab, row, items, channels, times):
        found = (windows.start_ms == score.start_ms) & (windows.end_ms == score.end_ms)
        if found.any():
            values = windows.values[int(found.argmax())]
            if spec.rate_hz is None:
                # The last channel counts the event times; float32 holds whole numbers to 2^24.
                ts_ms = np.array(times, dtype=np.int64)[values[:, -1].astype(np.int64)]
            else:
                ts_ms = _grid_times(score, len(values), spec.rate_hz)
            return RebuiltWindow(np.ascontiguousarray(values[:, :-1]), ts_ms)
    where = "/".join(score.where)
    span = f"from {utc(score.start_ms)} to {utc(score.end_ms - 1)}"
    if scan.cut_short:
        msg = (
            f"the readings of {where} {span} lie behind the last {max_bytes // 10**6} MB of the "
            "log, which is as far as is searched here: use `kpstream explain`"
        )
        raise ReadingsGone(msg)
    msg = (
        f"the log no longer holds all readings of {where} {span}; it keeps them for "
        "KPSTREAM_GATEWAY_LOG_HOURS"
    )
    raise ReadingsGone(msg)


def _grid_times(score: StoredScore, length: int, rate_hz: float) -> NDArray[np.int64]:
    """The event times of a resampled window, equally far apart; padding has the first of them."""
    span_ms = score.end_ms - 1 - score.start_ms
    steps = round(span_ms * rate_hz / 1000)
    numbers = np.maximum(np.arange(length) - length + 1 + steps, 0)
    return score.start_ms + np.rint(numbers * (span_ms / max(steps, 1))).astype(np.int64)


def _needed(scan: LogScan, score: StoredScore, spec: WindowSpec) -> Iterator[Batch | Tick]:
    """What decides about the window, newest first, until enough was seen from before it.

    Of the messages after the window only their newest reading counts, because it may have moved the
    watermark past readings that came still later. One of several in a row is enough. The last
    reading of a resampled window depends on the next readings too.
    """
    before = 0
    until_ms = score.end_ms + _lookahead_ms(spec)
    after: Batch | None = None
    for item in scan:
        if isinstance(item, Batch) and (ahead := _after(item, until_ms, spec)) is not None:
            if after is None or ahead.ts_ms[0] > after.ts_ms[0]:
                after = ahead
            continue
        if after is not None:
            yield after
            after = None
        yield item
        if isinstance(item, Batch):
            before += int((item.ts_ms < score.start_ms).sum())
            if before > spec.length + _MORE:
                return
    if after is not None:
        yield after


def _lookahead_ms(spec: WindowSpec) -> int:
    """How far after a window readings can lie that decide about its values."""
    if spec.rate_hz is None or spec.longest_step_ms is None:
        return 0
    # The next reading, the rest of its cell, and the reading that ends that cell.
    return 2 * spec.longest_step_ms + math.ceil(1000 / spec.rate_hz)


def _after(batch: Batch, until_ms: int, spec: WindowSpec) -> Batch | None:
    """The newest reading of a batch that lies after `until_ms` as a whole; else None."""
    if int(batch.ts_ms.min()) < until_ms:
        return None
    accepted = np.where(batch.ts_ms <= batch.recv_ms + spec.future_ms, batch.ts_ms, -1)
    at = int(accepted.argmax())
    values = {name: (column[at],) for name, column in batch.values.items()}
    return replace(batch, ts_ms=batch.ts_ms[at : at + 1], values=values)


def _windows(
    slab: StreamSlab,
    row: int,
    items: Sequence[Batch | Tick],
    channels: Sequence[str],
    times: list[int],
) -> Iterator[SlabWindows]:
    """Windows with one more channel, the place of each event time in `times`, which is filled.

    All versions of a reading have the same place, so that the slab compares their values only.
    """
    rows = np.array([row], dtype=np.int32)
    place: dict[int, int] = {}
    for item in items:
        if isinstance(item, Tick):
            if slab.pending(rows)[0]:
                yield from slab.advance(rows, item.now_ms, item.since_ms)[0]
            continue
        try:
            values = columns(item, channels)
        except RefusedMessage:  # it became a dead letter
            continue
        found = [place.setdefault(ts_ms, len(place)) for ts_ms in item.ts_ms.tolist()]
        times.extend(islice(place, len(times), None))
        numbers = np.array(found, dtype=np.float32)
        table = np.concatenate([values, numbers[:, None]], axis=1)
        recv_ms = np.array([item.recv_ms], dtype=np.int64)
        yield from slab.step(rows, np.array([len(table)]), item.ts_ms, table, recv_ms).windows
    yield from slab.advance(rows, _FOREVER_MS, 0)[0]
