"""The experiment ledger: missing runs, reproducible values, damaged files."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from rich.console import Console  # noqa: E402

from training.bench.command import run_missing  # noqa: E402
from training.bench.ledger import (  # noqa: E402
    append_line,
    missing_runs,
    read_lines,
    read_plan,
    shipped_plans,
    write_lines,
)
from training.bench.runs import do_run  # noqa: E402
from training.datasets.dummy import make_dummy  # noqa: E402
from training.errors import LedgerError, RecipeError  # noqa: E402

pytestmark = pytest.mark.needs_training

NOT_MEASURED = ("seconds", "training_seconds", "revision", "latency_ms_p50", "latency_ms_p99")


def plan(folder, task="rul", methods=("none", "kp-text"), seeds=(0, 1), extra=""):
    path = folder / f"bench-{task}.toml"
    path.write_text(
        f'benchmark = "dummy-{task}"\nstudent_name = "tiny"\nmethods = {json.dumps(methods)}\n'
        f'seeds = {list(seeds)}\nepochs = 1\npooling = "mean_max"\nconv_channels = [8]\n'
        f"kernels = [3]\nstrides = [2]\nfeature_size = 8\n{extra}",
        encoding="utf-8",
    )
    return path


def run(runs, folder, deadline_s=math.inf):
    results = folder / "results.jsonl"
    run_missing(runs, folder, results, folder / "scratch", deadline_s, Console(quiet=True))
    return results


def values(line):
    return {key: value for key, value in line.items() if key not in NOT_MEASURED}


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_a_deleted_line_is_made_again_with_the_same_values(task, tmp_path):
    runs = read_plan(plan(tmp_path, task, ("none", "kp-random", "ridge", "boosting"), (0,)))
    results = run(runs, tmp_path)
    before = results.read_text().splitlines()
    assert len(before) == 4
    for lost in range(4):
        results.write_text("".join(f"{line}\n" for line in before if line != before[lost]))
        run(runs, tmp_path)
        after = read_lines(results)
        assert len(after) == 4
        assert values(after[-1]) == values(json.loads(before[lost]))


def test_a_finished_run_is_not_made_again(tmp_path):
    runs = read_plan(plan(tmp_path))
    results = run(runs[:1], tmp_path)
    first = results.read_text()
    run(runs, tmp_path)
    assert results.read_text().startswith(first)
    assert [line["config"] for line in read_lines(results)] == [run.digest for run in runs]
    assert missing_runs(runs, read_lines(results)) == []


def test_no_run_is_started_after_the_deadline(tmp_path):
    results = run(read_plan(plan(tmp_path)), tmp_path, time.monotonic() - 1)
    assert read_lines(results) == []


def test_a_student_that_cannot_be_exported_is_measured_and_marked(tmp_path):
    large = plan(tmp_path, seeds=(0,)).read_text().replace("[8]", "[3000]")
    (tmp_path / "large.toml").write_text(large.replace('["none", "kp-text"]', '["none"]'))
    runs = read_plan(tmp_path / "large.toml") + read_plan(plan(tmp_path, seeds=(0,)))
    results = tmp_path / "results.jsonl"
    failed = run_missing(runs, tmp_path, results, tmp_path, math.inf, Console(quiet=True))
    assert len(failed) == 1
    assert "bytes" in failed[0]
    lines = read_lines(results)
    assert [line.get("export_error") is None for line in lines] == [False, True, True]
    assert "onnx_bytes" not in lines[0]
    assert lines[0]["test"]["rmse"] > 0


def test_an_incomplete_last_line_is_ignored_and_replaced(tmp_path):
    results = tmp_path / "results.jsonl"
    append_line(results, {"config": "a"})
    with results.open("a") as file:
        file.write('{"config": "b')
    assert read_lines(results) == [{"config": "a"}]
    append_line(results, {"config": "c"})
    assert [line["config"] for line in read_lines(results)] == ["a", "c"]


def test_a_damaged_line_is_named(tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text('{"config": "a"}\nwhat\n')
    with pytest.raises(LedgerError, match="line 2"):
        read_lines(results)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("dummy-rul", "FD009", LedgerError, "benchmark is 'FD009'"),
        ("kp-text", "kp-magic", LedgerError, "method is 'kp-magic'"),
        ("seeds", "seed", LedgerError, "needs benchmark"),
        ("epochs", "epoch", RecipeError, "unknown key 'epoch'"),
    ],
)
def test_an_invalid_plan_is_refused(old, new, error, message, tmp_path):
    path = plan(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(error, match=message):
        read_plan(path)


def test_every_run_is_one_flat_toml_with_a_unique_digest():
    runs = [run for path in shipped_plans() for run in read_plan(path)]
    assert len({run.digest for run in runs}) == len(runs) > 0
    assert all("[" not in line.split("=")[0] for run in runs for line in run.config.splitlines())


@pytest.mark.parametrize("method", ["kp-text", "boosting"])
@pytest.mark.parametrize("task", ["rul", "activity"])
def test_a_poisoned_test_set_changes_nothing_but_the_test_measures(task, method, tmp_path):
    (one,) = read_plan(plan(tmp_path, task, (method,), (0,)))
    data = make_dummy(task, groups=5)
    test = data.test
    poisoned = replace(
        data,
        test=replace(test, windows=test.windows * -3 + 1, labels=test.labels[::-1].copy()),
    )
    clean, dirty = (values(do_run(one, some, tmp_path)) for some in (data, poisoned))
    for touched in ("test", "literature", "test_data"):
        assert clean.pop(touched, None) != dirty.pop(touched, None) or touched == "literature"
    assert clean == dirty


def test_replaced_lines_are_those_that_are_read(tmp_path):
    results = tmp_path / "made" / "results.jsonl"
    write_lines(results, [{"config": "a"}, {"config": "b"}])
    write_lines(results, [{"config": "c"}])
    assert read_lines(results) == [{"config": "c"}]
    assert list(results.parent.iterdir()) == [results]


RESULTS = [path for path in Path("docs/results").glob("*.jsonl") if path.stem != "brokers"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_committed_results_can_be_read(path):
    lines = read_lines(path)
    runs = {line["config"] for line in lines}
    # Only the comparison across data sets writes several lines for one run.
    assert len(runs) == len(lines) > 0 or path.stem == "naming_across"
