"""Tables of the paper's ground, written from the results file.

All gains are percentages of the plain head's measure in the same cell (network and set) and with
the same seed; positive is better. A cell's interval is over its seeds (Student's t, paired); that
of a mean over cells comes from the seeds of each cell, for the cells as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.bench.papercells import (
    ENGINES,
    EQUAL_RATES,
    RATE_STAYS,
    SCORE,
    Cell,
    Pick,
    at_checkpoint,
    before_decay,
    best_on_held_out,
    best_on_test,
    cells_of,
    gains_over_plain,
    held_out,
    last_five,
    last_pass,
    metric_of,
    minus,
    only_seeds,
    over_cells,
    percent,
    readout_of,
    seeds_of,
    values_of,
)
from training.bench.paperground import BENCHMARKS, PASSES, VARIANTS
from training.bench.papernets import NETWORKS
from training.bench.stats import Line, table_row, with_interval
from training.errors import LedgerError

__all__ = ["BEGIN", "END", "gain_table", "render_paper_ground", "write_paper_ground"]

BEGIN, END = "<!-- paper ground -->", "<!-- end of paper ground -->"
"""Lines of a page around the table of gains."""

_EARLY, _BEFORE_DECAY = 5, 15  # checkpoints of 24


def write_paper_ground(lines: Sequence[Line], folder: Path, page: Path) -> Path:
    """Write `paper_ground.md` into a folder, and the table of gains between the marks of a page.

    Raises:
        LedgerError: The page lacks a mark.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{page} needs the lines {BEGIN} and {END} around its table of the paper's ground"
        raise LedgerError(msg)
    table = f"\n{gain_table(lines)}\n\n"
    page.write_text(before + begin + table + end + after, encoding="utf-8")
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
    cells = _complete(lines)
    for (network, benchmark), cell in cells.items():
        seeds = str(len(seeds_of(cell)))
        found = [percent(values) for values in _decomposition(cell, benchmark)]
        rows.append(table_row([benchmark, NETWORKS[network], seeds, *found]))
    engines = [key for key in cells if key[1] in ENGINES]
    people = [key for key in cells if key not in engines]
    of_network = [
        (f"C-MAPSS, RMSE, {title}", [key for key in engines if key[0] == network], False)
        for network, title in NETWORKS.items()
    ]
    for title, chosen, score in (
        *of_network,
        ("C-MAPSS, RMSE", engines, False),
        ("C-MAPSS, NASA score", engines, True),
        ("UCI HAR, macro-F1", people, False),
    ):
        groups = [_decomposition(cells[key], key[1], score=score) for key in chosen]
        if groups:
            columns = [over_cells(column) for column in zip(*groups, strict=True)]
            rows.append(table_row([f"**{title}**", f"mean of {len(groups)}", "", *columns]))
    return "\n".join(rows)


def _complete(lines: Sequence[Line]) -> dict[tuple[str, str], Cell]:
    """Cells with the seeds that every arm has, without cells that have none."""
    return {
        key: only_seeds(cell, seeds_of(cell))
        for key, cell in cells_of(lines).items()
        if seeds_of(cell)
    }


def _decomposition(cell: Cell, benchmark: str, *, score: bool = False) -> list[list[float]]:
    name = SCORE if score else metric_of(benchmark)
    text = gains_over_plain(cell, "text", name, last_pass, EQUAL_RATES)
    random = gains_over_plain(cell, "random", name, last_pass, EQUAL_RATES)
    uneven = gains_over_plain(cell, "text", name, last_pass, RATE_STAYS)
    best = gains_over_plain(cell, "text", name, best_on_test, RATE_STAYS)
    return [text, random, minus(text, random), uneven, best, minus(best, text)]


def _measure_table(lines: Sequence[Line]) -> str:
    header = ("set", "network", "measure", "`none`", "`none`, rate stays", "text", "random")
    rows = [table_row(header), table_row(["---"] * len(header))]
    for (network, benchmark), cell in cells_of(lines).items():
        name = metric_of(benchmark)
        protocols: list[tuple[str, Pick, str]] = [
            (f"{name}, last pass", last_pass, name),
            (f"{name}, best pass on the test set", best_on_test, name),
            (f"{name}, last pass, held-out groups", held_out, name),
        ]
        if benchmark in ENGINES:
            protocols.append(("NASA score, last pass", last_pass, SCORE))
            protocols.append(("NASA score, best pass on the test set", best_on_test, SCORE))
        for title, pick, measure in protocols:
            values = [
                values_of(cell, arm, readout, pick, measure)
                for arm, readout in (
                    ("none", EQUAL_RATES),
                    ("none", RATE_STAYS),
                    ("text", readout_of(benchmark)),
                    ("random", readout_of(benchmark)),
                )
            ]
            found = [with_interval(each) for each in values]
            rows.append(table_row([benchmark, NETWORKS[network], title, *found]))
    return "\n".join(rows)


