"""The page of taught students: paired differences, verdicts, published rows."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.bench.forecastplan import ForecastRun  # noqa: E402
from training.bench.taughtreport import write_taught_report  # noqa: E402
from training.forecasting.recipe import ForecastRecipe  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = ForecastRecipe(data="ETTh1", share=0.1)


def made(teacher, seed, mse, **more):
    run = ForecastRun("mlp", replace(RECIPE, teacher=teacher, seed=seed))
    line = {
        "benchmark": "ETTh1",
        "length": 96,
        "horizon": 96,
        "share": 0.1,
        "teacher": teacher,
        "seed": seed,
        "config": run.digest,
        "best_pass": 1,
        "validation": {"mse": 0.7, "ridge_mse": 0.71},
        "test": {"mse": mse},
        "ridge": {"mse": 0.42},
        "shifts": {
            "ETTh2": {"mse": mse - 0.1, "ridge_mse": 0.3},
            "channel missing": {"mse": mse + 0.1, "ridge_mse": 0.5},
        },
        **more,
    }
    return run, line


def page(tmp_path, pairs):
    runs, lines = zip(*pairs, strict=True)
    found, plot = write_taught_report(runs, lines, tmp_path)
    assert plot.stat().st_size > 5000
    return found.read_text(encoding="utf-8")


def row(text, name, place=0):
    rows = [one.strip("| ").split(" | ") for one in text.splitlines() if one.startswith("|")]
    return [one for one in rows if one[0] == name][place]


def test_a_row_has_the_paired_differences_and_the_verdict(tmp_path):
    pairs = [made("none", seed, 0.4 + seed / 100) for seed in range(3)]
    pairs += [made("llata-random", seed, 0.39 + seed / 100) for seed in range(3)]
    pairs += [made("llata-none", seed, 0.395 + seed / 100) for seed in range(3)]
    shifts = (-0.021, -0.022, -0.023)
    taught = {"teacher_validation": {"mse": 0.69}, "teacher_seconds": 12.3}
    pairs += [
        made("llata", seed, 0.4 + seed / 100 + shift, **taught) for seed, shift in enumerate(shifts)
    ]

    text = page(tmp_path, pairs)

    assert "## ETTh1-96, look-back 96, 10 % of the training part" in text
    found = row(text, "llata")
    assert found[2] == "0.6900"
    assert found[5] == "-0.0220 ± 0.0025"
    assert found[6] == "-0.0120 ± 0.0025"
    assert found[7] == "-0.0170 ± 0.0025"
    assert found[8] == "helps"
    assert row(text, "llata", 1)[2] == "-0.0220 ± 0.0025"  # on the unseen set
    assert row(text, "closed-form ridge itself")[4] == "0.4200"
    assert row(text, "*LLaTA (CALF); GPT-2, 6 blocks*")[4] == "0.468"


def test_series_of_other_kinds_have_a_table_of_their_own(tmp_path):
    def unseen(mse):
        own = {"ILI": {"mse": mse, "ridge_mse": 0.9, "naive_mse": 1.5}}
        return {"shifts": made("none", 0, 0.4)[1]["shifts"] | own}

    pairs = [made("none", seed, 0.4, **unseen(0.8 + seed / 100)) for seed in range(3)]
    pairs += [made("llata", seed, 0.4, **unseen(0.7 + seed / 100)) for seed in range(3)]
    pairs.append(made("llata", 3, 0.4))  # older than the table

    text = page(tmp_path, pairs)

    assert "| model | seeds | ILI | minus ridge | minus none |" in text
    assert row(text, "seasonal naive")[2] == "1.5000"
    assert row(text, "closed-form ridge itself", 2)[2] == "0.9000"
    assert row(text, "llata", 2)[1:] == [
        "3",
        "0.7100 (0.0100)",
        "-0.1900 ± 0.0248",
        "-0.1000 ± 0.0000",
    ]


def test_a_control_with_a_lower_error_is_no_help(tmp_path):
    pairs = [made("none", seed, 0.4 + seed / 100) for seed in range(3)]
    pairs += [made("llata-shuffled", seed, 0.39 + seed / 100) for seed in range(3)]

    assert row(page(tmp_path, pairs), "llata-shuffled")[8] == "lower, a control"


def test_the_verdict_is_that_of_all_trainings(tmp_path):
    """One lucky training is no verdict; its lines do not mix with those of the others."""
    pairs = [made("none", seed, 0.4 + seed / 100) for seed in range(3)]
    for training, shift in enumerate((-0.02, 0.02, 0.0)):
        for seed in range(3):
            run, line = made("ensemble", seed, 0.4 + seed / 100 + shift, teacher_seed=training)
            line["teacher_validation"] = {"mse": 0.69}
            run = ForecastRun("mlp", replace(run.recipe, teacher_seed=training))
            pairs.append((run, line | {"config": run.digest}))

    text = page(tmp_path, pairs)

    assert row(text, "ensemble")[5] == "-0.0200 ± 0.0000"
    assert row(text, "ensemble")[8] == "see below"
    assert row(text, "ensemble", 1)[7] == "+0.0000 ± 0.0497"
    assert row(text, "ensemble", 1)[10] == "not shown"


def test_runs_without_a_line_are_counted_and_lines_of_no_plan_left_out(tmp_path):
    pairs = [made("none", seed, 0.4) for seed in range(2)]
    runs, lines = zip(*pairs, strict=True)

    found, _ = write_taught_report(runs, [*lines[:1], made("none", 7, 0.1)[1]], tmp_path)

    assert "1 of 2 planned runs" in found.read_text(encoding="utf-8")
    assert write_taught_report(runs, [], tmp_path / "none") == []
