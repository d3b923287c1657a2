"""The scoring stage: acks only behind a checkpoint, in order; a broken log stops it loudly."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson

from ingest.clock import steady_ms
from ingest.deadletter import decode_dead_letter
from ingest.messages import encode_envelope
from ingest.payloads import encode_payload
from ingest.topics import DEAD_LETTERS, LATE, SCORES
from pipeline.points.scorecolumns import ScoreColumns
from pipeline.points.scores import decode_scores
from pipeline.scoring.batch import Health, Scored, StudentScores, Unscored
from pipeline.scoring.stage import ScoringCounters, ScoringStage
from pipeline.status.view import LiveFigures, ModelStatus
from pipeline.windows.devices import Devices, StreamPlan
from pipeline.windows.spec import WindowSpec
from pipeline.windows.windowbatch import WindowBatch
from tests.fakes.records import encode_bundle

T0 = 1_700_000_000_000
PLAN = StreamPlan("m", ("a",), WindowSpec(length=2, hop=1, lateness_ms=0))


class FakeLog:
    """Records appends; `confirm` resolves them; `fail` makes the next append raise."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int, bytes]] = []
        self.pending: list[asyncio.Future[None]] = []
        self.confirms = True
        self.fail: Exception | None = None

    async def append(self, topic: str, partition: int, value: bytes) -> Awaitable[object]:
        if self.fail is not None:
            raise self.fail
        self.records.append((topic, partition, value))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.confirms:
            future.set_result(None)
        else:
            self.pending.append(future)
        return future

    def of(self, topic: str) -> list[bytes]:
        return [value for name, _, value in self.records if name == topic]


class FakeTable:
    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.writes = 0

    def get(self, key: str) -> bytes | None:
        return self.rows.get(key)

    def keys(self) -> list[str]:
        return list(self.rows)

    async def write(self, rows: Sequence[tuple[int, str, bytes]]) -> None:
        self.writes += 1
        self.rows.update({key: value for _, key, value in rows})


class FakeEvent:
    def __init__(self, offset: int, value: bytes, acked: list[int]) -> None:
        self.message = SimpleNamespace(partition=0, offset=offset, value=value)
        self._offset = offset
        self._acked = acked

    def ack(self) -> None:
        self._acked.append(self._offset)


def score(batches: Sequence[WindowBatch], *, scored_ms: int = 0) -> Scored:
    scored = Scored()
    for batch in batches:
        columns = {
            "task": "rul",
            "site": [site for site, _ in batch.senders],
            "device": [device for _, device in batch.senders],
            "stream": batch.stream,
            "model": "m",
            "version": 1,
            "start_ms": batch.start_ms,
            "end_ms": batch.end_ms,
            "readings": batch.readings,
            "gaps": 0,
            "recv_ms": batch.recv_ms,
            "scored_ms": batch.recv_ms,
            "rul": batch.values.sum(axis=(1, 2)),
            "rul_low": 0.0,
            "rul_high": 125.0,
        }
        if batch.senders[0] == ("s", "odd"):
            scored.unscored += [
                Unscored("s", "odd", batch.stream, end_ms, "not finite")
                for end_ms in batch.end_ms.tolist()
            ]
        else:
            scored.parts.append(StudentScores(batch, ScoreColumns(len(batch), columns)))
    return scored


def record(offset: int, *, device: str = "d", channel: str = "a", ts: int | None = None) -> bytes:
    body = encode_payload([T0 + 10 * offset if ts is None else ts], {channel: [float(offset)]})
    return encode_bundle([encode_envelope("s", device, "x", T0 + 10 * offset, body)])


@asynccontextmanager
async def running(log: FakeLog, table: FakeTable, **changes: Any) -> AsyncIterator[Any]:
    crashes: list[BaseException] = []
    acked: list[int] = []

    async def crash(reason: BaseException) -> None:
        crashes.append(reason)

    stage = ScoringStage(
        Devices(lambda stream: PLAN, table.get),
        changes.pop("score", score),
        log.append,
        table,
        crash,
        checkpoint_ms=changes.pop("checkpoint_ms", 50),
        batch_readings=changes.pop("batch_readings", 1000),
        mqtt_prefix="sensors",
    )
    task = asyncio.create_task(stage.run())
    try:
        yield SimpleNamespace(stage=stage, crashes=crashes, acked=acked, task=task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stage.close()


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def test_records_are_acked_in_order_after_a_checkpoint_and_scores_are_in_the_log() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table) as run:
        for offset in range(5):
            await run.stage.offer(FakeEvent(offset, record(offset), run.acked))
        await until(lambda: len(run.acked) == 5)
        assert run.acked == [0, 1, 2, 3, 4]
        scores = [r for value in log.of(SCORES) for r in decode_scores(value)]
        assert [r["rul"] for r in scores] == [1.0, 3.0, 5.0, 7.0]
        assert "s/d/x" in table.rows


