"""One run of the experiment ledger: train, export, measure, and describe it as a line.

Two protocols measure one training:

- **clean**: groups (engines, people) are held out for choices and calibration; the weights are
  those after the last pass; the test set is scored once, at the end.
- **literature**: the same student is scored on the test set after every pass, and the pass with
  the lowest test NASA score (RUL) or the highest test macro-F1 is quoted. That is selection on the
  test set; it only serves comparison with published numbers, and does not affect the run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.session import Student
from training.bench.ledger import CLASSICAL, Run
from training.bench.openvocab import run_open
from training.candidate import Candidate, code_revision, train_candidate
from training.classical import fit_classical, scale_for_baselines
from training.datasets.contract import DataSet
from training.datasets.scarce import keep_labels
from training.errors import DataSetError, ExportError, TrainingError
from training.evaluate import calibration_error, residual_interval
from training.export.artifact import score_raw
from training.scoring import score_torch
from training.windows import WindowSet, digest_windows, hold_out_groups

__all__ = ["do_run"]

_LEVEL = 0.9
_LATENCY_WINDOWS = 1000
_LITERATURE = ("nasa_score", "macro_f1")
"""Measures that the literature selects the best pass by; a task without one uses its headline."""


def do_run(run: Run, data: DataSet, scratch: Path) -> dict[str, Any]:
    """Make one run and describe it as a line of the results file.

    The measures depend on `run` and the data only. The test set has no influence on weights,
    scaler, calibration or the held-out measures.
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
    last: list[tuple[Any, Any]] = []
    test = _test(data)

    def watch(student: Any, scaler: Any) -> None:
        last[:] = [(student, scaler)]
        scored = score_torch(student, scaler, test.windows)
        literature.append(data.contract.measure(test.labels, scored))

    # Start again: a checkpoint lacks the measures of its passes.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        candidate = train_candidate(
            data, run.recipe, "bench", folder, command="training.bench", on_student=watch
        )
        if candidate is None:  # impossible without a deadline
            msg = f"run {run.digest} stopped before its last pass: run the command again"
            raise TrainingError(msg)
        student = Student(candidate.artifact)
        held_out, known = candidate.held_out, candidate.scored
        found = score_raw(student, test.windows)
        graph: dict[str, Any] = {
            "parameters": _parameters(candidate),
            "onnx_bytes": candidate.artifact.manifest.onnx.size_bytes,
            "training_seconds": round(candidate.seconds, 1),
            **_latency(student, held_out.windows),
        }
    except ExportError as exc:
        groups = hold_out_groups(data.train.groups, run.recipe.hold_out, run.recipe.split_seed)
        held_out = data.train.of_groups(groups)
        known = score_torch(*last[0], held_out.windows)
        found = score_torch(*last[0], test.windows)
        graph = {"export_error": str(exc)}
    shutil.rmtree(folder, ignore_errors=True)
    best = _best_pass(data, literature)
    return {
        **graph,
        "held_out": _calibrated(data, held_out, known, known),
        "test": _calibrated(data, held_out, known, found),
        "literature": {"epoch": best + 1, **_rounded(literature[best])},
    }


def _run_classical(run: Run, data: DataSet, folder: Path) -> dict[str, Any]:
    groups = hold_out_groups(data.train.groups, run.recipe.hold_out, run.recipe.split_seed)
    seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
    learned, kept, test = scale_for_baselines(data, seen, held_out, _test(data))
    scorer = fit_classical(run.method, data, learned, run.recipe.seed)
    known, found = scorer(kept.windows), scorer(test.windows)
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
    """Measure `scored`, on the test set unless it is `known`, the held-out scores."""
    truth = held_out.labels if scored is known else _test(data).labels
    measures = data.contract.measure(truth, scored)
    if data.labels is None:
        low, high = residual_interval(held_out.labels, known, _LEVEL)
        inside = (scored + low <= truth) & (truth <= scored + high)
        measures["interval_coverage"] = float(np.mean(inside))
    else:
        measures["calibration_error"] = calibration_error(truth, scored)
    return _rounded(measures)


def _best_pass(data: DataSet, passes: Sequence[dict[str, float]]) -> int:
    task = data.contract
    measure = next((one for one in task.measures if one.name in _LITERATURE), task.headline)
    sign = -1 if measure.better == "larger" else 1
    return min(range(len(passes)), key=lambda index: sign * passes[index][measure.name])


def _latency(student: Student, windows: NDArray[np.float32]) -> dict[str, float]:
    """Time single windows through the gateway's code, on one thread, in milliseconds."""
    taken = []
    for index in range(_LATENCY_WINDOWS):
        window = windows[index % len(windows)][None]
        started = time.perf_counter()
        student.score(window)
        taken.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.quantile(taken[50:], [0.5, 0.99])
    return {"latency_ms_p50": round(float(p50), 3), "latency_ms_p99": round(float(p99), 3)}


def _parameters(candidate: Candidate) -> int:
    """Count the numbers in the deployed graph, four bytes each, without its structure."""
    import onnx

    graph = onnx.load_model_from_string(candidate.artifact.onnx_bytes).graph
    return sum(int(np.prod(weights.dims)) for weights in graph.initializer)


def _rounded(measures: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.6g}") for key, value in measures.items()}


def _test(data: DataSet) -> WindowSet:
    if data.test is None:
        msg = f"{data.title} was read without its test set: pass with_test=True"
        raise DataSetError(msg)
    return data.test
