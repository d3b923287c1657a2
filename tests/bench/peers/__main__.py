"""`make bench-peers`: see the package. Prints the table of targets and writes the results page."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.bench.machine import describe_machine
from tests.bench.peers.environments import DEFAULT_FOLDER, PEERS, peer_versions
from tests.bench.peers.externals import flood_ekuiper, flood_telegraf
from tests.bench.peers.gateways import Revision, made_worktree, this_revision
from tests.bench.peers.journal import Journal, Run, newest_runs
from tests.bench.peers.lives import measure_day, measure_flood, measure_puback
from tests.bench.peers.page import results_page, shown
from tests.bench.peers.plan import CASES, FULL, QUICK, Form, Step, steps
from tests.bench.peers.profiles import measure_floor, measure_profile
from tests.bench.peers.rivals import (
    Peer,
    flood_bytewax,
    flood_kafka,
    flood_script,
    live_script,
)
from tests.bench.peers.sites import measure_site
from tests.bench.peers.workloads import ROOT, WORKLOADS

BASELINE = "30fde296"
"""The revision whose profile and figures issue 17 starts from."""
_PAGE = ROOT / "docs/results/peers.md"


@click.command(context_settings={"show_default": True})
@click.option("--quick", is_flag=True, help="Short form: about 25 minutes on two cores.")
@click.option("--baseline", default=BASELINE, help="Revision to compare with.")
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="Repeatable.")
@click.option("--fresh", is_flag=True, help="Measure again what an earlier call has measured.")
@click.option("--page", type=click.Path(path_type=Path), default=_PAGE, help="Results page.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER,
    help="Environments of the peers, worktree of the baseline, finished runs.",
)  # fmt: skip
def main(
    quick: bool, baseline: str, only: tuple[str, ...], fresh: bool, page: Path, folder: Path
) -> None:
    """Measure this revision, an earlier one and peers on the same work.

    Finished runs are kept: a call that was interrupted continues where it was. The page is written
    after every round.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    screen = Console(width=150)
    bench = Bench(FULL if not quick else QUICK, folder, made_worktree(baseline, folder))
    form = "quick" if quick else "full"
    name = f"{bench.now.commit}-{bench.baseline.commit}-{form}"
    file = folder / f"runs-{name}.jsonl"
    if fresh:
        file.unlink(missing_ok=True)
    journal = Journal(file)
    meta = {
        "machine": describe_machine(),
        "now": bench.now.commit,
        "baseline": bench.baseline.commit,
        "form": form,
        "peers": {peer: peer_versions(peer) for peer in PEERS},
    }
    todo = list(steps(bench.form, only))
    for number, step in enumerate(todo, start=1):
        if journal.find(step.case, step.candidate, step.round) is None:
            label = f"{step.case}, {step.candidate}, round {step.round + 1}"
            began = time.perf_counter()
            run = bench.measure(step)
            journal.add(run)
            screen.print(
                f"{number}/{len(todo)}  {label}: {_summary(run)} "
                f"({time.perf_counter() - began:.0f} s)",
                style=None if run.holds or "absent" in run.figures else "red",
                highlight=False,
            )
        is_last = number == len(todo) or todo[number].round != step.round
        if is_last:
            runs = newest_runs(journal.runs())
            page.write_text(results_page(meta, runs), encoding="utf-8")
            data = meta | {"runs": [asdict(run) for run in runs]}
            page.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    heads, *rows = shown(newest_runs(journal.runs()))
    table = Table()
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at else "left")
    for row in rows:
        table.add_row(*(cell.strip("*") for cell in row))
    screen.print(table)
    screen.print(f"written to {page}; finished runs: {file}")


class Bench:
    """Measures steps of a plan."""

    def __init__(self, form: Form, folder: Path, baseline: Revision) -> None:
        self.form, self.baseline = form, baseline
        self.now = this_revision()
        self._folder = folder
        self._cases: dict[str, Callable[[Step, Path], dict[str, Any]]] = {
            "day": self._day,
            "flood w1": self._flood,
            "flood w2": self._flood,
            "puback": lambda step, scratch: measure_puback(self._revision(step), scratch),
            "site": self._site,
            "peers w1": self._flood,
            "peers w2": self._flood,
            "profile": self._profile,
            "floor": self._floor,
        }

    def measure(self, step: Step) -> Run:
        """Run one step; an error is its result."""
        with tempfile.TemporaryDirectory(prefix="kpstream-bench-") as scratch:
            try:
                figures = self._cases[step.case](step, Path(scratch) / "run")
            except Exception as error:
                figures = {"error": f"{type(error).__name__}: {error}", "holds": False}
        figures["load"] = os.getloadavg()[0]
        return Run(step.case, step.candidate, step.round, figures)

    def _revision(self, step: Step) -> Revision:
        return {"now": self.now, "baseline": self.baseline}[step.candidate]

    def _day(self, step: Step, scratch: Path) -> dict[str, Any]:
        rates, seconds = self.form.rates, self.form.seconds
        if step.candidate == "paho-batch":
            return live_script(Peer(scratch, self._folder), rates=rates, seconds=seconds)
        idle_s = self.form.idle_s
        return measure_day(
            self._revision(step), scratch, rates=rates, seconds=seconds, idle_s=idle_s
        )

    def _flood(self, step: Step, scratch: Path) -> dict[str, Any]:
        name, who = step.case.split()[1], step.candidate
        workload, per_device = WORKLOADS[name], self.form.per_device[name]
        if who in ("now", "baseline"):
            return measure_flood(self._revision(step), scratch, workload, per_device)
        peer = Peer(scratch, self._folder)
        if who.startswith("paho-"):
            return flood_script(peer, who.removeprefix("paho-"), workload, per_device)
        if who == "bytewax":
            return flood_bytewax(peer, workload, per_device)
        if who in ("quix", "faust"):
            fewer = self.form.per_device[f"kafka {name}"]
            return flood_kafka(peer, who, workload, fewer, full_only=who == "quix")
        external = flood_ekuiper if who == "ekuiper" else flood_telegraf
        return external(scratch, workload, per_device)

    def _site(self, step: Step, scratch: Path) -> dict[str, Any]:
        per_device = self.form.per_device["site"]
        return measure_site(
            self._revision(step), scratch, rate=200, seconds=self.form.seconds,
            per_device=per_device, single_scores=per_device * 50,
        )  # fmt: skip

    def _profile(self, step: Step, scratch: Path) -> dict[str, Any]:
        return measure_profile(self._revision(step), scratch, self._folder, seconds=12)

    def _floor(self, step: Step, scratch: Path) -> dict[str, Any]:
        sizes = {name: self.form.per_device[name] for name in WORKLOADS}
        return {
            name: measure_floor(WORKLOADS[name], scratch / name, per_device=size)
            for name, size in sizes.items()
        } | {"holds": True}


def _summary(run: Run) -> str:
    figures = run.figures
    if "absent" in figures or "error" in figures:
        return str(figures.get("absent") or figures["error"])
    costs = {"": figures.get("cpu_per_million")}
    live = figures.get("live", {})
    costs |= {rate: each.get("cpu_per_million") for rate, each in live.items()
              if isinstance(each, dict)}  # fmt: skip
    said = ", ".join(f"{rate} {cost:,.1f}".strip() for rate, cost in costs.items() if cost)
    return f"{said}; {figures.get('check', 'done')}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
