"""`python -m training.bench`: do the runs of the experiment ledger that are missing, and report.

    python -m training.bench run --data DATA_FOLDER               # what is missing, then stop
    python -m training.bench run --data DATA_FOLDER --only FD001  # of one benchmark
    python -m training.bench report                               # tables and plot into docs/

A run that was interrupted goes on from its last pass. Two protocols are measured in one training:

* **clean**: groups (engines, people) are held out for choices and calibration; weights are those
  after the last pass; the test set is scored once, at the end.
* **literature**: the same student is scored on the test set after every pass, and the pass with
  the lowest test NASA score (RUL) or highest test macro-F1 is quoted. That is selection on the
  test set; it is here only to be set beside published numbers, and changes nothing in the run.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.session import Student
from training.benchreport import write_report
from training.candidate import Candidate, code_revision, measure, train_candidate
from training.classical import fit_classical
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import DataSet, digest_windows, fit_scaler
from training.datasets.scarce import keep_labels
from training.distill import fit_front, scale_windows
from training.errors import DataSetError, ExportError, TrainingError
from training.evaluate import calibration_error, residual_interval
from training.export import score_raw, score_torch
from training.ledger import (
    CLASSICAL,
    Run,
    append_line,
    missing_runs,
    read_lines,
    read_plan,
    shipped_plans,
)
from training.openvocab import run_open
from training.windows import WindowSet, hold_out_groups

__all__ = ["do_run", "run_missing"]

RESULTS = Path("docs/results/knowledge_pruning.jsonl")
_LEVEL = 0.9
_LATENCY_WINDOWS = 1000


@click.group(context_settings={"show_default": True})
def main() -> None:
    """The experiment ledger of Knowledge Pruning."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Data folder.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@click.option("--plan", "plans", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--only", help="Only plans whose benchmark has this name.")
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("runs/bench"))
@click.option(
    "--max-minutes", type=click.FloatRange(min=0), default=1e6, help="Start no run later."
)
def run(
    data: Path,
    results: Path,
    plans: tuple[Path, ...],
    only: str | None,
    scratch: Path,
    max_minutes: float,
) -> None:
    """Do the missing runs of the shipped plans (or of --plan files)."""
    deadline_s = time.monotonic() + 60 * max_minutes
    try:
        runs = [run for plan in plans or shipped_plans() for run in read_plan(plan)]
        chosen = [run for run in runs if only in (None, run.benchmark)]
        failed = run_missing(chosen, data, results, scratch, deadline_s, Console())
        for sentence in failed:
            click.echo(f"training.bench: no line for {sentence}", err=True)
        sys.exit(1 if failed else 0)
    except TrainingError as exc:
        click.echo(f"training.bench: {exc}", err=True)
        sys.exit(2)


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; that of the results file.")
def report(results: Path, out: Path | None) -> None:
    """Write tables (Markdown) and a plot from the results file, for the shipped plans."""
    try:
        runs = [run for plan in shipped_plans() for run in read_plan(plan)]
        for path in write_report(runs, read_lines(results), out or results.parent):
            click.echo(path)
    except TrainingError as exc:
        click.echo(f"training.bench: {exc}", err=True)
        sys.exit(2)


def run_missing(
    runs: Sequence[Run],
    data: Path,
    results: Path,
    scratch: Path,
    deadline_s: float,
    console: Console,
) -> list[str]:
    """Do the runs that have no line yet, one after the other; show how many and how long.

    A run whose student cannot be exported gets no line, and the others are done all the same.

    Args:
        runs: what the ledger should hold.
        data: folder of the data sets; not looked at for dummy benchmarks.
        results: file to append to.
        scratch: for the state of the run in progress.
        deadline_s: `time.monotonic()` after which no further run is started.
        console: for the progress bar.

    Returns:
        One sentence for every run that failed.
    """
    failed = []
    read = _reader(data)
    todo = missing_runs(runs, read_lines(results))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        row = bar.add_task("", total=len(runs), completed=len(runs) - len(todo))
        for one in todo:
            if time.monotonic() >= deadline_s:
                break
            bar.update(row, description=f"{one.benchmark} {one.method} seed {one.recipe.seed}")
            try:
                append_line(results, do_run(one, read(one), scratch))
            except ExportError as exc:
                failed.append(f"{one.benchmark} {one.method} seed {one.recipe.seed}: {exc}")
            bar.advance(row)
    return failed


def do_run(run: Run, data: DataSet, scratch: Path) -> dict[str, Any]:
    """Do one run and describe it: a line of the results file.

    Guarantee: the measures depend on `run` and the data only; the test set has no influence on
    weights, scaler, calibration or the held-out measures.
    """
    started = time.perf_counter()
    if run.label_share < 1:
        groups = hold_out_groups(data.train.groups, run.recipe.hold_out, run.recipe.split_seed)
        data = keep_labels(data, groups, run.label_share, run.recipe.split_seed)
    if run.unseen:
        measures: dict[str, Any] = {"unseen": list(run.unseen), "open": _run_open(run, data)}
    else:
        work = _run_classical if run.method in CLASSICAL else _run_student
        measures = work(run, data, scratch / run.digest)
    return {
        "benchmark": run.benchmark,
        "student": run.student,
        "method": run.method,
        "seed": run.recipe.seed,
        "config": run.digest,
        "data": data.digest[:16],
        "test_data": digest_windows(_test(data))[:16],
        "revision": code_revision(),
        "seconds": round(time.perf_counter() - started, 1),
        **measures,
    }


