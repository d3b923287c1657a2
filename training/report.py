"""Output of a run: progress bar with the time left, log in JSON lines, tables."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.artifact import Artifact
from training.checkpoints import has_state
from training.datasets.contract import DataSet
from training.evaluate import Rival
from training.forecast_gate import HeldOutTime, Verdict

if TYPE_CHECKING:  # it needs torch
    from training.candidate import Candidate, EpochReport

__all__ = [
    "RunLog",
    "print_comparison",
    "print_forecast_gains",
    "print_forecast_table",
    "print_table",
    "rule_for",
]


def rule_for(groups: str) -> str:
    """The rule for publishing, as people read it; `groups` are what is held out."""
    return (
        "a student is published only if the 90 % paired bootstrap interval of the gain over "
        f"{groups} lies above zero for every rival, and the gain is large enough to matter."
    )


class RunLog:
    """JSON lines of a run, continued after a restart, and its progress bar.

    The bar of a continued run begins with the passes that are done, so the time left is that of the
    other passes.

    Args:
        path: File of the lines.
        console: Where the bar is shown.
        epochs: Passes of the whole run.
    """

    def __init__(self, path: Path, console: Console, epochs: int) -> None:
        self.path = path
        if not has_state(path.parent):
            path.unlink(missing_ok=True)  # lines of a run that cannot continue
        passes = self._passes()
        done = passes[-1]["epoch"] if passes else 0
        if done:
            console.print(f"Continues after pass {done} of {epochs}.")
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._row = self._bar.add_task("", total=epochs, completed=done)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def add(self, report: EpochReport) -> None:
        """Log a pass and advance the bar."""
        self.write({"epoch": report.number, "loss": report.loss, "held_out": report.held_out})
        held_out = "" if report.held_out is None else f", held-out {report.held_out:.4g}"
        text = f"loss {report.loss:.3f}{held_out}"
        self._bar.update(self._row, completed=report.number, description=text)

    def add_pass(self, number: int, loss: float, validation: float) -> None:
        """Log a pass of a forecasting student and advance the bar; pass 0 is the untrained one."""
        known = None if math.isnan(loss) else loss
        self.write({"epoch": number, "loss": known, "validation": validation})
        text = f"validation {validation:.4g}"
        text = text if known is None else f"loss {loss:.3f}, {text}"
        self._bar.update(self._row, completed=number, description=text)

    def write(self, line: dict[str, Any]) -> None:
        """Append one JSON object."""
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + json.dumps(line) + "\n")

    def curve(self) -> tuple[list[float], list[float]]:
        """Read loss and held-out measure of every pass, including those before a restart.

        The measure is NaN if no group was held out.
        """
        ordered = self._passes()
        measures = [math.nan if line["held_out"] is None else line["held_out"] for line in ordered]
        return [line["loss"] for line in ordered], measures

    def validation_curve(self) -> tuple[list[float], list[float]]:
        """Read loss and validation error of every pass of a forecasting student, from pass 0.

        The loss of pass 0 is NaN, because the student was not trained yet.
        """
        ordered = self._passes()
        losses = [math.nan if line["loss"] is None else line["loss"] for line in ordered]
        return losses, [line["validation"] for line in ordered]

    def _passes(self) -> list[dict[str, Any]]:
        """Passes in their order; of one that was made twice after a restart, the later one."""
        passes: dict[int, dict[str, Any]] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        for text in content.splitlines():
            with contextlib.suppress(ValueError):  # a kill or a full disk has cut the line
                line = json.loads(text)
                if "epoch" in line:
                    passes[line["epoch"]] = line
        return [passes[number] for number in sorted(passes)]


def print_table(
    console: Console,
    candidate: Candidate,
    running: Artifact | None,
    old_metrics: dict[str, float],
    data_set: DataSet,
    baselines: Sequence[Rival] = (),
) -> None:
    """Print the measures of both students, and of baselines, on the held-out windows."""
    every = "out_of_fold" in candidate.artifact.manifest.metrics
    groups = (
        f"All {data_set.group_word}s, out of fold" if every else f"Held-out {data_set.group_word}s"
    )
    table = Table(title=f"{groups}, {len(candidate.held_out)} windows")
    table.add_column("student")
    shown = [key for key in candidate.metrics if key != "windows"]
    for key in shown:
        table.add_column(key, justify="right")
    table.add_column("ONNX bytes", justify="right")
    for one in baselines:
        table.add_row(one.name, *(f"{one.measures[key]:.4g}" for key in shown), "-")
    rows = [("new", candidate.artifact, candidate.metrics)]
    if running is not None:
        title = f"running ({running.manifest.name} v{running.manifest.version})"
        rows.insert(0, (title, running, old_metrics))
    for title, artifact, metrics in rows:
        numbers = [f"{metrics[key]:.4g}" for key in shown]
        table.add_row(title, *numbers, str(artifact.manifest.onnx.size_bytes))
    console.print(table)


def print_comparison(console: Console, rivals: Sequence[Rival], data_set: DataSet) -> None:
    """Print the gain over every rival with its interval, and the rule for publishing."""
    lines = [
        f"Gain over {rival.name} per {data_set.group_word} ({data_set.error_unit}): "
        f"{rival.comparison.gain:.4g}, 90 % interval [{rival.comparison.low:.4g}, "
        f"{rival.comparison.high:.4g}], better on {rival.comparison.wins} of "
        f"{rival.comparison.groups}."
        for rival in rivals
    ]
    rule = f"Rule: {rule_for(f'held-out {data_set.group_word}s')}"
    console.print(*lines, rule, sep="\n", soft_wrap=True, markup=False)


def print_forecast_table(
    console: Console, verdict: Verdict, sizes: dict[str, int], held_out: HeldOutTime
) -> None:
    """Print the measures of a forecasting student and its rivals on the held-out time.

    Args:
        console: Where to print.
        verdict: Measures by forecast.
        sizes: Bytes of the graph, by the name of the forecast; the baselines have none.
        held_out: The windows measured.
    """
    table = Table(title=f"Held-out time, {len(held_out.windows)} windows")
    table.add_column("forecast")
    for key in verdict.new.measures:
        table.add_column(key, justify="right")
    table.add_column("ONNX bytes", justify="right")
    for judged in (*verdict.rivals, verdict.new):
        numbers = [
            "-" if math.isnan(value) else f"{value:.4g}" for value in judged.measures.values()
        ]
        table.add_row(judged.name, *numbers, str(sizes.get(judged.name, "-")))
    console.print(table)


def print_forecast_gains(
    console: Console, verdict: Verdict, held_out: HeldOutTime, unit: str
) -> None:
    """Print the gain over every rival with its interval, and the rule for publishing."""
    hours = held_out.block_ms / 3_600_000
    lines = [
        f"Gain over {rival.name} ({unit}): {gain.gain:.4g}, 90 % interval [{gain.low:.4g}, "
        f"{gain.high:.4g}], better in {gain.wins} of {gain.groups} blocks of {hours:g} hours."
        for rival, gain in zip(verdict.rivals, verdict.gains, strict=True)
    ]
    rule = f"Rule: {rule_for('blocks of held-out time')}"
    console.print(*lines, rule, sep="\n", soft_wrap=True, markup=False)
