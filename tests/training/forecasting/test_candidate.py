"""One whole run: the artifact, what calibrates it, and that a gateway loads it."""

import dataclasses
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact  # noqa: E402
from models.features import unscale  # noqa: E402
from models.session import Student  # noqa: E402
from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.forecasting.candidate import train_forecaster  # noqa: E402
from training.forecasting.recipe import ForecastRecipe, parse_forecast_recipe  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = ForecastRecipe(
    data="dummy-forecast", length=24, horizon=12, backtest=6, leads=(1, 12), width=16, rank=4,
    epochs=2, steps=10, hop=2, alarm_share=0.05,
)  # fmt: skip
DATA = make_dummy_series(readings=600)


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train_forecaster(DATA, RECIPE, "rooms", folder, command="a test")


def test_the_artifact_states_what_a_gateway_needs(candidate):
    manifest = read_artifact(candidate.artifact.path).manifest

    assert (manifest.window.length, manifest.window.hop) == (30, 2)
    assert manifest.rate_hz == pytest.approx(1 / 3600)
    assert manifest.decoding.leads == (1, 12)
    assert manifest.decoding.spread == pytest.approx(DATA.deviation.tolist())
    assert manifest.metrics["validation"] == candidate.metrics
    assert parse_forecast_recipe(manifest.lineage.command) == RECIPE


def test_the_gateway_scores_windows_as_the_student_does(candidate):
    windows = DATA.windows("test", 30, 12)
    raw = unscale(windows.inputs(), DATA.scaler())

    scores = Student(candidate.artifact).score(raw)

    forecast = (scores.values - DATA.mean[:, None]) / DATA.deviation[:, None]
    apart = np.square(forecast[..., 1] - windows.targets()).mean()
    assert scores.valid.all()
    assert apart < 1.5 * candidate.metrics["mse"]
    assert 0.6 < scores.covered.mean() < 0.95


def test_a_made_up_jump_is_odder_than_nearly_all_ordinary_windows(candidate):
    raw = unscale(DATA.windows("test", 30, 12).inputs(), DATA.scaler())
    jumped = raw.copy()
    jumped[:, -3:, 1] += 25

    student = Student(candidate.artifact)

    alarm = candidate.artifact.manifest.decoding.anomaly.alarm
    assert (student.score(raw).score >= alarm).mean() < 0.2
    assert (student.score(jumped).score >= alarm).mean() > 0.9
    assert (student.score(jumped).channel == 1).mean() > 0.9


def test_the_candidate_is_never_worse_than_its_ridge_on_validation(candidate):
    assert candidate.metrics["mse"] <= candidate.ridge_metrics["mse"] + 1e-9


def test_a_run_out_of_time_writes_no_artifact_and_continues(tmp_path):
    passes = []
    arguments = (DATA, RECIPE, "rooms", tmp_path)

    stopped = train_forecaster(*arguments, command="a test", deadline_s=time.monotonic())
    done = train_forecaster(*arguments, command="a test", on_epoch=passes.append)

    assert stopped is None
    assert [one.number for one in passes] == [0, 1, 2]
    assert done.artifact.path == tmp_path / "artifact"


def test_a_ridge_is_a_student_like_any_other(tmp_path):
    recipe = dataclasses.replace(RECIPE, student="ridge", epochs=0)

    found = train_forecaster(DATA, recipe, "rooms", tmp_path, command="a test")

    assert found.best_pass == 0
    assert found.metrics == found.ridge_metrics
    assert found.artifact.manifest.lineage.method == "forecast, ridge"
