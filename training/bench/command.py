"""`python -m training.bench`: make the missing runs of the experiment ledger, and report.

    python -m training.bench run --data DATA_FOLDER               # make the missing runs
    python -m training.bench run --data DATA_FOLDER --only FD001  # of one benchmark
    python -m training.bench report                               # tables and plots into docs/

The plans `bench-forecast-*.toml` are of forecasting students. Their lines are in a results file of
their own, of the same format. An interrupted run starts again; `training.bench.runs` and
`training.bench.forecastruns` describe one run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.bench.forecastplan import (
    ForecastRun,
    read_forecast_plan,
    shipped_forecast_plans,
    shipped_taught_plans,
)
from training.bench.forecastreport import write_forecast_report
from training.bench.forecastruns import do_forecast_run, read_series
from training.bench.ledger import (
    FORECAST_PLANS,
    Run,
    append_line,
    missing_runs,
    read_lines,
    read_plan,
    read_results,
    shipped_plans,
)
from training.bench.report import write_report
from training.bench.runs import do_run
from training.bench.shifts import TRANSFERS, UNSEEN
from training.bench.taughtreport import write_taught_report
from training.datasets.benchmarks import read_benchmark
from training.datasets.contract import DataSet
from training.errors import exit_on_errors
from training.forecasting.teaching import teacher_products

__all__ = ["run_missing", "run_missing_forecasts"]

RESULTS = Path("docs/results/knowledge_pruning.jsonl")
FORECASTS = Path("docs/results/forecast.jsonl")


@click.group(context_settings={"show_default": True})
def main() -> None:
    """The experiment ledger of Knowledge Pruning and of forecasting students."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Data folder.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@click.option(
    "--forecasts",
    type=click.Path(path_type=Path),
    default=FORECASTS,
    help="Results file of forecasting runs.",
)
@click.option(
    "--plan",
    "plans",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Plan file, instead of the shipped plans; may be repeated.",
)
@click.option("--only", help="Only plans whose benchmark has this name.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    default=Path("runs/bench"),
    help="Folder for the state of the run in progress.",
)
@click.option(
    "--max-minutes", type=click.FloatRange(min=0), default=1e6, help="Start no run after this time."
)
@exit_on_errors("training.bench")
def run(
    data: Path,
    results: Path,
    forecasts: Path,
    plans: tuple[Path, ...],
    only: str | None,
    scratch: Path,
    max_minutes: float,
) -> None:
    """Make the missing runs of the shipped plans (or of --plan files)."""
    deadline_s = time.monotonic() + 60 * max_minutes
    shipped = (*shipped_plans(), *shipped_forecast_plans(), *shipped_taught_plans())
    chosen = plans or shipped
    of_forecasts = [plan for plan in chosen if plan.name.startswith(FORECAST_PLANS)]
    others = [plan for plan in chosen if plan not in of_forecasts]
    runs = [run for plan in others for run in read_plan(plan) if only in (None, run.benchmark)]
    failed = run_missing(runs, data, results, scratch, deadline_s, Console())
    more = [
        run
        for plan in of_forecasts
        for run in read_forecast_plan(plan)
        if only in (None, run.benchmark)
    ]
    failed += run_missing_forecasts(more, data, forecasts, deadline_s, Console())
    for sentence in failed:
        click.echo(f"training.bench: not exported: {sentence}", err=True)
    sys.exit(1 if failed else 0)


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@click.option(
    "--forecasts",
    type=click.Path(path_type=Path),
    default=FORECASTS,
    help="Results file of forecasting runs.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder; by default that of the results file."
)
@exit_on_errors("training.bench")
def report(results: Path, forecasts: Path, out: Path | None) -> None:
    """Write tables (Markdown) and plots from the results files, for the shipped plans."""
    runs = [run for plan in shipped_plans() for run in read_plan(plan)]
    for path in write_report(
        runs, read_results(results, "python -m training.bench run"), out or results.parent
    ):
        click.echo(path)
    if forecasts.exists():
        more = [run for plan in shipped_forecast_plans() for run in read_forecast_plan(plan)]
        lines = read_lines(forecasts)
        for path in write_forecast_report(more, lines, out or forecasts.parent):
            click.echo(path)
        taught = [run for plan in shipped_taught_plans() for run in read_forecast_plan(plan)]
        for path in write_taught_report(taught, lines, out or forecasts.parent):
            click.echo(path)


