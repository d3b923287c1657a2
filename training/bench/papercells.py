"""Cells of the paper's ground (network and set), and the gains in them.

A value is read from a line by a **pick** (last pass, best pass, held-out groups, ...), for one
readout of the answer and one measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from training.bench.paperground import ARMS, BENCHMARKS
from training.bench.papernets import NETWORKS
from training.bench.stats import Line, half_within, interval_95, sign_of

__all__ = [
    "ENGINES",
    "EQUAL_RATES",
    "RATE_STAYS",
    "SCORE",
    "Cell",
    "Pick",
    "at_checkpoint",
    "before_decay",
    "best_on_held_out",
    "best_on_test",
    "cells_of",
    "gains_over_plain",
    "held_out",
    "last_five",
    "last_pass",
    "metric_of",
    "minus",
    "only_seeds",
    "over_cells",
    "percent",
    "readout_of",
    "seeds_of",
    "values_of",
]

Cell = dict[str, dict[int, Line]]
"""Arm -> seed -> line."""
Pick = Callable[[Line, str, str], float]
"""Line, readout and measure to one value."""

EQUAL_RATES, RATE_STAYS = "head-decayed", "head"
"""Readouts of the plain head: its rate decays as that of the anchors does, or stays."""
ENGINES = tuple(name for name in BENCHMARKS if name.startswith("FD"))
SCORE = "nasa_score"
_BEFORE_DECAY = 15  # checkpoints of 24


def cells_of(lines: Sequence[Line], variant: str = "") -> dict[tuple[str, str], Cell]:
    """Sort lines into cells, by network and benchmark, in the order of the table."""
    cells: dict[tuple[str, str], Cell] = {
        (network, benchmark): {} for benchmark in BENCHMARKS for network in NETWORKS
    }
    for line in lines:
        key = (line["network"], line["benchmark"])
        if line["variant"] == variant and key in cells:
            cells[key].setdefault(line["arm"], {})[line["seed"]] = line
    return {key: cell for key, cell in cells.items() if cell}


def seeds_of(cell: Cell) -> set[int]:
    """Seeds that every arm has."""
    return set.intersection(*(set(cell.get(arm, {})) for arm in ARMS))


def metric_of(benchmark: str) -> str:
    """Name of the measure of a benchmark."""
    return "rmse" if benchmark in ENGINES else "macro_f1"


def readout_of(benchmark: str) -> str:
    """Readout of the answer from anchors."""
    return "vote" if benchmark in ENGINES else "nearest"


def gains_over_plain(
    cell: Cell, arm: str, name: str, pick: Pick, base: str, readout: str = ""
) -> list[float]:
    """Percentages over the plain head, one for every seed that both have."""
    plain, others = cell.get("none", {}), cell.get(arm, {})
    if not readout:
        readout = "nearest" if name == "macro_f1" else "vote"
    found = []
    for seed in sorted(set(plain) & set(others)):
        old, new = pick(plain[seed], base, name), pick(others[seed], readout, name)
        found.append(100 * sign_of(name) * (new - old) / old)
    return found


def values_of(cell: Cell, arm: str, readout: str, pick: Pick, name: str) -> list[float]:
    """One value for every seed of an arm."""
    by_seed = cell.get(arm, {})
    return [pick(by_seed[seed], readout, name) for seed in sorted(by_seed)]


def minus(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Differences, seed by seed."""
    return [one - other for one, other in zip(ones, others, strict=True)]


def over_cells(column: Sequence[Sequence[float]]) -> str:
    """Mean of the cells' means, with its 95 % intervals.

    `cells`: the cells are a sample of networks and sets. `seeds`: these cells, other seeds; only
    where every cell has two.
    """
    means = [fmean(values) for values in column]
    mean = fmean(means)
    halves = {"cells": interval_95(means) if len(means) > 2 else math.nan}
    halves["seeds"] = half_within(column)
    parts = [
        f"{word} {_range(mean, half)}" for word, half in halves.items() if not math.isnan(half)
    ]
    return ", ".join([f"{mean:+.1f}", *parts])


def percent(values: Sequence[float]) -> str:
    """Mean and interval of a cell's gains; two seeds have no useful interval."""
    mean = fmean(values)
    return f"{mean:+.1f} {_range(mean, interval_95(values)) if len(values) > 2 else ''}".strip()


def _range(mean: float, half: float) -> str:
    return f"[{mean - half:.1f}, {mean + half:.1f}]"


def last_pass(line: Line, readout: str, name: str) -> float:
    """After the last pass, on the test set: the clean protocol."""
    return float(line["test"][readout][name][-1])


def held_out(line: Line, readout: str, name: str) -> float:
    """After the last pass, on all windows of held-out groups."""
    return float(line["held_out"][readout][name])


def best_on_test(line: Line, readout: str, name: str) -> float:
    """The pass with the lowest test score, or the highest test macro-F1: the literature's."""
    measures = line["test"][readout]
    return float(measures[name][_best_of(measures, SCORE if SCORE in measures else "macro_f1")])


def best_on_held_out(line: Line, readout: str, name: str) -> float:
    """The pass that is best on held-out windows, on the test set."""
    known = line["sample"][readout]
    best = _best_of(known, "rmse" if "rmse" in known else "macro_f1")
    return float(line["test"][readout][name][best])


def _best_of(measures: dict[str, list[float]], name: str) -> int:
    values = measures[name]
    return min(range(len(values)), key=lambda index: -sign_of(name) * values[index])


def at_checkpoint(checkpoint: int) -> Pick:
    """At a checkpoint (from 1), on the test set."""
    return lambda line, readout, name: float(line["test"][readout][name][checkpoint - 1])


def last_five(line: Line, readout: str, name: str) -> float:
    """Mean over the last five checkpoints, on the test set."""
    return fmean(line["test"][readout][name][-5:])


def before_decay(line: Line, readout: str, name: str) -> float:
    """Mean over the five checkpoints before any rate decays, on the test set."""
    return fmean(line["test"][readout][name][_BEFORE_DECAY - 5 : _BEFORE_DECAY])


def only_seeds(cell: Cell, seeds: set[int]) -> Cell:
    """Leave out all other seeds."""
    return {
        arm: {seed: line for seed, line in by_seed.items() if seed in seeds}
        for arm, by_seed in cell.items()
    }
