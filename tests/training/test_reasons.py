"""A run with --if-needed trains for a reason, and not otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from models.artifact import Artifact
from models.dummy import write_dummy
from models.registry import Registry
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.drift import DRIFT_TEXT, drift_point
from tests.training.lookpage import look_only
from training.errors import TrainingError
from training.reasons import NO_REASON, find_reasons, read_drift
from training.redistill import redistill
from training.runpage import PAGE

DAY_MS = 86_400_000
NOW = 1_900_000_000_000


def write_results(path: Path, *points: Point) -> Path:
    """Write points as the gateway `gate` does."""
    results = ResultsFile(path)
    results.write(points)
    results.close()
    return path


@pytest.fixture
def running(tmp_path: Path) -> Artifact:
    return write_dummy(tmp_path / "running", name="pump")


CASES = [
    # same data, age in days, limit, drift -> number of reasons
    (True, 5, None, (), 0),
    (True, 5, 6, (), 0),
    (True, 5, 4, (), 1),
    (False, 5, 6, (), 1),
    (False, 5, 4, (), 2),
    (True, 5, 6, ("far",), 1),
    (False, 5, 4, ("far", "near"), 4),
]


@pytest.mark.parametrize(("same", "age", "limit", "drift", "count"), CASES)
def test_the_reasons(running: Artifact, same, age, limit, drift, count) -> None:
    lineage = running.manifest.lineage
    digest = lineage.data_digest if same else "0" * 64
    found = find_reasons(running, digest, lineage.created_ms + age * DAY_MS, limit, drift)
    assert len(found) == count
    assert all(text.endswith(".") for text in found)


def test_a_stream_without_a_student_is_a_reason() -> None:
    assert find_reasons(None, "0" * 64, 0) == ["No student scores the stream."]


def test_a_file_that_is_no_results_file_is_named(running: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(TrainingError, match="--drift: "):
        read_drift(path, running)


def test_drift_counts_if_it_is_the_newest_judgement_of_the_running_version(
    running: Artifact, tmp_path: Path
) -> None:
    stream, version = running.manifest.stream, running.manifest.version
    path = write_results(
        tmp_path / "results.db",
        drift_point(stream, 1, NOW, version=version, device="pump-1"),
        drift_point(stream, 1, NOW - 1_000, version=version),
        drift_point(stream, 0, NOW, version=version),  # it is over
        drift_point("another", 1, NOW, version=version),
    )
    assert read_drift(path, running) == [f"plant/pump-1: {DRIFT_TEXT} (gateway gate)"]
    assert read_drift(path, None) == []
    other = write_results(tmp_path / "other.db", drift_point(stream, 1, NOW, version=version + 1))
    assert read_drift(other, running) == []


def test_limits_without_if_needed_are_refused() -> None:
    words = ["--task", "rul", "--data", "dummy", "--max-age-days", "3"]
    done = CliRunner().invoke(redistill, words)
    assert done.exit_code == 2
    assert "need --if-needed" in done.output


@pytest.mark.needs_training
def test_the_second_run_on_the_same_data_has_no_reason(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
    base = ["--task", "rul", "--data", "dummy", "--registry", str(tmp_path / "registry")]
    words = [*base, "--name", "rul-dummy", "--epochs", "1", "--publish", "--if-needed"]
    first = CliRunner().invoke(redistill, [*words, "--out", str(tmp_path / "first")])
    assert first.exit_code == 0, first.output
    assert "Reason to train: " in first.output
    second = CliRunner().invoke(redistill, [*words, "--out", str(tmp_path / "second")])
    assert second.exit_code == NO_REASON, second.output
    assert "No reason to train" in second.output
    page = look_only(tmp_path / "second")
    assert "<h1>No reason to train</h1>" in page
    assert "same data, no age, no drift" in page
    old = CliRunner().invoke(
        redistill, [*words, "--max-age-days", "0", "--out", str(tmp_path / "third")]
    )
    assert old.exit_code != NO_REASON, old.output
    assert "days old, more than 0 (--max-age-days)" in old.output


@pytest.mark.needs_training
def test_a_look_trains_for_drift_from_the_running_student_and_not_otherwise(
    tmp_path: Path,
) -> None:
    pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
    base = ["--task", "rul", "--data", "dummy", "--registry", str(tmp_path / "registry")]
    words = [*base, "--name", "rul-dummy", "--epochs", "1"]
    first = CliRunner().invoke(redistill, [*words, "--publish", "--out", str(tmp_path / "first")])
    assert first.exit_code == 0, first.output
    manifest = Registry(tmp_path / "registry").read("rul-dummy", 1).manifest

    def look(name: str, *points: Point):
        results = write_results(tmp_path / f"{name}.db", *points)
        out = str(tmp_path / name)
        return CliRunner().invoke(
            redistill, [*words, "--if-needed", "--drift", str(results), "--out", out]
        )

    over = drift_point(manifest.stream, 0, NOW, version=manifest.version)
    before = drift_point(manifest.stream, 1, NOW - 1_000, version=manifest.version)
    quiet = {
        "nothing-judged": (),
        "no-drift": (over,),
        "drift-that-is-over": (before, over),
        "another-stream": (drift_point("another", 1, NOW, version=manifest.version),),
        "another-version": (drift_point(manifest.stream, 1, NOW, version=manifest.version + 1),),
    }
    for name, points in quiet.items():
        done = look(name, *points)
        assert done.exit_code == NO_REASON, (name, done.output)
        assert "No reason to train" in done.output
        look_only(tmp_path / name)

    drifted = look("drifted", drift_point(manifest.stream, 1, NOW, version=manifest.version))
    assert drifted.exit_code not in (2, NO_REASON), drifted.output
    reason = f"Reason to train: The stream has drifted: {DRIFT_TEXT} (gateway gate)."
    assert reason in drifted.output.splitlines()
    assert (tmp_path / "drifted" / "log.jsonl").exists()  # it has trained
    assert reason in (tmp_path / "drifted" / PAGE).read_text()
