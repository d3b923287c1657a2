"""The chapter of the report on open vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.bench.openvocab import READOUTS
from training.bench.stats import Line, by_choice, number, table_row, with_interval

__all__ = ["open_chapter"]

_CONTROL = "kp-random"
_MEASURES = {
    "unseen_recall": "recall of the unseen, all labels on offer",
    "harmonic": "harmonic mean with recall of the seen",
    "alarm_recall": "recall at 10 % alarm",
    "false_alarm": "false alarms",
    "auroc": "area under the curve of the unseen",
    "among_unseen": "recall among the unseen only",
}


def open_chapter(
    tables: Sequence[tuple[str, str, dict[str, list[Line]]]],
    labels: Mapping[str, Sequence[str]],
) -> str:
    """Write the tables of the runs that leave labels out.

    A value is the mean over seeds of one choice of left-out labels. The interval is over choices,
    because an unknown activity in use is one more such choice.

    Args:
        tables: Benchmark, student, and method to lines.
        labels: Benchmark to the names of its labels.
    """
    text = [
        "Alarm: a margin is set on held-out people of the training set so that 10 % of their "
        "windows, all of seen labels, go to an unseen one; it needs no unseen window; chance is "
        "10 % / left out. "
        "Mean [95 % interval over the choices of left-out labels]; every choice is the mean of its "
        "seeds. Chance is 1 / labels for recall with all labels on offer, 1 / left out among the "
        "unseen. An area of 0.5 is chance for scores that know nothing, but strange windows "
        "lie far from every seen anchor, so that any anchor can exceed it: the bar is "
        f"`{_CONTROL}`. `minus random` is paired by choice. "
        "Readouts: `training/bench/openvocab.py`.\n"
    ]
    single = [rows for _, _, rows in tables if len(_choices(rows)[0]) == 1]
    if len(single) > 1:
        text.append(f"**All {len(single)} benchmarks, one label left out**\n")
        text.append(_together(single))
    for benchmark, student, rows in tables:
        text.append(f"\n**{benchmark}**, student `{student}`\n")
        text.append(_summary(rows))
        text.append(_by_label(rows, labels[benchmark]))
    return "\n".join(text) + "\n"


def _summary(rows: dict[str, list[Line]]) -> str:
    first = next(iter(rows.values()))[0]["open"][READOUTS[0]]
    measures = [name for name in _MEASURES if name in first]
    head = ["readout", "anchors", "runs"]
    head += [cell for name in measures for cell in (_MEASURES[name], "minus random")]
    text = [table_row(head), table_row(["---"] * len(head))]
    for readout in READOUTS:
        for method, lines in rows.items():
            cells = [readout, method, str(len(lines))]
            for name in measures:
                found = by_choice(lines, readout, name)
                base = by_choice(rows.get(_CONTROL, []), readout, name)
                apart = [value - base[choice] for choice, value in found.items() if choice in base]
                cells.append(with_interval(list(found.values())))
                cells.append("" if method == _CONTROL else with_interval(apart, signed=True))
            text.append(table_row(cells))
    return "\n".join(text) + "\n"


def _together(tables: Sequence[dict[str, list[Line]]]) -> str:
    """Pool the left-out labels of several benchmarks as one sample of labels."""
    measures = ("unseen_recall", "alarm_recall", "auroc")
    head = ["readout", "anchors", "labels"]
    head += [cell for name in measures for cell in (_MEASURES[name], "minus random")]
    text = [table_row(head), table_row(["---"] * len(head))]
    methods = [method for method in tables[0] if all(method in rows for rows in tables)]
    for readout in READOUTS:
        for method in methods:
            cells: list[str] = []
            for name in measures:
                values, apart = [], []
                for rows in tables:
                    found = by_choice(rows[method], readout, name)
                    base = by_choice(rows.get(_CONTROL, []), readout, name)
                    values += list(found.values())
                    apart += [found[choice] - base[choice] for choice in found if choice in base]
                cells.append(with_interval(values))
                cells.append("" if method == _CONTROL else with_interval(apart, signed=True))
            text.append(table_row([readout, method, str(len(values)), *cells]))
    return "\n".join(text) + "\n"


def _choices(rows: dict[str, list[Line]]) -> list[tuple[int, ...]]:
    return sorted({tuple(line["unseen"]) for lines in rows.values() for line in lines})


def _by_label(rows: dict[str, list[Line]], labels: Sequence[str]) -> str:
    """Show recall / area of each left-out label; nothing if several are left out at once."""
    choices = _choices(rows)
    if len(choices[0]) > 1:
        return ""
    text = ["Recall of the unseen / at 10 % alarm / area, readout `kp`, by left-out label:\n"]
    text += [table_row(["left out", *rows]), table_row(["---"] * (1 + len(rows)))]
    for choice in choices:
        cells = []
        for lines in rows.values():
            pair = [
                by_choice(lines, READOUTS[0], name).get(choice)
                for name in ("unseen_recall", "alarm_recall", "auroc")
            ]
            cells.append(" / ".join(number(value) for value in pair if value is not None))
        text.append(table_row([labels[choice[0]], *cells]))
    return "\n".join(text) + "\n"
