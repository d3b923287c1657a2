"""`train-redistill --task forecast` from the command line, on made-up rooms."""

import csv
import json
from datetime import datetime, timezone
from itertools import cycle, islice

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact, write_artifact
from models.manifest import Draft
from models.registry import Registry
from models.rulings import Ruling, add_ruling
from models.zoo import STARTERS, zoo_path
from tests.training.lookpage import look_only
from training.datasets.dummy_series import make_dummy_series
from training.decision import HELD, NOT_BETTER
from training.redistill import redistill
from training.runfolder import UNFINISHED
from training.runpage import PAGE

pytestmark = pytest.mark.needs_training

RECIPE = """
data = "any"
length = 48
horizon = 12
backtest = 6
leads = [1, 6, 12]
width = 32
rank = 8
stride = 3
ridge_stride = 6
validation_stride = 6
batch_size = 32
epochs = 6
"""


def call(folder, *words, data="dummy", config=True):
    base = ["--task", "forecast", "--data", str(data), "--registry", str(folder / "registry")]
    if config:
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        base += ["--config", str(folder / "recipe.toml")]
    if "--out" not in words:
        base += ["--out", str(folder / f"run{len(list(folder.glob('run*')))}")]
    return CliRunner().invoke(redistill, [*base, *words])


def versions(folder, name="forecast-dummy-forecast"):
    return Registry(folder / "registry").list_versions(name)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with a published student, and the outputs of the runs that led to it."""
    folder = tmp_path_factory.mktemp("published")
    words = ("--publish", "--out", str(folder / "kept"))
    stopped = call(folder, *words, "--max-minutes", "0")
    return folder, stopped, call(folder, *words)


def test_a_run_that_ran_out_of_time_continues_and_publishes_the_first_student(published):
    folder, stopped, first = published
    assert stopped.exit_code == UNFINISHED, stopped.output
    assert "the same command with --out" in " ".join(stopped.output.split())
    assert f"Report: {folder / 'kept' / PAGE}" in stopped.output
    assert first.exit_code == 0, first.output
    assert "Published forecast-dummy-forecast v1" in first.output
    assert versions(folder) == [1]
    for rival in ("seasonal naive", "ridge"):
        assert f"Gain over {rival} (squared training deviations)" in first.output
    assert "blocks of 24 hours" in first.output
    assert "above zero for every rival" in first.output


def test_the_folder_keeps_log_plot_recipe_and_artifact(published):
    folder, _, _ = published
    out = folder / "kept"
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines if "epoch" in line][-1] == 6
    assert set(lines[-1]["rivals"]) == {"seasonal naive", "ridge"}
    assert "NaN" not in (out / "log.jsonl").read_text()
    assert lines[-1]["result"]["mse"] < lines[-1]["rivals"]["ridge"]["mse"]
    assert lines[-1]["published_version"] == 1
    assert 0 < lines[-1]["p50_ms"] <= lines[-1]["p99_ms"]
    assert (out / "result.png").read_bytes().startswith(b"\x89PNG")
    assert 'data = "dummy-forecast"' in (out / "recipe.toml").read_text()
    manifest = read_artifact(out / "artifact").manifest
    known = make_dummy_series().before_test()
    assert manifest.lineage.data_digest == known.digest
    assert manifest.channels == known.channels
    assert str(folder) not in manifest.lineage.command
    page = (out / PAGE).read_text(encoding="utf-8")
    assert "<h1>Published forecast-dummy-forecast v1</h1>" in page
    for text in ("seasonal naive", "ridge", "blocks of held-out time", known.digest, "image/png"):
        assert text in page


def test_a_student_that_is_not_better_than_the_running_one_is_refused(published):
    folder, _, _ = published
    worse = call(folder, "--publish", "--epochs", "1", config=False)
    assert worse.exit_code == NOT_BETTER, worse.output
    assert "Gain over running (forecast-dummy-forecast v1)" in worse.output
    assert "all learned from the same readings" in worse.output
    assert "Not better: nothing was published" in worse.output
    assert versions(folder) == [1]


def test_a_student_with_other_windows_cannot_replace_the_running_one(published):
    folder, _, _ = published
    recipe = folder / "longer.toml"
    recipe.write_text(RECIPE.replace("length = 48", "length = 60"), encoding="utf-8")
    refused = call(folder, "--config", str(recipe), config=False)
    assert refused.exit_code == 2
    assert "make windows of 66 readings, but the running" in refused.output
    assert "publish under a new --name" in refused.output


def test_nothing_is_published_over_a_held_student(published, tmp_path):
    folder, _, _ = published
    registry = Registry(tmp_path / "registry")
    artifact = read_artifact(folder / "kept" / "artifact")
    registry.publish(artifact.path, stable=True)
    ruling = Ruling(ts_ms=1, who="eva", what="hold", reason="audit")
    add_ruling(registry.folder(artifact.manifest.name), ruling)
    held = call(tmp_path, "--publish", "--out", str(tmp_path / "kept"))
    assert held.exit_code == HELD, held.output
    assert "by eva: audit" in held.output
    assert "by eva: audit" in look_only(tmp_path / "kept")  # before the training


def write_rooms(folder, stream="hall", channels=None):
    data = make_dummy_series(readings=1200)
    channels = channels or data.channels
    for device, rows, times in zip(data.devices, data.series, data.times_ms, strict=True):
        with (folder / f"{device}.csv").open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["time", *(channel.name for channel in channels)])
            for at, row in zip(times, rows, strict=True):
                moment = datetime.fromtimestamp(int(at) / 1000, timezone.utc)
                values = islice(cycle(row.tolist()), len(channels))
                lines.writerow([moment.isoformat(), *values])
    described = "".join(
        f'[[channels]]\nname = "{channel.name}"\nunit = "{channel.unit}"\n' for channel in channels
    )
    path = folder / "rooms.toml"
    path.write_text(
        f'name = "rooms"\nstream = "{stream}"\nfiles = ["*.csv"]\nstep_s = 3600\n'
        f'period_s = 86400\ntime = {{ column = "time" }}\n{described}',
        encoding="utf-8",
    )
    return path


def test_own_recordings_are_read_through_their_description(tmp_path):
    done = call(tmp_path, "--max-minutes", "0", data=write_rooms(tmp_path))
    assert done.exit_code == UNFINISHED, done.output
    assert "rooms: 1680 readings of 2 devices to learn from" in done.output
    assert 'data = "rooms"' in (tmp_path / "run0" / "recipe.toml").read_text()


def test_a_student_of_another_stream_is_no_rival(published, tmp_path):
    folder, _, _ = published
    recipe = tmp_path / "longer.toml"
    recipe.write_text(RECIPE.replace("length = 48", "length = 60"), encoding="utf-8")
    words = ("--registry", str(folder / "registry"), "--max-minutes", "0")
    done = call(tmp_path, *words, "--config", str(recipe), data=write_rooms(tmp_path), config=False)
    assert done.exit_code == UNFINISHED, done.output


def test_without_a_student_in_the_registry_the_starter_of_the_stream_runs(tmp_path):
    starter = read_artifact(zoo_path("forecast-transformer")).manifest
    data = write_rooms(tmp_path, starter.stream, starter.channels)
    done = call(tmp_path, "--max-minutes", "0", data=data, config=False)
    assert done.exit_code == UNFINISHED, done.output
    recipe = (tmp_path / "run0" / "recipe.toml").read_text()
    assert f"length = {starter.window.length - 6}\n" in recipe  # that of the starter
    assert "backtest = 6\n" in recipe


def test_every_stream_has_one_starter_at_most():
    streams = [read_artifact(zoo_path(name)).manifest.stream for name in STARTERS]
    assert len(set(streams)) == len(streams)


def test_of_two_students_of_a_stream_the_one_that_a_gateway_runs_is_the_rival(published, tmp_path):
    folder, _, _ = published
    artifact = read_artifact(folder / "kept" / "artifact")
    registry = Registry(tmp_path / "registry")
    registry.publish(artifact.path, stable=True)
    facts = {name: getattr(artifact.manifest, name) for name in Draft.model_fields}
    graph = (artifact.path / "model.onnx").read_bytes()
    other = write_artifact(tmp_path / "other", Draft(**facts | {"name": "another"}), graph)
    registry.publish(other.path, stable=True)  # its name comes first, but it became stable second
    for words in ((), ("--name", "another")):
        done = call(tmp_path, "--max-minutes", "0", *words)
        assert done.exit_code == UNFINISHED, done.output
        assert "another v1 in the registry is refused by gateways" in done.output
        assert f"Running: {artifact.manifest.name} v1, because it is the stable" in done.output
    refused = call(tmp_path, "--max-minutes", "0", "--name", "another", "--publish")
    assert refused.exit_code == 2
    assert f"{artifact.manifest.name} scores the stream 'room'" in refused.output


def test_a_held_out_time_that_is_too_short_is_refused(tmp_path):
    path = write_rooms(tmp_path)
    short = path.read_text() + "[split]\ntrain = 0.85\nvalidation = 0.05\n"
    path.write_text(short, encoding="utf-8")
    refused = call(tmp_path, data=path)
    assert refused.exit_code == 2
    assert "blocks of 24 readings" in refused.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "no/such.zip"], "no such file or folder"),
        (["--data", "."], "--subset names the series of an archive"),
        (["--data", ".", "--subset", "ETTh1"], "ETTh1.csv"),
        (["--data", ".", "--subset", "FD001"], "'FD001' is not one of ETTh1"),
        (["--method", "kp"], "--method is for tasks with labels"),
        (["--anchors", "text"], "--anchors is for tasks with labels"),
    ],
)
def test_wrong_usage_and_wrong_data_end_with_2(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    refused = call(tmp_path, *words)
    assert refused.exit_code == 2
    assert message in refused.output
