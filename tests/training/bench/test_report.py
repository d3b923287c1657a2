"""The report: intervals, paired gains, and pages from made-up lines."""

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the extra [training]; make test installs it")

from training.bench.ledger import read_plan
from training.bench.report import write_report
from training.bench.stats import half_within, interval_95, paired_gains

pytestmark = pytest.mark.needs_training


def plan(folder, name, benchmark, student, methods, extra=""):
    path = folder / f"bench-{name}.toml"
    methods = ", ".join(f'"{method}"' for method in methods)
    path.write_text(
        f'benchmark = "{benchmark}"\nstudent_name = "{student}"\nmethods = [{methods}]\n'
        f"seeds = [0, 1, 2]\n{extra}"
    )
    return read_plan(path)


def line(run, value):
    if run.unseen:
        names = ("unseen_recall", "harmonic", "alarm_recall", "false_alarm", "auroc")
        measures = dict.fromkeys(names, value)
        known = {"open": dict.fromkeys(("kp", "span", "mix"), measures)}
    else:
        names = ("rmse", "nasa_score", "interval_coverage", "macro_f1", "accuracy")
        measures = dict.fromkeys((*names, "calibration_error"), value)
        known = {"held_out": measures, "test": measures, "literature": measures}
    return {
        "config": run.digest,
        "seed": run.recipe.seed,
        "method": run.method,
        "unseen": list(run.unseen),
        "seconds": 1.0,
        **known,
    }


def report(folder, runs, values):
    lines = [line(run, values[run.method] + 0.01 * run.recipe.seed) for run in runs]
    page, *plots = write_report(runs, lines, folder / "out")
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    return page.read_text()


def test_every_method_is_shown_with_its_gain_beside_the_paper(tmp_path):
    runs = plan(tmp_path, "a", "FD001", "conv", ["kp-text", "none", "kp-random", "ridge"])
    text = report(tmp_path, runs, {"none": 10.0, "kp-text": 9.0, "kp-random": 8.0, "ridge": 11.0})
    assert "12 of 12 planned runs" in text
    assert text.index("| none | 3 |") < text.index("| kp-text | 3 |")
    assert "| *paper* | 19.7 |" in text
    assert "| kp-text | +10.0, seeds [10.0, 10.0] (1 sets)" in text
    assert "| kp-random | -10.0, seeds [-10.0, -10.0] (1 sets) |" in text


def test_few_groups_are_shown_below_the_student_of_all_groups(tmp_path):
    methods = ["none", "kp-text", "kp-random"]
    runs = plan(tmp_path, "a", "FD001", "conv", methods)
    runs += plan(
        tmp_path, "b", "FD001", "conv, 10 engines", methods, 'topic = "few"\nhold_out = 0.9\n'
    )
    chapter = report(tmp_path, runs, {"none": 12.0, "kp-text": 13.0, "kp-random": 14.0}).split(
        "## Few engines"
    )[1]
    assert chapter.index("| conv | 3 |") < chapter.index("| conv, 10 engines | 3 |")
    assert "| +1.000 [1.000, 1.000] | -1.000 [-1.000, -1.000] |" in chapter


def test_changes_are_compared_with_the_unchanged_method(tmp_path):
    runs = plan(tmp_path, "a", "FD001", "conv", ["none", "kp-text"])
    runs += plan(
        tmp_path, "b", "FD001", "conv, trim = 0.0", ["kp-text"], 'topic = "switches"\ntrim = 0.0\n'
    )
    text = report(tmp_path, runs, {"none": 12.0, "kp-text": 13.0})
    assert "| FD001 | trim = 0.0 | 3 |" in text
    assert text.count("| +0.000 [0.000, 0.000] | +0.000 [0.000, 0.000] |") == 1


def test_open_vocabulary_is_compared_with_random_anchors(tmp_path):
    runs = plan(
        tmp_path,
        "a",
        "UCI-HAR",
        "tiny, one left out",
        ["kp-text", "kp-random"],
        'topic = "open"\nleave_out = 1\n',
    )
    runs += plan(
        tmp_path,
        "b",
        "SPSW-watch",
        "tiny, one left out",
        ["kp-text", "kp-random"],
        'prompts = "spsw"\ntopic = "open"\nleave_out = 1\n',
    )
    text = report(tmp_path, runs, {"kp-text": 0.5, "kp-random": 0.25})
    assert "**All 2 benchmarks, one label left out**" in text
    assert "| kp | kp-text | 11 | 0.510 [0.510, 0.510] | +0.250 [0.250, 0.250] |" in text
    assert "| standing up |" in text
    assert "| kp | kp-text | 18 | 0.510 [0.510, 0.510] | +0.250 [0.250, 0.250] |" in text
    assert "| left out | kp-text | kp-random |" in text


def test_a_student_that_was_not_exported_is_marked(tmp_path):
    runs = plan(tmp_path, "a", "FD001", "conv", ["none"])
    lines = [line(run, 12.0) for run in runs]
    lines[1]["export_error"] = "parity"
    text = write_report(runs, lines, tmp_path)[0].read_text()
    assert "| none (1 not exported) | 3 |" in text


def test_gains_are_paired_by_seed_and_positive_when_better():
    def lines(metric, *found):
        return [{"seed": seed, "test": {metric: value}} for seed, value in enumerate(found)]

    assert paired_gains(lines("rmse", 8.0, 12.0), lines("rmse", 10.0, 10.0), "rmse") == [20, -20]
    (gain,) = paired_gains(lines("macro_f1", 0.9), lines("macro_f1", 0.8, 0.1), "macro_f1")
    assert gain == pytest.approx(12.5)


def test_the_interval_is_that_of_student():
    stats = pytest.importorskip("scipy.stats")
    draws = np.random.default_rng(0).normal(size=5).tolist()
    low, high = stats.t.interval(0.95, 4, np.mean(draws), stats.sem(draws))
    assert interval_95(draws) == pytest.approx((high - low) / 2, rel=1e-3)
    assert math.isnan(interval_95([1.0]))


def test_the_interval_within_groups_ignores_their_distance():
    near = half_within([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    far = half_within([[1.0, 2.0, 3.0], [101.0, 102.0, 103.0]])
    assert near == far == pytest.approx(2.776 * math.sqrt(2 / 3) / 2)
    assert half_within([[1.0, 2.0, 3.0]]) == pytest.approx(interval_95([1.0, 2.0, 3.0]))
    assert math.isnan(half_within([[1.0], [1.0, 2.0]]))
