"""The students of a process: their plans, and when a plan lets readings in."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ingest.statefile import write_object
from models.artifact import read_artifact
from models.dummy import write_dummy
from models.registry import Registry
from models.session import Student
from models.zoo import STARTERS, zoo_path
from pipeline.scoring.batch import score_windows
from pipeline.scoring.students import Students, stream_plan
from pipeline.scoring.thresholds import Thresholds
from pipeline.settings import PipelineSettings
from pipeline.windows.spec import Window
from tests.fakes.scores import Closed, batches_of, records_of


def test_a_stream_has_a_plan_only_once_its_student_runs(tmp_path: Path) -> None:
    """A plan lets readings in, and a window that closes without a student is never scored."""
    folder = tmp_path / "registry"
    students = Students(folder, tmp_path / "running.json", PipelineSettings())
    write_dummy(tmp_path / "out", "rul", stream="press")
    Registry(folder).publish(tmp_path / "out", stable=True)
    seen: dict[str, tuple[bool, Student | None]] = {}

    class Watched(dict):  # type: ignore[type-arg]
        def __setitem__(self, stream: str, plan: object) -> None:
            seen[stream] = (stream in self, students.models.student_of(stream))
            super().__setitem__(stream, plan)

    students.plans = Watched()
    assert students.models.poll()

    assert set(seen) == set(students.plans) == set(students.models.running)
    assert "press" in seen
    for stream, (had_plan, student) in seen.items():
        assert not had_plan
        assert student is students.models.running[stream]


STREAM = "engine"
"""The stream of the starter student `rul-fd001`, which a user's own student takes over."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose gateway ran the user's own student on the stream of a starter."""
    assert read_artifact(zoo_path("rul-fd001")).manifest.stream == STREAM
    registry = Registry(tmp_path / "state" / "registry")
    write_dummy(tmp_path / "own", "rul", stream=STREAM)
    registry.publish(tmp_path / "own", "own", stable=True)
    assert _scoring(tmp_path / "state") == ("own", ())
    assert not (registry.root / "rul-fd001").exists()
    return tmp_path / "state"


def _scoring(state: Path) -> tuple[str | None, tuple[str, ...]]:
    """Start; return the student of the stream, and the names of models that report a fault."""
    students = Students(state / "registry", state / "running.json", PipelineSettings())
    students.models.poll()
    student = students.models.student_of(STREAM)
    told = tuple(s.name for s in students.models.statuses() if s.refused_error)
    return (None if student is None else student.manifest.name), told


@pytest.mark.parametrize("file", ["stable.json", "history.jsonl"])
def test_a_starter_never_replaces_a_student_whose_pointer_or_history_is_gone(
    state: Path, file: str
) -> None:
    (state / "registry" / "own" / file).unlink()
    assert _scoring(state) == ("own", ("own",) if file == "stable.json" else ())
    (state / "running.json").unlink()
    assert _scoring(state)[0] == "own"


@pytest.mark.parametrize("file", ["manifest.json", "model.onnx"])
@pytest.mark.parametrize("remembers", [True, False])
def test_a_starter_never_replaces_a_student_that_is_damaged(
    state: Path, file: str, remembers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = state / "registry" / "own" / "versions" / "1" / file
    path.write_bytes(path.read_bytes()[:-3])
    if not remembers:
        (state / "running.json").unlink()
    for _ in range(2):
        caplog.clear()
        assert _scoring(state) == (None, ("own",))
    if not remembers:
        assert "rul-fd001 is not added to the registry, because own cannot be" in caplog.text


@pytest.mark.parametrize("lost", ["registry", "registry/own"])
def test_a_starter_never_replaces_a_student_that_the_registry_has_lost(
    state: Path, lost: str
) -> None:
    (state / lost).rename(state / "away")
    for _ in range(2):
        assert _scoring(state) == (None, ("own",))
    shutil.rmtree(state / "registry" / "own", ignore_errors=True)
    if lost == "registry":
        shutil.rmtree(state / "registry")
    (state / "away").rename(state / lost)
    assert _scoring(state) == ("own", ())


def test_starters_come_back_into_a_registry_that_is_gone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert _scoring(state) == ("rul-fd001", ())
    shutil.rmtree(state / "registry")
    assert _scoring(state) == ("rul-fd001", ())
    assert sorted(STARTERS) == Registry(state / "registry").names()


def test_the_starters_of_an_earlier_release_are_no_students_that_got_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    former = {"version": 1, "digest": "0" * 64}
    write_object(state / "running.json", {"rul-fd001": former, "har-waist": former})
    assert _scoring(state) == ("rul-fd001", ())
    assert "cannot resume rul-fd001 v1, which ran last" in caplog.text


def test_a_starter_whose_later_version_is_the_users_keeps_it_without_a_pointer(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    assert _scoring(state) == ("rul-fd001", ())
    registry = Registry(state / "registry")
    assert registry.publish(zoo_path("rul-fd001"), stable=True) == 2
    _scoring(state)
    (registry.root / "rul-fd001" / "stable.json").unlink()
    assert _scoring(state) == ("rul-fd001", ("rul-fd001",))
    assert registry.list_versions("rul-fd001") == [1, 2]


def _own_versions(folder: Path) -> Registry:
    """A registry with two versions of the user's own student; the first one is stable."""
    registry = Registry(folder / "registry")
    for version in (1, 2):
        path = folder / f"own-{version}"
        write_dummy(path, "rul", name="own", version=version, stream="press", seed=version)
        registry.publish(path, stable=version == 1)
    return registry


