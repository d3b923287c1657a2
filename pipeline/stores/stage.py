"""The store agent: from the log to a sink, in batches that fit the moment.

Agent, topics ``scores`` and ``accounts``::

    record -> offer -> [batch] -> lines or points -> sink confirms -> dead letters durable -> ack

- **A record is acked only after the sink has confirmed all that is in it**, or a dead letter that
  says why not is in the log durably; strictly in the order in which the records came.
- **A sink that is away is tried again for as long as it takes.** Then nothing more is taken from
  the log (`offer` waits), so a backlog of a day costs no memory.
- **Batches grow with the backlog.** On a live line a batch is what arrives while the last one is
  written, and a moment more (`linger_ms`); behind, it is `batch_points` points.
- **A point that the sink will never take** stops nothing: it becomes a dead letter with the sink's
  reason. So does a record that cannot be read. Only the account of a device that was last heard
  longer ago than the sink keeps points is no letter: every new owner of the device tells it again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ingest.backoff import Backoff
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.topics import ACCOUNTS, DEAD_LETTERS, MQTT_PREFIX, Address
from pipeline.errors import PointError, SinkMisconfigured, SinkUnavailable
from pipeline.points.lines import to_line
from pipeline.points.measurements import DEVICE
from pipeline.points.scorelines import ScoreLines, score_lines
from pipeline.points.scores import decode_scores, points_of
from pipeline.scoring.stage import Append, now_ms
from pipeline.stage import Latency
from pipeline.stores.sinks import (
    SINK_BACKOFF,
    LineSink,
    RefusedLine,
    Sink,
    deliver,
    log_unavailable,
)

__all__ = ["Prepare", "Prepared", "StoreCounters", "StoreStage", "prepare_lines", "prepare_points"]

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r",device=([^, =\\]+).*?,site=([^, =\\]+).*?,stream=([^, =\\]+)[, ]")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch, ready to be written.

    Attributes:
        write: stores it, blocking; called again after `SinkUnavailable` it goes on.
        points: how many there are.
        end_ms: end of each score's window, epoch ms, for the time from sensor to store.
        letters: what of the batch is no point at all.
    """

    write: Callable[[], list[RefusedLine]]
    points: int
    end_ms: Sequence[int]
    letters: Sequence[DeadLetter]


Record = tuple[str, bytes]
"""Topic and value."""
Prepare = Callable[[Sequence[Record]], Prepared]


def prepare_lines(sink: LineSink) -> Prepare:
    """How records become a write of a sink that takes lines, as InfluxDB does: the fast way."""

    def prepare(records: Sequence[Record]) -> Prepared:
        found = ScoreLines()
        letters: list[DeadLetter] = []
        accounts: list[str] = []
        for topic, value in records:
            try:
                if topic == ACCOUNTS:
                    accounts += value.decode().splitlines()
                else:
                    score_lines(value, found)
            except (PointError, UnicodeDecodeError) as exc:
                letters.append(_unreadable(value, str(exc)))
        letters += [_unreadable(flawed.raw, flawed.detail) for flawed in found.flawed]
        lines = found.lines + accounts if accounts else found.lines
        return Prepared(sink.writing(lines), len(lines), found.end_ms, letters)

    return prepare


def prepare_points(sink: Sink) -> Prepare:
    """How records become a write of a sink that takes points, as the results file does.

    Accounts are not stored there.
    """

    def prepare(records: Sequence[Record]) -> Prepared:
        scores = []
        letters = []
        for topic, value in records:
            try:
                if topic != ACCOUNTS:
                    scores += decode_scores(value)
            except PointError as exc:
                letters.append(_unreadable(value, str(exc)))
        points = points_of(scores)

        def write() -> list[RefusedLine]:
            refused = sink.write(points) if points else []
            why = RefusalReason.refused_point
            return [RefusedLine(to_line(item.point), why, item.reason) for item in refused]

        return Prepared(write, len(points), [score["end_ms"] for score in scores], letters)

    return prepare


