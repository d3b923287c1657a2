"""The skeleton of the scoring stage and the store stage: inbox, work loop, log, latencies.

A stage works behind one Faust agent::

    record -> agent -> Stage.offer -> [batch] -> Stage.take_turn -> ack

`offer` waits while the inbox is full, so back-pressure reaches the log. An exception never leaves
the body of an agent, because Faust would acknowledge the record; `Stage.run` passes an error that
the stage cannot handle to ``crash``, which must stop the worker. Nothing is committed then, and a
restart replays the records.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.clock import now_ms
from pipeline.status.counters import LatencySummary
from pipeline.wakeup import WakeUp

__all__ = [
    "Append",
    "Crash",
    "Latency",
    "Stage",
    "agent_of",
    "appender",
]

log = logging.getLogger(__name__)

Append = Callable[[str, int, bytes], Awaitable[Awaitable[object]]]
"""``await append(topic, partition, value)`` queues a record for the log; awaiting the result waits
until the log has it durably."""

Crash = Callable[[BaseException], Awaitable[None]]
"""Stops the worker because of an error that it cannot handle."""

_PER_OCTAVE = 16  # 2 ** (1/16): a percentile is off by at most 4.5 %
_LOWEST_MS = 0.01
_BUCKETS = 36 * _PER_OCTAVE  # up to 0.01 ms * 2**36, about eight days
_BOUNDS_MS = _LOWEST_MS * 2 ** (np.arange(_BUCKETS) / _PER_OCTAVE)  # upper ends


class Stage:
    """The skeleton of a stage: an inbox with back-pressure, a work loop, one worker thread.

    A subclass implements `take_turn`.

    Args:
        name: Name of the stage, for messages and its thread.
        crash: See :data:`Crash`.
        max_records: Records in the inbox at which `offer` waits.
        max_bytes: Bytes in the inbox at which `offer` waits.
        batch_bytes: Bytes in the inbox that make a full batch.
    """

    def __init__(
        self, name: str, crash: Crash, *, max_records: int, max_bytes: int, batch_bytes: int
    ) -> None:
        self._name = name
        self._crash = crash
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._batch_bytes = batch_bytes
        self._inbox: deque[Any] = deque()
        self._inbox_bytes = 0
        self._arrived = WakeUp()
        self._has_room = WakeUp()
        self._has_room.set()
        self._is_full = WakeUp()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def offer(self, *events: Any) -> None:
        """Take Faust events; returns when there is room for the next ones (back-pressure)."""
        self._inbox.extend(events)
        self._inbox_bytes += sum(len(event.message.value) for event in events)
        self._note_inbox()
        self._arrived.set()
        await self._has_room.wait()

    async def run(self) -> None:
        """Take turns until cancelled; an error that a turn cannot handle goes to ``crash``."""
        try:
            while True:
                await self.take_turn()
        except Exception as exc:
            log.exception("%s stops; a restart replays every unacknowledged record", self._name)
            await self._crash(exc)

    async def take_turn(self) -> None:
        """Wait for work and do one batch of it."""
        raise NotImplementedError

    def _take(self) -> Any:
        """Take the oldest event out of the inbox."""
        event = self._inbox.popleft()
        self._inbox_bytes -= len(event.message.value)
        self._note_inbox()
        return event

    def _clear_inbox(self) -> None:
        self._inbox.clear()
        self._inbox_bytes = 0
        self._note_inbox()

    def _note_inbox(self) -> None:
        """Update the events for waiters on both sides of the inbox."""
        has_room = len(self._inbox) < self._max_records and self._inbox_bytes < self._max_bytes
        if has_room:
            self._has_room.set()
        else:
            self._has_room.clear()
        if self._inbox_bytes >= self._batch_bytes or not has_room:
            self._is_full.set()
        else:
            self._is_full.clear()

    async def _wait_for_arrival(self, timeout_s: float | None = None) -> None:
        """Wait until a record arrives or `_arrived` is set, for `timeout_s` at most."""
        self._arrived.clear()
        await self._arrived.wait(timeout_s)

    async def _linger(self, timeout_s: float) -> None:
        """Wait until the inbox holds a full batch, for `timeout_s` at most."""
        await self._is_full.wait(timeout_s)


def agent_of(app: Any, stage: Stage, topics: Iterable[str]) -> Any:
    """The body of a Faust agent that runs a stage until the app stops.

    It takes whole fetches from the consumer of the app (`Consumer.fetches`), and nothing from its
    stream.

    Args:
        app: The Faust app.
        stage: The stage that gets the events, and acks them.
        topics: The topics of the agent.
    """

    async def run_stage(_stream: Any) -> None:
        working = app.add_future(stage.run())
        try:
            async for events in app.consumer.fetches(topics):
                await stage.offer(*events)
        finally:
            if app.should_stop:
                working.cancel()

    return run_stage


def appender(app: Any) -> Append:
    """Append records through the producer of a Faust app."""

    async def append(topic: str, partition: int, value: bytes) -> Awaitable[object]:
        future: Awaitable[object] = await app.producer.send(
            topic, None, value, partition, now_ms() / 1000, None
        )
        return future

    return append


class Latency:
    """A histogram of the recent past in bounded memory: logarithmic buckets in a ring of slots.

    One thread records, any thread may read; a reader sees each count before or after an addition.
    Values older than `horizon_ms` are dropped slot by slot.
    """

    def __init__(self, horizon_ms: int = 60_000, slots: int = 6) -> None:
        self._slot_ms = max(1, horizon_ms // slots)
        self._slots: deque[tuple[int, NDArray[np.int64], list[float]]] = deque(maxlen=slots)

    def record(self, values_ms: NDArray[Any], steady_ms: int) -> None:
        """Add values, `[n]` for any n; negative ones count as 0, because clocks differ.

        `steady_ms` is monotonic: a clock that was set must not empty or freeze the recent past.
        """
        if not len(values_ms):
            return
        number = steady_ms // self._slot_ms
        if not self._slots or self._slots[-1][0] < number:
            self._slots.append((number, np.zeros(_BUCKETS, np.int64), [0.0]))
        _, counts, top = self._slots[-1]
        buckets = np.minimum(_BOUNDS_MS.searchsorted(values_ms), _BUCKETS - 1)
        counts += np.bincount(buckets, minlength=_BUCKETS)
        top[0] = max(top[0], float(values_ms.max()))

    def summary(self, steady_ms: int) -> LatencySummary:
        """Percentiles of the values within the horizon that ends at `steady_ms`."""
        oldest = steady_ms // self._slot_ms - (self._slots.maxlen or 1) + 1
        recent = [slot for slot in list(self._slots) if slot[0] >= oldest]
        if not recent:
            return LatencySummary()
        merged = np.sum([slot[1] for slot in recent], axis=0)
        count = int(merged.sum())
        top = max(slot[2][0] for slot in recent)
        return LatencySummary(
            count=count,
            p50_ms=min(_percentile(merged, count, 0.50), top),
            p99_ms=min(_percentile(merged, count, 0.99), top),
            max_ms=top,
        )


def _percentile(counts: NDArray[np.int64], total: int, share: float) -> float:
    rank = max(1, math.ceil(total * share))
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    return float(_BOUNDS_MS[bucket])
