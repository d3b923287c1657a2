"""The report of the anomaly benchmark: one table per data set and rate of false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["anomaly_report"]

_HEAD = """# Anomalies: the score of a forecasting student against classical detectors

Written by `python -m training.bench.anomalies report` from `anomalies.jsonl`. Each cell: share of
faults found, in brackets the share that alarms reach by chance (the same readings without the
fault), and the median delay in readings. Thresholds come from the validation part; *false alarms*
is what came on the test part without faults. Faults are injected into the test part
(`ingest/simulators/faults.py`): six kinds, one channel at a time, sizes in training deviations.
"""


def anomaly_report(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of all lines; a later line of the same set, detector and rate replaces an earlier.

    Args:
        lines: Lines of the results file.
    """
    newest = {
        (line["benchmark"], line["false_alarms_wanted"], line["detector"]): line for line in lines
    }
    parts = [_HEAD]
    for name, rate in dict.fromkeys((name, rate) for name, rate, _ in newest):
        rows = [line for key, line in newest.items() if key[:2] == (name, rate)]
        parts.append(_table(name, rate, rows))
    return "\n".join(parts)


def _table(name: str, rate: float, rows: Sequence[Mapping[str, Any]]) -> str:
    kinds = sorted({kind for row in rows for kind in row["kinds"]})
    words = (
        "a day" if rate == 1 else "a week" if round(7 * rate) == 1 else f"in {1 / rate:.0f} days"
    )
    amount = "one" if rate <= 1 else f"{rate:g}"
    out = [
        f"## {name}, {amount} false alarm {words} and device\n",
        f"| detector | false alarms a day | {' | '.join(kinds)} |",
        f"|---|---|{'---|' * len(kinds)}",
    ]
    for row in rows:
        cells = [_cell(row["kinds"].get(kind)) for kind in kinds]
        came = f"{row['false_alarms_on_test']:.2f}"
        out.append(f"| {row['detector']} | {came} | {' | '.join(cells)} |")
    counts = max(rows, key=lambda row: len(row["kinds"]))["kinds"]
    faults = ", ".join(f"{kind} {counts[kind]['faults']:.0f}" for kind in kinds if kind in counts)
    out.append(f"\nFaults: {faults}.\n")
    return "\n".join(out)


def _cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "-"
    text = f"{found['recall']:.2f}"
    if "chance" in found:
        text += f" ({found['chance']:.2f})"
    if "delay" in found:
        text += f", {found['delay']:.0f}"
    return text
