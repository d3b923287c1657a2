"""The windows of a labelled span, cut once more from the readings in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RefusedMessage
from ingest.messages import Batch, columns
from pipeline.errors import ReadingsGone
from pipeline.explain.logscan import LogScan, LogSource
from pipeline.explain.scores import DeviceStream
from pipeline.windows.spec import WindowSpec, slice_windows

__all__ = ["span_windows"]

_AFTER_MS = 600_000
"""How much later than the span a batch may be received and still be looked at."""


def span_windows(
    source: LogSource,
    where: DeviceStream,
    channels: Sequence[str],
    spec: WindowSpec,
    span_ms: tuple[int, int],
    *,
    most: int,
    max_bytes: int,
) -> NDArray[np.float32]:
    """Cut the windows that lie in a span as a whole, at most `most` of them, evenly over the span.

    Args:
        source: The log.
        where: Device and stream.
        channels: Channels of a window, in the order of the student.
        spec: How the stream is windowed. Windows begin at the beginning of the span, with half a
            window from one to the next at most.
        span_ms: Beginning and end, the end exclusive, epoch milliseconds.
        most: Windows wanted.
        max_bytes: Size of the log to search, from its end.

    Returns:
        `[n, length, channels]` float32, raw, n at least 1.

    Raises:
        ReadingsGone: The log has no whole window of the span; the message says how long one is.
        LogError: The log cannot be read.
    """
    from_ms, to_ms = span_ms
    times: list[NDArray[np.int64]] = []
    tables: list[NDArray[np.float32]] = []
    received: list[NDArray[np.int64]] = []
    for item in LogScan(source, where, max_bytes):
        if not isinstance(item, Batch):
            continue
        if item.recv_ms < from_ms - _AFTER_MS:
            break
        inside = (item.ts_ms >= from_ms) & (item.ts_ms < to_ms)
        if not inside.any():
            continue
        try:
            table = columns(item, channels)
        except RefusedMessage:
            continue
        times.append(item.ts_ms[inside])
        tables.append(table[inside])
        received.append(np.full(int(inside.sum()), item.recv_ms, dtype=np.int64))
    whole = replace(spec, hop=min(spec.hop, max(1, spec.length // 2)), min_readings=spec.length)
    found = []
    if times:
        ts_ms, recv_ms = (np.concatenate(each[::-1]) for each in (times, received))
        found = slice_windows(ts_ms, np.concatenate(tables[::-1]), whole, recv_ms)
    if not found:
        where_text, readings = "/".join(where), sum(map(len, times))
        msg = (
            f"the log has {readings} readings of {where_text} in this span, and no whole window "
            f"of {spec.length}: mark a longer span, and a recent one"
        )
        raise ReadingsGone(msg)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).astype(int))
    return np.stack([found[at].values for at in chosen]).astype(np.float32)
