import errno
import io
import json
import os
import re
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact
from models.dummy import write_dummy
from models.registry import Registry
from models.rulings import Ruling, add_ruling
from models.zoo import zoo_path
from tests.training.datasets.small_files import cmapss_files, write_folder
from tests.training.lookpage import look_only
from training.centre import NOT_RELEASED
from training.decision import HELD, NOT_BETTER, REJECTED
from training.recipes import format_recipe, shipped_recipe
from training.redistill import redistill
from training.runfolder import UNFINISHED, open_run_folder
from training.runpage import LOOK, PAGE

pytestmark = pytest.mark.needs_training


def call(tmp_path, *words, task="rul"):
    base = ["--task", task, "--data", "dummy", "--registry", str(tmp_path / "registry")]
    if "--out" not in words:
        base += ["--out", str(tmp_path / f"run{len(list(tmp_path.glob('run*')))}")]
    return CliRunner().invoke(redistill, [*base, *words])


def stable(tmp_path, name):
    return Registry(tmp_path / "registry").read_stable(name)


@pytest.mark.parametrize(("task", "name"), [("rul", "rul-dummy"), ("har", "har-dummy")])
def test_publishes_the_first_then_a_better_one_and_refuses_a_worse_one(tmp_path, task, name):
    first = call(tmp_path, "--name", name, "--publish", "--epochs", "1", task=task)
    assert first.exit_code == 0, first.output
    assert f"<h1>Published {name} v1</h1>" in (tmp_path / "run0" / PAGE).read_text()
    assert stable(tmp_path, name).version == 1

    better = call(tmp_path, "--publish", "--epochs", "10", task=task)
    assert better.exit_code == 0, better.output
    assert f"Published {name} v2" in better.output
    assert "same split seed" in better.output
    assert stable(tmp_path, name).version == 2
    page = (tmp_path / "run1" / PAGE).read_text()
    for text in (
        f"running ({name} v1)",
        "same split seed",
        "data:image/png;base64,",
        "better than",
    ):
        assert text in page
    assert f"Report: {tmp_path / 'run1' / PAGE}" in better.output

    worse = call(tmp_path, "--publish", "--epochs", "1", task=task)
    assert worse.exit_code == NOT_BETTER, worse.output
    assert "Not better: nothing was published" in worse.output
    page = (tmp_path / "run2" / PAGE).read_text()
    assert "<h1>Not better: nothing was published</h1>" in page
    assert json.loads((tmp_path / "run2" / "log.jsonl").read_text().splitlines()[-1])["reason"] in (
        unescape(page)
    )
    assert stable(tmp_path, name).version == 2
    assert Registry(tmp_path / "registry").list_versions(name) == [1, 2]


@pytest.mark.timeout(900)  # six trainings
def test_what_people_rule_counts_more_than_a_better_measure(tmp_path):
    name, registry = "rul-dummy", Registry(tmp_path / "registry")
    for epochs in ("1", "10"):
        done = call(tmp_path, "--name", name, "--publish", "--epochs", epochs)
        assert done.exit_code == 0, done.output
    again = call(tmp_path, "--publish", "--epochs", "10")
    assert again.exit_code == NOT_BETTER, again.output
    assert "It is the same graph as that of the running rul-dummy v2" in again.output

    registry.set_stable(name, 1)  # somebody has moved the pointer back
    for words in ((), ("--publish",)):
        rejected = call(tmp_path, "--epochs", "10", *words)
        assert rejected.exit_code == REJECTED, rejected.output
        assert "It gives the same scores as v2, which was rejected (rolled back to" in (
            rejected.output
        )
        assert "Rejected: nothing was published" in rejected.output
    assert stable(tmp_path, name).version == 1

    ruling = Ruling(ts_ms=registry.now_ms(), who="eva", what="readmit", version=2)
    add_ruling(registry.folder(name), ruling)
    ruling = Ruling(ts_ms=registry.now_ms(), who="eva", what="hold", reason="audit")
    add_ruling(registry.folder(name), ruling)
    held = call(tmp_path, "--publish", "--epochs", "10", "--out", str(tmp_path / "kept"))
    assert held.exit_code == HELD, held.output
    assert "rul-dummy is held since" in held.output
    assert "<h1>Held: nothing was published</h1>" in look_only(tmp_path / "kept")
    shown = call(tmp_path, "--epochs", "10", "--out", str(tmp_path / "kept"))
    assert shown.exit_code == HELD, shown.output
    assert "It is better, but rul-dummy is held since" in shown.output
    assert registry.list_versions(name) == [1, 2]
    last = json.loads((tmp_path / "kept" / "log.jsonl").read_text().splitlines()[-1])
    assert (last["outcome"], last["published_version"]) == ("held", None)
    page = (tmp_path / "kept" / PAGE).read_text()
    assert "<h1>Held: nothing was published</h1>" in page
    assert "kpstream models unhold rul-dummy" in page
    assert not (tmp_path / "kept" / LOOK).exists()  # of the run before
    (rival,) = last["rivals"].values()
    assert rival["headline_gain"] > rival["smallest_gain"] > 0


