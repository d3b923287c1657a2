import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx, write_dummy
from models.errors import SelfTestFailed
from models.manifest import Draft
from models.registry import Registry
from models.session import Student
from pipeline.scoring.rollover import ModelWatch, load_student

NAME = "dummy-rul"


class Clock:
    now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry", now_ms=lambda: 0)


@pytest.fixture
def watch(registry, clock) -> ModelWatch:
    return ModelWatch(registry, clock)


def publish(registry: Registry, tmp_path: Path, task: str = "rul", **options: object) -> int:
    write_dummy(tmp_path / "out", task, **options)
    return registry.publish(tmp_path / "out", stable=True)


def force_pointer(registry: Registry, name: str, version: int, digest: str) -> None:
    """Write an unchecked pointer, as a manual change, a copy script or an attacker may do."""
    path = registry.root / name / "stable.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"version": version, "digest": digest}))
    temporary.replace(path)


def force_version(registry: Registry, tmp_path: Path, draft: Draft, version: int) -> None:
    """Put a version that `set_stable` would refuse behind the pointer."""
    other = Registry(tmp_path / "elsewhere")
    draft = Draft.model_validate(draft.model_dump() | {"name": NAME, "version": version})
    artifact = write_artifact(tmp_path / "forced", draft, dummy_onnx(draft))
    other.publish(tmp_path / "forced")
    shutil.copytree(other.version_path(NAME, version), registry.version_path(NAME, version))
    force_pointer(registry, NAME, version, artifact.digest)


def running(watch: ModelWatch) -> int | None:
    student = watch.student_of("engine")
    return student.manifest.version if student else None


def test_without_a_registry_there_is_no_student(watch):
    assert watch.poll() == []
    assert watch.student_of("engine") is None
    assert watch.statuses() == []


def test_pointers_are_followed_and_shown(watch, registry, tmp_path, clock):
    publish(registry, tmp_path)
    publish(registry, tmp_path, task="activity")
    assert [(c.name, c.version, c.what) for c in watch.poll()] == [
        ("dummy-activity", 1, "swapped"),
        ("dummy-rul", 1, "swapped"),
    ]
    clock.now = 5_000
    publish(registry, tmp_path, seed=2)
    assert [(c.name, c.version, c.what) for c in watch.poll()] == [("dummy-rul", 2, "swapped")]
    assert watch.poll() == []
    activity, rul = watch.statuses()
    assert (activity.name, activity.version, activity.since_ms) == ("dummy-activity", 1, 1_000)
    assert activity.labels == ("WALKING", "SITTING", "LAYING")
    assert (rul.version, rul.since_ms, rul.stream, rul.unit) == (2, 5_000, "engine", "cycles")
    assert rul.digest == registry.read_stable(NAME).digest
    assert rul.channels == ("T24", "T30", "Nf")
    assert rul.lineage["method"] == "dummy"
    assert rul.refused_version is None


def test_a_rollback_is_followed(watch, registry, tmp_path):
    for seed in range(3):
        publish(registry, tmp_path, seed=seed)
    watch.poll()
    registry.set_stable(NAME, 1)
    watch.poll()
    assert running(watch) == 1


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json"])
def test_a_damaged_version_is_refused_once_and_the_old_one_stays(
    watch, registry, tmp_path, clock, file
):
    publish(registry, tmp_path)
    watch.poll()
    before = watch.student_of("engine")
    publish(registry, tmp_path, seed=1)
    path = registry.version_path(NAME, 2) / file
    path.write_bytes(path.read_bytes().replace(b"e", b"f"))
    clock.now = 9_000
    (change,) = watch.poll()
    assert (change.version, change.what) == (2, "refused")
    assert watch.student_of("engine") is before
    (status,) = watch.statuses()
    assert (status.version, status.refused_version) == (1, 2)
    assert status.refused_error == change.error
    (slot,) = watch.slots()
    assert (slot.refused_ms, slot.refused_total, slot.swaps_total) == (9_000, 1, 1)
    assert watch.poll() == []


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json"])
def test_a_refused_version_that_is_copied_again_is_taken(watch, registry, tmp_path, file):
    publish(registry, tmp_path)
    watch.poll()
    publish(registry, tmp_path, seed=1)
    path = registry.version_path(NAME, 2) / file
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert [change.what for change in watch.poll()] == ["refused"]
    assert watch.poll() == []
    path.write_bytes(whole[:200])  # the copy is on its way
    assert [change.what for change in watch.poll()] in ([], ["refused"])
    assert running(watch) == 1
    path.write_bytes(whole)
    assert [change.what for change in watch.poll()] == ["swapped"]
    assert running(watch) == 2
    assert watch.statuses()[0].refused_error is None
    assert watch.poll() == []


