"""From the results file to a page of tables (Markdown) and its plots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.bench.ledger import METHODS, TOPICS, Run
from training.bench.openchapter import open_chapter
from training.bench.plots import plot_benchmarks, plot_curves, plot_open
from training.bench.stats import (
    HEADLINE,
    Line,
    differences,
    half_within,
    interval_95,
    number,
    paired_gains,
    with_interval,
    with_spread,
)
from training.teachers.prompts import PROMPTS

__all__ = ["Table", "tables_of", "write_report"]

_WORDS = {
    "rmse": "RMSE",
    "nasa_score": "NASA score",
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "interval_coverage": "90 % interval covers",
    "calibration_error": "ECE",
}
_PAPER = {"rul": "19.7", "activity": "up to 13.7"}
_FEW_SETS = 2  # of two means, an interval says only that they are two
_ORDER = ("none", *(method for method in METHODS if method != "none"))


@dataclass(frozen=True, slots=True)
class Table:
    """The runs of one student on one benchmark.

    Attributes:
        topic: chapter.
        benchmark: name of the benchmark.
        student: name of the student in the plan; what stands behind a comma is what differs from
            the student of the benchmark's main table.
        task: `rul` or `activity`.
        rows: method to its lines, `none` first.
    """

    topic: str
    benchmark: str
    student: str
    task: str
    rows: dict[str, list[Line]]

    @property
    def metric(self) -> str:
        """The measure that claims rest on."""
        return HEADLINE[self.task]


def write_report(runs: Sequence[Run], lines: Sequence[Line], folder: Path) -> list[Path]:
    """Write `knowledge_pruning.md` and its plots; lines of no plan are left out.

    Returns:
        The files written.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    planned = {run.digest for run in runs}
    known = [line for line in lines if line["config"] in planned]
    tables = tables_of(runs, known)
    left_out = [(t.benchmark, t.student, t.rows) for t in tables if t.topic == "open"]
    text = [
        "# Knowledge Pruning: results\n\n"
        "Written by `python -m training.bench report` from knowledge_pruning.jsonl; do not edit.\n"
        f"{len(known)} of {len(planned)} planned runs are done. A missing row is a missing run.\n\n"
        "Protocol **clean**: engines or people held out for choices and calibration, weights after "
        "the last pass, test set scored once. Every seed has its own draw of held-out groups.\n"
        "Mean (standard deviation) [95 % interval of the mean, Student's t, from three values on]. "
        "Gain and difference: paired, same seed and draw.\n"
        "Protocol **literature**: the pass with the best test result. That selects on the test "
        "set; it is shown only beside published numbers, no claim rests on it.\n"
        "Times were taken on a machine that did other work besides: p99 and seconds are upper "
        "bounds.\n"
        "Every line is made again by `python -m training.bench run --data DATA_FOLDER --only "
        "BENCHMARK` after its deletion.\n",
        _gains(tables),
        _against_controls(tables),
    ]
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


def tables_of(runs: Sequence[Run], lines: Sequence[Line]) -> list[Table]:
    """The lines by topic, benchmark and student, methods in the order of the ledger."""
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
    """Mean relative gain over the main benchmarks, beside the paper's."""
    text = [
        "\n## Gain over `none`\n",
        "In percent, positive is better. 95 % intervals: `sets`: the benchmarks are a sample of "
        "benchmarks; `seeds`: these benchmarks, other seeds and draws. The paper (arXiv "
        "2406.08765, abstract) states 19.7 % on average for regression and up to 13.7 % for "
        "classification; how it averages is not known. "
        "Rows with different numbers of sets cannot be compared.\n",
    ]
    kinds = (
        ("rul", "rmse", "test"),
        ("rul", "rmse", "held_out"),
        ("rul", "nasa_score", "test"),
        ("activity", "macro_f1", "test"),
        ("activity", "macro_f1", "held_out"),
    )
    names = [f"{_WORDS[metric]}, {where.replace('_', '-')}" for _, metric, where in kinds]
    text += [_row(["method", *names]), _row(["---"] * 6)]
    text.append(_row(["*paper*", _PAPER["rul"], "", "", _PAPER["activity"], ""]))
    main = [table for table in tables if table.topic == "main"]
    for method in dict.fromkeys(method for table in main for method in table.rows):
        if method == "none":
            continue
        cells = []
        for task, metric, where in kinds:
            sets = [
                gains
                for table in main
                if table.task == task and method in table.rows
                if (
                    gains := paired_gains(
                        table.rows[method], table.rows.get("none", []), metric, where
                    )
                )
            ]
            cells.append(_pooled(sets))
        text.append(_row([method, *cells]))
    return "\n".join(text) + "\n"


