"""The newest raw readings of a device, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RefusedMessage
from ingest.messages import Batch, columns
from pipeline.explain.logscan import LogScan, LogSource
from pipeline.explain.scores import DeviceStream

__all__ = ["RecentReadings", "newest_readings"]


@dataclass(frozen=True, slots=True, eq=False)
class RecentReadings:
    """Readings in order of event time.

    Attributes:
        channels: Names of the channels.
        ts_ms: [n] int64 event times, ascending, each once.
        values: [n, channels] float32 in raw units.
    """

    channels: tuple[str, ...]
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float32]


def newest_readings(
    source: LogSource,
    where: DeviceStream,
    channels: Sequence[str] | None,
    last: int,
    max_bytes: int,
) -> RecentReadings:
    """The `last` readings that came in last; fewer if the log has no more within `max_bytes`.

    Of several readings with one event time, the first that came counts, as in windows. A message
    without one of the channels is left out.

    Args:
        source: The log.
        where: Device and stream.
        channels: Channels, in order; None: those of the newest message.
        last: Number of readings, at least 1.
        max_bytes: See `LogScan`.

    Raises:
        LogError: The log cannot be read.
    """
    times: list[NDArray[np.int64]] = []
    tables: list[NDArray[np.float32]] = []
    found = 0
    for item in LogScan(source, where, max_bytes):
        if not isinstance(item, Batch):
            continue
        if channels is None:
            channels = tuple(item.values)
        try:
            tables.append(columns(item, channels))
        except RefusedMessage:
            continue
        times.append(item.ts_ms)
        found += len(item.ts_ms)
        if found >= last:
            break
    names = tuple(channels or ())
    if not times:
        empty = np.empty((0, len(names)), dtype=np.float32)
        return RecentReadings(names, np.empty(0, dtype=np.int64), empty)
    ts_ms, first = np.unique(np.concatenate(times[::-1]), return_index=True)
    values = np.concatenate(tables[::-1])[first]
    return RecentReadings(names, ts_ms[-last:], values[-last:])