def test_a_refused_version_is_not_loaded_again_until_the_pointer_moves(registry, tmp_path, clock):
    loads: list[int] = []

    def load(artifact: Artifact) -> Student:
        loads.append(artifact.manifest.version)
        if artifact.manifest.version == 2:
            message = "numbers are odd"
            raise SelfTestFailed(message)
        return load_student(artifact)

    watch = ModelWatch(registry, clock, load)
    publish(registry, tmp_path)
    watch.poll()
    publish(registry, tmp_path)
    for _ in range(5):
        watch.poll()
    assert loads == [1, 2]
    assert running(watch) == 1
    registry.set_stable(NAME, 2)
    watch.poll()
    assert loads == [1, 2, 2]
    publish(registry, tmp_path)
    watch.poll()
    assert running(watch) == 3
    assert watch.statuses()[0].refused_version is None


def test_going_back_to_the_running_version_clears_the_refusal(watch, registry, tmp_path):
    publish(registry, tmp_path)
    watch.poll()
    force_pointer(registry, NAME, 1, "0" * 64)
    (change,) = watch.poll()
    assert "the pointer says 0000" in change.error
    registry.set_stable(NAME, 1)
    assert watch.poll() == []
    assert watch.statuses()[0].refused_error is None
    assert running(watch) == 1


def test_a_version_that_is_announced_before_it_arrives_is_taken_when_it_does(
    watch, registry, tmp_path
):
    publish(registry, tmp_path)
    watch.poll()
    publish(registry, tmp_path, seed=1)
    path = registry.version_path(NAME, 2)
    path.rename(tmp_path / "on its way")
    assert [c.what for c in watch.poll()] == ["refused"]
    assert watch.poll() == []  # tried again, said once
    (tmp_path / "on its way").rename(path)
    assert [c.what for c in watch.poll()] == ["swapped"]
    assert running(watch) == 2
    assert watch.statuses()[0].refused_version is None


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("window.length", {"window": {"length": 5, "hop": 1, "min_readings": 4, "gap_ms": None}}),
        ("window.hop", {"window": {"length": 4, "hop": 3, "min_readings": 4, "gap_ms": None}}),
        ("window.gap_ms", {"window": {"length": 4, "hop": 1, "min_readings": 4, "gap_ms": 50}}),
        ("rate_hz", {"rate_hz": 1.0}),
        ("stream", {"stream": "imu"}),
        (
            "channels[1]",
            {
                "channels": [
                    {"name": "T24", "unit": "R"},
                    {"name": "T30", "unit": "K"},
                    {"name": "Nf", "unit": "rpm"},
                ]
            },
        ),
    ],
)
def test_a_version_that_does_not_fit_is_refused_by_field(watch, registry, tmp_path, field, change):
    publish(registry, tmp_path)
    watch.poll()
    draft = Draft.model_validate(dummy_draft().model_dump() | change)
    force_version(registry, tmp_path, draft, 2)
    (refusal,) = watch.poll()
    assert refusal.what == "refused"
    assert refusal.error.startswith(field)
    assert running(watch) == 1


def test_another_task_under_the_same_name_is_refused(watch, registry, tmp_path):
    publish(registry, tmp_path)
    watch.poll()
    force_version(registry, tmp_path, dummy_draft("activity"), 2)
    (refusal,) = watch.poll()
    assert "channels[0]" in refusal.error
    assert running(watch) == 1


def test_two_names_do_not_fight_for_one_stream(watch, registry, tmp_path):
    publish(registry, tmp_path)
    watch.poll()
    publish(registry, tmp_path, name="another")
    (refusal,) = watch.poll()
    assert (refusal.name, refusal.what) == ("another", "refused")
    assert "dummy-rul already scores the stream 'engine'" in refusal.error
    another, _ = watch.statuses()
    assert (another.name, another.version, another.refused_version) == ("another", None, 1)
    assert running(watch) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"version": -1, "digest": ""}'])
