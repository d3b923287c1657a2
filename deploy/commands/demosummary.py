"""What `kpstream demo` prints: the account while it runs, and the summary at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["account_line", "account_table", "print_summary"]

_COUNTED = ("received", "windowed", "duplicate", "corrected", "late", "dead_lettered")


def account_table(page: dict[str, Any], elapsed: float) -> Table:
    """Return the account of `api/v1/pipeline` as a table, for a terminal."""
    totals = page["totals"]
    table = Table(title=f"account after {elapsed:.0f} s", title_justify="left")
    for name in ("readings", "", "scores", " "):
        table.add_column(name, justify="left" if name in ("readings", "scores") else "right")
    latency = totals["sensor_to_score"]
    right = [
        ("windows closed", f"{totals['windows']:,}"),
        ("windows scored", f"{totals['scored']:,}"),
        ("points stored", f"{totals['stored']:,}"),
        ("sensor to score p50", _ms(latency["p50_ms"])),
        ("sensor to score p99", _ms(latency["p99_ms"])),
        ("messages refused", f"{totals['messages_dead_lettered']:,}"),
    ]
    for name, (label, value) in zip(_COUNTED, right, strict=True):
        table.add_row(name.replace("_", "-"), f"{totals[name]:,}", label, value)
    return table


def account_line(page: dict[str, Any], elapsed: float) -> str:
    """Return the account of `api/v1/pipeline` as one line, for a file."""
    totals = page["totals"]
    counts = ", ".join(f"{name.replace('_', '-')} {totals[name]}" for name in _COUNTED)
    latency = totals["sensor_to_score"]
    return (
        f"{elapsed:4.0f} s  {counts}; scored {totals['scored']}, stored {totals['stored']}; "
        f"sensor to score p50 {_ms(latency['p50_ms'])}, p99 {_ms(latency['p99_ms'])}"
    )


def print_summary(page: dict[str, Any] | None, folder: Path, out: Console) -> None:
    """Print the account, and the stored scores against the truth of the simulators.

    Args:
        page: Last page of `api/v1/pipeline`; None if the gateway did not answer.
        folder: Folder of the run: `state/results.db` and `truth.jsonl`.
        out: Terminal.
    """
    out.print("\n[bold]summary[/]")
    if page is not None:
        totals = page["totals"]
        parts = " + ".join(f"{name.replace('_', '-')} {totals[name]:,}" for name in _COUNTED[1:])
        state = "balanced" if totals["missing"] == 0 else f"OUT OF BALANCE by {totals['missing']}"
        out.print(f"  readings   received {totals['received']:,} = {parts}   ({state})")
        reasons = ", ".join(f"{k} {v}" for k, v in sorted(totals["dead_letters"].items())) or "none"
        out.print(f"  refused    {reasons}")
        latency = totals["sensor_to_score"]
        out.print(
            f"  scores     {totals['scored']:,} scored, {totals['stored']:,} points; sensor to "
            f"score p50 {_ms(latency['p50_ms'])}, p99 {_ms(latency['p99_ms'])}"
        )
    for line in _truth_lines(folder):
        out.print(f"  {line}")


def _truth_lines(folder: Path) -> list[str]:
    from ingest.simulators.forecasttruth import judge_alarms, judge_forecasts
    from ingest.simulators.truth import TransformerTruth, error_against_truth, read_truth
    from models.tasks.forecast import FORECAST
    from models.tasks.registry import tasks
    from pipeline.console.queries import all_points
    from pipeline.stores.resultsfile import ResultsFile

    truth = read_truth(folder / "truth.jsonl")
    faults = [each for each in truth if isinstance(each, TransformerTruth)]
    results = ResultsFile(folder / "state" / "results.db", read_only=True)
    try:
        scores = {task: all_points(results, task.measurement) for task in tasks()}
        details = FORECAST.details
        forecasts = all_points(results, details.measurement) if details else []
    finally:
        results.close()
    judged = error_against_truth([each for found in scores.values() for each in found], truth)
    lines = judged.lines()
    if forecasts:
        lines += [
            judge_forecasts(forecasts, faults).line(),
            judge_alarms(scores[FORECAST], faults).line(),
        ]
    return lines


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
