"""The page docs/results/familiarity.md, from the lines of docs/results/familiarity.jsonl."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from training.bench.stats import Line, interval_95

RESULTS = Path("docs/results/familiarity.jsonl")
PAGE = RESULTS.with_suffix(".md")
LEFT_OUT = "FD002, one altitude left out"
JOINED = "four sets joined"
LIVES = (0, 10, 25, 50, 80, 125, 126)
"""Edges of the parts of life in the table by remaining life; 125 is the plateau."""


def write_report(lines: Sequence[Line], page: Path = PAGE) -> None:
    """Write the page."""
    cases: dict[str, list[Line]] = {}
    for line in lines:
        cases.setdefault(line["case"], []).append(line)
    left_out, joined = cases.pop(LEFT_OUT, []), cases.pop(JOINED, [])
    parts = [_HEAD]
    parts += [_case(name, runs) for name, runs in cases.items()]
    if cases:
        parts.append(_cost(cases))
    if left_out:
        parts.append(_conditions(left_out[-1]["rows"]))
    if joined:
        parts.append(_joined(joined[-1]))
    page.write_text("\n".join(parts), encoding="utf-8")


_HEAD = """# Students that notice when they are lost

Written by `python -m tests.bench.familiarity run DATA_FOLDER` (results: familiarity.jsonl). All
windows of all engines of a set are scored, not only the last ones. `flagged`: share of windows
with the quality flag `unfamiliar`, with its 95 % interval over engines (bootstrap); it depends on
data and split, not on the seed of the weights. Other figures are means of three seeds with their
95 % interval (Student's t). `range:`: share with any other quality flag, the only ones there were
before. RMSE in cycles; gradient boosting and the constant answer flag nothing. `covered`: truths
inside the 90 % interval, before and after it widens with the distance. Limit and widening were
fitted on training engines.
"""


def _case(name: str, runs: Sequence[Line]) -> str:
    heads = ["windows of", "windows", "flagged", "`range:`", "RMSE", "RMSE not flagged"]
    heads += ["constant", "boosting", "covered before", "covered", "covered, flagged"]
    heads += ["width, flagged"]
    rows, lives = [], []
    for test in runs[0]["tests"]:
        each = [run["tests"][test] for run in runs]
        first = each[0]
        boosted = next((one["rmse_boosting"] for one in each if "rmse_boosting" in one), None)
        rows.append(
            [
                test,
                f"{first['windows']:,}",
                _share(first["flagged"], first["flagged_95"]),
                f"{100 * first['flagged_by_range']:.1f} %",
                _mean(each, "rmse"),
                _mean(each, "rmse_not_flagged"),
                f"{first['rmse_constant']:.1f}",
                "" if boosted is None else f"{boosted:.1f}",
                _mean(each, "covered_before", _percent),
                _mean(each, "covered", _percent),
                _mean(each, "covered_flagged", _percent),
                _mean(each, "width_flagged"),
            ]
        )
        shares = [
            "" if share is None else f"{100 * share:.1f} %" for share in first["flagged_by_life"]
        ]
        engines = [
            f"{first['engines_nearly_all_flagged']}",
            f"{first['engines_nearly_none_flagged']}",
            f"{first['engines']}",
        ]
        lives.append([test, *shares, *engines])
    limits = ", ".join(
        f"{run['familiar']['limit']:.2f} and {run['familiar']['whole']:.2f}" for run in runs
    )
    return (
        f"\n## {name} learned\n\nLimit, and distance from which the interval is the whole range: "
        f"{limits}.\n\n{_table(heads, rows)}\nFlagged by remaining life in cycles, and engines of "
        "which at least 90 %, or at most 10 %, of the windows are flagged:\n\n"
        + _table(["windows of", *_spans(), "engines nearly all", "nearly none", "of"], lives)
    )


def _cost(cases: dict[str, list[Line]]) -> str:
    rows = []
    for name, runs in cases.items():
        for way, key in (("alone", ""), ("in batches of 24", "_in_batch")):
            times = [run["latency_ms"] for run in runs]
            before, after = ([one[f"{side}{key}"] for one in times] for side in ("without", "with"))
            ratio = np.mean(np.array(after) / np.array(before))
            rows.append(
                [
                    f"{name}, {way}",
                    f"{np.mean(before):.4f} ms",
                    f"{np.mean(after):.4f} ms",
                    f"{ratio:.2f}",
                ]
            )
    return (
        "\n## Cost\n\nTime of one window through the gateway's code, with the distance and with "
        "the same graph cut before it, in turn in one run, on a machine that did other work:\n\n"
        + _table(["learned", "without", "with", "ratio"], rows)
    )


def _conditions(rows: dict[str, Line]) -> str:
    table = [
        [
            f"{altitude} thousand feet",
            _share(row["own_flagged"], row["own_95"]),
            f"{100 * row['new_flagged']:.1f} %",
            f"{row['new_windows']:,}",
        ]
        for altitude, row in rows.items()
    ]
    heads = ["left out", "own windows flagged", "windows with it flagged", "such windows"]
    return (
        "\n## One altitude of FD002 left out\n\nTraining engines only; the distance was chosen "
        "with these. A window has the altitude left out in at least one of its 30 readings.\n\n"
        + _table(heads, table)
    )


def _joined(line: Line) -> str:
    rows = [
        [
            f"{form}, {name}",
            f"{row['windows']:,} of {row['engines']}",
            _share(row["flagged"], row["flagged_95"]),
            _percent(row["flagged_last"]),
            _percent(row["covered"]),
            *("" if share is None else _percent(share) for share in row["flagged_by_life"]),
        ]
        for form, sets in line["own"].items()
        for name, row in sets.items()
    ]
    heads = ["student, test engines of", "windows", "flagged", "of the last windows, %"]
    heads += ["covered, %", *(f"flagged, {span}" for span in _spans())]
    new = [
        [
            name,
            _share(row["new_flagged"], row["new_95"]),
            f"{row['new_windows']:,}",
            " / ".join(map(_percent, row["own_flagged"].values())),
        ]
        for name, row in line["left_out"].items()
    ]
    return (
        "\n## FD001 to FD004 learned by one student\n\nAll windows of the test engines of each "
        "set, by the student that ships and by its form in eight bits; the spans are remaining "
        "life in cycles.\n\n" + _table(heads, rows) + "\nLeft out of all four sets, on training "
        "engines: three fifths of them give the distance, a fifth the limit, and a fifth is "
        "tested.\n\n"
        + _table(["left out", "flagged", "windows", "own windows flagged of each set, %"], new)
    )


def _spans() -> list[str]:
    ends = [f"{low} to {high - 1}" for low, high in itertools.pairwise(LIVES[:-1])]
    return [*ends, f"{LIVES[-2]} or more"]


def _share(value: float, ends: Sequence[float]) -> str:
    return f"{100 * value:.1f} % [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _mean(
    each: Sequence[Line], key: str, form: Callable[[float], str] = lambda value: f"{value:.1f}"
) -> str:
    values = [one[key] for one in each if one[key] is not None]
    if not values:
        return "none left" if key == "rmse_not_flagged" else ""
    middle, half = float(np.mean(values)), interval_95(values)
    return f"{form(middle)} ± {form(half)}" if len(values) > 1 else form(middle)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
