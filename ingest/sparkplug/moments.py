"""Moments that come in several messages: a reading waits until it is complete. Pure.

A node may send one moment in several messages, each with some metrics and the same timestamp. A
reading made of the first one would carry old values for the rest. So the newest reading of a stream
waits until

- all metrics of the stream have come with its timestamp, or
- a reading with a later timestamp follows, or
- the wait is over: most nodes report changes only, and nothing else comes, or
- the device is born or dies, or messages are missing.

Then it is taken as it is. What comes for its moment after that corrects it in the windows
(`pipeline.windows.windower`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ingest.sparkplug.data import Columns, Update
from ingest.sparkplug.nodes import Device, Moment, Plan

__all__ = ["due_moments", "hold_newest"]


class _Newest(NamedTuple):
    """The newest reading of a message in one stream."""

    ts_ms: int
    row: list[float]
    names: frozenset[str]


def hold_newest(
    device: Device, columns: Columns, updates: Sequence[Update], recv_ms: int
) -> Columns:
    """Hold back the newest reading of each stream while it is incomplete; return the others.

    Args:
        device: Its moments change.
        columns: Readings of a message.
        updates: The metrics that they were made of.
        recv_ms: Time of receipt; the wait of a moment begins with its first message.
    """
    reported: dict[int, set[str]] = {}
    for ts_ms, name, _ in updates:
        if ts_ms is not None:
            reported.setdefault(ts_ms, set()).add(name)
    taken: Columns = {}
    for plan, (times, rows) in columns.items():
        held = device.moments.get(plan.stream)
        names = frozenset(plan.metrics).intersection(reported[times[-1]])
        newest = _Newest(times[-1], rows[-1], names)
        ready = list(zip(times[:-1], rows[:-1], strict=True))
        if held is not None and held.ts_ms > newest.ts_ms:
            taken[plan] = (times, rows)
            continue
        since_ms = recv_ms
        if held is not None and held.ts_ms == newest.ts_ms:
            newest = newest._replace(names=newest.names | held.names)
            since_ms = held.since_ms
        elif held is not None and held.ts_ms not in times:
            ready = sorted([(held.ts_ms, held.row), *ready], key=lambda reading: reading[0])
        if newest.names.issuperset(plan.metrics):
            ready.append((newest.ts_ms, newest.row))
            device.moments.pop(plan.stream, None)
        else:
            device.moments[plan.stream] = Moment(
                newest.ts_ms, newest.row, newest.names, plan.channels, since_ms
            )
        if ready:
            taken[plan] = ([ts_ms for ts_ms, _ in ready], [row for _, row in ready])
    return taken


def due_moments(device: Device, now_ms: int | None, wait_ms: int) -> Columns:
    """Return the moments whose wait is over, and forget them.

    Args:
        device: Its moments change.
        now_ms: The time; None: all of them are due. A wait that began in the future is over,
            because the clock was set back.
        wait_ms: Longest wait.
    """
    taken: Columns = {}
    for stream, held in list(device.moments.items()):
        if now_ms is None or not 0 <= now_ms - held.since_ms < wait_ms:
            del device.moments[stream]
            taken[Plan(stream, held.channels, ())] = ([held.ts_ms], [held.row])
    return taken
