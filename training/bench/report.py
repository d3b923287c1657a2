"""The report: a page of tables (Markdown) and its plots, made from the results file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.tasks.contract import Task
from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task
from training.bench.ledger import METHODS, TOPICS, Run
from training.bench.openchapter import open_chapter
from training.bench.plots import plot_benchmarks, plot_curves, plot_open
from training.bench.stats import (
    Line,
    differences,
    half_within,
    interval_95,
    number,
    paired_gains,
    sign_of,
    table_row,
    with_interval,
    with_spread,
)
from training.evaluate import MEASURE_TITLES
from training.teachers.prompts import PROMPTS

__all__ = ["Table", "tables_of", "write_report"]

_GAINS = (
    ("rmse", "test", "19.7"),
    ("rmse", "held_out", ""),
    ("nasa_score", "test", ""),
    ("macro_f1", "test", "up to 13.7"),
    ("macro_f1", "held_out", ""),
)
"""Columns of the gains: measure, split, and the gain that the paper states."""
_CONTROLS = ("kp-random", "kp-onehot", "kp-ordinal", "kp-permuted")
_CONTROL_COLUMNS = {"rmse": "RUL: RMSE", "macro_f1": "activity: macro-F1"}
_FEW_SETS = 2  # the interval of two means is too wide to mean anything
_ORDER = ("none", *(method for method in METHODS if method != "none"))


@dataclass(frozen=True, slots=True)
class Table:
    """The runs of one student on one benchmark.

    Attributes:
        topic: Chapter.
        benchmark: Name of the benchmark.
        student: Name of the student in the plan; the part after a comma is its difference from the
            student of the benchmark's main table.
        task: Name of the task.
        rows: Method to its lines, `none` first.
    """

    topic: str
    benchmark: str
    student: str
    task: str
    rows: dict[str, list[Line]]

    @property
    def metric(self) -> str:
        """The headline measure of the task."""
        return self.contract.headline.name

    @property
    def contract(self) -> Task:
        """The task as an object."""
        return find_task(self.task)


def write_report(runs: Sequence[Run], lines: Sequence[Line], folder: Path) -> list[Path]:
    """Write `knowledge_pruning.md` and its plots, without lines that belong to no plan.

    Returns:
        The files written.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    planned = {run.digest for run in runs}
    known = [line for line in lines if line["config"] in planned]
    tables = tables_of(runs, known)
    left_out = [(t.benchmark, t.student, t.rows) for t in tables if t.topic == "open"]
    text = [_head(len(known), len(planned)), _gains(tables), _against_controls(tables)]
    for topic, title in TOPICS.items():
        chapter = [table for table in tables if table.topic == topic]
        if not chapter:
            continue
        text.append(f"\n## {title}\n")
        if topic == "main":
            text.extend(map(_full, chapter))
        elif topic == "open":
            text.append(open_chapter(left_out, _labels(runs)))
        elif topic in ("anchors", "switches"):
            text.append(_changes(chapter, tables))
        else:
            text.append(_wide(chapter, tables))
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "knowledge_pruning.md"
    page.write_text("\n".join(text), encoding="utf-8")
    plots = [folder / f"knowledge_pruning{kind}.png" for kind in ("", "_few", "_open")]
    main = [table for table in tables if table.topic == "main"]
    plot_benchmarks([(t.benchmark, t.student, t.metric, t.rows) for t in main], plots[0])
    plot_curves(_curves(tables), plots[1])
    plot_open(left_out, plots[2])
    return [page, *plots]


def _head(done: int, planned: int) -> str:
    return (
        "# Knowledge Pruning: results\n\n"
        "Written by `python -m training.bench report` from knowledge_pruning.jsonl; do not edit.\n"
        f"{done} of {planned} planned runs are done. A missing row is a missing run.\n\n"
        "Protocol **clean**: engines or people are held out for choices and calibration, the "
        "weights are those after the last pass, and the test set is scored once. Every seed draws "
        "its own held-out groups.\n"
        "Mean (standard deviation) [95 % interval of the mean, Student's t, from three values on]. "
        "Gain and difference are paired: same seed and draw.\n"
        "Protocol **literature**: the pass with the best test result. That is selection on the "
        "test set; it is shown only beside published numbers, and no claim rests on it.\n"
        "The machine did other work while times were taken: p99 and seconds are upper bounds.\n"
        "`python -m training.bench run --data DATA_FOLDER --only BENCHMARK` makes a deleted line "
        "again.\n"
    )


