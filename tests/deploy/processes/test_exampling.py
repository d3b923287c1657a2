"""Examples follow the labels in the log, whatever their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.processes.exampling import ExampleWatch
from ingest.labels import Label, LabelRecord, label_key, label_log_record
from ingest.topics import LABELS, Address
from models.dummy import write_dummy
from models.session import Student
from pipeline.log.state import NewRecord
from pipeline.scoring.examples import ExampleFile, Examples
from pipeline.settings import PipelineSettings
from tests.pipeline.explain.plant import PARTITIONS, T0, Plant, line, values_at

AXES = ("acc_x", "acc_y", "acc_z")
WALK = Label("a", "span", T0, T0 + 4_000, "rowing", example="device")


class Watched:
    """A log with readings of `imu`, and the watch of its labels."""

    def __init__(self, folder: Path) -> None:
        self.plant = Plant.make(folder)
        self.plant.log.create_topic(LABELS, PARTITIONS, compacted=True)
        self.file = ExampleFile(folder)
        self.running: dict[str, Student] = {}
        self.examples = Examples(self.file, self.running)
        self.watch = ExampleWatch(
            self.plant.log,
            folder / "log.db",
            self.file,
            self.examples,
            self.running,
            PipelineSettings(unresampled=("imu",)),
            lambda _device, values, _channels: 2 * values,
        )
        self.folder = folder

    def run_student(self) -> None:
        self.running["imu"] = Student(
            write_dummy(self.folder / "imu-student", "activity", features=True)
        )

    def give(self, label: Label, recv_ms: int = T0, device: str = "press-1") -> None:
        record = LabelRecord(Address("plant", device, "imu"), recv_ms, label)
        made = label_log_record(record, PARTITIONS)
        new = NewRecord(LABELS, made.value, partition=made.partition, key=label_key(record))
        self.plant.log.append([new]).result()
        self.watch.follow()

    def kept(self) -> dict[str, int]:
        return {key: len(each.windows) for key, each in self.file.read().items()}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    made.plant.send(line([*range(40)], stream="imu", channels=AXES))
    yield made
    made.plant.close()


def test_a_label_waits_for_a_student_and_its_windows_are_turned_as_for_scoring(
    watched: Watched,
) -> None:
    watched.give(WALK)
    assert watched.kept() == {}
    watched.run_student()
    watched.watch.follow()
    (each,) = watched.file.read().values()
    assert each.windows.shape == (9, 8, 3)
    np.testing.assert_array_equal(each.windows[0, 0], 2 * np.float32(values_at(0)))
    np.testing.assert_array_equal(each.windows[1][:4], each.windows[0][4:])
    assert watched.watch.status() == {"labels": 1, "windows": 9, "without_effect": []}
    before = each.windows.copy()
    watched.watch.follow()
    np.testing.assert_array_equal(next(iter(watched.file.read().values())).windows, before)


def test_a_revocation_is_final_whichever_comes_first(watched: Watched) -> None:
    watched.run_student()
    watched.give(replace(WALK, revoked=True))
    watched.give(WALK, T0 + 1)
    assert watched.kept() == {}
    watched.give(replace(WALK, id="b"))
    assert watched.kept() == {"plant/press-1/imu/b": 9}
    watched.give(replace(WALK, id="b", revoked=True), T0 + 2)
    assert watched.kept() == {}


def test_a_later_label_with_the_same_id_counts(watched: Watched) -> None:
    watched.run_student()
    watched.give(WALK)
    watched.give(replace(WALK, to_ms=T0 + 2_000), T0 + 1)
    assert watched.kept() == {"plant/press-1/imu/a": 4}
    watched.give(replace(WALK, example=""), T0 + 2)
    assert watched.kept() == {}


def test_a_span_without_readings_says_so_and_is_not_cut_for_ever(watched: Watched) -> None:
    watched.run_student()
    watched.give(replace(WALK, from_ms=T0 + 10**6, to_ms=T0 + 10**6 + 5_000))
    assert watched.kept() == {"plant/press-1/imu/a": 0}
    (text,) = watched.watch.status()["without_effect"]
    assert "no whole window of 8" in text


def test_examples_stay_when_the_log_has_lost_their_label(watched: Watched) -> None:
    watched.run_student()
    watched.give(WALK)
    fresh = Watched(watched.folder / "again")
    fresh.run_student()
    fresh.file.change(watched.file.read().values(), [])
    fresh.give(replace(WALK, id="other", example=""))
    assert fresh.kept() == {"plant/press-1/imu/a": 9}
    fresh.plant.close()


def test_the_same_span_given_again_keeps_windows_that_the_log_has_no_more(
    watched: Watched,
) -> None:
    watched.run_student()
    watched.give(WALK)
    fresh = Watched(watched.folder / "again")  # its log has no readings
    fresh.run_student()
    fresh.file.change(watched.file.read().values(), [])
    fresh.give(replace(WALK, label="sculling", example="stream"), T0 + 5)
    (each,) = fresh.file.read().values()
    assert (each.label, each.for_all, each.recv_ms, len(each.windows)) == (
        "sculling",
        True,
        T0 + 5,
        9,
    )
    fresh.give(replace(WALK, to_ms=T0 + 3_000), T0 + 6)
    assert fresh.kept() == {"plant/press-1/imu/a": 0}, "another span has other windows"
    fresh.plant.close()


def test_labels_beyond_a_bound_stop_nobody_and_hold_when_there_is_room(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.scoring.examples._MOST_LABELS", 4)
    monkeypatch.setattr("pipeline.scoring.examples._MOST_OF_DEVICE", 3)
    watched.run_student()
    for at in range(5):
        watched.give(replace(WALK, id=f"n{at}"), T0 + at, device="flood")
    assert sorted(watched.kept()) == [f"plant/flood/imu/n{at}" for at in range(3)]
    watched.give(WALK, T0 + 9)
    watched.give(replace(WALK, id="b"), T0 + 10)
    assert watched.kept()["plant/press-1/imu/a"] == 9
    told = watched.file.told()
    assert "the device has 3 labels" in told["plant/flood/imu/n3"]
    assert "the gateway has 4 labels" in told["plant/press-1/imu/b"]
    assert set(told) == {key for key in (f"plant/flood/imu/n{at}" for at in range(5))} | {
        "plant/press-1/imu/b"
    }
    watched.give(replace(WALK, id="n0", revoked=True), T0 + 11, device="flood")
    assert sorted(watched.kept())[:2] == ["plant/flood/imu/n1", "plant/flood/imu/n2"]
    assert "plant/flood/imu/n3" in watched.kept(), "received before b"


def test_windows_stay_for_their_student_where_those_of_another_cannot_be_cut(
    watched: Watched,
) -> None:
    watched.run_student()
    watched.give(WALK)
    kept = watched.file.read()["plant/press-1/imu/a"]
    other = replace(kept, shape=(16, 3), windows=np.zeros((2, 16, 3), np.float32))
    lost = Watched(watched.folder / "lost")  # a log without the readings
    lost.run_student()
    lost.file.change([other], [])
    lost.give(WALK)
    assert lost.file.read()["plant/press-1/imu/a"].windows.shape == (2, 16, 3)
    assert "have 16 readings of 3 channels" in lost.file.told()["plant/press-1/imu/a"]
    assert "have 16 readings" in lost.watch.status()["without_effect"][0]
    lost.file.change([kept], [])  # the student of before is back
    lost.give(replace(WALK, id="b", example=""))
    assert lost.file.told() == {}
    assert lost.watch.status()["without_effect"] == []
    lost.plant.close()


def test_a_label_of_a_stream_without_a_student_is_told(watched: Watched) -> None:
    watched.give(WALK)
    assert watched.file.told() == {"plant/press-1/imu/a": "no student scores the stream 'imu'"}
    watched.run_student()
    watched.watch.follow()
    assert watched.file.told() == {}