def run_missing(
    runs: Sequence[Run],
    data: Path,
    results: Path,
    scratch: Path,
    deadline_s: float,
    console: Console,
) -> list[str]:
    """Make the runs without a line, one after the other, with a progress bar.

    A student that cannot be exported is measured with the scores of PyTorch, and its line has
    `export_error`.

    Args:
        runs: Runs that the ledger should contain.
        data: Folder of the data sets; unused for dummy benchmarks.
        results: File to append to.
        scratch: Folder for the state of the run in progress.
        deadline_s: `time.monotonic()` from which no further run starts.
        console: Console of the progress bar.

    Returns:
        One sentence for every student that could not be exported.
    """
    failed = []
    read = _reader(data)
    todo = missing_runs(runs, read_lines(results))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        row = bar.add_task("", total=len(runs), completed=len(runs) - len(todo))
        for one in todo:
            if time.monotonic() >= deadline_s:
                break
            bar.update(row, description=f"{one.benchmark} {one.method} seed {one.recipe.seed}")
            line = do_run(one, read(one), scratch)
            append_line(results, line)
            if why := line.get("export_error"):
                failed.append(f"{one.benchmark} {one.method} seed {one.recipe.seed}: {why}")
            bar.advance(row)
    return failed


def run_missing_forecasts(
    runs: Sequence[ForecastRun],
    data: Path,
    results: Path,
    deadline_s: float,
    console: Console,
    teachers: Path = Path("runs/teachers"),
) -> list[str]:
    """Make the forecasting runs without a line, as `run_missing` does.

    Args:
        runs: Runs of plans.
        data: Data folder.
        results: Results file; finished runs are appended.
        deadline_s: `time.monotonic()` from which no run starts.
        console: Shows the progress.
        teachers: Folder of the products; a teacher without products is trained first.
    """
    failed = []
    done = {line["config"] for line in read_lines(results)}
    todo = [run for run in runs if run.digest not in done]
    for number, one in enumerate(todo, start=1):
        if time.monotonic() >= deadline_s:
            break
        recipe = one.recipe
        name = f"{one.benchmark} {recipe.length}-{recipe.horizon} {one.student} {recipe.seed}"
        if recipe.teacher != "none":
            name += f", teacher {recipe.teacher} {recipe.teacher_seed}"
        console.print(f"{number} of {len(todo)}: {name}")
        series = read_series(one.benchmark, data)
        products = teacher_products(recipe, series, teachers, deadline_s=deadline_s)
        if products is None and recipe.teacher != "none":
            break  # the deadline ended the teacher's training
        names = [TRANSFERS[one.benchmark]] if one.benchmark in TRANSFERS else []
        names += UNSEEN.get(one.benchmark, ())
        unseen = [read_series(name, data) for name in names]
        line = do_forecast_run(one, series, products, unseen)
        append_line(results, line)
        if why := line.get("export_error"):
            failed.append(f"{name}: {why}")
    return failed


def _reader(folder: Path) -> Callable[[Run], DataSet]:
    """Make a reader for the benchmark of a run; it caches the one of the previous run."""

    @lru_cache(maxsize=1)
    def read(name: str, length: int, conditions: bool) -> DataSet:
        return read_benchmark(name, folder, length=length, conditions=conditions)

    return lambda run: read(run.benchmark, run.recipe.length, run.recipe.conditions)
