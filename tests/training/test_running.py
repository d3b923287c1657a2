"""Which student a new one is compared with, and how the new one is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.artifact import Artifact, read_artifact
from models.dummy import write_dummy
from models.errors import ModelError
from models.registry import Registry
from models.tasks.registry import find_task
from models.zoo import zoo_path
from training.errors import TrainingError
from training.running import choose_name, find_running, publish_better, require_free_stream

RUL = find_task("rul")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two students of the same task on two streams, and one of another task."""
    registry = Registry(tmp_path / "registry")
    for task, name, stream in (
        ("rul", "rul-fd001", "engine"),
        ("rul", "rul-pump", "pump"),
        ("activity", "har", "imu"),
    ):
        made = write_dummy(tmp_path / name, task, name=name, stream=stream)
        registry.publish(made.path, stable=True)
    return registry


def name_of(found: Artifact | None) -> str | None:
    return found.manifest.name if found else None


def test_the_rival_is_the_student_of_the_stream(registry: Registry) -> None:
    assert name_of(find_running(registry, RUL, "engine", None)) == "rul-fd001"
    assert name_of(find_running(registry, RUL, "pump", None)) == "rul-pump"
    assert name_of(find_running(registry, RUL, "pump", "new-name")) == "rul-pump"
    assert find_running(registry, RUL, "press", None) is None
    assert find_running(registry, find_task("activity"), "pump", None) is None


def test_a_name_of_another_stream_or_task_is_refused(registry: Registry) -> None:
    for name in ("rul-pump", "har"):
        with pytest.raises(TrainingError, match=rf"{name} in the registry .* another --name"):
            find_running(registry, RUL, "engine", name)


def test_without_a_student_of_the_stream_the_starter_is_the_rival(tmp_path: Path) -> None:
    empty = Registry(tmp_path / "none")
    assert name_of(find_running(empty, RUL, "engine", None)) == "rul-fd001"
    assert find_running(empty, RUL, "engine", "control") is None
    assert name_of(find_running(empty, RUL, "engine", "rul-fd003")) == "rul-fd003"
    assert find_running(empty, RUL, "engine", None, fits=lambda artifact: False) is None


def test_several_students_of_a_stream_are_named(registry: Registry, tmp_path: Path) -> None:
    registry.publish(write_dummy(tmp_path / "two", name="two").path, stable=True)
    with pytest.raises(TrainingError, match=r"'engine' \(rul-fd001, two\): choose one with --name"):
        find_running(registry, RUL, "engine", None)
    assert name_of(find_running(registry, RUL, "engine", "two")) == "two"


def test_a_damaged_student_of_another_name_is_told_and_left_aside(registry: Registry) -> None:
    (registry.root / "rul-pump" / "stable.json").write_text("{")
    told: list[str] = []
    assert name_of(find_running(registry, RUL, "engine", None, warn=told.append)) == "rul-fd001"
    assert len(told) == 1
    assert told[0].startswith("rul-pump in the registry cannot be read and is left aside: ")
    with pytest.raises(ModelError):
        find_running(registry, RUL, "pump", "rul-pump")


def test_the_name_says_what_a_student_learned_from() -> None:
    starter = read_artifact(zoo_path("rul-fd001"))
    for subset, running, name in (
        ("FD001", starter, "rul-fd001"),
        ("FD003", starter, "rul-fd003"),
        ("FD001", None, "rul-fd001"),
        ("FD001+FD003", starter, "rul-fd001-fd003"),
        ("dummy", starter, "rul-dummy"),
        ("FD003", read_artifact(zoo_path("rul-fd003")), "rul-fd003"),
    ):
        assert choose_name("rul", subset, f"C-MAPSS {subset}", running) == name


def test_a_stream_is_taken_only_if_asked(registry: Registry) -> None:
    require_free_stream(registry, "engine", "rul-fd001", replace=False)
    require_free_stream(registry, "engine", "rul-fd003", replace=True)
    with pytest.raises(TrainingError, match=r"rul-fd001 scores .* --replace: .* --name rul-fd001"):
        require_free_stream(registry, "engine", "rul-fd003", replace=False)


def test_a_shipped_student_keeps_its_number(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    new = write_dummy(tmp_path / "new", name="rul-fd003")
    assert publish_better(registry, new, read_artifact(zoo_path("rul-fd001")), False) == 2
    assert registry.list_versions("rul-fd003") == [1, 2]
    assert registry.names() == ["rul-fd003"]