@dataclass(slots=True)
class StoreCounters:
    """What a store has done since it started; `sensor_to_stored` in milliseconds.

    `refused` counts points, `unreadable` records or scores; both are dead letters. `tries_failed`
    counts writes that the sink did not take for the time being, `seconds` is time in writes.
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


class StoreStage:
    """Stores records of the log in one sink; made for one Faust agent.

    Args:
        name: of the sink, for messages.
        prepare: see `prepare_lines`, `prepare_points`.
        append: hands a record to the log; for dead letters.
        crash: told about an error that can't be mended; must stop the worker.
        batch_points: points in one write at the most, roughly: a record is not divided.
        linger_ms: how long a write waits for more.
        backoff: pauses while the sink is away.
        mqtt_prefix: first levels of the MQTT topics, for the addresses of dead letters.

    Attributes:
        counters: what it has done.
        problem: why the sink takes nothing now, in its words; None when it does.
        away_since_ms: since when, epoch ms.
        is_misconfigured: what is wrong is a setting: only a person can mend it.
    """

    def __init__(
        self,
        name: str,
        prepare: Prepare,
        append: Append,
        crash: Callable[[BaseException], Awaitable[None]],
        *,
        batch_points: int = 5_000,
        linger_ms: int = 50,
        backoff: Backoff = SINK_BACKOFF,
        mqtt_prefix: str = MQTT_PREFIX,
    ) -> None:
        self.counters = StoreCounters()
        self.problem: str | None = None
        self.away_since_ms: int | None = None
        self.is_misconfigured = False
        self._name = name
        self._prepare = prepare
        self._append = append
        self._crash = crash
        self._batch_bytes = batch_points * _POINT_BYTES
        self._linger_s = linger_ms / 1000
        self._backoff = backoff
        self._mqtt_prefix = mqtt_prefix
        self._waiting: deque[Any] = deque()
        self._waiting_bytes = 0
        self._unfinished = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{name}")

    @property
    def is_away(self) -> bool:
        """Whether the sink takes nothing now."""
        return self.problem is not None

    @property
    def is_working(self) -> bool:
        """Whether something that was offered is not acked yet."""
        return bool(self._waiting or self._unfinished)

    async def offer(self, event: Any) -> None:
        """Take one Faust event; returns when there is room for the next (back-pressure)."""
        self._waiting.append(event)
        self._waiting_bytes += len(event.message.value)
        self._arrived.set()
        if self._is_full:
            self._full.set()
        if not self._has_room:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Work until cancelled; an error that can't be mended goes to ``crash``."""
        try:
            while True:
                await self._wait_for_work()
                await self._store(self._take())
        except Exception as exc:
            log.exception("sink %s stops: unacked records stay in the log", self._name)
            await self._crash(exc)

    def close(self) -> None:
        """End the writing thread, without waiting for a write that hangs; after the app's end."""
        self._thread.shutdown(wait=False)

    # -- one turn ---------------------------------------------------------------------------

    @property
    def _has_room(self) -> bool:
        return self._waiting_bytes < 2 * self._batch_bytes and len(self._waiting) < _MOST_RECORDS

    @property
    def _is_full(self) -> bool:
        return self._waiting_bytes >= self._batch_bytes or not self._has_room

    async def _wait_for_work(self) -> None:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._is_full:
            self._full.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._linger_s)

    def _take(self) -> list[Any]:
        events: list[Any] = []
        size = 0
        while self._waiting and size < self._batch_bytes:
            event = self._waiting.popleft()
            size += len(event.message.value)
            events.append(event)
        self._waiting_bytes -= size
        self._unfinished = len(events)
        if self._has_room:
            self._room.set()
        return events

    async def _store(self, events: Sequence[Any]) -> None:
        counters = self.counters
        records = [(event.message.topic, event.message.value) for event in events]
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        batch = await loop.run_in_executor(self._thread, self._prepare, records)
        prepared = time.perf_counter()
        refused: list[RefusedLine] = []
        if batch.points:
            refused = await deliver(
                batch.write,
                backoff=self._backoff,
                executor=self._thread,
                on_unavailable=self._on_unavailable,
            )
        if self.problem is not None:
            log.warning("sink %s takes points again", self._name)
        self.problem = self.away_since_ms = None
        self.is_misconfigured = False
        written = time.perf_counter()
        stored = batch.points - len(refused)
        refused = [each for each in refused if not _is_old_account(each)]
        await self._bury([*batch.letters, *map(self._letter_of, refused)])
        for event in events:
            event.ack()
        self._unfinished = 0
        counters.records += len(events)
        counters.batches += 1
        counters.largest_batch = max(counters.largest_batch, batch.points)
        counters.stored += stored
        counters.refused += len(refused)
        counters.unreadable += len(batch.letters)
        counters.prepare_seconds += prepared - started
        counters.write_seconds += written - prepared
        self._note_latency(batch.end_ms)

    def _on_unavailable(self, exc: SinkUnavailable, attempt: int) -> None:
        self.counters.tries_failed += 1
        self.problem = str(exc)
        self.is_misconfigured = isinstance(exc, SinkMisconfigured)
        if self.away_since_ms is None:
            self.away_since_ms = now_ms()
        log_unavailable(exc, attempt)

    def _note_latency(self, end_ms: Sequence[int]) -> None:
        """Of a large batch a part stands for the whole: it is late anyway."""
        now, step = now_ms(), 1 + len(end_ms) // _MOST_TIMED
        for end in end_ms[::step]:
            self.counters.sensor_to_stored.record(now - end, now, step)

    # -- dead letters -----------------------------------------------------------------------

    async def _bury(self, letters: Iterable[DeadLetter]) -> None:
        """Append dead letters; returns when the log has them durably."""
        confirmations = []
        counts = self.counters.dead_letters
        for letter in letters:
            reason = letter.reason.value
            if counts.get(reason, 0) % 1000 == 0:
                log.error("sink %s: %s, a dead letter: %s", self._name, reason, letter.detail)
            counts[reason] = counts.get(reason, 0) + 1
            value = encode_dead_letter(letter)
            confirmations.append(await self._append(DEAD_LETTERS, 0, value))
        for confirmation in confirmations:
            await confirmation

    def _letter_of(self, refused: RefusedLine) -> DeadLetter:
        topic = ""
        if found := _ADDRESS.search(refused.line):
            device, site, stream = found.groups()
            topic = Address(site, device, stream).mqtt_topic(self._mqtt_prefix)
        raw = refused.line.encode()
        return DeadLetter(refused.reason, refused.detail, topic, now_ms(), raw, "store")


def _is_old_account(refused: RefusedLine) -> bool:
    is_account = refused.line.startswith(f"{DEVICE.name},")
    return is_account and refused.reason is RefusalReason.beyond_retention


def _unreadable(raw: bytes, detail: str) -> DeadLetter:
    return DeadLetter(RefusalReason.unreadable, detail, "", now_ms(), raw, "store")


_POINT_BYTES = 300
"""Of a score in the log, roughly: batches are cut by bytes, before anything is decoded."""
_MOST_RECORDS = 8_192
"""Records that wait in memory; so many of one score each are a batch as well."""
_MOST_TIMED = 500
"""Scores of a batch whose way from the sensor is timed."""