def test_a_damaged_pointer_leaves_the_running_version(watch, registry, tmp_path, content):
    publish(registry, tmp_path)
    watch.poll()
    (registry.root / NAME / "stable.json").write_bytes(content)
    (refusal,) = watch.poll()
    assert "stable.json is damaged" in refusal.error
    assert running(watch) == 1


def test_a_pointer_or_registry_that_vanishes_leaves_the_running_version(watch, registry, tmp_path):
    publish(registry, tmp_path)
    watch.poll()
    pointer = registry.root / NAME / "stable.json"
    pointer.rename(tmp_path / "away")
    (gone,) = watch.poll()
    assert "stable.json is gone, but the last move in history.jsonl is to v1" in gone.error
    assert watch.poll() == []
    assert watch.statuses()[0].is_refused
    (tmp_path / "away").rename(pointer)
    assert watch.poll() == []
    assert not watch.statuses()[0].is_refused
    shutil.rmtree(registry.root)
    (gone,) = watch.poll()
    assert "no longer says which version of dummy-rul is stable" in gone.error
    assert watch.poll() == []
    registry.root.write_text("a file now")
    assert watch.poll() == []
    assert running(watch) == 1


def test_an_older_copy_of_the_pointer_leaves_the_running_version(
    watch, registry, tmp_path, clock, caplog
):
    pointer, memory = registry.root / NAME / "stable.json", tmp_path / "running.json"
    watch = ModelWatch(registry, clock, memory=memory)
    publish(registry, tmp_path)
    older = pointer.read_bytes()
    publish(registry, tmp_path, seed=1)
    watch.poll()
    pointer.write_bytes(older)
    (refusal,) = watch.poll()
    assert "is an older copy and names v1, but the last move in history.jsonl is to v2" in (
        refusal.error
    )
    after = ModelWatch(registry, clock, memory=memory)
    assert [(c.version, c.what) for c in after.poll()] == [(2, "swapped"), (None, "refused")]
    fresh = ModelWatch(registry, clock)  # another process, which never ran one
    assert [(c.version, c.what) for c in fresh.poll()] == [(None, "refused"), (2, "swapped")]
    registry.set_stable(NAME, 1)
    assert [(c.version, c.what) for c in watch.poll()] == [(1, "swapped")]


@pytest.mark.parametrize("damage", ["removed", "cut", "older", "pipe"])
def test_a_history_that_lacks_the_stable_version_is_told(registry, tmp_path, clock, caplog, damage):
    history = registry.root / NAME / "history.jsonl"
    publish(registry, tmp_path)
    older = history.read_bytes()
    publish(registry, tmp_path, seed=1)
    data = history.read_bytes()
    history.unlink()
    if damage == "pipe":
        os.mkfifo(history)
    elif damage != "removed":
        history.write_bytes(older if damage == "older" else data[:-9])
    watch = ModelWatch(registry, clock)
    watch.poll()
    assert running(watch) == 2
    assert "history.jsonl does not record the move to v2" in caplog.text


def test_a_student_that_the_registry_lost_is_told_at_every_start(registry, tmp_path, clock):
    memory = tmp_path / "running.json"
    publish(registry, tmp_path)
    publish(registry, tmp_path, task="activity")
    ModelWatch(registry, clock, memory=memory).poll()
    (registry.root / NAME).rename(tmp_path / "away")
    for _ in range(2):
        watch = ModelWatch(registry, clock, memory=memory)
        swap, lost = watch.poll()
        assert (swap.what, lost.name, lost.version, lost.what) == ("swapped", NAME, 1, "refused")
        assert "v1 ran last, but the registry" in lost.error
        assert watch.poll() == []
        assert watch.models_without_student() == [NAME]
    (tmp_path / "away").rename(registry.root / NAME)
    assert [(c.name, c.what) for c in watch.poll()] == [(NAME, "swapped")]
    assert watch.statuses()[1].refused_error is None


def test_a_student_that_was_retired_is_not_lost(registry, tmp_path, clock):
    memory = tmp_path / "running.json"
    publish(registry, tmp_path)
    ModelWatch(registry, clock, memory=memory).poll()
    registry.retire(NAME)
    assert ModelWatch(registry, clock, memory=memory).poll() == []


