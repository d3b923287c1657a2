"""Whether students of remaining life notice when they are lost.

    python -m tests.bench.familiarity run DATA_FOLDER   # measures what is missing, resumable
    python -m tests.bench.familiarity cost DATA_FOLDER  # measures the time again
    python -m tests.bench.familiarity report            # writes docs/results/familiarity.md

A student learns from one set and scores all windows of the test engines of its own set and of sets
with conditions or faults that it has not seen. Nothing is chosen here: the limit and the widening
of the interval come from training engines alone (`training.uncertainty.familiarity`). Every line of
docs/results/familiarity.jsonl is one student.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.utils import Extractor

from ingest.recordings import CMAPSS_SENSORS, read_cmapss
from models.artifact import Artifact, read_artifact, write_artifact
from models.manifest import Draft
from models.session import MAX_BATCH, Student
from models.tasks.quality import GOOD
from models.tasks.rul import MAX_RUL, RulScores, rmse
from pipeline.scoring.quality import QualityCheck
from tests.bench.familiarityjoined import measure_joined, share_interval
from tests.bench.familiarityreport import (
    JOINED,
    LEFT_OUT,
    LIVES,
    RESULTS,
    write_report,
)
from training.bench.ledger import append_line, read_lines, write_lines
from training.candidate import code_revision, train_candidate
from training.classical import fit_classical, scale_for_baselines
from training.datasets import cmapss
from training.datasets.cmapss_altitudes import LEARNED, TESTED, label_at_altitudes, read_altitudes
from training.datasets.contract import DataSet
from training.recipes import Recipe, shipped_recipe
from training.starters.latency import measure_latency
from training.students.conditions import fit_conditions
from training.uncertainty.calibration import interval_ends
from training.uncertainty.familiarity import (
    fit_limit,
    fit_stage_distance,
    measure_stage_distances,
)
from training.windows import WindowSet, hold_out_groups

SEEDS = (0, 1, 2)
SCRATCH = Path("runs/familiarity")
_LAST_CYCLES = 30


@dataclass(frozen=True, slots=True)
class Case:
    """What students learn from, and windows of engines that they are tested on, by name.

    The first of `tests` is of the world that they have learned.
    """

    name: str
    recipe: Recipe
    data: DataSet
    tests: dict[str, WindowSet]


def read_cases(path: Path) -> list[Case]:
    """Read what is learned and tested from the zip of C-MAPSS."""
    recipe = shipped_recipe("rul-fd001", calibration_folds=0)
    length = recipe.length or cmapss.LENGTH
    failed = read_cmapss(path, "FD003", "train")
    is_second = np.isin([one.engine for one in failed], _second_fault(path, failed))
    parts = {
        "FD001, test engines": read_cmapss(path, "FD001", "test"),
        "FD002, test engines: other conditions": read_cmapss(path, "FD002", "test"),
        "FD003, test engines: with or without the second fault": read_cmapss(path, "FD003", "test"),
        "FD003, training engines with the second fault": [
            one for one, second in zip(failed, is_second, strict=True) if second
        ],
        "FD003, training engines without it": [
            one for one, second in zip(failed, is_second, strict=True) if not second
        ],
    }
    tests = {name: cmapss.label_engines(part, length) for name, part in parts.items()}
    first = Case("FD001", recipe, cmapss.read_cmapss(path, "FD001", with_test=False), tests)

    low = shipped_recipe("rul-conditions", length=40, truncation=0.25, epochs=6)
    engines = read_cmapss(path, "FD002", "test")
    tests = {
        "FD002, test engines at 0, 10, 20 thousand feet": label_at_altitudes(
            engines, LEARNED, low.length
        ),
        "FD002, test engines at 25, 35, 42: other conditions": label_at_altitudes(
            engines, TESTED, low.length
        ),
    }
    tests = {name: _scored(windows) for name, windows in tests.items()}
    data = read_altitudes(path, low.length, with_test=False)
    return [first, Case("FD002 at 0, 10, 20 thousand feet", low, data, tests)]


def _scored(windows: WindowSet) -> WindowSet:
    """The windows that a gateway scores: those of at least 30 readings, before they were padded."""
    front = windows.windows[:, : windows.windows.shape[1] - cmapss.LENGTH + 2]
    return windows.where((front != front[:, :1]).any(axis=(1, 2)))


def _second_fault(path: Path, engines: list[Any]) -> list[int]:
    """Engines of FD003 whose fan wears: P30 rises towards the end, while FD001's falls.

    NASA does not say which engine has which fault. The rule knows nothing of the distance.
    """
    place = CMAPSS_SENSORS.index("P30")
    healthy = [
        one.sensors[:_LAST_CYCLES, place].mean() for one in read_cmapss(path, "FD001", "train")
    ]
    return [
        one.engine
        for one in engines
        if one.sensors[-_LAST_CYCLES:, place].mean() > np.mean(healthy)
    ]


def measure(case: Case, seed: int) -> dict[str, Any]:
    """Train one student and measure it on all windows of all test engines."""
    folder = _folder(case, seed)
    recipe = replace(case.recipe, seed=seed)
    made = train_candidate(case.data, recipe, "lost", folder, command="tests.bench.familiarity")
    assert made is not None  # there is no deadline
    artifact = made.artifact
    student = Student(artifact)
    constant = float(case.data.train.labels.mean())
    boosted = _boosted(case, recipe) if seed == SEEDS[0] else {}
    rows = {}
    for name, windows in case.tests.items():
        row = _row(student, windows)
        row["rmse_constant"] = rmse(windows.labels, np.full(len(windows), constant, np.float32))
        if name in boosted:
            row["rmse_boosting"] = boosted[name]
        rows[name] = row
    return {
        "config": _identity(case.name, seed),
        "case": case.name,
        "seed": seed,
        "familiar": artifact.manifest.decoding.familiar.model_dump(),
        "tests": rows,
        "latency_ms": _latency(artifact, next(iter(case.tests.values())).windows),
        "bytes": artifact.manifest.onnx.size_bytes,
        "revision": code_revision(),
    }


def _identity(case: str, seed: int) -> str:
    return f"{case}/{seed}"


def _folder(case: Case, seed: int) -> Path:
    return SCRATCH / f"{case.name.replace(' ', '-')}-{seed}"


def _row(student: Student, windows: WindowSet) -> dict[str, Any]:
    manifest, truth = student.manifest, windows.labels
    scores = student.score(windows.windows)
    assert isinstance(scores, RulScores)
    assert manifest.interval is not None
    switching = manifest.interval.switching
    switches = None if switching is None else switching.switches(windows.windows)
    lost = scores.unfamiliar
    engines = _by_engine(lost, windows)
    plain = [
        end.clip(0, MAX_RUL).astype(np.float32)
        for end in interval_ends(manifest.interval, scores.rul, switches)
    ]
    inside = (scores.low <= truth) & (truth <= scores.high)
    ranged = np.array([one != GOOD for one in QualityCheck(manifest).flags(windows.windows)])
    return {
        "windows": len(windows),
        "engines": len(np.unique(windows.groups)),
        "flagged": float(lost.mean()),
        "flagged_95": share_interval(lost, windows.groups),
        "flagged_by_range": float(ranged.mean()),
        "rmse": rmse(truth, scores.rul),
        "rmse_not_flagged": rmse(truth[~lost], scores.rul[~lost]) if not lost.all() else None,
        "covered_before": float(((plain[0] <= truth) & (truth <= plain[1])).mean()),
        "covered": float(inside.mean()),
        "covered_flagged": float(inside[lost].mean()) if lost.any() else None,
        "width_flagged": float((scores.high - scores.low)[lost].mean()) if lost.any() else None,
        "flagged_by_life": [
            float(lost[part].mean()) if (part := (low <= truth) & (truth < high)).any() else None
            for low, high in itertools.pairwise(LIVES)
        ],
        "engines_nearly_all_flagged": sum(share >= 0.9 for share in engines),
        "engines_nearly_none_flagged": sum(share <= 0.1 for share in engines),
    }


def _by_engine(lost: NDArray[np.bool_], windows: WindowSet) -> list[float]:
    return [float(lost[windows.groups == engine].mean()) for engine in np.unique(windows.groups)]


def _boosted(case: Case, recipe: Recipe) -> dict[str, float]:
    """RMSE of gradient boosting, which flags nothing."""
    learned, *others = scale_for_baselines(case.data, case.data.train, *case.tests.values())
    scorer = fit_classical("boosting", case.data, learned, recipe.seed)
    return {
        name: rmse(windows.labels, scorer(windows.windows))
        for name, windows in zip(case.tests, others, strict=True)
    }


def _latency(artifact: Artifact, windows: NDArray[np.float32]) -> dict[str, float]:
    """Time of one window with the distance, and of the same graph without it, in turn.

    p50 of windows scored alone, and of windows in batches as a gateway scores them.
    """
    cut = Extractor(onnx.load_model_from_string(artifact.onnx_bytes)).extract_model(
        ["windows"], ["rul"]
    )
    content = {field: getattr(artifact.manifest, field) for field in Draft.model_fields}
    content["decoding"] = artifact.manifest.decoding.model_copy(update={"familiar": None})
    folder = SCRATCH / "without"
    without = Student(write_artifact(folder, Draft(**content), cut.SerializeToString()))
    students = {"with": Student(artifact), "without": without}
    found: dict[str, list[float]] = {}
    for _ in range(8):
        for name, student in students.items():
            alone = measure_latency(student, windows[:100], blocks=1)["p50_ms"]
            found.setdefault(name, []).append(alone)
            taken = []
            for _ in range(200):
                started = time.perf_counter_ns()
                student.score(windows[:MAX_BATCH])
                taken.append(time.perf_counter_ns() - started)
            each = float(np.median(taken)) / 1e6 / MAX_BATCH
            found.setdefault(f"{name}_in_batch", []).append(each)
    return {name: min(times) for name, times in found.items()}


def leave_one_condition_out(path: Path) -> dict[str, Any]:
    """For the choice of the distance: training engines of FD002, one altitude left out.

    A fifth of the engines gives the limit, another fifth is tested; nothing is trained.
    """
    engines = read_cmapss(path, "FD002", "train")
    altitudes = (*LEARNED, *TESTED)
    numbers = np.array([one.engine for one in engines])
    tested = hold_out_groups(numbers, 0.2, 0)
    fitted = hold_out_groups(numbers[~np.isin(numbers, tested)], 0.25, 1)
    natural = cmapss.label_engines(engines, conditions=True).of_groups(tested)
    rows = {}
    for left_out in altitudes:
        rest = tuple(one for one in altitudes if one != left_out)
        known = label_at_altitudes(engines, rest, cmapss.LENGTH)
        seen = known.without_groups(np.concatenate([tested, fitted]))
        conditions = fit_conditions(seen.windows)
        distance = fit_stage_distance(
            torch.from_numpy(seen.windows), seen.labels, MAX_RUL, cmapss.LENGTH, conditions
        )
        student = torch.nn.Sequential(conditions, torch.nn.Identity())
        has_it = (np.round(natural.windows[:, :, 0]) == left_out).any(axis=1)
        parts = [known.of_groups(fitted), known.of_groups(tested), natural.where(has_it)]
        limiting, own, new = (
            measure_stage_distances(student, distance, torch.from_numpy(part.windows))
            for part in parts
        )
        limit = fit_limit(limiting, parts[0].groups)
        rows[str(left_out)] = {
            "own_flagged": float((own > limit).mean()),
            "own_95": share_interval(own > limit, parts[1].groups),
            "new_flagged": float((new > limit).mean()),
            "new_windows": len(new),
        }
    return rows


def _rounded(value: Any) -> Any:
    """Round all numbers to six significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main(arguments: list[str]) -> None:
    """See the module."""
    if arguments[:1] == ["run"] and len(arguments) == 2:
        path = Path(arguments[1]) / "cmapss.zip"
        lines = read_lines(RESULTS)
        done = {line["config"] for line in lines}
        if LEFT_OUT not in done:
            rows = leave_one_condition_out(path)
            line = {"config": LEFT_OUT, "case": LEFT_OUT, "rows": rows}
            append_line(RESULTS, _rounded(line))
        if JOINED not in done:
            append_line(RESULTS, _rounded(measure_joined(path)))
        cases = read_cases(path)
        for seed in SEEDS:
            for case in cases:
                if _identity(case.name, seed) not in done:
                    append_line(RESULTS, _rounded(measure(case, seed)))
    elif arguments[:1] == ["cost"] and len(arguments) == 2:
        cases = {case.name: case for case in read_cases(Path(arguments[1]) / "cmapss.zip")}
        lines = read_lines(RESULTS)
        for line in lines:
            if line["case"] in cases:
                case = cases[line["case"]]
                artifact = read_artifact(_folder(case, line["seed"]) / "artifact")
                windows = next(iter(case.tests.values())).windows
                line["latency_ms"] = _rounded(_latency(artifact, windows))
        write_lines(RESULTS, lines)
    elif arguments != ["report"]:
        sys.exit(__doc__)
    write_report(read_lines(RESULTS))


if __name__ == "__main__":
    main(sys.argv[1:])
