"""Whether a student of several joined sets knows its own engines and notices others.

Part of `python -m tests.bench.familiarity`. All windows of the official test engines of each set
are scored by the student that ships. What it would say of conditions and faults that are new to all
sets is measured on training engines, because the shipped student has seen them: a distance is
fitted without them, to three fifths of the engines, another fifth gives the limit, and the last
fifth is tested. No network is trained for that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.recordings import ENGINE_CHANNELS
from models.artifact import read_artifact
from models.session import Student
from models.tasks.rul import MAX_RUL, RulScores
from models.zoo import zoo_path
from tests.bench.familiarityreport import JOINED, LIVES
from training.datasets import cmapss
from training.datasets.cmapss_altitudes import LEARNED, TESTED, label_at_altitudes
from training.datasets.contract import SETS_APART
from training.recipes import shipped_recipe
from training.students.conditions import fit_conditions
from training.uncertainty.familiarity import (
    fit_limit,
    fit_stage_distance,
    measure_stage_distances,
)
from training.windows import WindowSet, hold_out_groups, join_windows

STUDENT = "rul-engines"
SETS = ("FD001", "FD002", "FD003", "FD004")
_DRAWS = 1000


def measure_joined(path: Path) -> dict[str, Any]:
    """Measure the shipped student on its own engines, and its distance on what is left out.

    Args:
        path: The zip of C-MAPSS.
    """
    return {
        "config": JOINED,
        "case": JOINED,
        "own": {
            form: {name: _own(form, path, name) for name in SETS}
            for form in (STUDENT, f"{STUDENT}-int8")
        },
        "left_out": {name: _judge(*parts) for name, *parts in _left_out(path)},
    }


def share_interval(lost: NDArray[np.bool_], groups: NDArray[np.int64]) -> list[float]:
    """95 % interval of a share of windows: engines are drawn with replacement."""
    _, members = np.unique(groups, return_inverse=True)
    hits, counts = np.bincount(members, lost), np.bincount(members)
    drawn = np.random.default_rng(0).integers(0, len(counts), (_DRAWS, len(counts)))
    shares = hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return [float(value) for value in np.quantile(shares, [0.025, 0.975])]


def _own(form: str, path: Path, name: str) -> dict[str, Any]:
    student, length = Student(read_artifact(zoo_path(form))), shipped_recipe(STUDENT).length
    engines = cmapss.read_engines(path, name, "test")
    windows = cmapss.label_engines(engines, length, conditions=True)
    scores, truth = student.score(windows.windows), windows.labels
    assert isinstance(scores, RulScores)
    lost, last = scores.unfamiliar, np.diff(windows.groups, append=-1) != 0
    return {
        "windows": len(windows),
        "engines": len(engines),
        "flagged": float(lost.mean()),
        "flagged_95": share_interval(lost, windows.groups),
        "flagged_last": float(lost[last].mean()),
        "covered": float(((scores.low <= truth) & (truth <= scores.high)).mean()),
        "flagged_by_life": [
            float(lost[part].mean()) if (part := (low <= truth) & (truth < high)).any() else None
            for low, high in itertools.pairwise(LIVES)
        ],
    }


def _left_out(path: Path) -> Iterator[tuple[str, WindowSet, WindowSet]]:
    """What is left out, the windows that are known, and those with what is left out."""
    engines = cmapss.read_engines(path, "+".join(SETS), "train")
    natural = cmapss.label_engines(engines, conditions=True)
    second = _second_fault(natural)
    yield (
        "the second fault of FD003 and FD004",
        natural.without_groups(second),
        natural.of_groups(second),
    )
    moving = [one for one in engines if one.engine // SETS_APART in (1, 3)]
    steady = natural.where(np.isin(natural.groups // SETS_APART, (0, 2)))
    altitudes = (*LEARNED, *TESTED)
    for left_out in altitudes[1:]:  # FD001 and FD003 have the first only
        rest = tuple(one for one in altitudes if one != left_out)
        known = join_windows([steady, label_at_altitudes(moving, rest, cmapss.LENGTH)])
        has_it = (np.round(natural.windows[:, :, 0]) == left_out).any(axis=1)
        yield f"{left_out} thousand feet", known, natural.where(has_it)


def _second_fault(windows: WindowSet) -> NDArray[np.int64]:
    """Engines whose P30, scaled per condition, rises in their life, while FD001's falls."""
    place = ENGINE_CHANNELS.index("P30")
    with torch.no_grad():
        scaled = fit_conditions(windows.windows)(torch.from_numpy(windows.windows))
    level = scaled[:, :, place].mean(dim=1).numpy()
    ends = [level[windows.groups == one][[0, -1]] for one in np.unique(windows.groups)]
    rises = np.array([last > first for first, last in ends])
    found: NDArray[np.int64] = np.unique(windows.groups)[rises]
    return found[np.isin(found // SETS_APART, (2, 3))]


def _judge(known: WindowSet, new: WindowSet) -> dict[str, Any]:
    groups = np.unique(known.groups)
    tested = hold_out_groups(groups, 0.2, 0)
    fitted = hold_out_groups(groups[~np.isin(groups, tested)], 0.25, 1)
    seen = known.without_groups(np.concatenate([tested, fitted]))
    conditions = fit_conditions(seen.windows)
    distance = fit_stage_distance(
        torch.from_numpy(seen.windows),
        seen.labels,
        MAX_RUL,
        cmapss.LENGTH,
        conditions,
        has_halves=True,
    )
    student = torch.nn.Sequential(conditions, torch.nn.Identity())
    learned = np.unique(seen.groups)
    parts = [known.of_groups(fitted), known.of_groups(tested), new.without_groups(learned)]
    limiting, own, lost = (
        measure_stage_distances(student, distance, torch.from_numpy(part.windows)) for part in parts
    )
    limit = fit_limit(limiting, parts[0].groups, parts[0].groups // SETS_APART)
    rows = {
        name: float((own[chosen] > limit).mean())
        for index, name in enumerate(SETS)
        if (chosen := parts[1].groups // SETS_APART == index).any()
    }
    return {
        "own_flagged": rows,
        "new_flagged": float((lost > limit).mean()),
        "new_95": share_interval(lost > limit, parts[2].groups),
        "new_windows": len(lost),
    }
