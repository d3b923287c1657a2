"""Examples of a site: every worker has all of them, and the log what outlives workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from deploy.processes.siteexamples import ExampleRow, SiteExamples
from ingest.errors import LogUnavailable
from ingest.labels import Label, LabelRecord, label_log_record
from ingest.topics import EXAMPLES, LABELS, Address, device_key, partition_of
from models.dummy import write_dummy
from models.session import Student
from pipeline.explain.logscan import LogFile
from pipeline.scoring.examples import ExampleFile, KeptExample, encode_example
from pipeline.settings import PipelineSettings
from tests.pipeline.explain.plant import PARTITIONS, T0, Plant, line

AXES = ("acc_x", "acc_y", "acc_z")
ROWING = Label("a", "span", T0, T0 + 4_000, "rowing", example="stream")
KEY = "plant/press-1/imu/a"
OWN = partition_of(device_key("plant", "press-1"), PARTITIONS)
ALL = tuple(range(PARTITIONS))


@dataclass
class Topics:
    """The topics of a Kafka; a reader of itself."""

    rows: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = field(default_factory=dict)
    is_away: bool = False

    def append(self, topic: str, partition: int, key: bytes, value: bytes | None) -> None:
        self.rows.setdefault((topic, partition), []).append((key, value))

    def bounds(self, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
        if self.is_away:
            raise LogUnavailable("away")
        return {at: (0, len(self.rows.get((topic, at), ()))) for at in range(partitions)}

    def read(
        self, topic: str, partition: int, offset: int, end: int
    ) -> Iterator[tuple[int, bytes | None]]:
        for at in range(offset, end):
            yield at, self.rows[topic, partition][at][1]

    def close(self) -> None:
        pass

    def current(self) -> dict[bytes, bytes]:
        """The values of the topic of examples that compaction leaves."""
        found = {}
        for (topic, _), rows in self.rows.items():
            if topic == EXAMPLES:
                found |= dict(rows)
        return {key: value for key, value in found.items() if value is not None}


class Site:
    """A log with readings, topics, and workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.topics = folder, Topics()
        self.plant = Plant.make(folder)
        self.plant.send(line([*range(40)], stream="imu", channels=AXES))
        self.student = Student(write_dummy(folder / "imu-student", "activity", features=True))

    def worker(self, name: str, log: Path | None = None) -> SiteExamples:
        source = LogFile(log or self.folder / "log.db")
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return SiteExamples(
            folder,
            {"imu": self.student},
            PipelineSettings(unresampled=("imu",), partitions=PARTITIONS),
            lambda: self.topics,
            lambda: nullcontext(source),
        )

    def give(self, label: Label, recv_ms: int = T0, device: str = "press-1") -> None:
        record = LabelRecord(Address("plant", device, "imu"), recv_ms, label)
        made = label_log_record(record, PARTITIONS)
        self.topics.append(LABELS, made.partition, made.key or b"", made.value)

    def take(self, rows: list[ExampleRow]) -> None:
        for row in rows:
            self.topics.append(EXAMPLES, row.partition, row.key, row.value)

    def turn(self, worker: SiteExamples, owned: tuple[int, ...]) -> int:
        """Follow until nothing is left to append; returns the number of rows."""
        count = 0
        while rows := worker.follow(owned):
            self.take(rows)
            count += len(rows)
            assert count < 50
        return count

    def kept(self, name: str) -> dict[str, int]:
        found = ExampleFile(self.folder / name).read()
        return {key: len(each.windows) for key, each in found.items()}

    def has_anchors(self, worker: SiteExamples) -> bool:
        return worker.anchors.of(self.student.manifest) is not None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.plant.close()


def test_the_worker_of_the_device_cuts_and_every_worker_has_the_windows(site: Site) -> None:
    owner, other = site.worker("worker-1"), site.worker("worker-2")
    site.give(ROWING)
    assert site.turn(other, tuple(at for at in ALL if at != OWN)) == 0
    assert other.status()["without_effect"] == [
        f"{KEY}: the worker that has its device cuts its windows"
    ]
    assert site.turn(owner, (OWN,)) == 1
    assert site.turn(other, ()) == 0
    assert site.kept("worker-1") == site.kept("worker-2") == {KEY: 9}
    assert site.has_anchors(owner)
    assert site.has_anchors(other)
    assert other.status() == {"labels": 1, "windows": 9, "without_effect": []}


