"""Forecasting runs of the ledger: plans, one run, resuming, the report."""

import json
import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from rich.console import Console  # noqa: E402

from training.bench import command  # noqa: E402
from training.bench.command import run_missing_forecasts  # noqa: E402
from training.bench.forecastplan import (  # noqa: E402
    ForecastRun,
    read_forecast_plan,
    shipped_forecast_plans,
    shipped_taught_plans,
)
from training.bench.forecastreport import write_forecast_report  # noqa: E402
from training.bench.forecastruns import do_forecast_run  # noqa: E402
from training.bench.ledger import read_lines, shipped_plans  # noqa: E402
from training.bench.published import (  # noqa: E402
    FEW_SHOT,
    HORIZONS,
    PUBLISHED,
    published_errors,
)
from training.datasets.dummy_series import make_dummy_series  # noqa: E402
from training.errors import LedgerError  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402

pytestmark = pytest.mark.needs_training

DATA = make_dummy_series(readings=600)
RECIPE = ForecastRecipe(
    data="ETTh1", length=24, horizon=12, backtest=6, leads=(1,), width=8, rank=4, epochs=1, steps=4
)
NOT_MEASURED = ("seconds", "training_seconds", "revision", "latency_ms_p50", "latency_ms_p99")


@pytest.fixture(scope="module")
def line():
    return do_forecast_run(ForecastRun("tiny", RECIPE), DATA)


def measured(line):
    plain = {key: value for key, value in line.items() if key not in NOT_MEASURED}
    small = {key: value for key, value in line["int8"].items() if key not in NOT_MEASURED}
    return plain | {"int8": small}


def test_a_plan_has_one_run_for_each_set_look_back_horizon_and_seed(tmp_path):
    path = tmp_path / "bench-forecast-x.toml"
    path.write_text(
        'student_name = "tiny"\nbenchmarks = ["ETTh1", "ETTm2"]\nlengths = [96, 512]\n'
        "horizons = [96, 720]\nseeds = [0, 1, 2]\nwidth = 8\n",
        encoding="utf-8",
    )

    runs = read_forecast_plan(path)

    assert len({run.digest for run in runs}) == 24
    assert {run.recipe.width for run in runs} == {8}
    assert (runs[0].benchmark, runs[-1].benchmark) == ("ETTh1", "ETTm2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('student_name = "x"\nbenchmarks = ["ETTh1"]\nlengths = [96]\nseeds = [0]', "horizons"),
        (
            'student_name = "x"\nbenchmarks = ["ETTx"]\nlengths = [96]\nhorizons = [96]\n'
            "seeds = [0]",
            "ETTx",
        ),
    ],
)
def test_an_invalid_plan_is_refused(tmp_path, text, reason):
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(LedgerError, match=reason):
        read_forecast_plan(path)


def test_every_seed_of_a_plan_has_all_of_its_teachers(tmp_path):
    path = tmp_path / "bench-forecast-teach-x.toml"
    text = (
        'student_name = "tiny"\nbenchmarks = ["ETTh1"]\nlengths = [96]\nhorizons = [96]\n'
        'seeds = [0, 1]\nteachers = ["none", "ridge"]\n'
    )
    path.write_text(text, encoding="utf-8")

    runs = read_forecast_plan(path)

    assert [(run.recipe.seed, run.recipe.teacher) for run in runs] == [
        (0, "none"),
        (0, "ridge"),
        (1, "none"),
        (1, "ridge"),
    ]
    path.write_text(text.replace("ridge", "gpt2"), encoding="utf-8")
    with pytest.raises(LedgerError, match="'gpt2', expected names of none, ridge"):
        read_forecast_plan(path)


