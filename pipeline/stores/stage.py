"""The store stage: from the log to a sink, in batches that grow with the backlog.

Topics ``scores``, ``accounts`` and ``labels``::

    record -> offer -> [batch] -> lines or points -> sink confirms -> dead letters durable -> ack

- **A record is acked only after the sink has confirmed all its points**, or after a dead letter
  with the reason is durable in the log; strictly in the order of the records.
- **An unavailable sink is retried without limit.** Meanwhile nothing more is taken from the log
  (`offer` waits), so a backlog of a day costs no memory.
- **Batches grow with the backlog.** Without a backlog, a batch holds the points that arrive while
  the last one is written, plus `linger_ms`; with one, it holds `batch_points` points.
- **An unforeseen error never ends the process**, because scoring needs no store. The batch is tried
  again; if records of it fail where others succeed, these become dead letters.
- **A point that the sink will never take** does not stop the store: it becomes a dead letter with
  the sink's reason, and so does an unreadable record. The one exception is the account of a device
  older than the retention of the sink, because every new owner of the device appends it again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ingest.backoff import Backoff
from ingest.clock import now_ms, steady_ms
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.secrettext import error_text
from ingest.topics import ACCOUNTS, DEAD_LETTERS, LABELS, MQTT_PREFIX, Address
from pipeline.errors import PointError, SinkError, SinkMisconfigured, SinkUnavailable
from pipeline.points.labels import read_label_point
from pipeline.points.lines import to_line
from pipeline.points.measurements import DEVICE
from pipeline.points.points import Point
from pipeline.points.scorelines import ScoreLines, score_lines
from pipeline.points.scores import ScorePoints, score_points
from pipeline.stage import Append, Crash, Latency, Stage
from pipeline.stores.sinks import SINK_BACKOFF, LineSink, RefusedLine, Sink

__all__ = [
    "Prepare",
    "Prepared",
    "StoreCounters",
    "StoreStage",
    "deliver",
    "log_unavailable",
    "prepare_lines",
    "prepare_points",
]

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r",device=([^, =\\]+).*?,site=([^, =\\]+).*?,stream=([^, =\\]+)[, ]")
_R = TypeVar("_R")

_POINT_BYTES = 300
"""Rough size of a score in the log; batches are cut by bytes before anything is decoded."""
_MOST_RECORDS = 8_192
"""Records waiting in memory; as many records of one score each also fill a batch."""
_MOST_TIMED = 500
"""Scores of a batch whose latency is recorded."""
_UNFORESEEN_TRIES = 3
"""Unforeseen errors of a batch after which its records are tried one at a time."""


class _Unforeseen(Exception):
    """The sink raised an error that it does not promise; `cause` is that error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(error_text(cause, named=True))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch, ready to be written.

    Attributes:
        write: Stores the batch, blocking; called again after `SinkUnavailable`, it continues.
        points: Number of points.
        end_ms: End of each score's window, epoch milliseconds, for the latency.
        dead_letters: Records of the batch that are unreadable.
    """

    write: Callable[[], list[RefusedLine]]
    points: int
    end_ms: Sequence[int]
    dead_letters: Sequence[DeadLetter]


Record = tuple[str, bytes]
"""Topic and value."""
Prepare = Callable[[Sequence[Record]], Prepared]


def prepare_lines(sink: LineSink) -> Prepare:
    """Prepare writes for a sink that takes lines, such as InfluxDB; the fast way."""

    def prepare(records: Sequence[Record]) -> Prepared:
        found = ScoreLines()
        dead_letters: list[DeadLetter] = []
        others: list[str] = []
        for topic, value in records:
            try:
                if topic == ACCOUNTS:
                    others += value.decode().splitlines()
                elif topic == LABELS:
                    others.append(to_line(read_label_point(value)))
                else:
                    score_lines(value, found)
            except (PointError, UnicodeDecodeError) as exc:
                dead_letters.append(_unreadable(value, str(exc)))
        dead_letters += [_unreadable(flawed.raw, flawed.detail) for flawed in found.flawed]
        lines = found.lines + others if others else found.lines
        return Prepared(sink.writing(lines), len(lines), found.end_ms, dead_letters)

    return prepare


def prepare_points(sink: Sink) -> Prepare:
    """Prepare writes for a sink that takes points, such as the results file.

    Accounts are not stored there.
    """

    def prepare(records: Sequence[Record]) -> Prepared:
        found = ScorePoints()
        labels: list[Point] = []
        dead_letters: list[DeadLetter] = []
        for topic, value in records:
            try:
                if topic == LABELS:
                    labels.append(read_label_point(value))
                elif topic != ACCOUNTS:
                    score_points(value, found)
            except PointError as exc:
                dead_letters.append(_unreadable(value, str(exc)))
        dead_letters += [_unreadable(flawed.raw, flawed.detail) for flawed in found.flawed]
        points = [*found.points, *labels]

        def write() -> list[RefusedLine]:
            refused = sink.write(points) if points else []
            why = RefusalReason.refused_point
            return [RefusedLine(to_line(item.point), why, item.reason) for item in refused]

        return Prepared(write, len(points), found.end_ms, dead_letters)

    return prepare


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
        linger_ms: Milliseconds for which a write waits for more records.
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
        await self._linger(self._linger_s)
        await self._store(self._take_batch())

    def close(self) -> None:
        """Stop the writing thread after the app has stopped, even while a write hangs."""
        self._thread.shutdown(wait=False)

    # -- one turn ---------------------------------------------------------------------------

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
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        batch = await loop.run_in_executor(self._thread, self._prepare_batch, records)
        prepared = time.perf_counter()
        try:
            refused = await self._write(batch)
        except _Unforeseen as exc:
            batch, refused = await self._store_separately(events, exc)
        written = time.perf_counter()
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
        counters.prepare_seconds += prepared - started
        counters.write_seconds += written - prepared
        self._note_latency(batch.end_ms)

    async def _write(
        self, batch: Prepared, unforeseen_tries: int = _UNFORESEEN_TRIES
    ) -> list[RefusedLine]:
        """Write a batch until the sink confirms it; returns the points it will never take."""
        refused: list[RefusedLine] = []
        if batch.points:
            refused = await deliver(
                batch.write,
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
                return _joined([self._prepare_batch([record]) for record in records])
            log.exception("sink %s: preparing a record failed", self._sink_name)
            detail = f"preparing it failed: {error_text(exc, named=True)}"
            return Prepared(list, 0, (), [_unreadable(records[0][1], detail)])

    async def _store_separately(
        self, events: list[Any], error: _Unforeseen
    ) -> tuple[Prepared, list[RefusedLine]]:
        """Store records one at a time after an unforeseen error.

        A record that fails while another one succeeds is at fault itself. While all of them fail,
        the sink is, and they are tried again, once together with new records, which join `events`.
        """
        loop = asyncio.get_running_loop()
        done: list[Prepared] = []
        refused: list[RefusedLine] = []
        waiting, attempt, first = list(events), _UNFORESEEN_TRIES, len(events)
        while True:
            failing: list[tuple[Any, _Unforeseen]] = []
            for event in waiting:
                record = (event.message.topic, event.message.value)
                batch = await loop.run_in_executor(self._thread, self._prepare_batch, [record])
                try:
                    refused += await self._write(batch, 1)
                    done.append(batch)
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
            _unreadable(event.message.value, f"the sink failed on it: {exc}")
            for event, exc in failing
        ]
        return _joined([*done, Prepared(list, 0, (), flawed)]), refused

    def _on_unavailable(self, exc: SinkUnavailable, attempt: int) -> None:
        self.counters.tries_failed += 1
        self.problem = str(exc)
        self.is_misconfigured = isinstance(exc, SinkMisconfigured)
        if self.away_since_ms is None:
            self.away_since_ms = now_ms()
        log_unavailable(exc, attempt)

    def _note_latency(self, end_ms: Sequence[int]) -> None:
        """Sample large batches; only a backlog produces them, so precision does not matter."""
        now, steady, step = now_ms(), steady_ms(), 1 + len(end_ms) // _MOST_TIMED
        for end in end_ms[::step]:
            self.counters.sensor_to_stored.record(now - end, steady, step)

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


def _joined(parts: Sequence[Prepared]) -> Prepared:
    """Return one batch that writes several, and continues after `SinkUnavailable`."""
    waiting = list(parts)
    refused: list[RefusedLine] = []

    def write() -> list[RefusedLine]:
        while waiting:
            refused.extend(waiting[0].write())
            waiting.pop(0)
        return refused

    return Prepared(
        write,
        sum(part.points for part in parts),
        [end for part in parts for end in part.end_ms],
        [letter for part in parts for letter in part.dead_letters],
    )


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


def _unreadable(raw: bytes, detail: str) -> DeadLetter:
    return DeadLetter(RefusalReason.unreadable, detail, "", now_ms(), raw, "store")
