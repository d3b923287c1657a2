"""`make growth`: see the package."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.bench.growth.page import LIVE_RATE, growth_page, write_picture
from tests.bench.growth.runs import measure_devices, measure_instructions, measure_recovery
from tests.bench.machine import describe_machine
from tests.bench.peers.environments import DEFAULT_FOLDER
from tests.bench.peers.gateways import Revision, made_worktree, this_revision
from tests.bench.peers.journal import Journal, Run, newest_runs
from tests.bench.peers.workloads import ROOT

_PAGE = ROOT / "docs/results/growth.md"


@click.command(context_settings={"show_default": True})
@click.option("--devices", multiple=True, default=(100, 1000, 10_000), type=int)
@click.option("--rate", default=500, help="Messages a second of all devices together.")
@click.option("--seconds", default=20.0, help="Length of a live load, at least.")
@click.option("--recovery", default=50_000, help="Devices of the large recovery; 0: none.")
@click.option("--readings", default=30, help="Readings of each of them before.")
@click.option("--instructions/--no-instructions", default=True, help="Count them by callgrind.")
@click.option("--baseline", help="An earlier revision, measured as well.")
@click.option("--fresh", is_flag=True, help="Measure again what an earlier call has measured.")
@click.option("--page", type=click.Path(path_type=Path), default=_PAGE, help="Results page.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER,
    help="Worktree of the baseline, finished runs.",
)  # fmt: skip
def main(
    devices: tuple[int, ...],
    rate: int,
    seconds: float,
    recovery: int,
    readings: int,
    instructions: bool,
    baseline: str | None,
    fresh: bool,
    page: Path,
    folder: Path,
) -> None:
    """Measure memory, CPU, delays and recovery of a gateway against the number of devices.

    Finished runs are kept: a call that was interrupted continues where it was.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    screen = Console(width=150)
    revisions = [this_revision()]
    if baseline:
        revisions.append(made_worktree(baseline, folder))
    name = "-".join(revision.commit for revision in revisions)
    file = folder / f"growth-{name}-{rate}.jsonl"
    if fresh:
        file.unlink(missing_ok=True)
    journal = Journal(file)
    meta: dict[str, Any] = {
        "machine": describe_machine(),
        "now": revisions[0].commit,
        "baseline": revisions[1].commit if baseline else None,
        "rate": rate,
    }

    def measured(case: str, revision: Revision, scratch: Path) -> dict[str, Any]:
        kind, _, count = case.partition(" ")
        if kind == "devices":
            return measure_devices(revision, scratch, int(count), rate=rate, seconds=seconds)
        if kind == "recovery":
            return measure_recovery(revision, scratch, int(count), readings=readings)
        return measure_instructions(revision, scratch, messages=500, rate=LIVE_RATE)

    def cases() -> Iterator[tuple[str, Revision]]:
        for count in devices:
            yield from ((f"devices {count}", revision) for revision in revisions)
        if instructions:
            yield "instructions", revisions[0]
        if recovery:
            yield from ((f"recovery {recovery}", revision) for revision in revisions)

    for case, revision in cases():
        if journal.find(case, revision.name, 0) is None:
            began = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="kpstream-growth-") as scratch:
                try:
                    figures = {"holds": True} | measured(case, revision, Path(scratch) / "run")
                except Exception as error:
                    figures = {"error": f"{type(error).__name__}: {error}", "holds": False}
            figures["load"] = os.getloadavg()[0]
            run = Run(case, revision.name, 0, figures)
            journal.add(run)
            screen.print(
                f"{case}, {revision.name}: {json.dumps(figures)} "
                f"({time.perf_counter() - began:.0f} s)",
                style=None if run.holds else "red",
                highlight=False,
            )
        runs = newest_runs(journal.runs())
        picture = page.with_suffix(".png")
        write_picture(picture, runs)
        page.write_text(growth_page(meta, runs, picture.name), encoding="utf-8")
        data = meta | {"runs": [asdict(run) for run in runs]}
        page.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    screen.print(f"written to {page}; finished runs: {file}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
