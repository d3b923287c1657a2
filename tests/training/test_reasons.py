"""A run with --if-needed trains for a reason, and not otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from models.artifact import Artifact
from models.dummy import write_dummy
from training.errors import TrainingError
from training.reasons import NO_REASON, find_reasons, read_drift
from training.redistill import redistill

DAY_MS = 86_400_000


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
    assert not (tmp_path / "second").exists()
    old = CliRunner().invoke(
        redistill, [*words, "--max-age-days", "0", "--out", str(tmp_path / "third")]
    )
    assert old.exit_code != NO_REASON, old.output
    assert "days old, more than 0 (--max-age-days)" in old.output
