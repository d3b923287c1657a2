"""`python -m training.bench.papercommand`: the runs on the paper's ground, and their table.

    python -m training.bench.papercommand run --data DATA_FOLDER          # the missing runs
    python -m training.bench.papercommand run --data DATA_FOLDER --extra  # one setting varied
    python -m training.bench.papercommand report                          # the table into docs/

An interrupted command goes on where it stopped; a run that was in progress starts again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import click

from training.bench.ledger import append_line, read_lines, read_results
from training.bench.paperground import extra_runs, main_runs, missing_paper_runs
from training.bench.paperreport import write_paper_ground
from training.bench.paperruns import Ground, do_paper_run, prepare_ground
from training.errors import exit_on_errors

__all__ = ["main"]

RESULTS = Path("docs/results/paper_ground.jsonl")


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Knowledge Pruning on the paper's ground: its networks, its sets, its settings."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Data folder.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@click.option("--extra", is_flag=True, help="The runs that vary one setting, instead.")
@click.option(
    "--share",
    type=(click.IntRange(min=0), click.IntRange(min=1)),
    default=(0, 1),
    help="I N: only every N-th run, from the I-th on, for N processes with a results file each.",
)
@click.option(
    "--max-minutes", type=click.FloatRange(min=0), default=1e6, help="Start no run after this time."
)
@exit_on_errors("training.bench.papercommand")
def run(data: Path, results: Path, extra: bool, share: tuple[int, int], max_minutes: float) -> None:
    """Make the runs that have no line yet, seed 0 of every cell first."""
    deadline_s = time.monotonic() + 60 * max_minutes
    ground = _reader(data)
    runs = (extra_runs() if extra else main_runs())[share[0] :: share[1]]
    todo = missing_paper_runs(runs, read_lines(results))
    for number, one in enumerate(todo, start=1):
        if time.monotonic() >= deadline_s:
            break
        line = do_paper_run(one, ground(one.benchmark, one.seed, one.variant))
        append_line(results, line)
        click.echo(f"{number} of {len(todo)}: {one.key}, {line['seconds']} s")


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder; by default that of the results file."
)
@click.option(
    "--page",
    type=click.Path(path_type=Path, exists=True),
    default=Path("docs/knowledge-pruning.md"),
    help="Page whose table of gains is written again.",
)
@exit_on_errors("training.bench.papercommand")
def report(results: Path, out: Path | None, page: Path) -> None:
    """Write the tables from the results file."""
    lines = read_results(results, "python -m training.bench.papercommand run")
    click.echo(write_paper_ground(lines, out or results.parent, page))


def _reader(folder: Path) -> Callable[[str, int, str], Ground]:
    @lru_cache(maxsize=1)
    def read(benchmark: str, seed: int, variant: str) -> Ground:
        return prepare_ground(benchmark, folder, seed, variant)

    return read


if __name__ == "__main__":
    main()
