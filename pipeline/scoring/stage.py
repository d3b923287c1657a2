"""The scoring stage: records of the topic ``readings`` become score records.

::

    record -> offer -> [micro-batch] -> decode -> Devices.apply -> score (one thread)
           -> append to scores / dead-letters / late -> checkpoint -> ack

Guarantees:

- **A record is acked only after all its results are durable.** Acks are withheld until the next
  checkpoint (about a second) and then given strictly in the order of the partition, the one order
  in which Faust commits correctly (it commits over a single hole, see `docs/faust-internals.md`). A
  checkpoint waits until scores, dead letters and late readings are confirmed, writes the window
  state of the changed devices to the changelog of the table, waits for that too, and acks.
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

from numpy.typing import NDArray

from ingest.blocks import decode_record
from ingest.clock import now_ms, steady_ms
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.topics import DEAD_LETTERS, LATE, SCORES
from pipeline.points.scores import ScoreRecord, encode_scores_in_parts
from pipeline.scoring.batch import Health, Scored
from pipeline.stage import Append, Crash, Latency, Stage
from pipeline.status.view import LiveFigures, ModelStatus
from pipeline.windows.devices import ClosedWindow, Devices, Outcome, Refusal
from pipeline.windows.spec import Window
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["ScoreWindows", "ScoringCounters", "ScoringStage", "StateTable"]

log = logging.getLogger(__name__)

_MAX_WAITING = 256
"""Records (bundles) in the inbox at which the agent waits."""
_MAX_WAITING_BYTES = 8_000_000
"""Bytes in the inbox: a second or two of work, for which a joining worker has to wait."""
_MAX_SCORED = 2048
"""Windows scored at a time, because one message may close thousands and memory is small."""
_MAX_RECORDED = 500
"""Scores in one record of the log."""
_MAX_RECORD_BYTES = 500_000
"""Bytes of scores in one record, below Kafka's limit of 1 MB; forecasts may be long."""
_BACKLOG_MS = 60_000
"""A window that was received later than this after its end is of a backlog."""


TurnWindows = Callable[[Sequence[WindowBatch]], Sequence[WindowBatch]]
"""Turns windows; see `pipeline.scoring.mounting.Mountings.turn`."""


class ScoreWindows(Protocol):
    """Scores closed windows; see `pipeline.scoring.batch.score_windows`."""

    def __call__(self, closed: Sequence[ClosedWindow], *, scored_ms: int) -> Scored:
        """Score windows; `scored_ms` is processing time, epoch milliseconds."""


class StateTable(Protocol):
    """The table of window state with its changelog, keyed ``site/device/stream``."""

    def get(self, key: str) -> bytes | None:
        """The saved row of a device."""

    def keys(self) -> list[str]:
        """All saved keys of the partitions of this worker."""

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
        score: Scores closed windows; runs in the one scoring thread.
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
        outcomes = self._apply_inbox()
        self.counters.apply_seconds += time.perf_counter() - started
        self.counters.batches += 1
        for partition, outcome in outcomes:
            await self._append_refused(partition, outcome)
        batches = [batch for _, outcome in outcomes for batch in outcome.windows]
        if batches:
            await self._score_and_append(batches)
        await asyncio.sleep(0)

    def _apply_inbox(self) -> list[tuple[int, Outcome]]:
        outcomes = []
        readings = 0
        while self._inbox and readings < self._batch_readings:
            event = self._take()
            message = event.message
            items = decode_record(message.value)
            outcome = self.devices.apply(message.partition, message.offset, items)
            readings += outcome.readings
            outcomes.append((message.partition, outcome))
            self._applied.append(event)
        self.counters.records += len(outcomes)
        self.counters.readings += readings
        return outcomes

    async def _score_and_append(self, batches: Sequence[WindowBatch]) -> None:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        if self._turn is not None:
            batches = self._turn(batches)
        closed = [each for batch in batches for each in _closed_windows(batch)]
        windows = [window for _, window in closed]
        scored = Scored()
        for start in range(0, len(windows), _MAX_SCORED):
            part = windows[start : start + _MAX_SCORED]
            score = partial(self._score, part, scored_ms=now_ms())
            found = await loop.run_in_executor(self._thread, score)
            scored.records += found.records
            scored.unscored += found.unscored
            self.counters.add_health(found.health)
        self.counters.score_seconds += time.perf_counter() - started
        partitions = {(w.site, w.device): partition for partition, w in closed}
        by_partition: dict[int, list[ScoreRecord]] = {}
        for record in scored.records:
            partition = partitions[record["site"], record["device"]]
            by_partition.setdefault(partition, []).append(record)
        for partition, group in by_partition.items():
            for start in range(0, len(group), _MAX_RECORDED):
                some = group[start : start + _MAX_RECORDED]
                encode = partial(encode_scores_in_parts, some, _MAX_RECORD_BYTES)
                for value in await loop.run_in_executor(self._thread, encode):
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
        now, steady = now_ms(), steady_ms()
        for record in records:
            self.counters.receive_to_score.record(now - record["recv_ms"], steady)
            if record["recv_ms"] - record["end_ms"] <= _BACKLOG_MS:
                self.counters.sensor_to_score.record(now - record["end_ms"], steady)
        self.counters.scored += len(records)

    async def _append_refused(self, partition: int, outcome: Outcome) -> None:
        for refusal in outcome.refused:
            await self._send_dead_letter(partition, self._dead_letter(refusal))
        for item in outcome.unreadable:
            topic = item.address.mqtt_topic(self._mqtt_prefix) if item.address else ""
            dead_letter = DeadLetter(
                item.reason, item.detail, topic, item.recv_ms or 0, item.raw, "windows"
            )
            await self._send_dead_letter(partition, dead_letter)
        for refusal in outcome.late:
            await self._send(LATE, partition, encode_dead_letter(self._dead_letter(refusal)))

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
        await self._table.write(self.devices.dirty_rows())
        applied, self._applied = self._applied, []
        for event in applied:
            event.ack()
        self.counters.checkpoints += 1
        self._last_checkpoint = time.monotonic()


def _closed_windows(batch: WindowBatch) -> list[tuple[int, ClosedWindow]]:
    """The windows of a batch one by one, with their partitions."""
    names = ("start_ms", "end_ms", "values", "readings", "gaps", "recv_ms", "made_up")
    columns = [_listed(getattr(batch, name)) for name in names]
    for column in (batch.rate_hz, batch.run_ms):
        columns.append([None] * len(batch) if column is None else column.tolist())
    return [
        (partition, ClosedWindow(*sender, batch.stream, Window(*fields)))
        for partition, sender, fields in zip(
            batch.partition.tolist(), batch.senders, zip(*columns, strict=True), strict=True
        )
    ]


def _listed(column: NDArray[Any]) -> list[Any]:
    return list(column) if column.ndim > 1 else column.tolist()
