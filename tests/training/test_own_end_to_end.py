"""From a table of machines that ran until they failed to a student that scores: two files."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.registry import Registry
from models.session import Student
from tests.training.datasets.own_files import loose_rows, to_csv, write_machines
from tests.training.lookpage import look_only
from training.command import main
from training.datasets.own import read_own
from training.decision import NOT_BETTER
from training.export.artifact import score_raw
from training.redistill import redistill
from training.runpage import PAGE

pytestmark = pytest.mark.needs_training


def run(monkeypatch, *words: object) -> int:
    """Run the console command as a shell does."""
    monkeypatch.setattr(sys, "argv", ["train-redistill", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def train(folder: Path, *words: str):
    base = ["--data", str(folder / "dataset.toml"), "--registry", str(folder / "registry")]
    return CliRunner().invoke(redistill, [*base, "--out", str(folder / "run"), *words])


def last_line(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run" / "log.jsonl").read_text().splitlines()[-1])


def test_two_files_and_two_commands_make_a_published_student_that_scores(
    tmp_path, monkeypatch, capsys
):
    header = ("machine", "cycle", "near [g]", "far [g]")
    (tmp_path / "presses.csv").write_text(to_csv(loose_rows(60), header))
    source = ("--from", tmp_path / "presses.csv", "--folder", tmp_path, "--size", "small")
    assert run(monkeypatch, "init", *source) == 0
    assert "60 machines" in capsys.readouterr().out

    # What an engineer knows and the file does not: how far ahead it matters, and the window.
    description = tmp_path / "dataset.toml"
    text = (
        description.read_text()
        .replace("cap = 125", "cap = 50")
        .replace("length = 25", "length = 16")
    )
    description.write_text(text)

    registry = ("--registry", tmp_path / "registry", "--out", tmp_path / "run")
    code = run(monkeypatch, "--data", description, "--publish", "--epochs", 25, *registry)
    told = capsys.readouterr().out
    assert code == 0, told
    for word in ("constant", "ridge", "boosting", "better than every rival"):
        assert word in told
    assert "Published rul-presses v1" in told
    line = last_line(tmp_path)
    assert set(line["baselines"]) == {"constant", "ridge", "boosting"}
    assert line["unbeaten"] == []
    page = (tmp_path / "run" / PAGE).read_text()
    for name in ("constant", "ridge", "boosting", "new (rul-presses)"):
        assert f"<td>{name}</td>" in page
    assert line["result"]["rmse"] < min(one["rmse"] for one in line["baselines"].values())

    models = Registry(tmp_path / "registry")
    pointer = models.read_stable("rul-presses")
    artifact = models.read("rul-presses", pointer.version)
    manifest = artifact.manifest
    assert (manifest.stream, manifest.window.length) == ("presses", 16)
    assert [(one.name, one.unit) for one in manifest.channels] == [("near", "g"), ("far", "g")]
    assert (manifest.decoding.max_rul, manifest.decoding.unit) == (50, "cycles")
    assert "without the held-out machines press-" in manifest.lineage.data

    # Machines that nobody has seen, scored by the runtime of a gateway.
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "presses.csv").write_text(to_csv(loose_rows(4, seed=9), header))
    (tmp_path / "new" / "dataset.toml").write_text(text)
    new = read_own(tmp_path / "new" / "dataset.toml").data.train
    scored = score_raw(Student(artifact), new.windows)
    guessing = np.std(new.labels)
    assert np.sqrt(np.mean((scored - new.labels) ** 2)) < guessing / 2


def test_a_student_that_a_simple_model_equals_is_published_only_if_someone_says_so(tmp_path):
    # Noise around one curve of the newest readings: a line through them is as good.
    write_machines(tmp_path, count=26)
    refused = train(tmp_path, "--publish", "--epochs", "1")
    assert refused.exit_code == NOT_BETTER, refused.output
    assert re.search(r"It is (not clearly better|worse) than", refused.output)
    assert "Not better: nothing was published" in refused.output
    assert last_line(tmp_path)["unbeaten"]
    assert Registry(tmp_path / "registry").names() == []
    done = train(tmp_path, "--publish", "--epochs", "1", "--despite-baselines")
    assert done.exit_code == 0, done.output
    assert "The baselines do not count: --despite-baselines" in done.output
    assert "Published rul-pumps v1" in done.output
    assert "does not count" in (tmp_path / "run" / PAGE).read_text()


def test_too_few_machines_are_refused_before_the_training_with_what_would_be_enough(tmp_path):
    write_machines(tmp_path, count=3)
    refused = train(tmp_path, "--publish")
    assert refused.exit_code == 2
    assert "machines that failed are held out" in refused.output
    assert "record 2 more" in refused.output
    assert "record 2 more" in look_only(tmp_path / "run")
    one = write_machines(tmp_path / "one", count=1)
    refused = train(one.parent)
    assert refused.exit_code == 2
    assert "record one more machine at least" in refused.output


def test_a_description_says_its_task_by_itself(tmp_path):
    write_machines(tmp_path, count=3)
    wrong = train(tmp_path, "--task", "har")
    assert wrong.exit_code == 2
    assert "is for rul: leave --task out" in wrong.output
    missing = CliRunner().invoke(redistill, ["--data", "dummy"])
    assert missing.exit_code == 2
    assert "Missing option '--task'" in missing.output
    (tmp_path / "dataset.toml").write_text('name = "x"\n')
    broken = train(tmp_path)
    assert broken.exit_code == 2
    assert "task: it is missing: add it" in broken.output
