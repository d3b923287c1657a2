"""The page of taught students: every teacher and control beside the student without a teacher."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from training.bench.forecastplan import ForecastRun
from training.bench.published import published_errors
from training.bench.shifts import UNSEEN
from training.bench.stats import Line, error_with_spread, table_row
from training.bench.taughtplot import plot_taught
from training.bench.trainingsreport import first_trainings, trained_again, trainings_table
from training.bench.verdicts import Difference, controls_of, over_seeds, verdict

__all__ = ["paired", "taught_cells", "write_taught_report"]

_BASE = "none"
_STRANGE = frozenset(name for names in UNSEEN.values() for name in names)
Measure = Callable[[Line], "float | None"]
Cell = tuple[str, int, int, float]

_HEAD = """# Taught students: results

Written by `python -m training.bench report` from forecast.jsonl; do not edit.
{done} of {planned} planned runs are done. A missing row is a missing run.

Each row is the same student (below 400 kB, without any language model) with another teacher. It
reads the teacher's forecasts of its training windows and follows them where they are nearer to the
truth than its own. Validation chose the pass; the test part was scored once for each line.

- `none` has no teacher. `ridge` is the closed form that the student starts from. `ensemble` is the
  mean of three larger networks. `llata` and `timellm` have SmolLM2, `-random` the same blocks with
  random weights, `-none` no language model, `-shuffled` the products of other windows.
