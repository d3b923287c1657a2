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


def test_hold_pin_and_rollback_by_command(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    folders = []
    for seed in range(4):
        draft = dummy_draft("rul", name="rul-x")
        graph = dummy_onnx(draft, seed=seed)
        folders.append(str(write_artifact(tmp_path / f"a{seed}", draft, graph).path))
    for folder in folders[:2]:
        run(registry.root, "publish", folder, "--stable")

    told = run(registry.root, "hold", "rul-x", "--reason", "audit of spring")
    assert "rul-x is held since" in told
    refused = run(registry.root, "publish", folders[2], "--stable", code=1)
    assert "audit of spring; `kpstream models unhold rul-x` ends it" in refused
    assert ": audit of spring" in run(registry.root, "list")

    told = run(registry.root, "rollback", "rul-x", "--reason", "false alarms")
    assert "rul-x v1 is stable" in told
    assert "rul-x v2 is rejected" in told
    assert any(line.split()[1:3] == ["v2", "rejected"] for line in listed(registry))
    assert "rul-x is no longer held" in run(registry.root, "unhold", "rul-x")
    assert "rul-x was not held" in run(registry.root, "unhold", "rul-x")
    refused = run(registry.root, "publish", folders[1], "--stable", code=1)
    assert "rul-x v2 was rejected" in refused
    assert "false alarms" in refused
    assert "no earlier stable version" in run(registry.root, "rollback", "rul-x", code=1)

    run(registry.root, "pin", "rul-x", "2")
    assert registry.read_stable("rul-x").version == 2
    assert "rul-x is pinned to v2" in run(registry.root, "list")
    assert "unpin rul-x" in run(registry.root, "promote", "rul-x", "1", code=1)
    assert "unpin rul-x" in run(registry.root, "rollback", "rul-x", code=1)
    assert "rul-x is no longer pinned" in run(registry.root, "unpin", "rul-x")
    run(registry.root, "rollback", "rul-x", "1")
    assert "rul-x v2 is no longer rejected" in run(registry.root, "readmit", "rul-x", "2")
    run(registry.root, "publish", folders[1], "--stable")

    history = run(registry.root, "history", "rul-x")
    assert [line.split()[2] for line in history.splitlines()] == [
        *("promote", "promote", "hold", "rollback", "reject", "unhold", "unhold"),
        *("promote", "pin", "unpin", "rollback", "reject", "readmit", "promote"),
    ]
    assert "v2 (false alarms)" in history
    for words in (("hold", "no"), ("pin", "no", "1"), ("rollback", "no")):
        run(registry.root, *words, code=1)
    assert not (registry.root / "no").exists()


def listed(registry: Registry) -> list[str]:
    return run(registry.root, "list").splitlines()