def test_a_plan_trains_a_teacher_again_unless_no_seed_changes_it(tmp_path):
    path = tmp_path / "bench-forecast-teach-x.toml"
    path.write_text(
        'student_name = "tiny"\nbenchmarks = ["ETTh1"]\nlengths = [96]\nhorizons = [96]\n'
        'seeds = [0, 1]\nteacher_seeds = [0, 2]\nteachers = ["none", "ridge", "llata"]\n',
        encoding="utf-8",
    )

    runs = read_forecast_plan(path)

    named = [(run.recipe.teacher_seed, run.recipe.seed, run.recipe.teacher) for run in runs]
    assert named == [
        *((0, seed, teacher) for seed in (0, 1) for teacher in ("none", "ridge", "llata")),
        *((2, seed, "llata") for seed in (0, 1)),
    ]
    assert "teacher_seed" not in runs[0].config
    assert "teacher_seed = 2\n" in runs[-1].config


def test_shipped_plans_of_all_kinds_are_kept_apart():
    of_forecasts = [*shipped_forecast_plans(), *shipped_taught_plans()]

    assert shipped_forecast_plans()
    assert shipped_taught_plans()
    assert len(set(of_forecasts)) == len(of_forecasts)
    assert not set(of_forecasts) & set(shipped_plans())
    runs = [run for path in of_forecasts for run in read_forecast_plan(path)]
    assert len({run.digest for run in runs}) == len(runs)


def test_a_run_is_the_same_when_it_is_made_again(line):
    again = do_forecast_run(ForecastRun("tiny", RECIPE), DATA)

    assert measured(again) == measured(line)


def test_a_line_holds_the_student_beside_ridge_and_baselines(line):
    apart = line["test"]["mse"] - line["ridge"]["mse"]

    assert line["validation"]["mse"] <= line["validation"]["ridge_mse"]
    assert line["against_ridge"]["difference"] == pytest.approx(apart, abs=1e-5)
    assert line["seasonal_naive"]["mse"] > line["test"]["mse"]
    assert line["onnx_bytes"] > 4 * line["parameters"]
    assert line["parity"] < 1e-4
    json.dumps(line, allow_nan=False)


def test_a_line_has_the_errors_under_conditions_that_training_did_not_have():
    other = replace(make_dummy_series(readings=600, seed=5), name="other")
    short = replace(other, name="short", borders=tuple((a, b, b + 11) for a, b, _ in other.borders))

    found = do_forecast_run(
        ForecastRun("ridge", replace(RECIPE, student="ridge")), DATA, None, [other, short]
    )

    assert set(found["shifts"]) == {"other", "channel missing", "short history"}
    assert found["shifts"]["other"]["naive_mse"] > 0
    assert all(one["mse"] == one["ridge_mse"] for one in found["shifts"].values())
    assert found["shifts"]["short history"]["mse"] > found["test"]["mse"]


def test_a_student_that_is_too_large_has_a_line_with_the_reason():
    large = replace(RECIPE, width=400, rank=64)

    found = do_forecast_run(ForecastRun("large", large), DATA)

    assert "at most 400000" in found["export_error"]
    assert found["test"]["mse"] > 0


def test_finished_runs_are_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "read_series", lambda name, folder: DATA)
    results = tmp_path / "forecast.jsonl"
    runs = [ForecastRun("ridge", replace(RECIPE, student="ridge", seed=seed)) for seed in (0, 1)]
    quiet = Console(quiet=True)

    run_missing_forecasts(runs[:1], tmp_path, results, math.inf, quiet)
    first = results.read_bytes()
    run_missing_forecasts(runs, tmp_path, results, math.inf, quiet)

    assert results.read_bytes().startswith(first)
    assert [line["seed"] for line in read_lines(results)] == [0, 1]


def test_a_run_learns_from_the_products_of_the_teacher_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "read_series", lambda name, folder: DATA)
    results, teachers = tmp_path / "forecast.jsonl", tmp_path / "teachers"
    alone = replace(RECIPE, least_gain=0.0, width=32, steps=150)  # enough to beat the ridge
    taught = replace(alone, teacher="timellm-none", teacher_weight=5.0)
    runs = [ForecastRun("mlp", alone), ForecastRun("mlp, taught", taught)]

    run_missing_forecasts(runs, tmp_path, results, math.inf, Console(quiet=True), teachers)

    without, with_teacher = read_lines(results)
    assert without["best_pass"] == with_teacher["best_pass"] == 1
    assert len(list(teachers.glob("timellm-*"))) == 1
    assert with_teacher["teacher"] == "timellm-none"
    assert with_teacher["test"]["mse"] != without["test"]["mse"]


