"""`kpstream models stress`: a student of one's own on one's own data, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from deploy.cli import main as kpstream
from models.artifact import write_artifact
from models.describe import describe_seen
from models.dummy import dummy_draft, dummy_onnx
from models.manifest import Channel, Draft, Scaler, WindowShape
from models.registry import Registry
from tests.training.datasets.own_files import write_people
from training.datasets.dummy_series import make_dummy_series
from training.datasets.own import read_own
from training.errors import DataSetError
from training.stress.command import main
from training.stress.material import material_of_series
from training.stress.table import read_stressed


def write_student(folder: Path, description: Path) -> Path:
    """A made-up student of the people in a description, which has not learned anything."""
    data = read_own(description).data
    draft = dummy_draft("activity", name="yard")
    labels = (*(data.labels or ()), "flying")
    changes = {
        "channels": (Channel(name="acc", unit="g"),),
        "rate_hz": 20.0,
        "window": WindowShape(length=20, hop=10, min_readings=20, gap_ms=200),
        "scaler": Scaler(kind="affine", scale=(1.0,), offset=(0.0,)),
        "decoding": draft.decoding.model_copy(update={"labels": labels}),
        "seen": describe_seen(data.train.windows, data.train.groups, data.hop, ["acc"]),
    }
    own = Draft.model_validate(draft.model_dump() | changes)
    write_artifact(folder, own, dummy_onnx(own))
    return folder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


def test_a_student_and_data_of_ones_own_give_a_table(tmp_path: Path) -> None:
    description = write_people(tmp_path)
    student = write_student(tmp_path / "student", description)
    results = tmp_path / "stress.json"
    code, text = run(str(student), "--data", str(description), "--results", str(results))
    assert code == 0, text
    rows = read_stressed(results)["yard"].rows
    assert {row.kind for row in rows} >= {"as it comes", "noise", "other rate, resampled"}
    assert "| noise | 1% (" in text
    assert "turned" not in text


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    description = write_people(tmp_path)
    code, text = run("har-waist", "--data", str(description))
    assert code == 2
    assert "the data have the channels acc, and har-waist reads body_acc_x" in text
    code, text = run("rul-fd001", "--data", str(description))
    assert code == 2
    assert "is for the task activity, and rul-fd001 answers rul" in text
    registry = ("--registry", str(tmp_path / "registry"))
    code, text = run("nobody", "--data", str(description), *registry)
    assert code == 2
    assert "there is no student 'nobody'" in text


def test_a_student_of_the_registry_is_taken_before_one_that_ships(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`deploy` starts it as a program, with the registry of the group."""
    description = write_people(tmp_path)
    registry = Registry(tmp_path / "registry")
    registry.publish(write_student(tmp_path / "student", description), stable=True)
    words = ["models", "--registry", str(registry.root), "stress", "yard"]
    with pytest.raises(SystemExit) as ended:
        kpstream([*words, "--data", str(description)])
    assert ended.value.code == 0
    assert "yard, " in capfd.readouterr().out


def test_a_missing_stretch_in_a_series_is_refused() -> None:
    room = make_dummy_series(seed=0, devices=1, readings=300)
    times = room.times_ms[0].copy()
    times[-20:] += 10 * room.step_ms
    draft = dummy_draft("forecast")
    broken = replace(room, times_ms=(np.asarray(times),))
    with pytest.raises(DataSetError, match="without a missing stretch"):
        material_of_series([broken], draft, 1)  # type: ignore[arg-type]  # a draft will do
