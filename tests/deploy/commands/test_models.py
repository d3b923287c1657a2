"""Several shipped students for one stream: the gateway's first one, and how to choose another."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.doctor.pipelinechecks import check_models
from models.artifact import read_artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx
from models.registry import Registry
from models.zoo import STARTERS, list_zoo, zoo_path
from pipeline.scoring.rollover import ModelWatch
from pipeline.scoring.students import seed_starters


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["models", "--registry", str(folder), *words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def rival(tmp_path: Path) -> Path:
    """A student of the starter's stream under another name."""
    draft = dummy_draft("rul", name="rul-rival")
    return write_artifact(tmp_path / "rival", draft, dummy_onnx(draft)).path


def watch(registry: Registry) -> ModelWatch:
    found = ModelWatch(registry, lambda: 0)
    found.poll()
    return found


def test_an_empty_registry_gets_one_starter_for_each_stream(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    seed_starters(registry)
    assert registry.names() == sorted(STARTERS)
    streams = [read_artifact(zoo_path(name)).manifest.stream for name in STARTERS]
    assert sorted(streams) == sorted(set(streams)) == ["engine", "imu", "transformer"]


def test_a_stream_that_is_scored_gets_no_starter(tmp_path: Path, rival: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(rival, stable=True)
    seed_starters(registry)
    assert registry.names() == ["forecast-transformer", "har-waist", "rul-rival"]


def test_the_zoo_is_listed_with_stream_size_and_what_is_added(tmp_path: Path) -> None:
    lines = run(tmp_path, "zoo").splitlines()
    assert [line.split()[0] for line in lines] == list_zoo()
    assert sum("starter" in line for line in lines) == len(STARTERS)
    run(tmp_path, "add", "rul-fd001")
    (line,) = [line for line in run(tmp_path, "zoo").splitlines() if line.startswith("rul-fd001 ")]
    assert "added" in line
    assert "engine" in line


def test_a_student_of_the_zoo_is_added_to_an_empty_registry_and_runs(tmp_path: Path) -> None:
    assert "v1 is stable" in run(tmp_path, "add", "har-waist")
    student = watch(Registry(tmp_path)).student_of("imu")
    assert student is not None
    assert student.manifest.name == "har-waist"
    assert "choose one of:" in run(tmp_path, "add", "no-such-student", code=1)


def test_the_student_of_a_stream_is_replaced_only_on_request(tmp_path: Path, rival: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(rival, stable=True)
    running = watch(registry)
    refused = run(registry.root, "add", "rul-fd001", code=1)
    assert "rul-rival already scores the stream 'engine'" in refused
    assert registry.names() == ["rul-rival"]

    reported = run(registry.root, "add", "rul-fd001", "--replace")
    assert "rul-rival is retired" in reported
    assert "restart the gateway" in reported
    assert registry.names() == ["rul-fd001"]
    (change,) = running.poll()
    assert change.what == "refused"  # windows that are open belong to the old student
    assert running.student_of("engine").manifest.name == "rul-rival"
    again = watch(registry)
    assert again.student_of("engine").manifest.name == "rul-fd001"
    seed_starters(registry)
    assert watch(registry).student_of("engine").manifest.name == "rul-fd001"
    (aside,) = registry.root.glob(".retired-rul-rival-*")
    assert (aside / "versions" / "1" / "model.onnx").is_file()


def test_the_history_tells_of_damaged_lines(tmp_path: Path, rival: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(rival, stable=True)
    registry.publish(rival, stable=True)
    history = registry.root / "rul-rival" / "history.jsonl"
    assert "damaged" not in run(registry.root, "history", "rul-rival")
    first, second = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(first + second[:20])
    shown = run(registry.root, "history", "rul-rival")
    assert "damaged lines that are left out: 1" in shown
    assert "-> v1" in shown


def test_the_list_and_the_doctor_name_a_lost_pointer_and_a_history_that_lacks_it(
    tmp_path: Path, rival: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(rival, stable=True)
    registry.publish(rival, stable=True)
    folder = registry.root / "rul-rival"
    history = folder / "history.jsonl"
    history.write_bytes(history.read_bytes().splitlines(keepends=True)[0])
    gap = "history.jsonl does not record the move to v2"
    assert gap in run(registry.root, "list")
    assert [f.state for f in check_models(registry.root) if gap in f.text] == ["warn"]
    (folder / "stable.json").unlink()
    lost = "stable.json is gone, but the last move in history.jsonl is to v1"
    assert lost in run(registry.root, "list")
    assert [f.state for f in check_models(registry.root) if lost in f.text] == ["fail"]
    run(registry.root, "promote", "rul-rival", "2")
    assert "stable" in run(registry.root, "list")
