"""What the rule for unfamiliar scores is worth: alarms of engines that run to their end.

    python -m tests.bench.duealarms DATA_FOLDER [SCRATCH]   # prints the table of docs/drift.md

Engines of a student's own set are scored out of fold: neither the student, nor its distance, nor
the interval and the limit have seen the engine. Others are scored by the student that ships.
SCRATCH keeps the trainings (default runs/zoo, as `training.starters build` leaves them; what is
missing is trained). An alarm stands over a score that says neither. Test engines are not read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.artifact import read_artifact
from models.session import Student
from models.tasks.familiarity import widen
from models.tasks.quality import GOOD, UNFAMILIAR
from models.tasks.rul import CRITICAL_RUL, MAX_RUL, RUL
from models.zoo import zoo_path
from training.datasets.cmapss import label_engines, read_engines
from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill
from training.methods.build import build_method
from training.recipes import Recipe, shipped_recipe
from training.starters.build import read_data
from training.uncertainty.calibration import interval_ends
from training.uncertainty.familiarity import Shifted
from training.uncertainty.fit import HeldOutScores, calibrate, join_held_out, score_held_out
from training.windows import WindowSet, fold_groups, hold_out_groups, join_windows

_EARLY = 60
"""An alarm is early if it stands with more cycles left than this."""
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Scored:
    """Windows of engines in order, `[n]` each: truth, engine, ends of the interval, unfamiliar."""

    labels: NDArray[np.int64]
    engines: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    lost: NDArray[np.bool_]


def _shipped(name: str, path: Path, subset: str) -> Scored:
    """Training engines of a set that the student has not learned from."""
    student = Student(read_artifact(zoo_path(name)))
    windows = label_engines(read_engines(path, subset, "train"), student.manifest.window.length)
    scores = student.score(windows.windows)
    return Scored(windows.labels, windows.groups, scores.low, scores.high, scores.unfamiliar)


def _out_of_fold(name: str, data_folder: Path, scratch: Path) -> Scored:
    """Engines that the student has learned from, each by students that have not seen it."""
    recipe, data = shipped_recipe(name), read_data(name, data_folder, with_test=False)
    pairs = list(_held_out(data, recipe, scratch / name))
    windows = join_windows([each for each, _ in pairs])
    counts = np.cumsum([len(each) for each, _ in pairs])[:-1]
    known = join_held_out([each for _, each in pairs], np.split(np.arange(len(windows)), counts))
    low, high = np.zeros((2, len(windows)), np.float32)
    lost = np.zeros(len(windows), np.bool_)
    for fold in fold_groups(windows.groups, _FOLDS, 1):
        own = np.isin(windows.groups, fold)
        found = calibrate(
            data, nn.Identity(), None, windows.where(~own), _without(known, ~own, fold)
        )[2]
        assert found.interval is not None
        assert found.familiar is not None
        ends = (
            end.clip(0, MAX_RUL).astype(np.float32)
            for end in interval_ends(found.interval, known.scored[own])
        )
        low[own], high[own] = widen(*ends, known.distances[own], found.familiar, (0, MAX_RUL))
        lost[own] = known.distances[own] > np.float32(found.familiar.limit)
    return Scored(windows.labels, windows.groups, low, high, lost)


def _held_out(
    data: DataSet, recipe: Recipe, folder: Path
) -> Iterator[tuple[WindowSet, HeldOutScores]]:
    """Windows with their scores by a student that has not seen them; each engine once."""
    seen = data.train
    if not recipe.folds:
        groups = hold_out_groups(seen.groups, recipe.hold_out, recipe.split_seed)
        held_out, seen = seen.of_groups(groups), seen.without_groups(groups)
        yield held_out, _scored(data, recipe, seen, held_out, folder)
    folds = fold_groups(seen.groups, recipe.folds or recipe.calibration_folds, recipe.split_seed)
    for number, fold in enumerate(folds, start=1):
        rest, held_out = seen.without_groups(fold), seen.of_groups(fold)
        yield held_out, _scored(data, recipe, rest, held_out, folder / f"fold-{number}")


def _scored(
    data: DataSet, recipe: Recipe, seen: WindowSet, held_out: WindowSet, folder: Path
) -> HeldOutScores:
    scaler = fit_scaler(data.scaling, seen.windows)
    done = distill(recipe, seen, scaler, data.num_answers, build_method, folder=folder)
    assert done.student is not None
    return score_held_out(data, recipe, done.student, scaler, seen, held_out)


def _without(
    known: HeldOutScores, kept: NDArray[np.bool_], fold: NDArray[np.int64]
) -> HeldOutScores:
    """Scores of the engines that are not in a fold."""
    assert known.shifted is not None
    rows = ~np.isin(known.shifted.groups, fold)
    moved = {each.name: getattr(known.shifted, each.name)[rows] for each in fields(Shifted)}
    return HeldOutScores(known.scored[kept], known.distances[kept], Shifted(**moved))


def _silenced(one: Scored) -> list[bool | None]:
    """Doubt raises nothing."""
    rows = zip(one.low.tolist(), one.lost.tolist(), strict=True)
    return [None if lost else low < CRITICAL_RUL for low, lost in rows]


def _by_upper_end(one: Scored) -> list[bool | None]:
    """The rule of the task itself."""
    rows = zip(one.low.tolist(), one.high.tolist(), one.lost.tolist(), strict=True)
    return [
        RUL.is_alarming(
            {"rul": low, "rul_low": low, "rul_high": high, "quality": UNFAMILIAR if lost else GOOD}
        )
        for low, high, lost in rows
    ]


def _doubt_ignored(one: Scored) -> list[bool | None]:
    """The lower end of every score."""
    return (one.low < CRITICAL_RUL).tolist()


RULES: dict[str, Callable[[Scored], list[bool | None]]] = {
    "doubt raises nothing": _silenced,
    "upper end": _by_upper_end,
    "lower end, doubt ignored": _doubt_ignored,
}


def row_of(one: Scored, rule: Callable[[Scored], list[bool | None]]) -> str:
    """One row of the table: at the end, in the last 20 cycles, early."""
    told, standing = rule(one), np.zeros(len(one.labels), np.bool_)
    engines = np.unique(one.engines)
    for engine in engines:
        stands = False
        for at in np.flatnonzero(one.engines == engine):
            now = told[at]
            stands = stands if now is None else now
            standing[at] = stands
    ends = standing[np.diff(one.engines, append=-1) != 0]
    late = standing[one.labels < CRITICAL_RUL].mean()
    early = len(np.unique(one.engines[standing & (one.labels > _EARLY)]))
    return f"{ends.sum()} of {len(engines)} | {late:.1%} | {early}"


def main(arguments: list[str]) -> None:
    """See the module."""
    if not 1 <= len(arguments) <= 2:
        sys.exit(__doc__)
    data = Path(arguments[0])
    scratch = Path(arguments[1]) if len(arguments) == 2 else Path("runs/zoo")
    archive = data / "cmapss.zip"
    worlds = {
        "FD001, out of fold": lambda: _out_of_fold("rul-fd001", data, scratch),
        "FD003, out of fold": lambda: _out_of_fold("rul-fd003", data, scratch),
        "FD002 by rul-fd001": lambda: _shipped("rul-fd001", archive, "FD002"),
        "FD003 by rul-fd001": lambda: _shipped("rul-fd001", archive, "FD003"),
    }
    for world, score in worlds.items():
        one = score()
        for name, rule in RULES.items():
            print(f"| {world} | {one.lost.mean():.1%} | {name} | {row_of(one, rule)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