def test_without_publish_nothing_is_published(tmp_path):
    done = call(tmp_path, "--name", "rul-dummy", "--epochs", "1")
    assert done.exit_code == 0
    assert "add --publish" in done.output
    assert stable(tmp_path, "rul-dummy") is None


def test_a_published_student_is_released_at_a_centre(tmp_path):
    pytest.importorskip("tuf", reason="needs the extra [centre]")
    from tests.fakes.centre import make_centre

    centre = make_centre(tmp_path / "centre")
    plan = tmp_path / "plan.toml"
    plan.write_text("steps = [{percent = 20}, {percent = 100}]\n")
    words = ("--centre", str(tmp_path / "centre"), "--plan", str(plan))
    refused = call(tmp_path, "--name", "rul-dummy", "--epochs", "1", *words)
    assert refused.exit_code == 2
    assert "--plan needs --centre and --publish" in refused.output
    done = call(tmp_path, "--name", "rul-dummy", "--publish", "--epochs", "1", *words)
    assert done.exit_code == 0, done.output
    assert "Release 1: rul-dummy v1 is running, step 1 of 2 (20 %" in done.output
    (release,) = centre.index().releases
    assert release.digest == stable(tmp_path, "rul-dummy").digest


def test_the_rival_is_what_the_gateways_of_a_centre_run(tmp_path):
    pytest.importorskip("tuf", reason="needs the extra [centre]")
    from deploy.rollout.inventory import Inventory
    from deploy.rollout.report import GatewayReport, StudentReport, encode_report
    from ingest.topics import report_topic
    from tests.fakes.centre import make_centre, now_s

    make_centre(tmp_path / "centre")
    registry = Registry(tmp_path / "registry")
    for seed in (1, 2):
        made = write_dummy(tmp_path / f"made{seed}", name="rul-dummy", seed=seed, stream="engine")
        registry.publish(made.path, stable=True)
    first = registry.read("rul-dummy", 1)
    inventory = Inventory(tmp_path / "centre" / "inventory", now_s)
    one = StudentReport(name="rul-dummy", stream="engine", version=1, digest=first.digest)
    report = GatewayReport(gateway="gw-1", sent_s=now_s(), students=(one,))
    inventory.take(report_topic("gw-1"), encode_report(report))
    words = ("--epochs", "1", "--centre", str(tmp_path / "centre"))
    done = call(tmp_path, *words)
    told = "Running: rul-dummy v1, because 1 of 1 gateways report that it scores."
    assert told in done.output, done.output
    missing = call(tmp_path, "--epochs", "1", "--centre", str(tmp_path / "no-centre"))
    assert missing.exit_code == 2


def test_a_student_that_a_centre_refuses_stays_published(tmp_path):
    pytest.importorskip("tuf", reason="needs the extra [centre]")
    (tmp_path / "centre").mkdir()
    words = ("--publish", "--centre", str(tmp_path / "centre"))
    done = call(tmp_path, "--name", "rul-dummy", "--epochs", "1", *words)
    assert done.exit_code == NOT_RELEASED
    assert "Published, but not released" in done.output
    assert "release rul-dummy 1" in done.output
    assert stable(tmp_path, "rul-dummy").version == 1


def test_a_student_of_other_data_than_the_starter_has_a_name_of_its_own(tmp_path):
    # The starter learned from real engines, so any student trained on the dummies is better.
    done = call(tmp_path, "--publish", "--epochs", "10")
    assert done.exit_code == 0, done.output
    assert "trained on other data" in done.output
    assert "Published rul-dummy v1" in done.output


def test_under_its_name_the_starter_becomes_the_first_version(tmp_path):
    done = call(tmp_path, "--publish", "--epochs", "10", "--name", "rul-fd001")
    assert done.exit_code == 0, done.output
    assert "Published rul-fd001 v2" in done.output


