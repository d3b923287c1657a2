"""The Faust agents: thin glue between the log and the pure parts (devices, scoring, points).

Scoring agent, topic ``readings``::

    record -> offer -> [micro-batch] -> decode -> Devices.apply -> score (one thread)
           -> append to scores / dead-letters / late -> checkpoint -> ack

What is guaranteed, and how:

- **A record is acked only after everything that follows from it is durable.** Acks are withheld
  until the next checkpoint (about a second) and then given strictly in the order of the
  partition, which is the one order in which Faust commits correctly (it commits over a single
  hole, see docs/delivery notes in the package guide). A checkpoint waits for the scores, dead
  letters and late readings to be confirmed, writes the window state of the changed devices to
  the table's changelog, waits for that too, and acks.
- **A kill between any two of these steps is harmless**: state ahead of the log position skips
  what it has applied; scores ahead of the state are computed again, identical, and overwrite
  themselves as points.
- **An exception never leaves an agent body** (Faust would ack the record). What can't be mended
  stops the worker loudly through ``app.crash``; nothing is committed and a restart replays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.messages import decode_bundle
from ingest.topics import DEAD_LETTERS, LATE, SCORES
from pipeline.points.scores import ScoreRecord, encode_scores
from pipeline.scoring.batch import Scored
from pipeline.stage import Latency
from pipeline.windows.devices import ClosedWindow, Devices, Outcome, Refusal

__all__ = ["Append", "LineCounters", "ScoringStage", "StateTable", "now_ms"]

log = logging.getLogger(__name__)

Append = Callable[[str, int, bytes], Awaitable[Awaitable[object]]]
"""``await append(topic, partition, value)`` hands a record to the log; awaiting what it returns
waits until the log has it durably."""

ScoreWindows = Callable[[Sequence[ClosedWindow]], Scored]


def now_ms() -> int:
    """Processing time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


class StateTable(Protocol):
    """The changelogged table of window state, keyed ``site/device/stream``."""

    def get(self, key: str) -> bytes | None:
        """The saved row of a device."""

    def keys(self) -> list[str]:
        """All saved keys of the partitions of this worker."""

    async def write(self, rows: Sequence[tuple[int, str, bytes]]) -> None:
        """Save rows (partition, key, value); returns when the changelog has them durably."""


@dataclass(slots=True)
class LineCounters:
    """What the stage has done since it started; latencies in milliseconds."""

    records: int = 0
    readings: int = 0
    scored: int = 0
    unscored: int = 0
    checkpoints: int = 0
    batches: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    sensor_to_score: Latency = field(default_factory=Latency)
    receive_to_score: Latency = field(default_factory=Latency)
    apply_seconds: float = 0.0
    score_seconds: float = 0.0


