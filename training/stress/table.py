"""Stress tests as JSON, one row a line, and as a Markdown table, one kind of stress a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from training.stress.measure import Measured, Row

__all__ = ["Stressed", "read_stressed", "stress_table", "write_stressed"]


@dataclass(frozen=True, slots=True)
class Stressed:
    """The stress tests of a student in its forms.

    Attributes:
        measure: Name of the headline measure.
        digests: Digest of the artifact of each form, by its name.
        windows: Windows without a stress.
        rows: The rows.
    """

    measure: str
    digests: dict[str, str]
    windows: int
    rows: list[Row]


def write_stressed(stressed: Mapping[str, Stressed], path: Path) -> None:
    """Write the stress tests of some students, by their names, as JSON."""
    parts = []
    for name, one in sorted(stressed.items()):
        head = {"measure": one.measure, "digests": one.digests, "windows": one.windows}
        rows = ",\n".join(f"  {json.dumps(_rounded(asdict(row)))}" for row in one.rows)
        parts.append(f'"{name}": {json.dumps(head)[:-1]}, "rows": [\n{rows}\n]}}')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read_stressed(path: Path) -> dict[str, Stressed]:
    """Read what `write_stressed` wrote; nothing if the file does not exist."""
    if not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: _read(one) for name, one in content.items()}


def stress_table(stressed: Stressed) -> str:
    """Write the table in Markdown: strengths of one stress share a line, separated by ` / `."""
    word = _WORDS.get(stressed.measure, stressed.measure)
    heads = ["stress", "strength", "scores", word, "flagged", f"{word} of the rest"]
    if len(stressed.digests) > 1:
        heads += [f"eight bits: {word}", "of the rest"]
    lines = [heads, ["---"] * len(heads)]
    for kind, rows in groupby(stressed.rows, lambda row: row.kind):
        lines.append(_line(kind, list(rows), list(stressed.digests)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_WORDS = {"macro_f1": "macro-F1", "rmse": "RMSE", "mse": "MSE"}
_NONE = "-"
_SAME = 0.005  # of the scores


def _line(kind: str, rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    strengths = [f"{row.strength}: {row.channel}".removesuffix(": ") for row in rows]
    scores = "" if all(abs(row.scores - 1) < _SAME for row in rows) else _percents(rows)
    cells = [kind, _joined(strengths), scores]
    for place, name in enumerate(names):
        found = [row.found[name] for row in rows]
        cells.append(_joined([_number(one.measure) for one in found]))
        if place == 0:
            cells.append(f"{_joined([_percent(one) for one in found])} %")
        cells.append(_joined([_number(one.rest) for one in found]))
    return cells


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.3f}" if value < 2 else f"{value:.1f}"


def _percent(one: Measured) -> str:
    return _NONE if one.measure is None else f"{100 * one.flagged:.0f}"


def _percents(rows: Sequence[Row]) -> str:
    return f"{_joined([f'{100 * row.scores:.0f}' for row in rows])} %"


def _joined(cells: Sequence[str]) -> str:
    return " / ".join(cells)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _read(content: dict[str, Any]) -> Stressed:
    rows = [
        Row(**row | {"found": {name: Measured(**one) for name, one in row["found"].items()}})
        for row in content["rows"]
    ]
    return Stressed(content["measure"], content["digests"], content["windows"], rows)