def test_a_new_student_is_compared_in_the_background_and_shown(tmp_path: Path) -> None:
    registry = _own_versions(tmp_path)
    students = Students(registry.root, tmp_path / "running.json", PipelineSettings())
    students.models.poll()
    assert {status.challenger for status in students.statuses()} == {None}
    students.contests.start_shadow("own", registry.read("own", 2), Thresholds())
    values = np.random.default_rng(0).normal(0, 1, (40, 4, 3)).astype(np.float32)
    closed = [
        Closed("plant", "p", "press", Window(n, n + 1, each, 4, 0, n))
        for n, each in enumerate(values)
    ]
    windows = batches_of(closed)
    scored = score_windows(windows, students.models.student_of, 1)
    students.contests.on_scored(windows)
    until = time.monotonic() + 60
    while not (shown := students.contests.status("own")) or not shown.windows:
        assert time.monotonic() < until
        time.sleep(0.01)
    students.close()
    assert [s.challenger for s in students.statuses() if s.name == "own"] == [shown]
    assert (shown.version, shown.against, shown.is_running) == (2, 1, False)
    assert (shown.windows, shown.skipped, shown.evidence["windows"]) == (40, 0, 40)
    assert {record["version"] for record in records_of(scored)} == {1}
    students.contests.on_scored(windows)  # nothing is compared any more, and nothing raises


def test_a_version_that_the_process_rejects_is_not_resumed(tmp_path: Path) -> None:
    registry = _own_versions(tmp_path)
    registry.set_stable("own", 2)
    memory = tmp_path / "running.json"
    Students(registry.root, memory, PipelineSettings()).models.poll()
    rejected = {registry.read("own", 2).digest: "it ended the process twice"}
    for before_first_poll in (lambda: None, lambda: registry.set_stable("own", 1)):
        before_first_poll()
        students = Students(registry.root, memory, PipelineSettings(), rejected)
        students.models.poll()
        student = students.models.student_of("press")
        assert student is not None
        assert student.manifest.version == 1


def test_a_stream_is_resampled_to_the_rate_of_its_student_unless_a_setting_says_no() -> None:
    waist, engines = (
        read_artifact(zoo_path(name)).manifest for name in ("har-waist", "rul-engines")
    )
    assert stream_plan(waist, PipelineSettings()).spec.rate_hz == waist.rate_hz == 50.0
    assert stream_plan(engines, PipelineSettings()).spec.rate_hz is None
    other = PipelineSettings(unresampled=("wrist", "imu"))
    assert stream_plan(waist, other).spec.rate_hz is None
    fast = waist.model_copy(update={"rate_hz": 4000.0})  # event times are whole milliseconds
    assert stream_plan(fast, PipelineSettings()).spec.rate_hz is None