def _factor_table(lines: Sequence[Line]) -> str:
    """The gain of text and of random anchors over the twelve cells of C-MAPSS, read otherwise."""
    readings: list[tuple[str, str, Pick, str, str]] = [
        ("last pass, equal rates, vote", "vote", last_pass, EQUAL_RATES, "rmse"),
        ("mean of the last 5 checkpoints, equal rates", "vote", last_five, EQUAL_RATES, "rmse"),
        (
            "the plain head capped at 0 and 125",
            "vote",
            last_pass,
            f"capped{EQUAL_RATES[4:]}",
            "rmse",
        ),
        ("mean of all anchors instead of the vote", "mean", last_pass, EQUAL_RATES, "rmse"),
        ("nearest anchor instead of the vote", "argmax", last_pass, EQUAL_RATES, "rmse"),
        ("held-out engines, all windows", "vote", held_out, EQUAL_RATES, "rmse"),
        ("the rate of the plain head stays", "vote", last_pass, RATE_STAYS, "rmse"),
        ("best pass on the test set, rate stays", "vote", best_on_test, RATE_STAYS, "rmse"),
        ("best pass on the test set, equal rates", "vote", best_on_test, EQUAL_RATES, "rmse"),
        (
            "best pass on held-out engines, equal rates",
            "vote",
            best_on_held_out,
            EQUAL_RATES,
            "rmse",
        ),
        ("after a fifth of the training", "vote", at_checkpoint(_EARLY), RATE_STAYS, "rmse"),
        ("after 5/8, before any decay", "vote", at_checkpoint(_BEFORE_DECAY), RATE_STAYS, "rmse"),
        (
            "mean of the last 5 checkpoints before any decay",
            "vote",
            before_decay,
            RATE_STAYS,
            "rmse",
        ),
        ("NASA score, last pass, equal rates", "vote", last_pass, EQUAL_RATES, SCORE),
        ("NASA score, rate stays", "vote", last_pass, RATE_STAYS, SCORE),
        ("NASA score, best pass on the test set", "vote", best_on_test, RATE_STAYS, SCORE),
    ]
    cells = {key: cell for key, cell in _complete(lines).items() if key[1] in ENGINES}
    header = ("C-MAPSS, gain over `none`, %", "text", "random", "text minus random")
    rows = [table_row(header), table_row(["---"] * len(header))]
    for title, readout, pick, base, name in readings:
        found = []
        for cell in cells.values():
            pair = [
                gains_over_plain(cell, arm, name, pick, base, readout) for arm in ("text", "random")
            ]
            found.append([*pair, minus(*pair)])
        if found:
            columns = [over_cells(column) for column in zip(*found, strict=True)]
            rows.append(table_row([title, *columns]))
    return "\n".join(rows)


def _variant_table(lines: Sequence[Line]) -> str:
    """The varied runs, each followed by those of the table with the same seeds."""
    header = (
        "varied",
        "set, network",
        "seeds",
        "`none`, last pass",
        "text",
        "random",
        "clean: text over `none`",
        "random over `none`",
        "literature: text over `none`",
    )
    rows = [table_row(header), table_row(["---"] * len(header))]
    usual = cells_of(lines)
    for variant, title in VARIANTS.items():
        pairs: list[tuple[tuple[str, str], Cell, Cell]] = []
        for key, varied in cells_of(lines, variant).items() if variant else ():
            if "none" not in varied:  # a change that the plain head does not have
                varied = varied | {"none": usual.get(key, {}).get("none", {})}
            seeds = seeds_of(varied) & seeds_of(usual.get(key, {}))
            if seeds:
                pairs.append((key, only_seeds(varied, seeds), only_seeds(usual[key], seeds)))
        for key, varied, same in pairs:
            rows.append(table_row(_variant_row(title, key, varied)))
            rows.append(table_row(_variant_row("as in the table", key, same)))
        varied_sets = Counter(network for (network, _), _, _ in pairs)
        engines = [pair for pair in pairs if pair[0][1] in ENGINES and varied_sets[pair[0][0]] > 1]
        if len(engines) > 2:
            networks = " and ".join(
                NETWORKS[name] for name, sets in varied_sets.items() if sets > 1
            )
            rows.append(_mean_row(title, networks, [varied for _, varied, _ in engines]))
            usual_cells = [same for _, _, same in engines]
            rows.append(_mean_row("as in the table", networks, usual_cells))
    return "\n".join(rows)


def _variant_row(title: str, key: tuple[str, str], cell: Cell) -> list[str]:
    network, benchmark = key
    values = [
        with_interval(values_of(cell, arm, readout, last_pass, metric_of(benchmark)))
        for arm, readout in (
            ("none", EQUAL_RATES),
            ("text", readout_of(benchmark)),
            ("random", readout_of(benchmark)),
        )
    ]
    gains = [percent(gains) for gains in _variant_gains(cell, metric_of(benchmark))]
    place = f"{benchmark}, {NETWORKS[network]}"
    return [title, place, str(len(seeds_of(cell))), *values, *gains]


def _mean_row(title: str, networks: str, cells: Sequence[Cell]) -> str:
    place = f"mean of {len(cells)}, {networks}"
    columns = zip(*(_variant_gains(cell, "rmse") for cell in cells), strict=True)
    means = [over_cells(column) for column in columns]
    return table_row([f"**{title}**", place, "", "", "", "", *means])


def _variant_gains(cell: Cell, name: str) -> list[list[float]]:
    return [
        gains_over_plain(cell, "text", name, last_pass, EQUAL_RATES),
        gains_over_plain(cell, "random", name, last_pass, EQUAL_RATES),
        gains_over_plain(cell, "text", name, best_on_test, RATE_STAYS),
    ]


def _size_table(lines: Sequence[Line]) -> str:
    header = ("network", *BENCHMARKS)
    rows = [table_row(header), table_row(["---"] * len(header))]
    cells = cells_of(lines)
    for network, title in NETWORKS.items():
        texts = []
        for benchmark in BENCHMARKS:
            cell = cells.get((network, benchmark), {})
            one = next((line for arm in cell.values() for line in arm.values()), None)
            steps = f"{one['steps']} steps" if one else "no run"
            passes = PASSES[network][benchmark]
            texts.append(f"{passes} passes, {steps}, {len(seeds_of(cell))} seeds")
        rows.append(table_row([title, *texts]))
    return "\n".join(rows)