def test_the_report_averages_seeds_that_have_all_four_horizons(tmp_path, line):
    runs, lines = [], []
    for seed, horizons in ((0, HORIZONS), (1, HORIZONS), (2, HORIZONS[:3])):
        for horizon in horizons:
            recipe = replace(RECIPE, length=96, horizon=horizon, seed=seed)
            run = ForecastRun("tiny", recipe)
            value = {"mse": 0.1 + seed, "mae": 0.2, "pinball": 0.1} | {
                key: 0.8 for key in ("coverage", "coverage_low", "coverage_high")
            }
            if horizon != 96:  # a line of an older rule of the band
                value["steps_near"] = 0.5 if horizon < 720 else 1.0
            runs.append(run)
            lines.append(
                line
                | {"length": 96, "horizon": horizon, "seed": seed, "config": run.digest}
                | {"test": value}
            )

    page, plot = write_forecast_report(runs, [*lines, line], tmp_path)

    text = page.read_text(encoding="utf-8")
    assert "| **tiny** | none | 0.6000 (0.7071) |  |  |  |" in text
    assert "11 of 11 planned runs" in text
    assert "| *LLaTA (CALF)* | *GPT-2, 6 blocks* | 0.433 | " in text
    for where in ("ETTh1 | 96", "all | all"):
        assert f"| tiny | {where} | 3 | 1248 | 0.788 | 0.800 | 0.1000 |" in text
    assert "| 96 | 96 | tiny | 0.800 | 0.800 | 0.800 |  | " in text
    assert "| 96 | 720 | tiny | 0.800 | 0.800 | 0.800 | 1.00 | " in text
    assert plot.stat().st_size > 10_000


def test_published_rows_have_the_printed_averages():
    # From the same tables; they are rounded from unrounded rows, so a last digit may differ.
    printed = {
        ("LLaTA (CALF)", 96): (0.432, 0.349, 0.395, 0.281),
        ("PatchTST", 96): (0.450, 0.366, 0.381, 0.285),
        ("DLinear", 96): (0.456, 0.559, 0.403, 0.350),
        ("TIME-LLM", 512): (0.408, 0.334, 0.329, 0.251),
        ("PatchTST", 512): (0.413, 0.330, 0.351, 0.255),
        ("DLinear", 512): (0.422, 0.431, 0.357, 0.267),
    }
    for one in PUBLISHED:
        for place, name in enumerate(("ETTh1", "ETTh2", "ETTm1", "ETTm2")):
            if (one.model, one.length) in printed:
                mean = sum(one.errors[name]) / 4
                assert mean == pytest.approx(printed[one.model, one.length][place], abs=0.0016)


def test_published_rows_with_a_tenth_of_the_data_have_the_printed_averages():
    printed = {
        ("LLaTA (CALF)", 96): {"ETTh1": 0.644, "ETTh2": 0.419, "ETTm1": 0.504, "ETTm2": 0.302},
        ("TIME-LLM, run by others", 96): {"ETTh1": 0.765, "ETTh2": 0.589, "ETTm2": 0.308},
        ("PatchTST", 96): {"ETTh1": 0.683, "ETTh2": 0.550, "ETTm2": 0.295},
        ("TIME-LLM", 512): {"ETTh1": 0.556, "ETTh2": 0.370, "ETTm1": 0.404, "ETTm2": 0.277},
        ("PatchTST", 512): {"ETTh1": 0.633, "ETTh2": 0.415, "ETTm1": 0.501, "ETTm2": 0.296},
    }
    for one in FEW_SHOT:
        means = {name: sum(errors) / 4 for name, errors in one.errors.items()}
        assert means == pytest.approx(printed[one.model, one.length], abs=0.0016)
    assert [error for _, error in published_errors("ETTm1", 192, 0.1)] == [0.479, 0.373, 0.437]
    assert published_errors("ETTm1", 192, 0.05) == []