def test_another_student_of_the_stream_is_replaced_only_if_asked_and_better(tmp_path):
    Registry(tmp_path / "registry").publish(zoo_path("rul-fd001"), stable=True)
    refused = call(tmp_path, "--publish", "--epochs", "10", "--out", str(tmp_path / "kept"))
    assert refused.exit_code == 2
    assert "add --replace" in refused.output
    assert "add --name rul-fd001" in refused.output
    assert "add --replace" in look_only(tmp_path / "kept")  # before the training
    done = call(tmp_path, "--publish", "--epochs", "10", "--replace")
    assert done.exit_code == 0, done.output
    assert "Published rul-dummy v1" in done.output
    assert Registry(tmp_path / "registry").names() == ["rul-dummy"]


def test_a_second_student_of_the_task_on_another_stream_is_no_rival(tmp_path):
    registry = Registry(tmp_path / "registry")
    registry.publish(zoo_path("rul-fd001"), stable=True)
    other = write_dummy(tmp_path / "pump", name="rul-pump", stream="pump")
    registry.publish(other.path, stable=True)
    done = call(tmp_path, "--epochs", "1")
    assert done.exit_code in (0, NOT_BETTER), done.output
    assert "running (rul-fd001 v1)" in done.output


def test_scaled_readings_under_the_original_name_are_refused_before_the_training(tmp_path):
    files = cmapss_files()
    rows = np.loadtxt(io.BytesIO(files["CMAPSSData/train_FD001.txt"]))
    span = np.maximum(np.ptp(rows[:, 2:], axis=0), 1e-9)
    rows[:, 2:] = (rows[:, 2:] - rows[:, 2:].min(axis=0)) / span
    lines = [f"{row[0]:.0f} {row[1]:.0f} " + " ".join(f"{x:.5f}" for x in row[2:]) for row in rows]
    files["CMAPSSData/train_FD001.txt"] = "\n".join(lines).encode()
    data = write_folder(tmp_path / "scaled", files)
    out = tmp_path / "kept"
    refused = call(tmp_path, "--data", str(data), "--publish", "--out", str(out))
    assert refused.exit_code == 2
    assert "T24 from 0" in refused.output
    assert "is impossible, so the readings are scaled or in another unit" in refused.output
    assert "T24 from 0" in look_only(out)


def test_a_run_with_another_recipe_keeps_the_folder_of_the_first(tmp_path):
    out = tmp_path / "kept"
    assert call(tmp_path, "--name", "rul-dummy", "--epochs", "1", "--out", str(out)).exit_code == 0
    recipe = (out / "recipe.toml").read_text()
    refused = call(tmp_path, "--epochs", "2", "--out", str(out))
    assert refused.exit_code == 2
    assert "state of a run with another recipe: choose another folder" in refused.output
    assert (out / "recipe.toml").read_text() == recipe


def test_two_runs_do_not_share_a_folder(tmp_path):
    out = tmp_path / "kept"
    recipe = format_recipe(shipped_recipe("rul-fd001", epochs=1, calibration_folds=0))
    with open_run_folder(out, recipe, Console(file=io.StringIO())):
        refused = call(tmp_path, "--name", "rul-dummy", "--epochs", "1", "--out", str(out))
        assert refused.exit_code == 2
        assert f"another run works in {out}: wait for its end" in refused.output
    assert call(tmp_path, "--name", "rul-dummy", "--epochs", "1", "--out", str(out)).exit_code == 0