async def test_few_windows_are_scored_without_the_thread_unless_that_takes_long() -> None:
    log, table = FakeLog(), FakeTable()
    threads: list[str] = []
    pause_s = 0.0

    def noting(batches: Sequence[WindowBatch], *, scored_ms: int = 0) -> Scored:
        threads.append(threading.current_thread().name)
        until_s = time.thread_time() + pause_s
        while time.thread_time() < until_s:
            pass
        return score(batches, scored_ms=scored_ms)

    async with running(log, table, score=noting) as run:

        async def score_one(offset: int) -> None:
            await run.stage.offer(FakeEvent(offset, record(offset), run.acked))
            await until(lambda: run.stage.counters.records == offset + 1)

        offset = 0
        for is_apart, seconds in ((True, 0.0), (False, 0.0), (True, 0.02), (False, 0.0)):
            pause_s = seconds
            while not threads or threads[-1].startswith("score") != is_apart:
                await score_one(offset)
                offset += 1
                assert offset < 500


async def test_a_backlog_counts_in_the_latency_from_receipt_but_not_from_the_sensor() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table) as run:
        for offset in range(3):  # read two hours before they are received
            value = record(offset, ts=T0 - 7_200_000 + 10 * offset)
            await run.stage.offer(FakeEvent(offset, value, run.acked))
        for offset in range(3, 6):
            await run.stage.offer(FakeEvent(offset, record(offset), run.acked))
        await until(lambda: len(run.acked) == 6)
        counters = run.stage.counters
        now = steady_ms()
        assert counters.scored == 5
        assert counters.receive_to_score.summary(now).count == 5
        assert counters.sensor_to_score.summary(now).count == 3


async def test_nothing_is_acked_while_a_score_is_not_durable() -> None:
    log, table = FakeLog(), FakeTable()
    log.confirms = False
    async with running(log, table, checkpoint_ms=1) as run:
        for offset in range(3):
            await run.stage.offer(FakeEvent(offset, record(offset), run.acked))
        await until(lambda: len(log.pending) > 0)
        await asyncio.sleep(0.05)  # long enough for several checkpoints, had there been any
        assert (run.acked, table.writes) == ([], 0)
        for future in log.pending:
            future.set_result(None)
        log.confirms = True
        await until(lambda: run.acked == [0, 1, 2])


async def test_a_log_that_refuses_crashes_the_worker_and_nothing_is_acked() -> None:
    log, table = FakeLog(), FakeTable()
    log.fail = RuntimeError("disk gone")
    async with running(log, table) as run:
        await run.stage.offer(FakeEvent(0, record(0), run.acked))
        await run.stage.offer(FakeEvent(1, record(1), run.acked))
        await until(lambda: bool(run.crashes))
        assert (str(run.crashes[0]), run.acked) == ("disk gone", [])
        assert run.task.done()


async def test_garbage_becomes_dead_letters_and_the_pipeline_continues() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table) as run:
        values = [
            b"not a bundle",
            record(1),
            record(2, channel="b"),
            record(3, ts=T0 + 10**9),
            record(4),
            record(5, ts=T0 - 10_000),
        ]
        for offset, value in enumerate(values):
            await run.stage.offer(FakeEvent(offset, value, run.acked))
        await until(lambda: len(run.acked) == len(values))
        reasons = [decode_dead_letter(value).reason.value for value in log.of(DEAD_LETTERS)]
        assert sorted(reasons) == ["future", "missing_channel", "unreadable"]
        assert [decode_dead_letter(v).mqtt_topic for v in log.of(LATE)] == ["sensors/s/d/x"]
        assert orjson.loads(decode_dead_letter(log.of(LATE)[0]).raw)["values"] == {"a": [5.0]}
        assert sum(len(decode_scores(value)) for value in log.of(SCORES)) == 1