def _run_student(run: Run, data: DataSet, folder: Path) -> dict[str, Any]:
    literature: list[dict[str, float]] = []

    def watch(student: Any, scaler: Any) -> None:
        test = _test(data)
        literature.append(
            measure(data.task, test.labels, score_torch(student, scaler, test.windows))
        )

    shutil.rmtree(folder, ignore_errors=True)  # the watched passes are not kept: begin again
    candidate = train_candidate(
        data, run.recipe, "bench", folder, command="training.bench", on_student=watch
    )
    if candidate is None:  # impossible without a deadline
        msg = f"run {run.digest} did not end"
        raise TrainingError(msg)
    shutil.rmtree(folder)
    student = Student(candidate.artifact)
    best = _best_pass(data.task, literature)
    return {
        "parameters": _parameters(candidate),
        "onnx_bytes": candidate.artifact.manifest.onnx.size_bytes,
        "training_seconds": round(candidate.seconds, 1),
        **_latency(student, candidate.held_out.windows),
        "held_out": _calibrated(data, candidate.held_out, candidate.scored, candidate.scored),
        "test": _calibrated(
            data, candidate.held_out, candidate.scored, score_raw(student, _test(data).windows)
        ),
        "literature": {"epoch": best + 1, **_rounded(literature[best])},
    }


def _run_classical(run: Run, data: DataSet, folder: Path) -> dict[str, Any]:
    groups = hold_out_groups(data.train.groups, run.recipe.hold_out, run.recipe.split_seed)
    seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
    scaler, front = fit_scaler(data.scaling, seen.windows), fit_front(data.scaling, seen.windows)

    def scaled(windows: WindowSet) -> WindowSet:
        values = scale_windows(windows.windows, scaler, front).numpy()
        return dataclasses.replace(windows, windows=values)

    answers = None if data.labels is None else len(data.labels)
    scorer = fit_classical(run.method, scaled(seen), answers, run.recipe.seed)
    known = scorer(scaled(held_out).windows)
    found = scorer(scaled(_test(data)).windows)
    return {
        "held_out": _calibrated(data, held_out, known, known),
        "test": _calibrated(data, held_out, known, found),
    }


def _run_open(run: Run, data: DataSet) -> dict[str, dict[str, float]]:
    found = run_open(data, run.recipe, run.unseen)
    return {readout: _rounded(measures) for readout, measures in found.items()}


def _calibrated(
    data: DataSet,
    held_out: WindowSet,
    known: NDArray[np.float32],
    scored: NDArray[np.float32],
) -> dict[str, float]:
    """Measures of `scored`, on the test set unless it is `known`, the held-out scores."""
    truth = held_out.labels if scored is known else _test(data).labels
    measures = measure(data.task, truth, scored)
    if data.task == "rul":
        low, high = residual_interval(held_out.labels, known, _LEVEL)
        inside = (scored + low <= truth) & (truth <= scored + high)
        measures["interval_coverage"] = float(np.mean(inside))
    else:
        measures["calibration_error"] = calibration_error(truth, scored)
    return _rounded(measures)


def _best_pass(task: str, passes: Sequence[dict[str, float]]) -> int:
    pick: Callable[[dict[str, float]], float] = (
        (lambda found: found["nasa_score"]) if task == "rul" else (lambda found: -found["macro_f1"])
    )
    return min(range(len(passes)), key=lambda index: pick(passes[index]))


def _latency(student: Student, windows: NDArray[np.float32]) -> dict[str, float]:
    """Seconds of single windows through the gateway's code, one thread, in milliseconds."""
    taken = []
    for index in range(_LATENCY_WINDOWS):
        window = windows[index % len(windows)][None]
        started = time.perf_counter()
        student.score(window)
        taken.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.quantile(taken[50:], [0.5, 0.99])
    return {"latency_ms_p50": round(float(p50), 3), "latency_ms_p99": round(float(p99), 3)}


def _parameters(candidate: Candidate) -> int:
    """Numbers in the deployed graph: four bytes each, the graph's own description left out."""
    import onnx

    graph = onnx.load_model_from_string(candidate.artifact.onnx_bytes).graph
    return sum(int(np.prod(weights.dims)) for weights in graph.initializer)


def _rounded(measures: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.6g}") for key, value in measures.items()}


def _test(data: DataSet) -> WindowSet:
    if data.test is None:
        msg = f"{data.title} was read without its test set"
        raise DataSetError(msg)
    return data.test


def _reader(folder: Path) -> Callable[[Run], DataSet]:
    """Reads the benchmark of a run; that of the run before is still there."""

    @lru_cache(maxsize=1)
    def read(name: str, length: int, conditions: bool) -> DataSet:
        return read_benchmark(name, folder, length=length, conditions=conditions)

    return lambda run: read(run.benchmark, run.recipe.length, run.recipe.conditions)


if __name__ == "__main__":
    main()