class ScoringStage:
    """Turns records of ``readings`` into scores, in micro-batches across devices.

    Args:
        devices: window state of this worker.
        score: scores closed windows; runs in the one scoring thread.
        append: see :data:`Append`.
        table: where window state is saved.
        crash: told about an error that can't be mended; must stop the worker.
        checkpoint_ms: longest time between two checkpoints while there is something to save.
        batch_readings: readings after which a micro-batch ends though more are waiting.
        mqtt_prefix: first levels of the MQTT topics, for the addresses of dead letters.
    """

    def __init__(
        self,
        devices: Devices,
        score: ScoreWindows,
        append: Append,
        table: StateTable,
        crash: Callable[[BaseException], Awaitable[None]],
        *,
        checkpoint_ms: int,
        batch_readings: int,
        mqtt_prefix: str,
    ) -> None:
        self.devices = devices
        self.counters = LineCounters()
        self._score = score
        self._append = append
        self._table = table
        self._crash = crash
        self._checkpoint_s = checkpoint_ms / 1000
        self._batch_readings = batch_readings
        self._mqtt_prefix = mqtt_prefix
        self._waiting: deque[Any] = deque()
        self._waiting_bytes = 0
        self._applied: list[Any] = []
        self._unconfirmed: list[Awaitable[object]] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._held = False
        self._hurried = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._last_checkpoint = time.monotonic()

    async def offer(self, event: Any) -> None:
        """Take one Faust event; returns when there is room for the next (back-pressure)."""
        self._waiting.append(event)
        self._waiting_bytes += len(event.message.value)
        self._arrived.set()
        if not self._has_room:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Work until cancelled; an error that can't be mended goes to ``crash``."""
        try:
            while True:
                await self._wait_for_work()
                if self._waiting and not self._held:
                    await self._work()
                if self._checkpoint_due():
                    await self._checkpoint()
        except Exception as exc:
            log.exception("scoring stops: nothing that was not acked is lost, a restart replays it")
            await self._crash(exc)

    def hurry(self) -> None:
        """Take a checkpoint as soon as what has arrived is applied: others wait for our acks."""
        self._hurried = True
        self._arrived.set()

    def hold(self) -> None:
        """Apply nothing until `release`, and drop what is unacked: somebody else will be given it.

        For a worker whose partitions are moving, between their going and their state's coming.
        """
        self._held = True
        self._waiting.clear()
        self._waiting_bytes = 0
        self._applied.clear()
        self._room.set()

    def release(self) -> None:
        """Go on after `hold`; the state of the partitions is here."""
        self._held = self._hurried = False
        self._arrived.set()

    def close(self) -> None:
        """End the scoring thread; call after the app has stopped."""
        self._thread.shutdown(wait=True)

    # -- one turn ---------------------------------------------------------------------------

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < _MAX_WAITING and self._waiting_bytes < _MAX_WAITING_BYTES

    async def _wait_for_work(self) -> None:
        if (self._waiting and not self._held) or self._checkpoint_due():
            return
        self._arrived.clear()
        timeout = None
        if self._applied:
            timeout = max(0.0, self._last_checkpoint + self._checkpoint_s - time.monotonic())
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout)
        except asyncio.TimeoutError:
            return

    async def _work(self) -> None:
        started = time.perf_counter()
        outcomes = self._apply_waiting()
        self.counters.apply_seconds += time.perf_counter() - started
        self.counters.batches += 1
        for partition, outcome in outcomes:
            await self._append_refused(partition, outcome)
        closed = [(partition, w) for partition, outcome in outcomes for w in outcome.windows]
        if closed:
            await self._score_and_append(closed)
        await asyncio.sleep(0)

    def _apply_waiting(self) -> list[tuple[int, Outcome]]:
        outcomes = []
        readings = 0
        while self._waiting and readings < self._batch_readings:
            event = self._waiting.popleft()
            message = event.message
            self._waiting_bytes -= len(message.value)
            items = decode_bundle(message.value)
            outcome = self.devices.apply(message.partition, message.offset, items)
            readings += outcome.readings
            outcomes.append((message.partition, outcome))
            self._applied.append(event)
        self.counters.records += len(outcomes)
        self.counters.readings += readings
        if self._has_room:
            self._room.set()
        return outcomes

    async def _score_and_append(self, closed: list[tuple[int, ClosedWindow]]) -> None:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        windows = [window for _, window in closed]
        scored = Scored()
        for start in range(0, len(windows), _MAX_SCORED):
            part = windows[start : start + _MAX_SCORED]
            found = await loop.run_in_executor(self._thread, self._score, part)
            scored.records += found.records
            scored.unscored += found.unscored
        self.counters.score_seconds += time.perf_counter() - started
        partitions = {(w.site, w.device): partition for partition, w in closed}
        by_partition: dict[int, list[ScoreRecord]] = {}
        for record in scored.records:
            partition = partitions[record["site"], record["device"]]
            by_partition.setdefault(partition, []).append(record)
        for partition, group in by_partition.items():
            for start in range(0, len(group), _MAX_RECORDED):
                value = encode_scores(group[start : start + _MAX_RECORDED])
                await self._send(SCORES, partition, value)
        for item in scored.unscored:
            self.counters.unscored += 1
            closed_window = item.closed
            log.error(
                "a window of %s/%s has no score: %s",
                closed_window.site,
                closed_window.device,
                item.reason,
            )
        self._note_latency(scored.records)

    def _note_latency(self, records: Sequence[ScoreRecord]) -> None:
        now = now_ms()
        for record in records:
            self.counters.receive_to_score.record(now - record["recv_ms"], now)
            self.counters.sensor_to_score.record(now - record["end_ms"], now)
        self.counters.scored += len(records)

    async def _append_refused(self, partition: int, outcome: Outcome) -> None:
        for refusal in outcome.refused:
            await self._send_letter(partition, self._letter_of(refusal))
        for item in outcome.unreadable:
            topic = item.address.mqtt_topic(self._mqtt_prefix) if item.address else ""
            letter = DeadLetter(
                item.reason, item.detail, topic, item.recv_ms or 0, item.raw, "windows"
            )
            await self._send_letter(partition, letter)
        for refusal in outcome.late:
            await self._send(LATE, partition, encode_dead_letter(self._letter_of(refusal)))

    def _letter_of(self, refusal: Refusal) -> DeadLetter:
        return DeadLetter(
            refusal.reason or RefusalReason.late,  # only late readings have none
            refusal.detail,
            refusal.address.mqtt_topic(self._mqtt_prefix),
            refusal.recv_ms,
            refusal.body,
            "windows",
        )

    async def _send_letter(self, partition: int, letter: DeadLetter) -> None:
        counts = self.counters.dead_letters
        counts[letter.reason.value] = counts.get(letter.reason.value, 0) + 1
        await self._send(DEAD_LETTERS, partition, encode_dead_letter(letter))

    async def _send(self, topic: str, partition: int, value: bytes) -> None:
        self._unconfirmed.append(await self._append(topic, partition, value))

    # -- checkpoint -------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        if not self._applied:
            self._last_checkpoint = time.monotonic()
            return False
        if self._hurried and not self._waiting:
            return True
        return time.monotonic() - self._last_checkpoint >= self._checkpoint_s

    async def _checkpoint(self) -> None:
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        for confirmation in unconfirmed:
            await confirmation
        await self._table.write(self.devices.dirty_rows())
        applied, self._applied = self._applied, []
        for event in applied:
            event.ack()
        self.counters.checkpoints += 1
        self._last_checkpoint = time.monotonic()


_MAX_WAITING = 256
"""Records (bundles) held in memory before the agent stops taking more."""
_MAX_WAITING_BYTES = 8_000_000
"""Their bytes: a second or two of work, for which a worker that joins has to wait."""
_MAX_SCORED = 2048
"""Windows scored at a time: one message may close thousands, and memory is small."""
_MAX_RECORDED = 500
"""Scores in one record of the log: some 200 kB, far below what a log takes."""
