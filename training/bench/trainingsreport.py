"""The table of teachers that were trained several times: what is left when their luck counts too.

The table of one training has intervals over the seeds of the student only. Here each teacher was
trained with several seeds, and every seed of the student learned from each training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.bench.stats import Line, error_with_spread, table_row
from training.bench.verdicts import Difference, controls_of, crossed, verdict

__all__ = ["first_trainings", "trained_again", "trainings_table"]

_BASE = "none"
_Values = dict[tuple[int, int], float]
_COLUMNS = (
    "teacher",
    "trainings",
    "seeds",
    "teacher's validation MSE",
    "validation MSE",
    "test MSE",
    "test MSE of each training",
    "minus none",
    "minus random",
    "minus no model",
    "verdict",
)
_HEAD = """Teachers trained several times, with the luck of the teacher and of the student in the
interval (the squares of the halves of both are added):
"""


def first_trainings(lines: Sequence[Line]) -> list[Line]:
    """Keep the lines of the first training of each teacher."""
    return [line for line in lines if _training(line) == 0]


def trained_again(lines: Sequence[Line]) -> list[str]:
    """Name the teachers that were trained more than once."""
    return list(dict.fromkeys(line["teacher"] for line in lines if _training(line)))


def trainings_table(lines: Sequence[Line]) -> str:
    """Write the table of a cell; empty if every teacher was trained once.

    Args:
        lines: All lines of one data set, look-back, horizon and share, `none` included.
    """
    arms: dict[str, list[Line]] = {}
    for line in lines:
        arms.setdefault(line["teacher"], []).append(line)
    again = trained_again(lines)
    if not again:
        return ""
    rows = [table_row(_COLUMNS), table_row(("---",) * len(_COLUMNS))]
    rows += [table_row(_cells(name, arms)) for name in again]
    return "\n".join([_HEAD, *rows]) + "\n"


def _cells(name: str, arms: dict[str, list[Line]]) -> tuple[str, ...]:
    own = arms[name]
    found = _errors(own, "test")
    trainings = sorted({training for training, _ in found})
    seeds = [s for s in {seed for _, seed in found} if all((t, s) in found for t in trainings)]
    alone = {line["seed"]: line["test"]["mse"] for line in arms.get(_BASE, [])}
    over_none = _apart(found, {(t, seed): alone[seed] for t, seed in found if seed in alone})
    over = [_apart(found, _errors(arms.get(one, []), "test")) for one in controls_of(name)]
    teacher = {_training(line): line["teacher_validation"]["mse"] for line in own}
    each = [float(np.mean([found[training, seed] for seed in seeds])) for training in trainings]
    known = _errors(own, "validation")
    held_out = [float(np.mean([known[t, seed] for seed in seeds])) for t in trainings]
    return (
        name,
        str(len(trainings)),
        str(len(seeds)),
        error_with_spread(list(teacher.values())),
        error_with_spread(held_out),
        error_with_spread(each),
        ", ".join(f"{value:.4f}" for value in each),
        _text(over_none),
        *([_text(one) for one in over] or ["", ""]),
        verdict(name, over_none, over),
    )


def _training(line: Line) -> int:
    """Number of the teacher's training; lines made before there were several are of the first."""
    return int(line.get("teacher_seed", 0))


def _errors(lines: Sequence[Line], part: str) -> _Values:
    return {(_training(line), line["seed"]): float(line[part]["mse"]) for line in lines}


def _apart(found: _Values, other: _Values) -> Difference | None:
    return crossed({key: value - other[key] for key, value in found.items() if key in other})


def _text(difference: Difference | None) -> str:
    return "" if difference is None else str(difference)