def test_a_start_with_a_damaged_version_goes_back_to_the_one_before(registry, tmp_path, clock):
    for seed in range(3):
        publish(registry, tmp_path, seed=seed)
    for version in (2, 3):
        (registry.version_path(NAME, version) / "model.onnx").write_bytes(b"damaged")
    watch = ModelWatch(registry, clock)
    assert [(c.version, c.what) for c in watch.poll()] == [(3, "refused"), (1, "swapped")]
    assert watch.poll() == []
    (status,) = watch.statuses()
    assert (status.version, status.refused_version) == (1, 3)


def test_a_start_with_nothing_usable_says_so_and_recovers(registry, tmp_path, clock):
    publish(registry, tmp_path)
    (registry.version_path(NAME, 1) / "model.onnx").write_bytes(b"damaged")
    watch = ModelWatch(registry, clock)
    assert [c.what for c in watch.poll()] == ["refused"]
    (status,) = watch.statuses()
    assert (status.version, status.refused_version) == (None, 1)
    publish(registry, tmp_path)
    watch.poll()
    assert running(watch) == 2


def test_a_version_that_cannot_be_read_now_is_tried_again(watch, registry, tmp_path):
    publish(registry, tmp_path)
    path = registry.version_path(NAME, 1)
    path.rename(tmp_path / "away")
    path.write_bytes(b"not a directory")
    assert [c.what for c in watch.poll()] == ["refused"]
    path.unlink()
    (tmp_path / "away").rename(path)
    assert [c.what for c in watch.poll()] == ["swapped"]


def test_scoring_continues_during_swaps_and_every_batch_is_of_one_version(
    watch, registry, tmp_path
):
    publish(registry, tmp_path)
    watch.poll()
    windows = np.random.default_rng(0).normal(0, 1, (5, 4, 3)).astype(np.float32)
    stop = threading.Event()
    seen: dict[int, list[float]] = {}

    def score() -> None:
        while not stop.is_set():
            student = watch.student_of("engine")
            assert student is not None
            numbers = student.score(windows).rul.tolist()
            assert seen.setdefault(student.manifest.version, numbers) == numbers

    with ThreadPoolExecutor(1) as pool:
        scorer = pool.submit(score)
        for seed in range(1, 12):
            publish(registry, tmp_path, seed=seed)
            assert [c.what for c in watch.poll()] == ["swapped"]
        stop.set()
        scorer.result()
    assert len(seen) > 1
    assert len({tuple(numbers) for numbers in seen.values()}) == len(seen)


def test_a_misfit_that_a_running_gateway_refused_is_refused_after_a_restart_too(
    registry, tmp_path, clock
):
    memory = tmp_path / "running.json"
    publish(registry, tmp_path)
    before = ModelWatch(registry, clock, memory=memory)
    before.poll()
    draft = dummy_draft("rul")
    longer = draft.model_copy(update={"window": draft.window.model_copy(update={"hop": 2})})
    force_version(registry, tmp_path, longer, 2)
    assert [c.what for c in before.poll()] == ["refused"]
    after = ModelWatch(registry, clock, memory=memory)
    assert [(c.version, c.what) for c in after.poll()] == [(1, "swapped"), (2, "refused")]
    assert running(after) == 1


def test_after_a_restart_a_fitting_version_is_followed_from_the_one_that_ran(
    registry, tmp_path, clock
):
    memory = tmp_path / "running.json"
    publish(registry, tmp_path)
    ModelWatch(registry, clock, memory=memory).poll()
    publish(registry, tmp_path)
    after = ModelWatch(registry, clock, memory=memory)
    assert [(c.version, c.what) for c in after.poll()] == [(1, "swapped"), (2, "swapped")]
    assert after.poll() == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"dummy-rul": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_memory_leaves_the_decision_to_the_pointers(registry, tmp_path, clock, content):
    memory = tmp_path / "running.json"
    memory.write_bytes(content)
    publish(registry, tmp_path)
    watch = ModelWatch(registry, clock, memory=memory)
    watch.poll()
    assert running(watch) == 1


def test_a_memory_of_an_earlier_version_is_read(registry, tmp_path, clock):
    memory = tmp_path / "running.json"
    publish(registry, tmp_path)
    ModelWatch(registry, clock, memory=memory).poll()
    memory.write_text(json.dumps(json.loads(memory.read_bytes())["running"]))
    publish(registry, tmp_path)
    after = ModelWatch(registry, clock, memory=memory)
    assert [(c.version, c.what) for c in after.poll()] == [(1, "swapped"), (2, "swapped")]