def test_a_new_worker_has_what_the_readings_are_gone_for_before_it_scores(
    site: Site, tmp_path: Path
) -> None:
    site.give(ROWING)
    site.turn(site.worker("worker-1"), ALL)
    empty = Plant.make(tmp_path / "later")
    fresh = site.worker("worker-9", tmp_path / "later" / "log.db")
    fresh.start()
    assert site.has_anchors(fresh)
    assert site.turn(fresh, ALL) == 0, "the partitions have moved to it, and nothing changes"
    site.give(replace(ROWING, label="sculling"), T0 + 5)
    assert site.turn(fresh, ALL) == 0, "the same span keeps its windows"
    assert site.kept("worker-9") == {KEY: 9}
    (each,) = ExampleFile(site.folder / "worker-9").read().values()
    assert (each.label, each.recv_ms) == ("sculling", T0 + 5)
    empty.close()


def test_a_restart_goes_on_without_kafka_and_with_it(site: Site) -> None:
    site.give(ROWING)
    site.turn(site.worker("worker-1"), ALL)
    site.topics.is_away = True
    again = site.worker("worker-1")
    again.start()
    assert site.has_anchors(again)
    with pytest.raises(LogUnavailable):
        again.follow(ALL)
    site.topics.is_away = False
    assert site.turn(again, ALL) == 0
    assert site.kept("worker-1") == {KEY: 9}


def test_a_revoked_label_is_forgotten_everywhere(site: Site) -> None:
    owner, other = site.worker("worker-1"), site.worker("worker-2")
    site.give(ROWING)
    site.turn(owner, (OWN,))
    site.turn(other, ())
    assert list(site.topics.current()) == [KEY.encode()]
    site.give(replace(ROWING, revoked=True), T0 + 1)
    assert site.turn(other, ()) == 0
    assert site.turn(owner, ()) == 0, "its partition is on the way"
    assert site.turn(owner, (OWN,)) == 1
    assert site.topics.current() == {}
    assert site.kept("worker-1") == site.kept("worker-2") == {}
    assert not site.has_anchors(other)
    site.give(ROWING, T0 + 2)
    assert site.turn(owner, ALL) == 0, "a revocation is final"


def test_a_span_without_readings_is_told_and_not_cut_for_ever(site: Site) -> None:
    worker = site.worker("worker-1")
    site.give(replace(ROWING, from_ms=T0 + 10**6, to_ms=T0 + 10**6 + 5_000))
    assert site.turn(worker, ALL) == 1
    (text,) = worker.status()["without_effect"]
    assert "no whole window of 8" in text
    assert site.turn(worker, ALL) == 0


