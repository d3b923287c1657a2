"""The store stage: from the log to a sink, in batches that grow with the backlog.

Topics ``scores``, ``accounts`` and ``labels``::

    record -> offer -> [batch] -> lines or points -> sink confirms -> dead letters durable -> ack

- **A record is acked only after the sink has confirmed all its points**, or after a dead letter
  with the reason is durable in the log; strictly in the order of the records.
- **An unavailable sink is retried without limit.** Meanwhile nothing more is taken from the log
  (`offer` waits), so a backlog of a day costs no memory.
- **Batches grow with the backlog.** Without a backlog, a batch holds the points that arrive while
  the last one is written, or within a moment; with one, it holds `batch_points` points.
- **An unforeseen error never ends the process**, because scoring needs no store. The batch is tried
  again; if records of it fail where others succeed, these become dead letters.
- **A point that the sink will never take** does not stop the store: it becomes a dead letter with
  the sink's reason, and so does an unreadable record. The one exception is the account of a device
  older than the retention of the sink, because every new owner of the device appends it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ingest.backoff import Backoff
from ingest.clock import now_ms, steady_ms
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.secrettext import error_text
from ingest.topics import DEAD_LETTERS, MQTT_PREFIX, Address
from pipeline.errors import SinkError, SinkMisconfigured, SinkUnavailable
from pipeline.points.measurements import DEVICE
from pipeline.stage import Append, Crash, Latency, Stage
from pipeline.stores.prepared import Prepare, Prepared, Record, Work, joined, unreadable
from pipeline.stores.sinks import SINK_BACKOFF, RefusedLine

__all__ = [
    "StoreCounters",
    "StoreStage",
    "deliver",
    "log_unavailable",
]

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r",device=([^, =\\]+).*?,site=([^, =\\]+).*?,stream=([^, =\\]+)[, ]")
_R = TypeVar("_R")

_POINT_BYTES = 300
"""Rough size of a score in the log; batches are cut by bytes before anything is decoded."""
_MOST_RECORDS = 8_192
"""Records waiting in memory; as many records of one score each also fill a batch."""
_SETTLED = 5
"""Share of `linger_ms` without a new record after which a beat has come whole, as 1 / share."""
_UNFORESEEN_TRIES = 3
"""Unforeseen errors of a batch after which its records are tried one at a time."""


class _Unforeseen(Exception):
    """The sink raised an error that it does not promise; `cause` is that error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(error_text(cause, named=True))
        self.cause = cause


@dataclass(slots=True)
class StoreCounters:
    """Counters of a store since its start.

    Attributes:
        refused: Points that became dead letters.
        unreadable: Records or scores that became dead letters.
        tries_failed: Failed writes that were tried again.
        write_seconds: Time in writes.
        sensor_to_stored: Latency from the window's end to the stored point, milliseconds.
    """

    stored: int = 0
    refused: int = 0
    unreadable: int = 0
    records: int = 0
    batches: int = 0
    largest_batch: int = 0
    tries_failed: int = 0
    prepare_seconds: float = 0.0
    write_seconds: float = 0.0
    dead_letters: dict[str, int] = field(default_factory=dict)
    sensor_to_stored: Latency = field(default_factory=Latency)