def test_a_damaged_state_is_named(tmp_path):
    out = tmp_path / "kept"
    assert call(tmp_path, "--name", "rul-dummy", "--epochs", "1", "--out", str(out)).exit_code == 0
    content = bytearray((out / "last.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (out / "last.pt").write_bytes(content)
    refused = call(tmp_path, "--name", "rul-dummy", "--epochs", "1", "--out", str(out))
    assert refused.exit_code == 2
    assert "last.pt is damaged, or of another version: delete it" in refused.output


@pytest.mark.parametrize("name", ["last.tmp", "log.jsonl", "result.png", ".model.onnx", PAGE])
def test_a_disk_that_fills_up_ends_with_2_and_the_same_command_continues(
    tmp_path, monkeypatch, name
):
    out = tmp_path / "kept"
    words = ("--name", "rul-dummy", "--publish", "--epochs", "2", "--out", str(out))
    with monkeypatch.context() as patch:
        patch.setattr("io.open", full_disk(name, io.open))
        patch.setattr("builtins.open", full_disk(name, open))
        patch.setattr("os.open", full_disk(name, os.open))
        full = call(tmp_path, *words)
    assert full.exit_code == 2, full.output
    assert "No space left on device" in full.output
    assert "nothing was published. Mend that and run" in full.output or ".tmp cannot" in full.output
    assert Registry(tmp_path / "registry").names() == []
    assert not list(out.rglob("*.tmp"))
    done = call(tmp_path, *words)
    assert done.exit_code == 0, done.output
    assert "Published rul-dummy v1" in done.output


def full_disk(name, real):
    """Refuse to open files whose name holds a text, as a full disk does."""

    def opened(file, *arguments, **options):
        mode = arguments[0] if arguments else options.get("mode", "r")
        writes = mode & os.O_WRONLY if isinstance(mode, int) else set(mode) & set("wa")
        if writes and name in str(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        return real(file, *arguments, **options)

    return opened


def test_the_folder_keeps_log_plot_recipe_and_artifact(tmp_path):
    out = tmp_path / "kept"
    done = call(tmp_path, "--name", "rul-dummy", "--epochs", "2", "--out", str(out))
    assert done.exit_code == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[-1]["result"]["rmse"] == pytest.approx(lines[1]["held_out"])
    assert 0 < lines[-1]["p50_ms"] <= lines[-1]["p99_ms"]
    assert lines[-1]["calibration"]["interval_coverage"] > 0.5  # three engines, each by two
    assert "One window takes" in done.output
    assert re.search(r"\d+ s from reading the data to the end, \d+ s of them training", done.output)
    assert (out / "result.png").read_bytes().startswith(b"\x89PNG")
    recipe = shipped_recipe("rul-fd001", epochs=2, calibration_folds=0)
    assert (out / "recipe.toml").read_text() == format_recipe(recipe)
    assert str(tmp_path) not in read_artifact(out / "artifact").manifest.lineage.command


def test_the_same_command_continues_a_run_that_ran_out_of_time(tmp_path):
    words = ("--name", "rul-dummy", "--epochs", "2", "--out", str(tmp_path / "kept"))
    stopped = call(tmp_path, *words, "--max-minutes", "0")
    assert stopped.exit_code == UNFINISHED
    assert "continues" in stopped.output
    assert call(tmp_path, *words).exit_code == 0


def test_a_recipe_that_holds_out_other_groups_is_refused(tmp_path):
    assert call(tmp_path, "--name", "rul-dummy", "--publish", "--epochs", "1").exit_code == 0
    recipe = tmp_path / "other.toml"
    recipe.write_text(
        format_recipe(shipped_recipe("rul-fd001", epochs=1, split_seed=9, calibration_folds=0))
    )
    refused = call(tmp_path, "--config", str(recipe))
    assert refused.exit_code == 2
    assert "judged on what it learned from" in refused.output


def test_the_default_recipe_takes_over_the_split_of_the_running_student(tmp_path):
    recipe = tmp_path / "other.toml"
    recipe.write_text(
        format_recipe(shipped_recipe("rul-fd001", epochs=1, split_seed=9, calibration_folds=0))
    )
    words = ("--name", "rul-dummy", "--publish", "--config", str(recipe))
    assert call(tmp_path, *words).exit_code == 0
    again = call(tmp_path, "--epochs", "1", "--out", str(tmp_path / "kept"))
    assert again.exit_code in (0, NOT_BETTER)
    assert "split_seed = 9" in (tmp_path / "kept" / "recipe.toml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "no/such.zip"], "no such file or folder"),
        (["--data", "."], "train_FD001.txt"),
        (["--epochs", "0"], "0 is not in the range"),
        (["--task", "sleep"], "'sleep' is not one of"),
    ],
)
def test_wrong_usage_and_wrong_data_end_with_2(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    refused = call(tmp_path, *words)
    assert refused.exit_code == 2
    assert message in refused.output


def test_a_recipe_with_folds_is_measured_out_of_fold_and_published(tmp_path):
    recipe = tmp_path / "folds.toml"
    small = {"epochs": 1, "folds": 3, "student": "statistics", "noise": 0.0}
    recipe.write_text(format_recipe(shipped_recipe("rul-fd001", **small)))
    words = ("--name", "rul-dummy", "--publish", "--config", str(recipe))
    done = call(tmp_path, *words)
    assert done.exit_code == 0, done.output
    assert "All engines, out of fold" in done.output
    metrics = read_artifact(Registry(tmp_path / "registry").version_path("rul-dummy", 1)).manifest
    assert set(metrics.metrics) == {"out_of_fold", "calibration"}
    again = call(tmp_path, *words)
    assert again.exit_code == 2
    assert "learns from all engines of these data" in again.output


def test_a_recipe_of_another_task_is_refused(tmp_path):
    recipe = tmp_path / "har.toml"
    recipe.write_text(format_recipe(shipped_recipe("har-waist")))
    refused = call(tmp_path, "--config", str(recipe))
    assert refused.exit_code == 2
    assert "is a recipe for activity" in refused.output


def test_help_needs_no_torch():
    code = "import sys, training.redistill; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
