"""Tables of the paper's ground, written from the results file.

All gains are percentages of the plain head's measure in the same cell (network and set) and with
the same seed; positive is better. A cell's interval is over its seeds (Student's t, paired); that
of a mean over cells comes from the seeds of each cell, for the cells as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from training.bench.paperground import BENCHMARKS, PASSES, VARIANTS
from training.bench.papernets import NETWORKS
from training.bench.stats import (
    Line,
    half_within,
    interval_95,
    sign_of,
    table_row,
    with_interval,
)

__all__ = ["gain_table", "render_paper_ground", "write_paper_ground"]

Cell = dict[str, dict[int, Line]]
"""Arm -> seed -> line."""
Pick = Callable[[Line, str, str], float]
"""Line, readout and measure to one value."""

_EQUAL, _AS_WRITTEN = "head-decayed", "head"
_ENGINES = tuple(name for name in BENCHMARKS if name.startswith("FD"))
_SCORE = "nasa_score"
_EARLY, _BEFORE_DECAY = 5, 15  # checkpoints of 24


def write_paper_ground(lines: Sequence[Line], folder: Path) -> Path:
    """Write `paper_ground.md` into a folder."""
    path = folder / "paper_ground.md"
    path.write_text(render_paper_ground(lines), encoding="utf-8")
    return path


def render_paper_ground(lines: Sequence[Line]) -> str:
    """Render all tables as Markdown."""
    parts = [
        "# The paper's ground: results\n\nWritten by `python -m training.bench.papercommand report`"
        " from [paper_ground.jsonl](paper_ground.jsonl); what it means is in"
        " [knowledge-pruning.md](../knowledge-pruning.md).",
        f"## Gains\n\n{gain_table(lines)}",
        f"## Measures\n\n{_measure_table(lines)}",
        f"## What moves the gain\n\n{_factor_table(lines)}",
        f"## Seeds and passes\n\n{_size_table(lines)}",
    ]
    if any(line["variant"] for line in lines):
        parts.insert(4, f"## One setting varied\n\n{_variant_table(lines)}")
    return "\n\n".join(parts) + "\n"


def gain_table(lines: Sequence[Line]) -> str:
    """Render the table that answers what is gained, by what, and under which protocol.

    *Clean* is the last pass at equal rates, *uneven rates* the last pass where the rate of the
    plain head stays (the code line), *literature* the same with the best pass on the test set.
    """
    header = (
        "set",
        "network",
        "seeds",
        "clean: text over `none`",
        "of it scoring: random over `none`",
        "of it text: text minus random",
        "text over `none`, uneven rates",
        "literature: text over `none`",
        "literature minus clean",
    )
    rows = [table_row(header), table_row(["---"] * len(header))]
    cells = {key: cell for key, cell in _cells(lines).items() if len(_seeds(cell))}
    for (network, benchmark), cell in cells.items():
        seeds = str(len(_seeds(cell)))
        found = [_percent(values) for values in _decomposition(cell, benchmark)]
        rows.append(table_row([benchmark, NETWORKS[network], seeds, *found]))
    for title, chosen, score in (
        ("C-MAPSS, RMSE", _ENGINES, False),
        ("C-MAPSS, NASA score", _ENGINES, True),
        ("UCI HAR, macro-F1", ("UCI-HAR",), False),
    ):
        groups = [
            _decomposition(cell, benchmark, score=score)
            for (_, benchmark), cell in cells.items()
            if benchmark in chosen
        ]
        if groups:
            columns = [_over_cells(column) for column in zip(*groups, strict=True)]
            rows.append(table_row([f"**{title}**", f"mean of {len(groups)}", "", *columns]))
    return "\n".join(rows)


def _decomposition(cell: Cell, benchmark: str, *, score: bool = False) -> list[list[float]]:
    name = _SCORE if score else _metric(benchmark)
    text = _gains(cell, "text", name, _last, _EQUAL)
    random = _gains(cell, "random", name, _last, _EQUAL)
    uneven = _gains(cell, "text", name, _last, _AS_WRITTEN)
    best = _gains(cell, "text", name, _best, _AS_WRITTEN)
    return [text, random, _minus(text, random), uneven, best, _minus(best, text)]


def _measure_table(lines: Sequence[Line]) -> str:
    header = ("set", "network", "measure", "`none`", "`none`, rate stays", "text", "random")
    rows = [table_row(header), table_row(["---"] * len(header))]
    for (network, benchmark), cell in _cells(lines).items():
        name = _metric(benchmark)
        protocols: list[tuple[str, Pick, str]] = [
            (f"{name}, last pass", _last, name),
            (f"{name}, best pass on the test set", _best, name),
            (f"{name}, last pass, held-out groups", _held_out, name),
        ]
        if benchmark in _ENGINES:
            protocols.append(("NASA score, last pass", _last, _SCORE))
            protocols.append(("NASA score, best pass on the test set", _best, _SCORE))
        for title, pick, measure in protocols:
            values = [
                _values(cell, arm, readout, pick, measure)
                for arm, readout in (
                    ("none", _EQUAL),
                    ("none", _AS_WRITTEN),
                    ("text", _readout(benchmark)),
                    ("random", _readout(benchmark)),
                )
            ]
            found = [with_interval(each) for each in values]
            rows.append(table_row([benchmark, NETWORKS[network], title, *found]))
    return "\n".join(rows)


def _factor_table(lines: Sequence[Line]) -> str:
    """The gain of text and of random anchors over the twelve cells of C-MAPSS, read otherwise."""
    readings: list[tuple[str, str, Pick, str, str]] = [
        ("last pass, equal rates, vote", "vote", _last, _EQUAL, "rmse"),
        ("mean of the last 5 checkpoints, equal rates", "vote", _tail, _EQUAL, "rmse"),
        ("the plain head capped at 0 and 125", "vote", _last, f"capped{_EQUAL[4:]}", "rmse"),
        ("mean of all anchors instead of the vote", "mean", _last, _EQUAL, "rmse"),
        ("nearest anchor instead of the vote", "argmax", _last, _EQUAL, "rmse"),
        ("held-out engines, all windows", "vote", _held_out, _EQUAL, "rmse"),
        ("the rate of the plain head stays", "vote", _last, _AS_WRITTEN, "rmse"),
        ("best pass on the test set, rate stays", "vote", _best, _AS_WRITTEN, "rmse"),
        ("best pass on the test set, equal rates", "vote", _best, _EQUAL, "rmse"),
        ("best pass on held-out engines, equal rates", "vote", _chosen, _EQUAL, "rmse"),
        ("after a fifth of the training", "vote", _at(_EARLY), _AS_WRITTEN, "rmse"),
        ("after 5/8, before any decay", "vote", _at(_BEFORE_DECAY), _AS_WRITTEN, "rmse"),
        ("mean of the last 5 checkpoints before any decay", "vote", _plateau, _AS_WRITTEN, "rmse"),
        ("NASA score, last pass, equal rates", "vote", _last, _EQUAL, _SCORE),
        ("NASA score, rate stays", "vote", _last, _AS_WRITTEN, _SCORE),
        ("NASA score, best pass on the test set", "vote", _best, _AS_WRITTEN, _SCORE),
    ]
    cells = {key: cell for key, cell in _cells(lines).items() if key[1] in _ENGINES}
    header = ("C-MAPSS, gain over `none`, %", "text", "random", "text minus random")
    rows = [table_row(header), table_row(["---"] * len(header))]
    for title, readout, pick, base, name in readings:
        found = []
        for cell in cells.values():
            pair = [_gains(cell, arm, name, pick, base, readout) for arm in ("text", "random")]
            if all(pair):
                found.append([*pair, _minus(*pair)])
        if found:
            columns = [_over_cells(column) for column in zip(*found, strict=True)]
            rows.append(table_row([title, *columns]))
    return "\n".join(rows)


def _variant_table(lines: Sequence[Line]) -> str:
    """One cell each: the varied runs beside those of the table with the same seeds."""
    header = (
        "varied",
        "set, network",
        "seeds",
        "measure",
        "`none`",
        "text",
        "random",
        "text over `none`, %",
        "best pass on the test set, %",
    )
    rows = [table_row(header), table_row(["---"] * len(header))]
    for variant, title in VARIANTS.items():
        if not variant:
            continue
        for (network, benchmark), cell in _cells(lines, variant).items():
            seeds = sorted({seed for arm in cell.values() for seed in arm})
            usual = _cells(lines)[network, benchmark]
            same = {arm: {s: by[s] for s in seeds if s in by} for arm, by in usual.items()}
            if "none" not in cell:
                cell = {**cell, "none": same.get("none", {})}
            for words, found in ((title, cell), ("as in the table", same)):
                name = _metric(benchmark)
                values = [
                    with_interval(_values(found, arm, readout, _last, name))
                    for arm, readout in (
                        ("none", _EQUAL),
                        ("text", _readout(benchmark)),
                        ("random", _readout(benchmark)),
                    )
                ]
                gains = [
                    _percent(each) if each else ""
                    for each in (
                        _gains(found, "text", name, _last, _EQUAL),
                        _gains(found, "text", name, _best, _AS_WRITTEN),
                    )
                ]
                place = f"{benchmark}, {NETWORKS[network]}"
                row = [words, place, str(len(seeds)), name, *values, *gains]
                rows.append(table_row(row))
    return "\n".join(rows)


def _size_table(lines: Sequence[Line]) -> str:
    header = ("network", *BENCHMARKS)
    rows = [table_row(header), table_row(["---"] * len(header))]
    cells = _cells(lines)
    for network, title in NETWORKS.items():
        texts = []
        for benchmark in BENCHMARKS:
            cell = cells.get((network, benchmark), {})
            one = next((line for arm in cell.values() for line in arm.values()), None)
            steps = f"{one['steps']} steps" if one else "no run"
            passes = PASSES[network][benchmark]
            texts.append(f"{passes} passes, {steps}, {len(_seeds(cell))} seeds")
        rows.append(table_row([title, *texts]))
    return "\n".join(rows)


def _cells(lines: Sequence[Line], variant: str = "") -> dict[tuple[str, str], Cell]:
    cells: dict[tuple[str, str], Cell] = {
        (network, benchmark): {} for benchmark in BENCHMARKS for network in NETWORKS
    }
    for line in lines:
        key = (line["network"], line["benchmark"])
        if line["variant"] == variant and key in cells:
            cells[key].setdefault(line["arm"], {})[line["seed"]] = line
    return {key: cell for key, cell in cells.items() if cell}


def _seeds(cell: Cell) -> list[int]:
    """Seeds that every arm has."""
    arms = [set(cell.get(arm, {})) for arm in ("none", "text", "random")]
    return sorted(set.intersection(*arms))


def _metric(benchmark: str) -> str:
    return "rmse" if benchmark in _ENGINES else "macro_f1"


def _readout(benchmark: str) -> str:
    return "vote" if benchmark in _ENGINES else "nearest"


def _gains(
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


def _values(cell: Cell, arm: str, readout: str, pick: Pick, name: str) -> list[float]:
    by_seed = cell.get(arm, {})
    return [pick(by_seed[seed], readout, name) for seed in sorted(by_seed)]


def _minus(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(ones, others, strict=False)]


def _over_cells(column: Sequence[Sequence[float]]) -> str:
    mean = fmean(fmean(values) for values in column)
    return _signed(mean, half_within(column))


def _percent(values: Sequence[float]) -> str:
    """Mean and interval of a cell's gains; two seeds have no useful interval."""
    return _signed(fmean(values), interval_95(values) if len(values) > 2 else math.nan)