class StoreStage(Stage):
    """Stores records of the log in one sink.

    Args:
        name: Name of the sink, for messages.
        prepare: See `prepare_lines`, `prepare_points`.
        append: See :data:`pipeline.stage.Append`; for dead letters.
        crash: See :data:`pipeline.stage.Crash`.
        batch_points: Rough limit of points in one write; a record is not divided.
        linger_ms: Longest time for which a write waits for more records, milliseconds.
        backoff: Pauses while the sink is unavailable.
        mqtt_prefix: First levels of the MQTT topics, for the addresses of dead letters.

    Attributes:
        counters: See `StoreCounters`.
        problem: Reason why the sink is unavailable; None while it works.
        away_since_ms: Start of its current outage, epoch milliseconds.
        is_misconfigured: Whether a setting is wrong, so that retrying does not help.
    """

    def __init__(
        self,
        name: str,
        prepare: Prepare,
        append: Append,
        crash: Crash,
        *,
        batch_points: int = 5_000,
        linger_ms: int = 50,
        backoff: Backoff = SINK_BACKOFF,
        mqtt_prefix: str = MQTT_PREFIX,
    ) -> None:
        batch_bytes = batch_points * _POINT_BYTES
        super().__init__(
            f"store-{name}",
            crash,
            max_records=_MOST_RECORDS,
            max_bytes=2 * batch_bytes,
            batch_bytes=batch_bytes,
        )
        self.counters = StoreCounters()
        self.problem: str | None = None
        self.away_since_ms: int | None = None
        self.is_misconfigured = False
        self._sink_name = name
        self._prepare = prepare
        self._append = append
        self._linger_s = linger_ms / 1000
        self._wrote_s = -math.inf
        self._backoff = backoff
        self._mqtt_prefix = mqtt_prefix
        self._unfinished = 0

    @property
    def is_away(self) -> bool:
        """Whether the sink is unavailable."""
        return self.problem is not None

    @property
    def is_working(self) -> bool:
        """Whether an offered record is not acked yet."""
        return bool(self._inbox or self._unfinished)

    async def take_turn(self) -> None:
        """Wait for records and store one batch of them."""
        while not self._inbox:
            await self._wait_for_arrival()
        await self._gather()
        self._wrote_s = time.monotonic()
        await self._store(self._take_batch())

    def close(self) -> None:
        """Stop the writing thread after the app has stopped, even while a write hangs."""
        self._thread.shutdown(wait=False)

    # -- one turn ---------------------------------------------------------------------------

    async def _gather(self) -> None:
        """Wait for the records of a beat, which come within a moment, for `linger_ms` at most.

        The wait ends when none has come for a fifth of that, and the last write began `linger_ms`
        ago: so records seldom wait, and a store never writes more often than 1000 / `linger_ms`
        times a second while it keeps up.
        """
        started = time.monotonic()
        next_s, until_s = self._wrote_s + self._linger_s, started + self._linger_s
        while not self._is_full.is_set:
            waiting, now = len(self._inbox), time.monotonic()
            pause_s = min(max(self._linger_s / _SETTLED, next_s - now), until_s - now)
            if pause_s <= 0:
                return
            await self._linger(pause_s)
            if len(self._inbox) == waiting:
                return

    def _take_batch(self) -> list[Any]:
        events: list[Any] = []
        size = 0
        while self._inbox and size < self._batch_bytes:
            event = self._take()
            size += len(event.message.value)
            events.append(event)
        self._unfinished = len(events)
        return events

    async def _store(self, events: list[Any]) -> None:
        """Store a batch, write its dead letters, then ack it."""
        records = [(event.message.topic, event.message.value) for event in events]
        work = Work(partial(self._prepare_batch, records))
        started = time.perf_counter()
        try:
            refused = await self._write(work)
            batch = work.batch
        except _Unforeseen as exc:
            batch, refused = await self._store_separately(events, exc)
        seconds = time.perf_counter() - started
        dead = [line for line in refused if not _is_old_account(line)]
        await self._write_dead_letters([*batch.dead_letters, *map(self._dead_letter, dead)])
        for event in events:
            event.ack()
        self._unfinished = 0
        counters = self.counters
        counters.records += len(events)
        counters.batches += 1
        counters.largest_batch = max(counters.largest_batch, batch.points)
        counters.stored += batch.points - len(refused)
        counters.refused += len(dead)
        counters.unreadable += len(batch.dead_letters)
        counters.prepare_seconds += work.prepare_seconds
        counters.write_seconds += seconds - work.prepare_seconds
        self._note_latency(batch.end_ms)

    async def _write(
        self, work: Work, unforeseen_tries: int = _UNFORESEEN_TRIES
    ) -> list[RefusedLine]:
        """Write a batch until the sink confirms it; returns the points it will never take."""
        refused = await deliver(
            work.write,
            backoff=self._backoff,
            executor=self._thread,
            on_unavailable=self._on_unavailable,
            unforeseen_tries=unforeseen_tries,
        )
        self._note_success()
        return refused

    def _note_success(self) -> None:
        if self.problem is not None:
            log.warning("sink %s takes points again", self._sink_name)
        self.problem = self.away_since_ms = None
        self.is_misconfigured = False

    def _prepare_batch(self, records: Sequence[Record]) -> Prepared:
        """Prepare a batch; a record on which that fails unforeseen becomes a dead letter."""
        try:
            return self._prepare(records)
        except Exception as exc:
            if len(records) > 1:
                return joined([self._prepare_batch([record]) for record in records])
            log.exception("sink %s: preparing a record failed", self._sink_name)
            detail = f"preparing it failed: {error_text(exc, named=True)}"
            return Prepared(list, 0, (), [unreadable(records[0][1], detail)])

    async def _store_separately(
        self, events: list[Any], error: _Unforeseen
    ) -> tuple[Prepared, list[RefusedLine]]:
        """Store records one at a time after an unforeseen error.

        A record that fails while another one succeeds is at fault itself. While all of them fail,
        the sink is, and they are tried again, once together with new records, which join `events`.
        """
        done: list[Prepared] = []
        refused: list[RefusedLine] = []
        waiting, attempt, first = list(events), _UNFORESEEN_TRIES, len(events)
        while True:
            failing: list[tuple[Any, _Unforeseen]] = []
            for event in waiting:
                record = (event.message.topic, event.message.value)
                work = Work(partial(self._prepare_batch, [record]))
                try:
                    refused += await self._write(work, 1)
                    done.append(work.batch)
                except _Unforeseen as exc:
                    failing.append((event, exc))
            if not failing or any(batch.points for batch in done):
                break
            attempt += 1
            self._on_unavailable(_as_unavailable(error.cause), attempt)
            await asyncio.sleep(self._backoff.delay_ms(attempt, None) / 1000)
            waiting = [event for event, _ in failing]
            if self._inbox and len(events) == first:
                more = self._take_batch()
                events += more
                waiting += more
                self._unfinished = len(events)
        self._note_success()
        flawed = [
            unreadable(event.message.value, f"the sink failed on it: {exc}")
            for event, exc in failing
        ]
        return joined([*done, Prepared(list, 0, (), flawed)]), refused

    def _on_unavailable(self, exc: SinkUnavailable, attempt: int) -> None:
        self.counters.tries_failed += 1
        self.problem = str(exc)
        self.is_misconfigured = isinstance(exc, SinkMisconfigured)
        if self.away_since_ms is None:
            self.away_since_ms = now_ms()
        log_unavailable(exc, attempt)

    def _note_latency(self, end_ms: Sequence[int]) -> None:
        late = now_ms() - np.array(end_ms, np.int64)
        self.counters.sensor_to_stored.record(late, steady_ms())

    # -- dead letters -----------------------------------------------------------------------

    async def _write_dead_letters(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Append dead letters; returns when the log has them durably."""
        confirmations = []
        counts = self.counters.dead_letters
        for dead_letter in dead_letters:
            reason = dead_letter.reason.value
            if counts.get(reason, 0) % 1000 == 0:
                detail = dead_letter.detail
                log.error("sink %s: dead letter, %s: %s", self._sink_name, reason, detail)
            counts[reason] = counts.get(reason, 0) + 1
            value = encode_dead_letter(dead_letter)
            confirmations.append(await self._append(DEAD_LETTERS, 0, value))
        for confirmation in confirmations:
            await confirmation

    def _dead_letter(self, refused: RefusedLine) -> DeadLetter:
        topic = ""
        if found := _ADDRESS.search(refused.line):
            device, site, stream = found.groups()
            topic = Address(site, device, stream).mqtt_topic(self._mqtt_prefix)
        raw = refused.line.encode()
        return DeadLetter(refused.reason, refused.detail, topic, now_ms(), raw, "store")


async def deliver(
    write: Callable[[], _R],
    *,
    backoff: Backoff = SINK_BACKOFF,
    executor: Executor | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    on_unavailable: Callable[[SinkUnavailable, int], None] | None = None,
    unforeseen_tries: int | None = None,
) -> _R:
    """Call `write` in a thread of `executor` until it succeeds; returns its result.

    Retries without limit, because the log keeps the points; cancel it to stop. After a
    cancellation in the middle of a write the points may or may not be stored; write them again.

    Args:
        write: Stores one batch: `LineSink.writing(lines)`, or a call of `Sink.write`.
        backoff: Pauses between tries.
        executor: Threads for the blocking write; one per sink, so that a slow sink affects no
            other.
        sleep: Awaited with seconds between tries; tests pass a virtual one.
        on_unavailable: Called with the error and the number of failed tries (1, 2, ...); by default
            some of them are logged, wrong settings as errors.
        unforeseen_tries: Unforeseen errors after which the call gives up; None: it never does.

    Raises:
        SinkError: A `SinkError` but `SinkUnavailable`; retrying cannot help (a damaged results
            file). Any other exception is unforeseen and treated as `SinkUnavailable`.
    """
    loop = asyncio.get_running_loop()
    attempt = unforeseen = 0
    while True:
        try:
            return await loop.run_in_executor(executor, write)
        except SinkUnavailable as exc:
            attempt += 1
            (on_unavailable or log_unavailable)(exc, attempt)
            delay_ms = backoff.delay_ms(attempt, exc.retry_after_ms)
        except SinkError:
            raise
        except Exception as exc:
            attempt += 1
            unforeseen += 1
            if unforeseen == 1 != unforeseen_tries:
                log.exception("a store failed in an unforeseen way, points wait")
            if unforeseen == unforeseen_tries:
                raise _Unforeseen(exc) from exc
            (on_unavailable or log_unavailable)(_as_unavailable(exc), attempt)
            delay_ms = backoff.delay_ms(attempt, None)
        await sleep(delay_ms / 1000)


def _as_unavailable(error: Exception) -> SinkUnavailable:
    text = f"unforeseen error, please report it: {error_text(error, named=True)}"
    return SinkUnavailable(text)


def log_unavailable(exc: SinkUnavailable, attempt: int) -> None:
    """Log some of the failed tries: an unavailable store rarely, a wrong setting often."""
    if isinstance(exc, SinkMisconfigured):
        if attempt <= 3 or attempt % 10 == 0:
            log.error("a setting must be corrected, points wait (try %d): %s", attempt, exc)
    elif attempt % 10 == 1:
        log.warning("points are not stored yet, they wait (try %d): %s", attempt, exc)


def _is_old_account(refused: RefusedLine) -> bool:
    is_account = refused.line.startswith(f"{DEVICE.name},")
    return is_account and refused.reason is RefusalReason.beyond_retention
