"""Which student a new one is compared with, and how the new one is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.artifact import read_artifact
from models.dummy import write_dummy
from models.registry import Registry
from models.tasks.registry import find_task
from models.zoo import zoo_path
from training.errors import TrainingError
from training.running import (
    Running,
    choose_name,
    find_running,
    publish_better,
    require_free_stream,
)

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


def name_of(found: Running | None) -> str | None:
    return found.artifact.manifest.name if found else None


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


def test_of_several_students_of_a_stream_the_one_that_a_gateway_runs_is_the_rival(
    registry: Registry, tmp_path: Path
) -> None:
    registry.publish(write_dummy(tmp_path / "alpha", name="alpha").path, stable=True)
    for name in (None, "alpha", "rul-fd001", "new"):  # the second one never ran, whoever names it
        told: list[str] = []
        found = find_running(registry, RUL, "engine", name, warn=told.append)
        assert name_of(found) == "rul-fd001"
        assert "before alpha v1, which is refused" in found.why
        (refusal,) = told
        assert refusal.startswith("alpha v1 in the registry is refused by gateways: ")
        assert "kpstream models retire rul-fd001" in refusal


def test_after_a_refusal_the_rival_is_the_version_that_still_runs(
    registry: Registry, tmp_path: Path
) -> None:
    registry.publish(write_dummy(tmp_path / "two", name="rul-fd001", seed=2).path, stable=True)
    graph = registry.version_path("rul-fd001", 2) / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    told: list[str] = []
    found = find_running(registry, RUL, "engine", None, warn=told.append)
    assert found.title == "rul-fd001 v1"
    assert found.why.startswith("v2 is refused, and v1 is the newest one before it that runs")
    assert len(told) == 1


@pytest.mark.parametrize("name", [None, "rul-pump", "rul-new"])
def test_with_a_damaged_pointer_the_rival_is_the_version_that_still_runs(
    registry: Registry, name: str | None
) -> None:
    (registry.root / "rul-pump" / "stable.json").write_text("{")
    told: list[str] = []
    found = find_running(registry, RUL, "pump", name, warn=told.append)
    assert found.title == "rul-pump v1"
    assert found.why == "its pointer is refused, and v1 is the newest one before it that runs"
    assert len(told) == 1
    assert told[0].startswith("rul-pump in the registry is refused by gateways: ")


def test_damage_of_another_stream_or_task_is_told_and_changes_nothing(registry: Registry) -> None:
    for damaged in ("rul-pump", "har"):
        folder = registry.root / damaged
        (folder / "stable.json").write_text("{")
        (folder / "versions" / "1" / "model.onnx").write_bytes(b"")
    told: list[str] = []
    found = find_running(registry, RUL, "engine", None, warn=told.append)
    assert (found.title, found.why) == ("rul-fd001 v1", "it is the stable version")
    assert [text.split()[0] for text in told] == ["har", "rul-pump"]


def test_the_rival_is_what_gateways_report(registry: Registry, tmp_path: Path) -> None:
    first = registry.read_stable("rul-fd001").digest
    registry.publish(write_dummy(tmp_path / "two", name="rul-fd001", seed=2).path, stable=True)
    second = registry.read_stable("rul-fd001").digest
    for reported, title, why in (
        ({("rul-fd001", 1, first): 3}, "v1", "3 of 3 gateways report that it scores"),
        (
            {("rul-fd001", 2, second): 1, ("rul-fd001", 1, first): 3},
            "v1",
            "3 of 4 gateways report that it scores (others: rul-fd001 v2 on 1)",
        ),
        (
            {("rul-fd001", 1, first): 1, ("rul-fd001", 2, second): 1},
            "v2",
            "1 of 2 gateways report that it scores (others: rul-fd001 v1 on 1)",
        ),
        ({}, "v2", "it is the stable version"),
    ):
        found = find_running(registry, RUL, "engine", None, reported=reported)
        assert (found.title, found.why) == (f"rul-fd001 {title}", why)


@pytest.mark.parametrize("reported", [("rul-fd001", 9, "0" * 64), ("rul-fd001", 1, "0" * 64)])
def test_a_reported_student_that_the_registry_lacks_is_no_reason_to_take_another(
    registry: Registry, reported: tuple[str, int, str]
) -> None:
    with pytest.raises(
        TrainingError, match=r"2 of 2 gateways run rul-fd001 v\d, but .* --registry"
    ):
        find_running(registry, RUL, "engine", None, reported={reported: 2})


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