def _signed(mean: float, half: float) -> str:
    return (
        f"{mean:+.1f}"
        if math.isnan(half)
        else f"{mean:+.1f} [{mean - half:.1f}, {mean + half:.1f}]"
    )


def _last(line: Line, readout: str, name: str) -> float:
    return float(line["test"][readout][name][-1])


def _held_out(line: Line, readout: str, name: str) -> float:
    return float(line["held_out"][readout][name])


def _best(line: Line, readout: str, name: str) -> float:
    """The pass with the lowest test score, or the highest test macro-F1: the literature's."""
    measures = line["test"][readout]
    return float(measures[name][_best_of(measures, _SCORE if _SCORE in measures else "macro_f1")])


def _chosen(line: Line, readout: str, name: str) -> float:
    """The pass that is best on held-out windows, on the test set."""
    known = line["sample"][readout]
    best = _best_of(known, "rmse" if "rmse" in known else "macro_f1")
    return float(line["test"][readout][name][best])


def _best_of(measures: dict[str, list[float]], name: str) -> int:
    values = measures[name]
    return min(range(len(values)), key=lambda index: -sign_of(name) * values[index])


def _at(checkpoint: int) -> Pick:
    return lambda line, readout, name: float(line["test"][readout][name][checkpoint - 1])


def _tail(line: Line, readout: str, name: str) -> float:
    return fmean(line["test"][readout][name][-5:])


def _plateau(line: Line, readout: str, name: str) -> float:
    return fmean(line["test"][readout][name][_BEFORE_DECAY - 5 : _BEFORE_DECAY])
