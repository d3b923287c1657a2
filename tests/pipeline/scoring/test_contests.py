"""Challengers in shadow and on probation, with made-up students of every task."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact
from models.dummy import write_dummy
from models.errors import ChannelMismatch, Misfit
from models.registry import Registry
from models.session import Student
from pipeline.errors import LineFull, SinkUnavailable
from pipeline.points.measurements import SHADOW
from pipeline.points.points import Point
from pipeline.quiet import QuietThread
from pipeline.scoring.batch import score_and_report
from pipeline.scoring.contests import Contests
from pipeline.scoring.rollover import ModelWatch, load_student
from pipeline.scoring.thresholds import Thresholds
from pipeline.windows.spec import Window

pytest.importorskip("onnx", reason="needs the extra [training]; make test installs it")
from tests.fakes.badstudents import SOUND, Trap, write_bad
from tests.fakes.scores import Closed, Outcome, batches_of, records_of

pytestmark = pytest.mark.needs_training

STREAMS = {"rul": ("engine", 4), "activity": ("imu", 8), "forecast": ("power", 8)}
QUICK = Thresholds(windows=100)
TRAP = Trap(channel=0, low=50.0, high=1000.0)
DEVICES = [f"d{n}" for n in range(40)]
TRAPPED = 200.0
"""A reading of the first channel that is inside the trap of a dummy student."""


@dataclass
class Line:
    """Does the work at once, or keeps it."""

    at_once: bool = True
    most: int = 100
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def submit(self, work: Callable[[], None]) -> None:
        if len(self.waiting) >= self.most:
            raise LineFull
        self.waiting.append(work)
        if self.at_once:
            self.work()

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Plant:
    """A registry, its watch and the contests, as `Students` composes them."""

    def __init__(self, folder: Path, task: str) -> None:
        self.folder, self.task = folder, task
        self.stream, self.length = STREAMS[task]
        self.name = f"dummy-{task}"
        self.registry = Registry(folder / "registry")
        self.line = Line()
        self.loads: list[int] = []
        self.failures: list[tuple[str, str]] = []
        self.models = ModelWatch(
            self.registry,
            lambda: 7,
            lambda artifact: self.contests.loaded(artifact.digest) or self._load(artifact),
            memory=folder / "running.json",
            on_swap=lambda student: self.contests.on_swap(student),
        )
        self.contests = Contests(
            self.models.running, self._load, self.models.take_back, self.line, lambda: 7
        )
        self.contests.on_failed = lambda name, reason: self.failures.append((name, reason))
        self.sound = self.publish(write_dummy(folder / "one", task))
        self.registry.set_stable(self.name, 1)
        self.models.poll()
        self.random = np.random.default_rng(0)

    def _load(self, artifact: Artifact) -> Student:
        self.loads.append(artifact.manifest.version)
        return load_student(artifact)

    def publish(self, artifact: Artifact) -> Artifact:
        return self.registry.read(self.name, self.registry.publish(artifact.path))

    def bad(self, fault: str, version: int = 2) -> Artifact:
        shift = 60.0 if self.task == "rul" else 4.0
        path = self.folder / f"{fault}-{version}"
        return self.publish(
            write_bad(path, self.sound, fault, version=version, trap=TRAP, shift=shift, work=1000)
        )

    def good(self, version: int = 2) -> Artifact:
        """Another student that says nearly the same."""
        path = self.folder / f"good-{version}"
        return self.publish(write_bad(path, self.sound, "slow", version=version, work=version - 2))

    @property
    def version(self) -> int:
        return self.models.running[self.stream].manifest.version

    def windows(self, count: int, *, trapped: bool = False) -> list[Closed]:
        found = []
        for n in range(count):
            values = self.random.normal(0, 2, (self.length, 3)).astype(np.float32)
            if trapped and n == count // 2:
                values[-1, 0] = TRAPPED
            window = Window(n * 10, n * 10 + 9, values, self.length, 0, n * 10 + 9)
            found.append(Closed("plant", f"d{n}", self.stream, window))
        return found

    def score(self, count: int, *, batch: int = 20, trapped: bool = False) -> Outcome:
        """Score windows in batches as the stage does."""
        records, unscored = [], []
        closed = self.windows(count, trapped=trapped)
        for at in range(0, count, batch):
            found = score_and_report(
                self.models.running.get,
                lambda batches, _: self.contests.on_scored(batches),
                batches_of(closed[at : at + batch]),
                scored_ms=1,
                rescue=self.contests.rescue,
            )
            records += records_of(found)
            unscored += found.unscored
        return Outcome(records, unscored, [])


@pytest.fixture
def plant(tmp_path: Path) -> Callable[[str], Plant]:
    return lambda task: Plant(tmp_path / task, task)


def test_a_good_student_passes_shadow_takes_over_and_passes_probation(plant) -> None:
    at = plant("rul")
    good = at.good()
    at.contests.start_shadow(at.name, good, QUICK)
    assert at.contests.evidence(at.name).windows == 0
    records = at.score(300).records
    assert {record["version"] for record in records} == {1}
    evidence = at.contests.evidence(at.name)
    assert (evidence.windows, evidence.verdict(QUICK)) == (300, None)
    assert not at.contests.status(at.name).is_running
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    assert at.loads == [1, 2]  # what was in shadow is not loaded once more
    at.contests.start_probation(at.name, at.sound, QUICK)
    assert at.loads == [1, 2]
    assert {record["version"] for record in at.score(200).records} == {2}
    status = at.contests.status(at.name)
    assert (status.is_running, status.version, status.against, status.windows) == (True, 2, 1, 500)
    assert (at.contests.failed(at.name), at.failures) == (None, [])
    at.contests.stop(at.name)
    assert at.contests.evidence(at.name) is None
    assert at.version == 2


def test_a_window_without_a_finite_score_ends_probation_within_the_batch(plant, caplog) -> None:
    at = plant("rul")
    at.bad("nan")
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    at.contests.start_probation(at.name, at.sound, QUICK)
    assert {record["version"] for record in at.score(40).records} == {2}
    with caplog.at_level(logging.ERROR):
        scored = at.score(60, trapped=True)
    assert [record["version"] for record in scored.records] == [2] * 20 + [1] * 40
    assert (len({r["device"] for r in scored.records}), scored.unscored) == (60, [])
    ((name, reason),) = at.failures
    assert (name, reason) == (at.name, at.contests.failed(at.name))
    assert reason == "it gave no finite score to 1 of 20 windows, which v1 scored"
    assert "v2 is unhealthy, v1 scores again" in caplog.text
    at.score(40, trapped=True)
    assert len(at.failures) == 1


def test_a_student_that_raises_on_probation_is_replaced_within_the_batch(plant) -> None:
    at = plant("activity")
    at.bad("raises")
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    at.contests.start_probation(at.name, at.sound, QUICK)
    scored = at.score(60, trapped=True)
    assert [record["version"] for record in scored.records] == [2] * 20 + [1] * 40
    assert (len({r["device"] for r in scored.records}), scored.unscored) == (60, [])
    assert "it failed while it scored: ScoreFailed: ONNX Runtime refused" in at.failures[0][1]


def test_a_window_that_neither_student_scores_is_no_fault_of_the_challenger(plant) -> None:
    at = plant("rul")
    at.contests.start_shadow(at.name, at.good(), QUICK)
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    huge = at.windows(3)
    huge[1].window.values[0, 0] = np.finfo(np.float32).max  # finite, but not once it is scaled
    for item in huge:
        item.window.values[:, 2] *= 1e38 if item is huge[1] else 1
    scored = score_and_report(
        at.models.running.get,
        lambda batches, _: at.contests.on_scored(batches),
        batches_of(huge),
        scored_ms=1,
        rescue=at.contests.rescue,
    )
    assert (len(records_of(scored)), len(scored.unscored)) == (2, 1)
    assert (at.version, at.failures) == (2, [])


def test_the_failed_version_stays_away_until_it_is_readmitted(plant, tmp_path) -> None:
    at = plant("rul")
    bad = at.bad("nan")
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    at.contests.start_probation(at.name, at.sound, QUICK)
    at.score(20, trapped=True)
    assert at.version == 1
    assert at.models.poll() == []  # the pointer still names v2, but has not moved
    again = ModelWatch(
        at.registry, lambda: 7, memory=at.folder / "running.json", rejected={bad.digest: "NaN"}
    )
    assert [(c.version, c.what) for c in again.poll()] == [(1, "swapped"), (2, "refused")]
    assert "v2 failed on this machine (NaN), so it is not tried again" in str(
        again.slots()[0].refused_error
    )
    at.registry.set_stable(at.name, 1)
    assert again.poll() == []
    at.registry.set_stable(at.name, 2)
    assert [c.what for c in again.poll()] == ["refused"]
    again.readmit(bad.digest)
    assert [(c.version, c.what) for c in again.poll()] == [(2, "swapped")]


def test_a_rejected_version_that_ran_last_is_not_resumed(plant) -> None:
    at = plant("rul")
    bad = at.bad("nan")
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    memory = at.folder / "running.json"
    rejected = {bad.digest: "it crashed twice"}
    again = ModelWatch(at.registry, lambda: 7, memory=memory, rejected=rejected)
    again.poll()
    assert again.running[at.stream].manifest.version == 1
    at.registry.set_stable(at.name, 1)  # what the agent does before the first poll
    once_more = ModelWatch(at.registry, lambda: 7, memory=memory, rejected=rejected)
    assert [(c.version, c.what) for c in once_more.poll()] == [(1, "swapped")]


def test_windows_are_skipped_and_counted_while_the_thread_is_busy(plant) -> None:
    at = plant("rul")
    at.line.at_once = False
    at.contests.start_shadow(at.name, at.good(), QUICK)
    at.score(50)
    at.score(50)
    assert len(at.line.waiting) == 1
    status = at.contests.status(at.name)
    assert (status.windows, status.skipped) == (0, 100 - 64)
    at.line.work()
    assert at.contests.status(at.name).windows == 64
    at.line.most = 0
    at.score(20)
    assert at.contests.status(at.name).skipped == 36 + 20
    at.line.most = 1
    at.score(20)
    at.line.work()
    assert at.contests.status(at.name).windows == 84


def test_a_third_student_becomes_the_reference_and_the_comparison_begins_anew(plant) -> None:
    at = plant("rul")
    at.contests.start_shadow(at.name, at.good(2), QUICK)
    at.score(50)
    at.good(3)
    at.registry.set_stable(at.name, 3)
    at.models.poll()
    status = at.contests.status(at.name)
    assert (status.against, status.version, status.windows) == (3, 2, 0)
    at.score(30)
    assert at.contests.status(at.name).windows == 30


def test_a_contest_needs_two_students_that_fit(plant, tmp_path) -> None:
    at = plant("rul")
    with pytest.raises(Misfit, match="v1 runs already"):
        at.contests.start_shadow(at.name, at.sound, QUICK)
    with pytest.raises(Misfit, match="cannot watch itself"):
        at.contests.start_probation(at.name, at.sound, QUICK)
    with pytest.raises(Misfit, match="no student of other runs here"):
        at.contests.start_shadow("other", at.sound, QUICK)
    with pytest.raises((ChannelMismatch, Misfit)):
        at.contests.start_shadow(at.name, write_dummy(tmp_path / "x", "activity"), QUICK)
    assert at.contests.status(at.name) is None


def test_a_failure_of_the_shadow_leaves_the_champion_and_is_told_once(plant) -> None:
    at = plant("rul")
    at.contests.start_shadow(at.name, at.bad("raises"), QUICK)
    scored = at.score(60, trapped=True)
    assert ({r["version"] for r in scored.records}, len(scored.records)) == ({1}, 60)
    ((_, reason),) = at.failures
    assert reason.startswith("it failed over windows that the other student scored: ScoreFailed")
    at.score(60, trapped=True)
    assert len(at.failures) == 1


FAULTY = [
    *((task, fault) for task in STREAMS for fault in ("nan", "raises", "constant", "slow")),
    ("rul", "shifted"),
    ("forecast", "shifted"),
    ("activity", "labels"),
]
AT_ONCE = ("nan", "raises")
STRICT = Thresholds(windows=100, latency_ms=0)  # a dummy takes microseconds


@pytest.mark.parametrize(("task", "fault"), FAULTY)
def test_the_shadow_catches_every_fault_within_the_windows_of_the_threshold(
    plant, task: str, fault: str
) -> None:
    at = plant(task)
    at.contests.start_shadow(at.name, at.bad(fault), STRICT)
    scored = at.score(120, trapped=True)
    assert len(at.failures) == 1, at.contests.evidence(at.name)
    assert at.contests.evidence(at.name).windows <= 100
    assert ({record["version"] for record in scored.records}, len(scored.records)) == ({1}, 120)


@pytest.mark.parametrize(("task", "fault"), FAULTY)
def test_probation_catches_every_fault_that_was_forced_past_the_shadow(
    plant, task: str, fault: str
) -> None:
    at = plant(task)
    at.bad(fault)
    at.registry.set_stable(at.name, 2)
    at.models.poll()
    at.contests.start_probation(at.name, at.sound, STRICT)
    scored = at.score(160, trapped=True)
    assert len(at.failures) == 1, at.contests.evidence(at.name)
    assert at.version == 1
    places = [(record["device"], record["end_ms"]) for record in scored.records]
    assert (len(places), len(set(places)), scored.unscored) == (160, 160, [])
    versions = [record["version"] for record in scored.records]
    last = 80 if fault in AT_ONCE else 100  # the trap is in the window in the middle
    assert versions == [2] * last + [1] * (160 - last)


def test_classes_are_compared_by_name_and_not_by_their_place(plant) -> None:
    at = plant("activity")
    same = at.publish(write_bad(at.folder / "same", at.sound, SOUND, version=2))
    assert same.manifest.decoding.labels != at.sound.manifest.decoding.labels
    at.contests.start_shadow(at.name, same, QUICK)
    at.score(200)
    evidence = at.contests.evidence(at.name)
    assert (evidence.disagreement_permille, evidence.psi_permille) == (0, 0)
    assert evidence.verdict(QUICK) is None


@pytest.mark.parametrize("task", STREAMS)
def test_a_contest_counts_the_same_windows_for_both(plant, task: str) -> None:
    at = plant(task)
    at.contests.start_shadow(at.name, at.good(), QUICK)
    at.score(120)
    evidence = at.contests.evidence(at.name)
    assert (evidence.windows, evidence.nonfinite_permille, evidence.unknown_permille) == (120, 0, 0)
    assert evidence.psi_permille < 20
    assert evidence.spread_percent in (99, 100, 101)
    has_backtest = task == "forecast"
    assert (evidence.error_percent is not None) == has_backtest
    assert (evidence.coverage_permille is not None) == has_backtest


@pytest.mark.parametrize("task", ["rul", "activity", "forecast"])
def test_one_window_a_second_becomes_a_point_that_is_no_score(plant, task: str) -> None:
    one = plant(task)
    points: list[Point] = []
    clock = [7]
    one.contests._now_ms = lambda: clock[0]
    one.contests.on_compared = points.append
    one.contests.start_shadow(one.name, one.good(), Thresholds())
    for clock[0] in (500, 999, 1_007, 1_500, 2_100):
        one.score(10)
    assert len(points) == 2
    for point in points:
        assert point.measurement == SHADOW.name
        assert dict(point.tags) | {"device": ""} == {
            "site": "plant", "device": "", "stream": one.stream, "model": one.name,
        }  # fmt: skip
        fields = dict(point.fields)
        assert set(fields) == {field.name for field in SHADOW.fields}
        assert (fields["version"], fields["against"]) == (2, 1)
        assert 0 <= fields["disagreement"] <= 1
    assert one.version == 1


def test_a_failure_is_stored_at_once_and_a_store_that_is_away_ends_no_comparison(plant) -> None:
    one = plant("rul")
    points: list[Point] = []

    def store(point: Point) -> None:
        points.append(point)
        raise SinkUnavailable("disk full")

    one.contests.on_compared = store
    one.contests.start_shadow(one.name, one.bad("shifted"), Thresholds(windows=50))
    one.score(100)
    assert one.failures
    assert dict(points[-1].fields)["disagreement"] > 0.3


def test_no_window_is_lost_or_doubled_while_students_come_and_go(plant) -> None:
    at = plant("rul")
    good, bad = at.good(2), at.bad("raises", 3)
    quiet = QuietThread("shadow", waiting=4, share=1.0)
    at.contests._line = quiet
    ended = threading.Event()

    def roll_out() -> None:
        """Every way to take over and back, again and again."""
        while not ended.is_set():
            for artifact in (good, bad):
                at.models.readmit(bad.digest)
                version = artifact.manifest.version
                at.contests.start_shadow(at.name, artifact, QUICK)
                at.registry.set_stable(at.name, version)
                at.models.poll()
                with suppress(Misfit):  # it has failed already
                    at.contests.start_probation(at.name, at.sound, QUICK)
                at.registry.set_stable(at.name, 1)
                at.models.poll()
                at.contests.stop(at.name)

    versions: set[int] = set()
    with ThreadPoolExecutor(1) as threads:
        rolling = threads.submit(roll_out)
        try:
            until = time.monotonic() + 60
            while versions != {1, 2} or len(at.failures) < 5:
                found = at.score(40, batch=40, trapped=True)
                assert [record["device"] for record in found.records] == DEVICES
                (version,) = {record["version"] for record in found.records}
                versions.add(version)
                assert time.monotonic() < until, (versions, at.failures)
        finally:
            ended.set()
        rolling.result()
    quiet.close()