async def test_a_window_without_a_score_is_counted() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table) as run:
        for offset in range(3):
            await run.stage.offer(FakeEvent(offset, record(offset, device="odd"), run.acked))
        await until(lambda: len(run.acked) == 3)
        assert (run.stage.counters.unscored, run.stage.counters.scored) == (2, 0)


async def test_offer_holds_back_when_the_stage_is_behind() -> None:
    log, table = FakeLog(), FakeTable()
    log.confirms = False
    async with running(log, table, checkpoint_ms=1, batch_readings=1) as run:
        offered = 0

        async def feed() -> None:
            nonlocal offered
            for offset in range(2000):
                await run.stage.offer(FakeEvent(offset, record(offset), run.acked))
                offered += 1

        feeding = asyncio.create_task(feed())
        await until(lambda: offered >= 200)
        await asyncio.sleep(0.1)
        assert offered < 400  # the checkpoint waits for the log, so the stage takes no more
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_one_message_that_closes_thousands_of_windows_makes_records_of_bounded_size() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table) as run:
        times = [T0 + 10 * i for i in range(5000)]
        body = encode_payload(times, {"a": [0.0] * 5000})
        value = encode_bundle([encode_envelope("s", "d", "x", T0 + 50_000, body)])
        await run.stage.offer(FakeEvent(0, value, run.acked))
        await until(lambda: run.acked == [0])
        assert sum(len(decode_scores(v)) for v in log.of(SCORES)) == 4999
        assert max(map(len, log.of(SCORES))) < 300_000


def test_figures_are_summed_by_model_and_begin_anew_with_a_version() -> None:
    counters = ScoringCounters()
    model = ModelStatus("m", "forecast", "power", 1)
    assert counters.statuses([model])[0].live == LiveFigures()
    counters.add_health([Health(("m", 1), 3, {"mae": 2.0}), Health(("other", 1), 9, {})])
    counters.add_health([Health(("m", 1), 1, {"mae": 6.0})])
    assert counters.statuses([model])[0].live == LiveFigures(4, {"mae": 12.0})
    newer = replace(model, version=2)
    assert counters.statuses([newer])[0].live == LiveFigures()
    counters.add_health([Health(("m", 2), 1, {"mae": 1.0})])
    assert counters.statuses([newer])[0].live == LiveFigures(1, {"mae": 1.0})


async def test_a_hurried_stage_takes_a_checkpoint_at_once() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table, checkpoint_ms=3_600_000) as run:
        for offset in range(4):
            await run.stage.offer(FakeEvent(offset, record(offset), run.acked))
        await until(lambda: run.stage.counters.records == 4)
        assert run.acked == []
        run.stage.hurry()
        await until(lambda: run.acked == [0, 1, 2, 3])
        run.stage.release()
        await run.stage.offer(FakeEvent(4, record(4), run.acked))
        await until(lambda: run.stage.counters.records == 5)
        await asyncio.sleep(0.02)
        assert run.acked == [0, 1, 2, 3]  # no hurry any more


async def test_between_two_owners_nothing_is_applied_and_unacked_records_are_dropped() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table, checkpoint_ms=3_600_000) as run:
        await run.stage.offer(FakeEvent(0, record(0), run.acked))
        await until(lambda: run.stage.counters.records == 1)
        run.stage.hold()
        run.stage.devices.forget_partitions({0})
        await run.stage.offer(FakeEvent(5, record(5), run.acked))
        await asyncio.sleep(0.05)
        assert (run.stage.counters.records, table.rows) == (1, {})
        run.stage.release()
        run.stage.hurry()
        await until(lambda: run.acked == [5])
        assert list(table.rows) == ["s/d/x"]


async def test_waiting_records_are_bounded_in_bytes() -> None:
    log, table = FakeLog(), FakeTable()
    async with running(log, table) as run:
        run.stage.hold()
        large = record(0) + b" " * 5_000_000
        await run.stage.offer(FakeEvent(0, large, run.acked))
        offering = asyncio.ensure_future(run.stage.offer(FakeEvent(1, large, run.acked)))
        await asyncio.sleep(0.02)
        assert not offering.done()
        run.stage.release()
        await offering
        await until(lambda: run.acked == [0, 1])