def tables_of(runs: Sequence[Run], lines: Sequence[Line]) -> list[Table]:
    """Group the lines by topic, benchmark and student, methods in the order of the ledger."""
    found: dict[tuple[str, str, str, str], dict[str, list[Line]]] = {}
    by_digest = {line["config"]: line for line in lines}
    for run in runs:
        if run.digest in by_digest:
            key = (run.topic, run.benchmark, run.table, run.recipe.task)
            found.setdefault(key, {}).setdefault(run.method, []).append(by_digest[run.digest])

    def place(method: str) -> int:
        return _ORDER.index(method) if method in _ORDER else len(_ORDER)

    return [
        Table(*key, {method: rows[method] for method in sorted(rows, key=place)})
        for key, rows in found.items()
    ]


def _gains(tables: Sequence[Table]) -> str:
    """Show the mean relative gain over the main benchmarks, beside the paper's."""
    text = [
        "\n## Gain over `none`\n",
        "In percent, positive is better. 95 % intervals: `sets`: the benchmarks are a sample of "
        "benchmarks; `seeds`: these benchmarks, other seeds and draws. The paper (arXiv "
        "2406.08765, abstract) states 19.7 % on average for regression and up to 13.7 % for "
        "classification, without the way of averaging. "
        "Rows with different numbers of sets cannot be compared.\n",
    ]
    names = [f"{_title(metric)}, {where.replace('_', '-')}" for metric, where, _ in _GAINS]
    text += [table_row(["method", *names]), table_row(["---"] * (1 + len(_GAINS)))]
    text.append(table_row(["*paper*", *(stated for _, _, stated in _GAINS)]))
    main = [table for table in tables if table.topic == "main"]
    for method in dict.fromkeys(method for table in main for method in table.rows):
        if method == "none":
            continue
        cells = [_pooled(_gain_sets(main, method, metric, where)) for metric, where, _ in _GAINS]
        text.append(table_row([method, *cells]))
    return "\n".join(text) + "\n"


def _gain_sets(main: Sequence[Table], method: str, metric: str, where: str) -> list[list[float]]:
    """Compute the gains of a method for each benchmark whose task has the measure."""
    gains = [
        paired_gains(table.rows[method], table.rows.get("none", []), metric, where)
        for table in main
        if method in table.rows and metric in [one.name for one in table.contract.measures]
    ]
    return [one for one in gains if one]


def _against_controls(tables: Sequence[Table]) -> str:
    """Show the gain of the text over each control, in percent of `none`, over all benchmarks."""
    text = [
        "\n## What the text adds to its controls\n",
        "Gain of `kp-text` minus gain of the control with the same seed, in points of percent, "
        "test; intervals as above. Language knowledge would show as intervals above zero.\n",
        table_row(["control", *_CONTROL_COLUMNS.values()]),
        table_row(["---"] * (1 + len(_CONTROL_COLUMNS))),
    ]
    main = [table for table in tables if table.topic == "main" and "kp-text" in table.rows]
    for control in _CONTROLS:
        cells = []
        for metric in _CONTROL_COLUMNS:
            sets = []
            for table in main:
                if table.metric != metric or not {control, "none"} <= set(table.rows):
                    continue
                base = np.mean([line["test"][table.metric] for line in table.rows["none"]])
                sign = 100 * sign_of(metric)
                apart = differences(table.rows["kp-text"], table.rows[control], table.metric)
                sets.append([sign * value / float(base) for value in apart])
            cells.append(_pooled([one for one in sets if one]))
        text.append(table_row([control, *cells]))
    return "\n".join(text) + "\n"


def _pooled(sets: Sequence[Sequence[float]]) -> str:
    if not sets:
        return ""
    means = [float(np.mean(values)) for values in sets]
    mean, half = float(np.mean(means)), half_within(sets)
    parts = [f"{mean:+.1f}"]
    for source, width in (("sets", interval_95(means)), ("seeds", half)):
        if np.isfinite(width) and (source == "seeds" or len(means) > _FEW_SETS):
            parts.append(f"{source} [{mean - width:.1f}, {mean + width:.1f}]")
    return f"{', '.join(parts)} ({len(sets)} sets)"


def _full(table: Table) -> str:
    metric = table.metric
    second = [measure.name for measure in table.contract.measures][:2][-1]
    is_number = isinstance(table.contract.answer, NumberAnswer)
    quality = "interval_coverage" if is_number else "calibration_error"
    head = [
        "method",
        "seeds",
        f"held-out {_title(metric)}",
        f"**test {_title(metric)}**",
        f"test {_title(second)}",
        _title(quality),
        "gain over none, %",
        "held-out gain, %",
        f"literature {_title(metric)} / {_title(second)}",
        "ONNX bytes",
        "p50 / p99 ms",
        "s per run",
    ]
    body = []
    base = table.rows.get("none", [])
    for method, lines in table.rows.items():
        gains = [
            with_interval(paired_gains(lines, base, metric, where), signed=True)
            for where in ("test", "held_out")
        ]
        body.append(
            [
                method + _unexported(lines),
                str(len(lines)),
                with_spread([line["held_out"][metric] for line in lines]),
                with_spread([line["test"][metric] for line in lines], interval=True),
                with_spread([line["test"][second] for line in lines]),
                _mean([line["test"][quality] for line in lines]),
                *(gains if method != "none" else ("", "")),
                _pair([line.get("literature", {}) for line in lines], metric, second),
                _mean([line.get("onnx_bytes") for line in lines]),
                _pair(lines, "latency_ms_p50", "latency_ms_p99"),
                _mean([line["seconds"] for line in lines]),
            ]
        )
    text = [f"\n### {table.benchmark}, student `{table.student}`\n", table_row(head)]
    return "\n".join([*text, table_row(["---"] * len(head)), *map(table_row, body)]) + "\n"


