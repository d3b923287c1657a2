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

    def give(self, label: Label, recv_ms: int = T0) -> None:
        record = LabelRecord(Address("plant", "press-1", "imu"), recv_ms, label)
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
