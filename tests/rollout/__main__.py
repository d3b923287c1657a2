"""`make rollout`: bad students and a good one on a fleet of small gateways; writes the table."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import click

from deploy.rollout.release import Plan, Step
from pipeline.scoring.thresholds import Thresholds
from tests.rollout.cases import (
    BAD,
    MOST_BACK_S,
    BadOutcome,
    GoodOutcome,
    Trouble,
    run_bad,
    run_good,
)
from tests.rollout.fleet import Fleet, FleetFailed

_OUT = Path("docs/results/rollout.md")
_STEPS = (10, 50, 100)


@dataclass
class Results:
    """The outcomes of one run, or of several that did a part each.

    Attributes:
        bad: Bad students.
        good: The good one; None before it was released.
        memory_mb: Memory of all gateways together, at the start of the last run.
        runs: Seconds of each run by its options.
    """

    bad: list[BadOutcome] = field(default_factory=list)
    good: GoodOutcome | None = None
    memory_mb: float = 0.0
    runs: dict[str, float] = field(default_factory=dict)


@click.command(context_settings={"show_default": True})
@click.option("--gateways", default=50, help="Small gateways, each a process.")
@click.option("--controls", default=10, help="Kills of the control process.")
@click.option("--troubled", default=5, help="Gateways killed, paused and cut off, each.")
@click.option("--step-seconds", default=30, help="Shortest time of each step.")
@click.option("--seed", default=0, help="Which gateways, in which order.")
@click.option("--part", type=click.Choice(["all", "bad", "good"]), default="all")
@click.option(
    "--rows", type=click.Path(path_type=Path), help="File that keeps the parts of several runs."
)
@click.option("--out", type=click.Path(path_type=Path), default=_OUT, help="Where the table goes.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder of the fleet, kept.")
def main(
    gateways: int,
    controls: int,
    troubled: int,
    step_seconds: int,
    seed: int,
    part: str,
    rows: Path | None,
    out: Path,
    keep: Path | None,
) -> None:
    """Release bad students and a good one to a fleet, while its parts are killed."""
    began_s = time.monotonic()
    good_plan, bad_plan = (_plan(step_seconds, windows) for windows in (100, 1500))
    found = Results() if rows is None or not rows.exists() else pickle.loads(rows.read_bytes())
    with tempfile.TemporaryDirectory(prefix="kpstream-rollout-") as scratch:
        try:
            with Fleet(keep or Path(scratch), gateways) as fleet:
                fleet.until(lambda: len(fleet.known()) == gateways, "all gateways report")
                found.memory_mb = fleet.memory_mb()
                click.echo(f"{gateways} gateways report, {found.memory_mb:.0f} MB together")
                if part != "good":
                    found.bad = []
                for number, case in enumerate(BAD if part != "good" else ()):
                    found.bad.append(run_bad(fleet, case, number + 2, bad_plan))
                    click.echo(f"{case.name}: {found.bad[-1]}")
                if part != "bad":
                    trouble = Trouble(controls, troubled, seed)
                    found.good = run_good(fleet, len(BAD) + 2, good_plan, trouble)
        except FleetFailed as exc:
            click.echo(f"rollout: the promise was NOT kept.\n{exc}", err=True)
            sys.exit(1)
    options = (
        f"--gateways {gateways} --controls {controls} --troubled {troubled} "
        f"--step-seconds {step_seconds} --seed {seed} --part {part}"
    )
    found.runs[options] = time.monotonic() - began_s
    if rows is not None:
        rows.write_bytes(pickle.dumps(found))
    if found.good is not None and found.bad:
        text = _table(found, found.good, gateways)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
        click.echo(text)


def _plan(step_seconds: int, windows: int) -> Plan:
    return Plan(
        steps=tuple(Step(percent=p, seconds=step_seconds, windows=windows) for p in _STEPS),
        shadow_seconds=3,
        shadow_windows=200,
        probation_seconds=600,
        thresholds=Thresholds(),
    )


def _table(found: Results, good: GoodOutcome, gateways: int) -> str:
    """The result as Markdown."""
    names = ("onnxruntime", "tuf", "paho-mqtt")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    lines = [
        "# Rollout to a fleet",
        "",
        *(f'Written by `make rollout ARGS="{options}"`.\n' for options in found.runs),
        "Each gateway is a process with the real agent, fetcher, registry, students and reporter,",
        "fed with 40 windows a second; the broker is mosquitto, the centre a signed repository",
        "behind a web server.",
        "[rollout.md](../rollout.md) says what is promised.",
        "",
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {packages}.",
        "",
        "## Bad students",
        "",
        f"A canary of {_STEPS[0]} per cent. Each student stayed in it, the release paused, and no",
        "window was lost, doubled, or left without a finite score. *Back* is the longest time from",
        "the evidence to the last window that the bad student scored; the limit is "
        f"{MOST_BACK_S:.0f} s.",
        "",
        "| student | found out | canary | judged it | windows it scored | back | first reason |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found.bad:
        where = "in shadow" if each.case.phase == "shadow" else "on probation"
        back = f"{max(0.0, each.back_s):.1f} s" if each.scored else "never ran"
        reason = each.reason.split("[ONNXRuntimeError]")[0].rstrip(": ")
        lines.append(
            f"| {each.case.name} | {where} | {len(each.members)} | {len(each.failed)} | "
            f"{each.scored:,} | {back} | {reason} |"
        )
    kinds = {kind: sum(act.startswith(kind) for act in good.troubled) for kind in _KINDS}
    lines += [
        "",
        "## A good student, while processes die",
        "",
        "| | |",
        "|---|---|",
        "| gateways that run it in the end, as the centre knows | "
        f"{len(good.champions)} of {gateways} |",
        f"| members of the steps | {', '.join(map(str, good.shares))} |",
        f"| seconds between the beginnings of the steps | {_gaps(good)} |",
        f"| control process killed (SIGKILL) and started again | {good.controls_killed} |",
        *(f"| gateways {words} | {kinds[kind]} |" for kind, words in _KINDS.items()),
        f"| windows that it scored | {good.scored:,} |",
        "| windows of all gateways in this run, each with exactly one finite score | "
        f"{good.windows:,} |",
        f"| seconds of all runs | {sum(found.runs.values()):.0f} |",
        f"| memory of all gateways together (PSS) | {found.memory_mb:.0f} MB |",
        "",
    ]
    return "\n".join(lines)


_KINDS = {
    "kill": "killed and started again",
    "pause": "paused for some seconds",
    "cut": "cut off from broker and centre for some seconds",
}


def _gaps(good: GoodOutcome) -> str:
    pairs = zip(good.steps, good.steps[1:], strict=False)
    return ", ".join(str(after - before) for (_, before), (_, after) in pairs)


if __name__ == "__main__":
    main()
