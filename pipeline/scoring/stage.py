"""The scoring stage: records of the topic ``readings`` become score records.

::

    record -> offer -> [micro-batch] -> decode -> Devices.apply -> score (one thread)
           -> append to scores / dead-letters / late -> checkpoint -> ack

Guarantees:

- **A record is acked only after all its results are durable.** Acks are withheld until the next
  checkpoint (about two seconds) and then given strictly in the order of the partition, the one
  order in which Faust commits correctly (it commits over a single hole, see
  `docs/faust-internals.md`). A checkpoint waits until scores, dead letters and late readings are
  confirmed, writes the window state of the changed devices to the changelog of the table, waits for
  that too, and acks.
- **A kill between any two of these steps is harmless.** State ahead of the committed offset skips
  the records it has applied. Scores ahead of the state are computed again, are identical, and
  overwrite themselves as points.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from ingest.blocks import Block, decode_record
from ingest.clock import now_ms, steady_ms
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.messages import Batch
from ingest.topics import DEAD_LETTERS, LATE, SCORES
from pipeline.groups import cut_groups
from pipeline.scoring.batch import Health, Scored, encode_by_partition
from pipeline.stage import Append, Crash, Latency, Stage
from pipeline.status.view import LiveFigures, ModelStatus
from pipeline.windows.devices import Devices, Outcome, Record, Refusal
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["ScoreWindows", "ScoringCounters", "ScoringStage", "StateTable"]

log = logging.getLogger(__name__)

_MAX_WAITING = 256
"""Records in the inbox at which the agent waits; each holds many messages."""
_MAX_WAITING_BYTES = 8_000_000
"""Bytes in the inbox: a second or two of work, for which a joining worker has to wait."""
_MAX_SCORED = 2048
"""Windows scored at a time, because one message may close thousands and memory is small."""
_SHORT_S = 0.003
"""CPU time for which scoring may hold the event loop; what takes longer goes to the thread."""
_SMOOTHED = 0.2
"""Weight of the newest time per window in the mean that tells how long windows will take."""
_SAVED_AT_ONCE = 500
"""Rows of window state in memory at a time, though a checkpoint may have those of a whole fleet."""
_BACKLOG_MS = 60_000
"""A window that was received later than this after its end is of a backlog."""


TurnWindows = Callable[[Sequence[WindowBatch]], Sequence[WindowBatch]]
"""Turns windows; see `pipeline.scoring.mounting.Mountings.turn`."""


class ScoreWindows(Protocol):
    """Scores closed windows; see `pipeline.scoring.batch.score_windows`."""

    def __call__(self, batches: Sequence[WindowBatch], *, scored_ms: int) -> Scored:
        """Score windows; `scored_ms` is processing time, epoch milliseconds."""


class StateTable(Protocol):
    """The table of window state with its changelog, keyed ``site/device/stream``."""

    def get(self, key: str) -> bytes | None:
        """The saved row of a device."""

    async def write(self, rows: Sequence[tuple[int, str, bytes | None]]) -> None:
        """Save rows (partition, key, value), or delete them (None); returns when it is durable."""


@dataclass(slots=True)
class ScoringCounters:
    """Counters of the stage since its start; latencies in milliseconds."""

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
    live: dict[str, tuple[int, LiveFigures]] = field(default_factory=dict)
    """Version and figures by model; a new version begins at zero."""

    def add_health(self, health: Sequence[Health]) -> None:
        """Add the figures of a batch."""
        for batch in health:
            name, version = batch.student
            before, figures = self.live.get(name, (version, LiveFigures()))
            if before != version:
                figures = LiveFigures()
            self.live[name] = (version, figures.plus(batch.windows, batch.means))

    def statuses(self, models: Sequence[ModelStatus]) -> list[ModelStatus]:
        """The models with the figures of their running versions."""
        found = {model.name: self.live.get(model.name) for model in models}
        return [
            replace(model, live=live[1] if live and live[0] == model.version else LiveFigures())
            for model in models
            for live in [found[model.name]]
        ]


class ScoringStage(Stage):
    """Turns records of ``readings`` into scores, in micro-batches across devices.

    Args:
        devices: Window state of this worker.
        score: Scores closed windows; runs in the one scoring thread, or for few windows in the
            event loop, never in both at once.
        append: See :data:`pipeline.stage.Append`.
        table: Storage of window state.
        crash: See :data:`pipeline.stage.Crash`.
        checkpoint_ms: Longest time between two checkpoints while there is something to save.
        batch_readings: Readings after which a micro-batch ends even if more are waiting.
        mqtt_prefix: First levels of the MQTT topics, for the addresses of dead letters.
        turn: Turns the windows of devices that are mounted otherwise, before they are scored.
    """

    def __init__(
        self,
        devices: Devices,
        score: ScoreWindows,
        append: Append,
        table: StateTable,
        crash: Crash,
        *,
        checkpoint_ms: int,
        batch_readings: int,
        mqtt_prefix: str,
        turn: TurnWindows | None = None,
    ) -> None:
        super().__init__(
            "score",
            crash,
            max_records=_MAX_WAITING,
            max_bytes=_MAX_WAITING_BYTES,
            batch_bytes=_MAX_WAITING_BYTES,
        )
        self.devices = devices
        self.counters = ScoringCounters()
        self._score = score
        self._turn = turn
        self._append = append
        self._table = table
        self._checkpoint_s = checkpoint_ms / 1000
        self._batch_readings = batch_readings
        self._mqtt_prefix = mqtt_prefix
        self._window_s = 2 * _SHORT_S  # so the first windows go to the thread
        self._applied: list[Any] = []
        self._unconfirmed: list[Awaitable[object]] = []
        self._held = False
        self._hurried = False
        self._last_checkpoint = time.monotonic()

    async def take_turn(self) -> None:
        """Apply the inbox, score the windows that close, and take a checkpoint when due."""
        await self._wait_for_work()
        if self._inbox and not self._held:
            await self._score_batch()
        if self._checkpoint_due():
            await self._checkpoint()

    def hurry(self) -> None:
        """Take a checkpoint as soon as the inbox is applied, because others wait for its acks."""
        self._hurried = True
        self._arrived.set()

    def hold(self) -> None:
        """Apply nothing until `release`, and discard unacknowledged records.

        Called while partitions move: the records are redelivered to the new owner, and the state
        of new partitions is still being read.
        """
        self._held = True
        self._clear_inbox()
        self._applied.clear()

    def release(self) -> None:
        """Continue after `hold`, once the state of the partitions is loaded."""
        self._held = self._hurried = False
        self._arrived.set()

    def close(self) -> None:
        """Stop the scoring thread; call after the app has stopped."""
        self._thread.shutdown(wait=True)

    # -- one turn ---------------------------------------------------------------------------

    async def _wait_for_work(self) -> None:
        if (self._inbox and not self._held) or self._checkpoint_due():
            return
        timeout_s = None
        if self._applied:
            timeout_s = max(0.0, self._last_checkpoint + self._checkpoint_s - time.monotonic())
        await self._wait_for_arrival(timeout_s)

    async def _score_batch(self) -> None:
        started = time.perf_counter()
        outcome = self._apply_inbox()
        self.counters.apply_seconds += time.perf_counter() - started
        self.counters.batches += 1
        await self._append_refused(outcome)
        if outcome.windows:
            await self._score_and_append(outcome.windows)
        await asyncio.sleep(0)

    def _apply_inbox(self) -> Outcome:
        records: list[Record] = []
        readings = 0
        while self._inbox and readings < self._batch_readings:
            event = self._take()
            message = event.message
            items = decode_record(message.value)
            readings += sum(len(x.ts_ms) for x in items if isinstance(x, Block | Batch))
            records.append((message.partition, message.offset, items))
            self._applied.append(event)
        outcome = self.devices.apply_records(records)
        self.counters.records += len(records)
        self.counters.readings += outcome.readings
        return outcome

    async def _score_and_append(self, batches: Sequence[WindowBatch]) -> None:
        for some in cut_groups(batches, _MAX_SCORED):
            part: Sequence[WindowBatch] = some if self._turn is None else self._turn(some)
            score = partial(self._score_and_encode, part, now_ms())
            if sum(map(len, part)) * self._window_s <= _SHORT_S:
                scored, values = score()  # sooner done than handed to the thread and back
            else:
                loop = asyncio.get_running_loop()
                scored, values = await loop.run_in_executor(self._thread, score)
            for partition, value in values:
                await self._send(SCORES, partition, value)
            self._note_scored(scored)

    def _score_and_encode(
        self, batches: Sequence[WindowBatch], scored_ms: int
    ) -> tuple[Scored, list[tuple[int, bytes]]]:
        """Score windows, and make the records of their scores with their partitions."""
        started, cpu_started = time.perf_counter(), time.thread_time()
        scored = self._score(batches, scored_ms=scored_ms)
        values = encode_by_partition(scored)
        self.counters.score_seconds += time.perf_counter() - started
        window_s = (time.thread_time() - cpu_started) / sum(map(len, batches))
        self._window_s += _SMOOTHED * (window_s - self._window_s)
        return scored, values

    def _note_scored(self, scored: Scored) -> None:
        counters = self.counters
        counters.add_health(scored.health)
        for missing in scored.unscored:
            counters.unscored += 1
            log.error(
                "a window of %s/%s has no score: %s", missing.site, missing.device, missing.reason
            )
        now, steady = now_ms(), steady_ms()
        for part in scored.parts:
            recv_ms, end_ms = part.windows.recv_ms, part.windows.end_ms
            counters.receive_to_score.record(now - recv_ms, steady)
            is_live = recv_ms - end_ms <= _BACKLOG_MS
            counters.sensor_to_score.record((now - end_ms)[is_live], steady)
            counters.scored += len(part.windows)

    async def _append_refused(self, outcome: Outcome) -> None:
        for refusal in outcome.refused:
            await self._send_dead_letter(refusal.partition, self._dead_letter(refusal))
        for partition, item in outcome.unreadable:
            topic = item.address.mqtt_topic(self._mqtt_prefix) if item.address else ""
            dead_letter = DeadLetter(
                item.reason, item.detail, topic, item.recv_ms or 0, item.raw, "windows"
            )
            await self._send_dead_letter(partition, dead_letter)
        for refusal in outcome.late:
            await self._send(
                LATE, refusal.partition, encode_dead_letter(self._dead_letter(refusal))
            )

    def _dead_letter(self, refusal: Refusal) -> DeadLetter:
        return DeadLetter(
            refusal.reason or RefusalReason.late,  # late readings have no reason
            refusal.detail,
            refusal.address.mqtt_topic(self._mqtt_prefix),
            refusal.recv_ms,
            refusal.body,
            "windows",
        )

    async def _send_dead_letter(self, partition: int, dead_letter: DeadLetter) -> None:
        counts = self.counters.dead_letters
        counts[dead_letter.reason.value] = counts.get(dead_letter.reason.value, 0) + 1
        await self._send(DEAD_LETTERS, partition, encode_dead_letter(dead_letter))

    async def _send(self, topic: str, partition: int, value: bytes) -> None:
        self._unconfirmed.append(await self._append(topic, partition, value))

    # -- checkpoint -------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        if not self._applied:
            self._last_checkpoint = time.monotonic()
            return False
        if self._hurried and not self._inbox:
            return True
        return time.monotonic() - self._last_checkpoint >= self._checkpoint_s

    async def _checkpoint(self) -> None:
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        for confirmation in unconfirmed:
            await confirmation
        while rows := self.devices.dirty_rows(_SAVED_AT_ONCE):
            await self._table.write(rows)
        applied, self._applied = self._applied, []
        for event in applied:
            event.ack()
        self.counters.checkpoints += 1
        self._last_checkpoint = time.monotonic()