def test_a_bound_holds_for_the_whole_site_by_the_order_of_labels(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.scoring.examples._MOST_OF_DEVICE", 2)
    owner, other = site.worker("worker-1"), site.worker("worker-2")
    for at in range(4):
        site.give(replace(ROWING, id=f"n{at}"), T0 + at)
    site.turn(owner, ALL)
    site.turn(other, ())
    assert site.kept("worker-1") == site.kept("worker-2")
    assert sorted(site.kept("worker-1")) == ["plant/press-1/imu/n0", "plant/press-1/imu/n1"]
    assert any("the device has 2 labels" in each for each in owner.status()["without_effect"])
    site.give(replace(ROWING, id="n0", revoked=True), T0 + 9)
    site.turn(owner, ALL)
    assert sorted(site.kept("worker-1")) == ["plant/press-1/imu/n1", "plant/press-1/imu/n2"]


def test_labels_that_were_examples_are_forgotten_first_where_there_are_too_many(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.processes.siteexamples._MOST_LABELS", 6)
    worker = site.worker("worker-1")
    site.give(ROWING)
    for at in range(20):
        site.give(replace(ROWING, id=f"n{at}"), T0 + at)
        site.give(replace(ROWING, id=f"n{at}", revoked=True), T0 + at)
    site.turn(worker, ALL)
    assert site.kept("worker-1") == {KEY: 9}


def test_what_is_no_label_or_example_harms_nothing(site: Site) -> None:
    site.topics.append(LABELS, 0, b"x", b"{}")
    site.topics.append(EXAMPLES, 0, b"x", b'{"key": "a/b/c/d"}')
    site.give(replace(ROWING, id="plain", example=""))
    site.give(ROWING)
    worker = site.worker("worker-1")
    assert site.turn(worker, ALL) == 1
    assert site.kept("worker-1") == {KEY: 9}


def test_a_label_that_is_an_example_again_is_not_deleted_by_who_gets_its_partition(
    site: Site,
) -> None:
    owner, other = site.worker("worker-1"), site.worker("worker-2")
    for at, whom in enumerate(("stream", "", "stream")):
        site.give(replace(ROWING, example=whom), T0 + at)  # type: ignore[arg-type]
        site.turn(owner, (OWN,))
        site.turn(other, ())
    assert site.turn(other, ALL) == 0, "the partition has moved"
    assert list(site.topics.current()) == [KEY.encode()]


def test_a_revocation_without_the_word_example_holds_also_if_it_is_read_first(site: Site) -> None:
    site.give(replace(ROWING, example="", revoked=True), T0)  # compaction removed what came before
    site.give(ROWING, T0 + 1)
    worker = site.worker("worker-1")
    assert site.turn(worker, ALL) == 0
    assert site.kept("worker-1") == {}


def test_labels_behind_many_whose_readings_are_gone_are_cut_in_later_turns(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.processes.siteexamples._MOST_CUT", 2)
    span = replace(ROWING, from_ms=T0 - 10**6, to_ms=T0 - 10**6 + 5_000)
    windows = np.zeros((2, 16, 3), np.float32)
    for at in range(5):
        site.give(replace(span, id=f"n{at}"), T0 + at)
        key, span_ms = f"plant/press-1/imu/n{at}", (span.from_ms, span.to_ms)
        old = KeptExample(key, True, "rowing", T0 + at, (16, 3), windows, "", span_ms)
        site.take([ExampleRow(OWN, key.encode(), encode_example(old))])
    site.give(ROWING, T0 + 9)
    worker = site.worker("worker-1")
    for _ in range(4):
        site.take(worker.follow(ALL))
    assert site.kept("worker-1") == {KEY: 9} | {f"plant/press-1/imu/n{at}": 2 for at in range(5)}
    assert not any("the worker that has" in each for each in worker.status()["without_effect"])


def test_topics_that_were_made_anew_are_read_from_their_beginning(site: Site) -> None:
    worker = site.worker("worker-1")
    for at in range(3):
        site.give(replace(ROWING, id=f"n{at}", example=""), T0 + at)
    site.turn(worker, ALL)
    site.topics.rows.clear()
    site.give(ROWING)
    assert site.turn(worker, ALL) == 1
    assert site.kept("worker-1") == {KEY: 9}


@pytest.mark.parametrize("time", [{"span_ms": [1e300, 1]}, {"recv_ms": 2**70}, {"recv_ms": -1}])
def test_an_example_that_no_file_could_hold_is_left_out(
    site: Site, time: dict[str, object]
) -> None:
    site.give(ROWING)
    site.turn(site.worker("worker-1"), ALL)
    (value,) = site.topics.current().values()
    bad = json.dumps({**json.loads(value), "key": "plant/x/imu/bad", **time}).encode()
    site.topics.append(EXAMPLES, 0, b"plant/x/imu/bad", bad)
    fresh = site.worker("worker-2")
    fresh.start()
    assert site.kept("worker-2") == {KEY: 9}


async def test_a_row_that_kafka_does_not_take_is_appended_later(site: Site) -> None:
    worker = site.worker("worker-1")
    site.give(ROWING)
    refused = 2

    async def append(row: ExampleRow) -> None:
        nonlocal refused
        if refused:
            refused -= 1
            raise LogUnavailable("away")
        site.take([row])

    running = asyncio.create_task(worker.run(lambda: ALL, append))
    for _ in range(400):
        await asyncio.sleep(0.05)
        if site.kept("worker-1"):
            break
    running.cancel()
    assert site.kept("worker-1") == {KEY: 9}
    assert refused == 0
    worker.close()


def test_windows_of_two_workers_are_the_same(site: Site) -> None:
    site.give(ROWING)
    site.turn(site.worker("worker-1"), ALL)
    site.turn(site.worker("worker-2"), ())
    one, two = (ExampleFile(site.folder / f"worker-{at}").read()[KEY] for at in (1, 2))
    np.testing.assert_array_equal(one.windows, two.windows)
