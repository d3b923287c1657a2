"""The store's stage: acks after confirmation, batches by backlog, dead letters, an unavailable
sink."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ingest.backoff import Backoff
from ingest.deadletter import DeadLetter, decode_dead_letter
from ingest.errors import RefusalReason
from ingest.labels import encode_label_record
from ingest.topics import ACCOUNTS, DEAD_LETTERS, LABELS, SCORES
from pipeline.errors import SinkError, SinkMisconfigured, SinkUnavailable
from pipeline.points.labels import label_point
from pipeline.points.lines import to_line
from pipeline.points.pointblocks import Points, each_point
from pipeline.points.points import Point, device_point
from pipeline.points.scores import points_of
from pipeline.stores.prepared import prepare_lines, prepare_points
from pipeline.stores.sinks import LineSink, Refused, RefusedLine, Sink
from pipeline.stores.stage import StoreStage
from tests.fakes.log import until
from tests.fakes.recordings import T0_MS, label
from tests.fakes.scores import encode_records
from tests.pipeline.points.test_scores import ACTIVITY, RUL


def score(number: int, **changes: object) -> dict[str, object]:
    return RUL | {"device": f"e{number % 7}", "end_ms": RUL["end_ms"] + number} | changes


@dataclass
class Message:
    topic: str
    value: bytes


@dataclass
class Event:
    number: int
    message: Message
    acked: list[int]

    def ack(self) -> None:
        self.acked.append(self.number)


@dataclass
class FakeLines:
    """A line sink that first raises the given errors, refuses lines with `bad`, and can be
    blocked."""

    failures: list[Exception] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    why: RefusalReason = RefusalReason.type_conflict

    def __post_init__(self) -> None:
        self.gate.set()

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        def write() -> list[RefusedLine]:
            assert self.gate.wait(120)
            if self.failures:
                raise self.failures.pop(0)
            self.batches.append(len(lines))
            self.lines += [line for line in lines if "bad" not in line]
            return [RefusedLine(line, self.why, "no good") for line in lines if "bad" in line]

        return write

    def close(self) -> None:
        pass


class FakePoints:
    def __init__(self) -> None:
        self.points: list[Point] = []

    def write(self, points: Points) -> list[Refused]:
        first, *others = each_point(points)
        self.points += others
        return [Refused(first, "the first is never liked")]

    def close(self) -> None:
        pass


class Store:
    """A running stage with its appends and acks; the test decides when its log confirms."""

    def __init__(self, sink: FakeLines | FakePoints, **options: int) -> None:
        prepare = prepare_lines(sink) if isinstance(sink, LineSink) else prepare_points(sink)
        quick = Backoff(first_ms=1, max_ms=5)
        self.stage = StoreStage(
            "fake", prepare, self.append, self.crash, backoff=quick, **{"linger_ms": 1, **options}
        )
        self.acked: list[int] = []
        self.appended: list[bytes] = []
        self.crashed: list[BaseException] = []
        self.confirms = asyncio.Event()
        self.confirms.set()
        self.offered = 0

    async def append(self, topic: str, partition: int, value: bytes) -> Awaitable[object]:
        assert topic == DEAD_LETTERS
        self.appended.append(value)
        return asyncio.ensure_future(self.confirms.wait())

    async def crash(self, exc: BaseException) -> None:
        self.crashed.append(exc)

    async def offer(self, *values: bytes, topic: str = SCORES) -> None:
        for value in values:
            event = Event(self.offered, Message(topic, value), self.acked)
            self.offered += 1
            await self.stage.offer(event)

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(value) for value in self.appended]


@asynccontextmanager
async def store_in(sink: FakeLines | FakePoints, **options: int) -> AsyncIterator[Store]:
    store = Store(sink, **options)
    task = asyncio.create_task(store.stage.run())
    yield store
    task.cancel()
    store.stage.close()


async def test_records_are_acked_in_order_once_the_sink_has_confirmed() -> None:
    sink = FakeLines()
    async with store_in(sink) as store:
        sink.gate.clear()
        await store.offer(*(encode_records([score(n), score(n + 100)]) for n in range(5)))
        await asyncio.sleep(0.05)
        assert store.acked == []
        assert store.stage.is_working
        sink.gate.set()
        await until(lambda: len(store.acked) == 5)
        assert store.acked == [0, 1, 2, 3, 4]
        assert not store.stage.is_working
        assert len(sink.lines) == 10
        counters = store.stage.counters
        assert (counters.records, counters.stored, counters.refused) == (5, 10, 0)
        assert counters.sensor_to_stored.summary(1) is not None


async def test_the_account_of_a_device_silent_for_longer_than_the_retention_is_no_dead_letter() -> (
    None
):
    sink = FakeLines(why=RefusalReason.beyond_retention)
    old = to_line(device_point("bad", "e1", "s", {"received": 1}, 17))
    async with store_in(sink) as store:
        await store.offer(old.encode(), topic=ACCOUNTS)
        await store.offer(encode_records([score(1, site="bad")]))
        await until(lambda: len(store.acked) == 2)
        assert [dead.mqtt_topic.split("/")[1] for dead in store.dead_letters()] == ["bad"]
        assert [dead.raw.startswith(b"rul,") for dead in store.dead_letters()] == [True]
        assert (store.stage.counters.stored, store.stage.counters.refused) == (0, 1)


async def test_batches_are_small_without_a_backlog_and_large_with_one() -> None:
    sink = FakeLines()
    one = encode_records([score(0)])
    async with store_in(sink, batch_points=40) as store:
        for _ in range(3):
            await store.offer(one)
            await until(lambda: len(store.acked) == store.offered)
        assert sink.batches == [1, 1, 1], "nothing is held back to fill a batch"
        sink.gate.clear()
        filling = asyncio.create_task(store.offer(*[one] * 300))
        await until(lambda: store.stage.is_working)
        sink.gate.set()
        await filling
        await until(lambda: len(store.acked) == store.offered)
        assert max(sink.batches) in range(30, 60)
        assert sum(sink.batches) == 303


async def test_records_that_arrive_together_are_one_write() -> None:
    sink = FakeLines()
    async with store_in(sink, linger_ms=2000) as store:
        for n in range(5):
            await store.offer(encode_records([score(n)]))
            await asyncio.sleep(0.01)
        await until(lambda: len(store.acked) == 5)
        assert sink.batches == [5]


async def test_an_unavailable_sink_is_awaited_and_takes_no_memory() -> None:
    sink = FakeLines(failures=[SinkUnavailable("nobody there")] * 50)
    big = encode_records([score(n) for n in range(400)])
    async with store_in(sink, batch_points=100) as store:
        filling = asyncio.create_task(store.offer(*[big] * 100))
        await until(lambda: store.stage.is_away and store.stage.counters.tries_failed > 20)
        assert store.stage.problem == "nobody there"
        assert store.stage.away_since_ms is not None
        assert not store.stage.is_misconfigured
        assert store.offered < 10, "the rest stays in the log"
        assert store.acked == []
        await filling
        await until(lambda: len(store.acked) == 100)
        assert not store.stage.is_away
        assert len(sink.lines) == 40_000
        assert store.acked == list(range(100))


async def test_a_wrong_setting_is_reported_as_misconfigured() -> None:
    sink = FakeLines(failures=[SinkMisconfigured("the token is not accepted", 40)])
    async with store_in(sink) as store:
        await store.offer(encode_records([RUL]))
        await until(lambda: store.stage.is_misconfigured)
        await until(lambda: bool(store.acked))
        assert not store.stage.is_misconfigured
        assert store.stage.problem is None


async def test_refused_points_are_dead_letters_before_anything_is_acked() -> None:
    sink = FakeLines()
    async with store_in(sink) as store:
        store.confirms.clear()
        await store.offer(encode_records([score(1), score(2, model="bad"), score(3)]))
        await until(lambda: len(store.appended) == 1)
        await asyncio.sleep(0.02)
        assert store.acked == [], "not before the dead letter is durable"
        store.confirms.set()
        await until(lambda: store.acked == [0])
        (dead,) = store.dead_letters()
        assert dead.reason is RefusalReason.type_conflict
        assert dead.source == "store"
        assert dead.detail == "no good"
        assert dead.mqtt_topic == "sensors/plant-7/e2/engine"
        assert dead.raw.decode().startswith("rul,device=e2,model=bad,")
        assert len(sink.lines) == 2
        counters = store.stage.counters
        assert (counters.stored, counters.refused) == (2, 1)
        assert counters.dead_letters == {"type_conflict": 1}


@pytest.mark.parametrize("kind", [FakeLines, FakePoints])
async def test_an_unreadable_record_is_a_dead_letter_and_stops_nothing(
    kind: type[FakeLines] | type[FakePoints],
) -> None:
    sink = kind()
    async with store_in(sink) as store:
        await store.offer(b"\xff", encode_records([RUL, ACTIVITY]), b'{"no": "array"}')
        await until(lambda: len(store.acked) == 3)
        unreadable = [x for x in store.dead_letters() if x.reason is RefusalReason.unreadable]
        assert [dead.raw for dead in unreadable] == [b"\xff", b'{"no": "array"}']
        assert store.stage.counters.unreadable == 2


@pytest.mark.parametrize("kind", [FakeLines, FakePoints])
async def test_a_flawed_score_in_a_record_affects_no_other(
    kind: type[FakeLines] | type[FakePoints],
) -> None:
    sink = kind()
    async with store_in(sink) as store:
        value = encode_records([score(1), score(2), score(3)]).replace(b'"e2"', b"2")
        await store.offer(value)
        await until(lambda: bool(store.acked))
        counters = store.stage.counters
        assert counters.stored + counters.refused == 2
        (dead,) = (x for x in store.dead_letters() if x.reason is RefusalReason.unreadable)
        assert b'"device":2' in dead.raw


async def test_accounts_go_to_sinks_that_take_lines_only() -> None:
    lines = [to_line(device_point("s", f"e{n}", "engine", {"received": n}, n)) for n in range(3)]
    value = "\n".join(lines).encode()
    sink, results = FakeLines(), FakePoints()
    async with store_in(sink) as store:
        await store.offer(value, topic=ACCOUNTS)
        await store.offer(encode_records([ACTIVITY]))
        await until(lambda: len(store.acked) == 2)
        assert sorted(sink.lines) == sorted([*lines, *map(to_line, points_of([ACTIVITY]))])
    async with store_in(results) as store:
        await store.offer(value, topic=ACCOUNTS)
        await store.offer(encode_records([RUL, ACTIVITY]))
        await until(lambda: len(store.acked) == 2)
        assert results.points == points_of([ACTIVITY])
        (dead,) = store.dead_letters()
        assert dead.raw.decode() == to_line(points_of([RUL])[0])


async def test_an_error_that_retrying_cannot_help_stops_the_store_and_acks_nothing() -> None:
    sink = FakeLines(failures=[SinkError("the file is damaged")])
    async with store_in(sink) as store:
        await store.offer(encode_records([RUL]))
        await until(lambda: bool(store.crashed))
        assert isinstance(store.crashed[0], SinkError)
        assert store.acked == []


def test_fakes_implement_their_protocols() -> None:
    lines: LineSink = FakeLines()
    points: Sink = FakePoints()
    assert isinstance(lines, LineSink)
    assert not isinstance(points, LineSink)


class Poisoned(FakeLines):
    """Raises an error that no sink promises for every request with `poison` in it."""

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        write = super().writing(lines)

        def check() -> list[RefusedLine]:
            if any("poison" in line for line in lines):
                msg = "nobody foresaw this"
                raise ValueError(msg)
            return write()

        return check


async def test_an_unforeseen_error_is_retried_like_an_unavailable_sink() -> None:
    sink = FakeLines(failures=[ValueError("odd"), KeyError("odder")])
    async with store_in(sink) as store:
        await store.offer(encode_records([score(1)]))
        await until(lambda: store.acked == [0])
        assert (store.crashed, store.dead_letters(), len(sink.lines)) == ([], [], 1)
        assert store.stage.problem is None
        assert store.stage.counters.tries_failed == 2


async def test_records_that_a_sink_trips_over_become_dead_letters_and_the_others_are_stored() -> (
    None
):
    sink = Poisoned()
    async with store_in(sink, linger_ms=100) as store:
        devices = ["e1", "poison", "e2", "poison", "e3"]
        await store.offer(*(encode_records([score(1, device=device)]) for device in devices))
        await until(lambda: len(store.acked) == 5)
        assert store.acked == [0, 1, 2, 3, 4]
        assert store.crashed == []
        letters = store.dead_letters()
        assert len(sink.lines) == 3
        assert len(letters) == 2
        assert all("ValueError: nobody foresaw this" in letter.detail for letter in letters)


async def test_a_record_alone_waits_until_another_one_shows_that_the_sink_works() -> None:
    async with store_in(Poisoned()) as store:
        await store.offer(encode_records([score(1, device="poison")]))
        await until(lambda: store.stage.counters.tries_failed > 4)
        assert store.acked == []
        assert "nobody foresaw this" in str(store.stage.problem)
        await store.offer(encode_records([score(2, device="e1")]))
        await until(lambda: store.acked == [0, 1])
        assert len(store.dead_letters()) == 1
        assert store.stage.problem is None


async def test_a_record_that_cannot_be_prepared_for_an_unforeseen_reason_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = FakeLines()
    plain = prepare_lines(sink)

    def prepare(records: Sequence[tuple[str, bytes]]) -> object:
        if any(b"poison" in value for _, value in records):
            msg = "odd record"
            raise RuntimeError(msg)
        return plain(records)

    async with store_in(sink, linger_ms=100) as store:
        monkeypatch.setattr(store.stage, "_prepare", prepare)
        await store.offer(*(encode_records([score(1, device=d)]) for d in ("e1", "poison", "e2")))
        await until(lambda: store.acked == [0, 1, 2])
        assert len(sink.lines) == 2
        assert ["odd record" in letter.detail for letter in store.dead_letters()] == [True]


@pytest.mark.parametrize("sink", [FakeLines(), FakePoints()])
async def test_labels_reach_every_sink_and_a_flawed_one_is_a_dead_letter(
    sink: FakeLines | FakePoints,
) -> None:
    given = label("engine-1", "a", "failed", T0_MS)
    async with store_in(sink) as store:
        await store.offer(b'{"id": "a"}', topic=LABELS)
        await store.offer(encode_records([score(1)]))
        await store.offer(encode_label_record(given), topic=LABELS)
        await until(lambda: len(store.acked) == 3)
        dead = [each for each in store.dead_letters() if each.reason is RefusalReason.unreadable]
    assert [each.raw for each in dead] == [b'{"id": "a"}']
    if isinstance(sink, FakeLines):
        assert to_line(label_point(given)) in sink.lines
    else:
        assert label_point(given) in sink.points


async def test_a_lone_record_waits_for_a_fifth_of_the_time_and_a_stream_of_them_for_all() -> None:
    sink = FakeLines()
    async with store_in(sink, linger_ms=4000) as store:
        started = time.monotonic()
        await store.offer(encode_records([score(0)]))
        await until(lambda: sink.batches == [1])
        assert 0.8 <= time.monotonic() - started < 3.9
        for n in range(12):
            await store.offer(encode_records([score(n)]))
            await asyncio.sleep(0.02)
        await until(lambda: len(store.acked) == 13)
        assert time.monotonic() - started >= 4, "two writes are that far apart"
        assert len(sink.batches) == 2
