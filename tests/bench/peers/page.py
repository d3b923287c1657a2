"""The results page of the benchmark. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tests.bench.machine import machine_lines
from tests.bench.peers.journal import Run
from tests.bench.peers.plan import CASES, LIVE_RATES
from tests.bench.peers.table import NO_WORSE, Verdict, figure_of, judge, median_of
from tests.bench.peers.workloads import W1, W2

__all__ = ["busy_note", "number", "results_page", "shown", "table"]

_ABOUT = f"""CPU is user and system time of all threads of a candidate, in CPU-seconds per million
readings unless a line names another unit; broker and load generator are not counted. The scores of
every run are compared with ONNX Runtime run offline on the same readings, per device and in order,
before its time counts. A ratio is the median of the ratios of neighbouring runs. All runs are in
[`peers.json`](peers.json).

**W1** is `{W1.student}`: {W1.devices} devices, {len(W1.channels)} channels, one reading a
message, a score for every reading from the thirtieth on. **W2** is `{W2.student}`: {W2.devices}
devices, {len(W2.channels)} channels, ten readings a message, windows of 128 readings every 64. Live
runs send W1, with now as its event time.

`now` is this revision. `baseline` is an earlier one in the same environment. The script is
`paho-batch`, a page of code that keeps nothing. "No worse" allows {NO_WORSE - 1:.0%}, by which
equal runs differ.

The delay from receipt to score has three parts besides work: the lateness for which a window waits
(200 ms unless set otherwise), the beat in which messages are collected, and the wait for the tick
that says that nothing earlier is on its way. A script that scores at once has none of them, and
scores a window before a late reading can correct it."""

_NAMES = {
    "now": "kpstream",
    "baseline": "kpstream, baseline",
    "paho-naive": "script, one run of the network for each window (`paho-naive`)",
    "paho-batch": "script, windows in batches (`paho-batch`)",
    "bytewax": "bytewax, readings from memory",
    "quix": "Quix Streams and Kafka",
    "faust": "Faust by hand and Kafka",
    "ekuiper": "eKuiper",
    "telegraf": "Telegraf, no scores",
}
_LACKS = (
    ("", "MQTT", "durable before PUBACK", "after kill -9", "event time", "account of readings",
     "scores queryable"),
    ("kpstream", "yes", "yes", "nothing lost", "late, duplicate, corrected, gaps", "per device",
     "SQLite or InfluxDB"),
    ("script (`paho-*`)", "yes", "no", "windows and unwritten scores lost", "no", "no", "a file"),
    ("bytewax", "no: from memory here", "no", "from the last snapshot, when recovery is set up",
     "for time windows; not used by count windows", "no", "a file"),
    ("Quix Streams", "no: from Kafka", "no MQTT", "from Kafka and its changelog",
     "for time windows; not used by count windows", "no", "a Kafka topic"),
    ("Faust by hand", "no: from Kafka", "no MQTT", "windows in memory are lost", "no", "no",
     "a Kafka topic"),
    ("eKuiper", "yes", "no", "from the last checkpoint, with its `qos` set to 1",
     "for time windows", "no", "a file"),
    ("Telegraf", "yes", "no: in memory until flushed", "unflushed messages come again",
     "no windows", "no", "no scores"),
)  # fmt: skip

Meta = dict[str, Any]
"""`machine`, `now` and `baseline` (commits), `form`, `peers` (versions)."""


def results_page(meta: Meta, runs: Sequence[Run]) -> str:
    """docs/results/peers.md."""
    command = "make bench-peers" + (" ARGS=--quick" if meta["form"] == "quick" else "")
    machine = machine_lines(meta["machine"])
    versions = "; ".join(f"{peer}: {text}" for peer, text in meta["peers"].items())
    parts = [
        f"<!-- Written by `{command}`. -->",
        "# Peers on the same work",
        f"Written by `{command}`: revision `{meta['now']}`, baseline `{meta['baseline']}`.",
        _ABOUT,
        "\n".join([*machine, versions]),
        *busy_note(meta["machine"], runs),
        "## Targets",
        table(_HEADS, [_row(verdict) for verdict in judge(runs)]),
        "## Live, by messages a second",
        _live(runs),
        "## Saturated, beside every peer",
        _saturated(runs),
        *_limits(runs),
        "## What a peer does not do",
        table(_LACKS[0], _LACKS[1:], align="---"),
        *_floor(runs),
        *_profiles(runs),
        *_failures(runs),
    ]
    return "\n\n".join(parts) + "\n"


_HEADS = ("measured", "now", "baseline", "ratio", "target", "script", "ratio", "target", "")


def shown(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The table of targets for a terminal: head and rows."""
    return [_HEADS, *(_row(verdict) for verdict in judge(runs))]


def _row(verdict: Verdict) -> tuple[str, ...]:
    target = verdict.target
    sign = ">=" if target.more_is_better else "<="
    wanted = [] if target.of_baseline is None else [f"{sign} {target.of_baseline:.2g}"]
    if target.of_baseline in (NO_WORSE, 1 / NO_WORSE):
        wanted = ["no worse"]
    if target.at_most is not None:
        wanted.append(f"at most {target.at_most:g}")
    return (
        target.label,
        number(verdict.now),
        number(verdict.baseline),
        _ratio(verdict.to_baseline),
        ", ".join(wanted),
        number(verdict.script),
        _ratio(verdict.to_script),
        "" if target.of_script is None else f"<= {target.of_script:g}",
        {True: "met", False: "**missed**", None: ""}[verdict.is_met],
    )