def _wide(chapter: Sequence[Table], tables: Sequence[Table]) -> str:
    """Show one row per student, one column per method; the main student first, if any."""
    text = []
    for benchmark, group in itertools.groupby(chapter, key=lambda table: table.benchmark):
        rows = list(group)
        first = _main(rows[0], tables)
        methods = list(dict.fromkeys(method for table in rows for method in table.rows))
        shown = ([first] if first is not None and first not in rows else []) + rows
        metric = rows[0].metric
        head = ["student", "seeds", *methods, "text - none", "text - random"]
        text += [f"\n**{benchmark}**, test {_title(metric)}\n", table_row(head)]
        text.append(table_row(["---"] * len(head)))
        for table in shown:
            cells = [
                with_interval([line["test"][metric] for line in table.rows.get(method, [])])
                + _unexported(table.rows.get(method, []))
                for method in methods
            ]
            seeds = max(len(lines) for lines in table.rows.values())
            text.append(
                table_row(
                    [
                        table.student,
                        str(seeds),
                        *cells,
                        _apart(table.rows, "kp-text", table.rows, "none", metric),
                        _apart(table.rows, "kp-text", table.rows, "kp-random", metric),
                    ]
                )
            )
    return "\n".join(text) + "\n"


def _changes(chapter: Sequence[Table], tables: Sequence[Table]) -> str:
    """Show one row per change, with its difference from `kp-text` in the main table."""
    head = ["benchmark", "change", "seeds", "held-out", "test"]
    head += ["held-out, minus `kp-text`", "test, minus `kp-text`"]
    text = [table_row(head), table_row(["---"] * len(head))]
    for table in chapter:
        first, metric = _main(table, tables), table.metric
        _, _, change = table.student.partition(", ")
        for method, lines in table.rows.items():
            values = [
                with_spread([line[where][metric] for line in lines])
                for where in ("held_out", "test")
            ]
            apart = [
                _apart(table.rows, method, first.rows if first else {}, "kp-text", metric, where)
                for where in ("held_out", "test")
            ]
            text.append(
                table_row([table.benchmark, change or method, str(len(lines)), *values, *apart])
            )
    return "\n".join(text) + "\n"


def _main(table: Table, tables: Sequence[Table]) -> Table | None:
    """Find the main table of the same student without its change."""
    name = table.student.partition(",")[0]
    return next(
        (t for t in tables if (t.topic, t.benchmark, t.student) == ("main", table.benchmark, name)),
        None,
    )


def _labels(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Map each benchmark to the short names of its plain prompts."""
    return {
        run.benchmark: [
            prompt.removeprefix("the subject is ")
            for prompt in PROMPTS[run.recipe.prompts.partition("-")[0] or run.recipe.task]
        ]
        for run in runs
        if run.unseen
    }


def _curves(tables: Sequence[Table]) -> dict[tuple[str, str], list[tuple[str, Table]]]:
    """Map (benchmark, measure) to (groups to learn from, table), most groups first."""
    found: dict[tuple[str, str], list[tuple[str, Table]]] = {}
    for table in tables:
        if table.topic == "few":
            key = (table.benchmark, table.metric)
            if key not in found and (first := _main(table, tables)) is not None:
                found[key] = [("all", first)]
            found.setdefault(key, []).append((table.student.partition(", ")[2], table))
    for rows in found.values():
        rows.sort(key=lambda row: -int(row[0].split()[0]) if row[0] != "all" else -1000)
    return found


def _apart(
    rows: dict[str, list[Line]],
    method: str,
    base: dict[str, list[Line]],
    other: str,
    metric: str,
    where: str = "test",
) -> str:
    found = differences(rows.get(method, []), base.get(other, []), metric, where)
    return with_interval(found, signed=True)


def _unexported(lines: Sequence[Line]) -> str:
    count = sum("export_error" in line for line in lines)
    return f" ({count} not exported)" if count else ""


def _title(measure: str) -> str:
    return MEASURE_TITLES.get(measure, measure)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return number(float(np.mean(known))) if known else ""


def _pair(found: Sequence[Line], first: str, second: str) -> str:
    known = [one for one in found if first in one]
    if not known:
        return ""
    return " / ".join(_mean([one[metric] for one in known]) for metric in (first, second))