def _against_controls(tables: Sequence[Table]) -> str:
    """What the text adds to each control, in percent of `none`, pooled over benchmarks."""
    text = [
        "\n## What the text adds to its controls\n",
        "Gain of `kp-text` minus gain of the control with the same seed, in points of percent, "
        "test; intervals as above. Language knowledge would show as intervals above zero.\n",
        _row(["control", "RUL: RMSE", "activity: macro-F1"]),
        _row(["---"] * 3),
    ]
    main = [table for table in tables if table.topic == "main" and "kp-text" in table.rows]
    for control in ("kp-random", "kp-onehot", "kp-ordinal", "kp-permuted"):
        cells = []
        for task in ("rul", "activity"):
            sets = []
            for table in main:
                if table.task != task or not {control, "none"} <= set(table.rows):
                    continue
                base = np.mean([line["test"][table.metric] for line in table.rows["none"]])
                sign = 100 if table.metric == "macro_f1" else -100
                apart = differences(table.rows["kp-text"], table.rows[control], table.metric)
                sets.append([sign * value / float(base) for value in apart])
            cells.append(_pooled([one for one in sets if one]))
        text.append(_row([control, *cells]))
    return "\n".join(text) + "\n"


def _pooled(sets: Sequence[Sequence[float]]) -> str:
    if not sets:
        return ""
    means = [float(np.mean(values)) for values in sets]
    mean, half = float(np.mean(means)), half_within(sets)
    parts = [f"{mean:+.1f}"]
    for what, reach in (("sets", interval_95(means)), ("seeds", half)):
        if np.isfinite(reach) and (what == "seeds" or len(means) > _FEW_SETS):
            parts.append(f"{what} [{mean - reach:.1f}, {mean + reach:.1f}]")
    return f"{', '.join(parts)} ({len(sets)} sets)"


def _full(table: Table) -> str:
    metric = table.metric
    second = "nasa_score" if table.task == "rul" else "accuracy"
    quality = "interval_coverage" if table.task == "rul" else "calibration_error"
    head = [
        "method",
        "seeds",
        f"held-out {_WORDS[metric]}",
        f"**test {_WORDS[metric]}**",
        f"test {_WORDS[second]}",
        _WORDS[quality],
        "gain over none, %",
        "held-out gain, %",
        f"literature {_WORDS[metric]} / {_WORDS[second]}",
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
    text = [f"\n### {table.benchmark}, student `{table.student}`\n", _row(head)]
    return "\n".join([*text, _row(["---"] * len(head)), *map(_row, body)]) + "\n"


def _wide(chapter: Sequence[Table], tables: Sequence[Table]) -> str:
    """One row per student, one column per method; the main student first, where there is one."""
    text = []
    for benchmark, group in itertools.groupby(chapter, key=lambda table: table.benchmark):
        rows = list(group)
        first = _main(rows[0], tables)
        methods = list(dict.fromkeys(method for table in rows for method in table.rows))
        shown = ([first] if first is not None and first not in rows else []) + rows
        metric = rows[0].metric
        head = ["student", "seeds", *methods, "text - none", "text - random"]
        text += [f"\n**{benchmark}**, test {_WORDS[metric]}\n", _row(head)]
        text.append(_row(["---"] * len(head)))
        for table in shown:
            cells = [
                with_interval([line["test"][metric] for line in table.rows.get(method, [])])
                + _unexported(table.rows.get(method, []))
                for method in methods
            ]
            seeds = max(len(lines) for lines in table.rows.values())
            text.append(
                _row(
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
    """One row per changed thing, beside Knowledge Pruning as the main table has it."""
    head = ["benchmark", "change", "seeds", "held-out", "test"]
    head += ["held-out, minus `kp-text`", "test, minus `kp-text`"]
    text = [_row(head), _row(["---"] * len(head))]
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
            text.append(_row([table.benchmark, change or method, str(len(lines)), *values, *apart]))
    return "\n".join(text) + "\n"


def _main(table: Table, tables: Sequence[Table]) -> Table | None:
    """The main table of the same student, whatever was changed about it."""
    name = table.student.partition(",")[0]
    return next(
        (t for t in tables if (t.topic, t.benchmark, t.student) == ("main", table.benchmark, name)),
        None,
    )


def _labels(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Benchmark to the short words of its plain prompts."""
    return {
        run.benchmark: [
            prompt.removeprefix("the subject is ")
            for prompt in PROMPTS[run.recipe.prompts.partition("-")[0] or run.recipe.task]
        ]
        for run in runs
        if run.unseen
    }


def _curves(tables: Sequence[Table]) -> dict[tuple[str, str], list[tuple[str, Table]]]:
    """(benchmark, measure) to (groups to learn from, table), most groups first."""
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


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return number(float(np.mean(known))) if known else ""


def _pair(found: Sequence[Line], first: str, second: str) -> str:
    known = [one for one in found if first in one]
    if not known:
        return ""
    return " / ".join(_mean([one[metric] for one in known]) for metric in (first, second))