def busy_note(machine: dict[str, Any], runs: Sequence[Run]) -> Iterable[str]:
    """A warning when the machine did much else."""
    loads = [load for run in runs if (load := figure_of(run, ("load",))) is not None]
    load = statistics.median(loads) if loads else 0.0
    if load > machine["cores"] + 1:
        yield (
            f"The machine did other work meanwhile (median load {load:.1f}): CPU and delays are "
            "inflated, and only ratios can be compared."
        )


def _live(runs: Sequence[Run]) -> str:
    rows = []
    for candidate in CASES["day"]:
        cells = []
        for rate in LIVE_RATES:
            path = ("live", str(rate))
            cost = median_of(runs, "day", candidate, (*path, "cpu_per_million"))
            share = median_of(runs, "day", candidate, (*path, "share"))
            cells.append("" if cost is None or share is None else f"{cost:,.0f} ({share:.1%})")
        rows.append((_NAMES[candidate], *cells))
    return table(("", *(f"{rate:,}" for rate in LIVE_RATES)), rows)


def _saturated(runs: Sequence[Run]) -> str:
    rows = []
    for candidate in _NAMES:
        cells = []
        for workload in ("w1", "w2"):
            own = [run for run in runs if run.candidate == candidate
                   and run.case in (f"flood {workload}", f"peers {workload}")]  # fmt: skip
            cells.append(_cost(own))
        if any(cells):
            checks = {
                str(run.figures["check"])
                for run in runs
                if run.candidate == candidate and "largest" in str(run.figures.get("check"))
            }
            differences = [float(check.rpartition(" ")[2]) for check in checks]
            check = f"{max(differences):.1g}" if differences else ""
            rows.append((_NAMES[candidate], *cells, check))
    return table(("CPU-seconds per million readings", "W1", "W2", "largest difference"), rows)


def _cost(runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    absent = [run.figures["absent"] for run in runs if "absent" in run.figures]
    if absent:
        return str(absent[0])
    case, candidate = runs[0].case, runs[0].candidate
    cost = median_of(runs, case, candidate, ("cpu_per_million",))
    if cost is None:
        return "not right or not done"
    kafka = median_of(runs, case, candidate, ("kafka_per_million",))
    return number(cost) + (f" (and Kafka {number(kafka)})" if kafka is not None else "")


def _limits(runs: Sequence[Run]) -> Iterable[str]:
    limits = []
    for candidate in ("now", "baseline"):
        seconds = median_of(runs, "flood w1", candidate, ("seconds",))
        readings = median_of(runs, "flood w1", candidate, ("readings",))
        if seconds and readings:
            limits.append(f"{readings / seconds:,.0f} a second (`{candidate}`)")
    if limits:
        yield f"Throughput of W1, from first reading to last stored score: {', '.join(limits)}."


def _floor(runs: Sequence[Run]) -> Iterable[str]:
    floors = [run for run in runs if run.case == "floor"]
    if not floors:
        return
    yield "## How far from the floor"
    yield (
        "The floor is the work that no design can avoid, in one thread, with nothing around it: "
        "parse each message once, run the network on 64 windows at a time, and write each message "
        "and each score as a row of a SQLite file. Microseconds of CPU per reading."
    )
    rows = []
    for workload in ("w1", "w2"):
        parts = [figure_of(floors[-1], (workload, part)) for part in ("parse", "network", "write")]
        total = sum(part or 0.0 for part in parts)
        now = median_of(runs, f"flood {workload}", "now", ("cpu_per_million",))
        times = "" if now is None else f"{now / total:.1f}"
        rows.append(
            (workload.upper(), *(f"{part:.1f}" for part in (*parts, total)), number(now), times)
        )
    heads = ("", "parse", "network", "write", "floor", "whole gateway", "times the floor")
    yield table(heads, rows)


def _profiles(runs: Sequence[Run]) -> Iterable[str]:
    profiles = {run.candidate: run.figures["profiles"] for run in runs
                if run.case == "profile" and "profiles" in run.figures}  # fmt: skip
    if not profiles:
        return
    yield "## Where the time goes"
    yield (
        "Shares of the busy samples of all threads (py-spy, 100 a second), of the functions with "
        "the largest own share; `whole` includes what they call."
    )
    for load, title in (("live", "live at 200 messages/s"), ("flood", "flood, W1")):
        for candidate, found in profiles.items():
            yield f"### {_NAMES[candidate]}, {title}"
            rows = [(f"`{name}`", f"{own:.1%}", f"{whole:.1%}") for name, own, whole in found[load]]
            yield table(("function", "own", "whole"), rows[:15])


def _failures(runs: Sequence[Run]) -> Iterable[str]:
    failed = [run for run in runs if not run.holds and "absent" not in run.figures]
    if failed:
        yield "## Runs that do not count"
        yield "\n".join(
            f"- {run.case}, {_NAMES[run.candidate]}, round {run.round + 1}: "
            f"{run.figures.get('error') or run.figures.get('check')}"
            for run in failed
        )


def number(value: float | None) -> str:
    """Three digits or so; nothing for None."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---:") -> str:
    """A table in Markdown; all columns but the first are numbers unless `align` says otherwise."""
    lines = [f"| {' | '.join(heads)} |", "|---|" + f"{align}|" * (len(heads) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