- `minus none` is the mean difference of the test MSE from `none` with the same seed; negative is
  better. `minus random` is that from the same teacher with random weights, `minus no model` that
  from the same teacher without a language model. The interval (95 %, Student's t over seeds) is of
  the seeds of the student; it does not contain the luck of the teacher's own training. Where
  teachers were trained several times, a second table has both, and the verdict.
- A teacher `helps` only if all its intervals are below zero. `not shown` is the answer otherwise;
  `hurts`: the interval from `none` is above zero. `lower, a control`: what lowers the error is not
  what the teacher knows. Of twenty comparisons without an effect one is
  expected outside its interval; nothing is corrected for that.
- Teachers that give back the ridge are equal, and so are their students.
- `unseen` is the test part of the sister set, `channel missing` replaces one channel after the
  other by its training mean, `short history` repeats the oldest known reading in the older half of
  the look-back.
- Zero-shot: models of ETTh1 forecast the test parts of air at twelve stations (hourly, every 7th
  window), weather (each 10 minutes), exchange rates (daily) and reports of illness (weekly), each
  standardised by its own training part. Seasonal naive repeats the newest season, or the newest
  reading where the look-back is shorter than a season (weather) or there is none (exchange rates).
  The interval of `minus ridge` is over the seeds of the student.
- Rows in *italics* are re-printed from papers, with the language model that they run at inference;
  `training/bench/published.py` names the tables.
"""
_COLUMNS = (
    "teacher",
    "seeds",
    "teacher's validation MSE",
    "validation MSE",
    "test MSE",
    "minus none",
    "minus random",
    "minus no model",
    "verdict",
    "chosen passes",
    "teacher, s",
)


def write_taught_report(
    runs: Sequence[ForecastRun], lines: Sequence[Line], folder: Path
) -> list[Path]:
    """Write `forecast_taught.md` and its plot; nothing if no run is done.

    Returns:
        The files written.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    by_digest = {line["config"]: line for line in lines}
    known = [by_digest[run.digest] for run in runs if run.digest in by_digest]
    if not known:
        return []
    text = [_HEAD.format(done=len(known), planned=len(runs))]
    cells = taught_cells(known)
    once = {cell: first_trainings(some) for cell, some in cells.items()}
    for cell, some in once.items():
        text += [f"\n## {_title_of(cell)}\n", _table(cell, some, trained_again(cells[cell]))]
        text.append(trainings_table(cells[cell]))
        text += [_shift_table(some), _unseen_table(some)]
    folder.mkdir(parents=True, exist_ok=True)
    page, plot = folder / "forecast_taught.md", folder / "forecast_taught.png"
    page.write_text("\n".join(text), encoding="utf-8")
    plot_taught(
        {
            _title_of(cell): {name: paired(own, some, _test_error) for name, own in _arms(some)}
            for cell, some in once.items()
        },
        plot,
    )
    return [page, plot]


def taught_cells(lines: Sequence[Line]) -> dict[Cell, list[Line]]:
    """Group lines by data set, look-back, horizon and share."""
    found: dict[Cell, list[Line]] = {}
    for line in lines:
        cell = (line["benchmark"], line["length"], line["horizon"], line["share"])
        found.setdefault(cell, []).append(line)
    return found


def _title_of(cell: Cell) -> str:
    """Name a group of lines.

    >>> _title_of(("ETTh1", 96, 192, 0.05))
    'ETTh1-192, look-back 96, 5 % of the training part'
    """
    name, length, horizon, share = cell
    few = f", {share:.0%} of the training part".replace("%", " %") if share < 1 else ""
    return f"{name}-{horizon}, look-back {length}{few}"


def _test_error(line: Line) -> float | None:
    """Return the test MSE of a line."""
    return float(line["test"]["mse"])


def paired(lines: Sequence[Line], base: Sequence[Line], measure: Measure) -> list[float]:
    """Return `lines` minus the lines of `none` in `base`, for every seed that both have."""
    return _apart(lines, [line for line in base if line["teacher"] == _BASE], measure)


def _arms(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    names = dict.fromkeys(line["teacher"] for line in lines)
    return [(name, [line for line in lines if line["teacher"] == name]) for name in names]


def _table(cell: Cell, lines: Sequence[Line], again: Collection[str]) -> str:
    """Write the table of a cell; teachers in `again` have their verdict in the table below it."""
    rows = [table_row(_COLUMNS), table_row(("---",) * len(_COLUMNS))]
    for one, error in published_errors(cell[0], cell[2], cell[3]):
        if one.length == cell[1]:
            name = f"*{one.model}; {one.backbone}*"
            rows.append(table_row((name, "", "", "", f"{error:.3f}", *("",) * 6)))
    rows.append(table_row(("closed-form ridge itself", *_ridge(lines), *("",) * 6)))
    arms = dict(_arms(lines))
    for name, own in arms.items():
        over_none = over_seeds([] if name == _BASE else paired(own, lines, _test_error))
        over = [
            over_seeds(_apart(own, arms.get(one, []), _test_error)) for one in controls_of(name)
        ]
        teacher = [line["teacher_validation"]["mse"] for line in own if _is_taught(line)]
        times = [line["teacher_seconds"] for line in own if line.get("teacher_seconds") is not None]
        row = (
            name,
            str(len(own)),
            f"{teacher[0]:.4f}" if teacher else "",
            error_with_spread([line["validation"]["mse"] for line in own]),
            error_with_spread([line["test"]["mse"] for line in own]),
            _text(over_none),
            *([_text(one) for one in over] or ["", ""]),
            "see below" if name in again else verdict(name, over_none, over),
            ", ".join(str(line["best_pass"]) for line in own),
            f"{times[0]:.0f}" if times else "",
        )
        rows.append(table_row(row))
    return "\n".join(rows) + "\n"


def _is_taught(line: Line) -> bool:
    return line.get("teacher_validation") is not None


def _ridge(lines: Sequence[Line]) -> tuple[str, ...]:
    first = lines[0]
    return ("", "", f"{first['validation']['ridge_mse']:.4f}", f"{first['ridge']['mse']:.4f}")


def _shift_table(lines: Sequence[Line]) -> str:
    """Test MSE under conditions that training did not have, each with its difference from none."""
    kinds = [kind for kind in _kinds(lines) if kind not in _STRANGE]
    if not kinds:
        return ""
    names = {kind: kind if " " in kind else f"{kind} unseen" for kind in kinds}
    head = ("teacher", *(cell for kind in kinds for cell in (names[kind], "minus none")))
    text = ["Test MSE under conditions that training did not have:\n"]
    text += [table_row(head), table_row(("---",) * len(head))]
    ridge = lines[0]["shifts"]
    cells = [cell for kind in kinds for cell in (f"{ridge[kind]['ridge_mse']:.4f}", "")]
    text.append(table_row(("closed-form ridge itself", *cells)))
    for name, own in _arms(lines):
        cells = []
        for kind in kinds:
            measure = _shift_of(kind)
            found = [value for line in own if (value := measure(line)) is not None]
            apart = [] if name == _BASE else paired(own, lines, measure)
            cells += [error_with_spread(found), _text(over_seeds(apart))]
        text.append(table_row((name, *cells)))
    return "\n".join(text) + "\n"


def _unseen_table(lines: Sequence[Line]) -> str:
    """Test MSE on sets of other kinds of devices, with its differences from ridge and from none."""
    kinds = [kind for kind in _kinds(lines) if kind in _STRANGE]
    lines = [line for line in lines if set(kinds) <= set(line.get("shifts", {}))]
    if not kinds:
        return ""
    three = ("{}", "minus ridge", "minus none")
    head = ("model", "seeds", *(cell.format(kind) for kind in kinds for cell in three))
    text = ["Zero-shot: test MSE on series of which no model of this table has seen any reading:\n"]
    text += [table_row(head), table_row(("---",) * len(head))]
    for key, name in (("naive_mse", "seasonal naive"), ("ridge_mse", "closed-form ridge itself")):
        errors = [f"{lines[0]['shifts'][kind][key]:.4f}" for kind in kinds]
        text.append(table_row((name, "", *(cell for error in errors for cell in (error, "", "")))))
    for name, own in _arms(lines):
        cells = []
        for kind in kinds:
            found = [line["shifts"][kind] for line in own]
            over_ridge = [one["mse"] - one["ridge_mse"] for one in found]
            over_none = [] if name == _BASE else paired(own, lines, _shift_of(kind))
            cells.append(error_with_spread([one["mse"] for one in found]))
            cells += [_text(over_seeds(apart)) for apart in (over_ridge, over_none)]
        text.append(table_row((name, str(len(own)), *cells)))
    return "\n".join(text) + "\n"


def _kinds(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(kind for line in lines for kind in line.get("shifts", {})))


def _shift_of(kind: str) -> Measure:
    def measure(line: Line) -> float | None:
        found = line.get("shifts", {}).get(kind)
        return None if found is None else float(found["mse"])

    return measure


def _apart(lines: Sequence[Line], base: Sequence[Line], measure: Measure) -> list[float]:
    old = {line["seed"]: measure(line) for line in base}
    found = []
    for line in lines:
        one, other = measure(line), old.get(line["seed"])
        if one is not None and other is not None:
            found.append(one - other)
    return found


def _text(difference: Difference | None) -> str:
    return "" if difference is None else str(difference)
