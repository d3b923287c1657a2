"""The results page of `make growth`, and its picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.machine import machine_lines
from tests.bench.peers.journal import Run
from tests.bench.peers.page import busy_note, number, table
from tests.bench.peers.table import figure_of

__all__ = ["growth_page", "write_picture"]

CLOCK_HZ = 1.5e9
"""Of a core of the Raspberry Pi 4 (BCM2711, Cortex-A72)."""
PER_CYCLE = (0.7, 1.0, 1.3)
"""Assumed instructions per cycle; the processor decodes at most three."""
LIVE_RATE = 200
"""Readings a second of the live load that is computed for the board."""

_ABOUT = """Readings of `rul-fd001-long` (14 channels, one a message, a score for each) come at one
total rate from more and more devices, with now as their event time. CPU is that of all threads of
the gateway. Then the gateway is killed with SIGKILL and started again; it is ready when it takes
messages with the state of every device."""

MOST_MB = {1000: 110, 10_000: 190}
"""Devices -> resident memory that issue 17 allows."""

Meta = dict[str, Any]


def growth_page(meta: Meta, runs: Sequence[Run], picture: str) -> str:
    """docs/results/growth.md."""
    parts = [
        "<!-- Written by `make growth`. -->",
        "# Growth with the number of devices",
        f"Written by `make growth`: revision `{meta['now']}`"
        + (f", baseline `{meta['baseline']}`." if meta["baseline"] else "."),
        _ABOUT,
        "\n".join(machine_lines(meta["machine"])),
        *busy_note(meta["machine"], runs),
        f"![Memory, CPU, delay and recovery against the number of devices]({picture})",
        f"## {meta['rate']} messages a second",
        table(_HEADS, _rows(runs)),
        *_memory(runs),
        *_growth(runs),
        *_recovery(runs),
        *_board(runs),
    ]
    return "\n\n".join(parts) + "\n"


_HEADS = (
    "devices", "", "RSS, MB", "peak, MB", "CPU-seconds per million readings", "share of a core",
    "receipt to score: p50 / p99, ms", "event time to stored: p50 / p99, ms", "ready after kill, s",
    "scores",
)  # fmt: skip
_FIGURES: tuple[tuple[str, ...], ...] = (("rss_mb",), ("peak_mb",), ("cpu_per_million",))


def devices_of(run: Run) -> int:
    """Devices of a run, from its case: `devices 1000`, `recovery 50000`."""
    return int(run.case.split()[1])


def _of(runs: Iterable[Run], kind: str) -> list[Run]:
    return sorted(
        (run for run in runs if run.case.split()[0] == kind),
        key=lambda run: (devices_of(run), run.candidate != "now"),
    )


def _rows(runs: Sequence[Run]) -> Iterable[tuple[str, ...]]:
    for run in _of(runs, "devices"):
        delays = []
        for kind in ("receive_to_score_ms", "sensor_to_stored_ms"):
            found = [figure_of(run, (kind, at)) for at in ("p50", "p99")]
            delays.append(" / ".join("" if each is None else f"{each:,.0f}" for each in found))
        share = figure_of(run, ("share",))
        yield (
            f"{devices_of(run):,}",
            run.candidate,
            *(number(figure_of(run, path)) for path in _FIGURES),
            "" if share is None else f"{share:.1%}",
            *delays,
            number(figure_of(run, ("ready_s",))),
            "all right" if run.holds else str(run.figures.get("error") or run.figures["check"]),
        )


def _memory(runs: Sequence[Run]) -> Iterable[str]:
    found = {
        devices_of(run): figure_of(run, ("rss_mb",))
        for run in _of(runs, "devices")
        if run.candidate == "now"
    }
    said = [
        f"{found[count]:.0f} MB with {count:,} devices (target: at most {most})"
        for count, most in MOST_MB.items()
        if found.get(count) is not None
    ]
    if said:
        yield f"Resident memory at the end of the live load: {', '.join(said)}."


def _growth(runs: Sequence[Run]) -> Iterable[str]:
    for candidate in ("now", "baseline"):
        costs = {
            devices_of(run): figure_of(run, ("cpu_per_million",))
            for run in _of(runs, "devices")
            if run.candidate == candidate and run.holds
        }
        few, many = min(costs, default=0), max(costs, default=0)
        if few != many and costs[few] and costs[many]:
            change = costs[many] / costs[few] - 1  # type: ignore[operator]
            yield (
                f"From {few:,} to {many:,} devices, the CPU of a reading changes by {change:+.0%} "
                f"(`{candidate}`); the target is less than +10%."
            )


def _recovery(runs: Sequence[Run]) -> Iterable[str]:
    rows = [
        (
            f"{devices_of(run):,}",
            run.candidate,
            number(figure_of(run, ("ready_s",))),
            number(figure_of(run, ("ready_cpu_s",))),
            number(figure_of(run, ("peak_mb",))),
            number(figure_of(run, ("recovered_rss_mb",))),
            "yes" if run.figures.get("recovered") else str(run.figures.get("error", "no")),
        )
        for run in _of(runs, "recovery")
    ]
    if rows:
        yield "## Recovery of a large fleet"
        yield "The target is a start in less than ten seconds with the state of 50,000 devices."
        heads = ("devices", "", "ready after kill, s", "CPU, s", "peak before, MB",
                 "RSS afterwards, MB", "every reading accounted for")  # fmt: skip
        yield table(heads, rows)


def _board(runs: Sequence[Run]) -> Iterable[str]:
    counted = [run for run in runs if run.case == "instructions" and run.holds]
    if not counted:
        return
    names = ("instructions", "flood_us", "live_us")
    counts = [figure_of(counted[-1], (name,)) or 0.0 for name in names]
    flood, flood_us, live_us = counts
    live = live_us * flood / flood_us
    yield "## A board with four Cortex-A72 cores: computed, not measured"
    yield (
        f"Callgrind counts {flood:,.0f} instructions a reading in a flood. Without it, such a "
        f"reading takes {flood_us:.1f} µs of CPU on this machine, and one of a live load of "
        f"{LIVE_RATE} a second takes {live_us:,.0f} µs; at the same pace these are {live:,.0f} "
        f"instructions. Assumed: a core of {CLOCK_HZ / 1e9:g} GHz (Raspberry Pi 4), as many "
        "instructions on AArch64 as on x86-64, and three values of the instructions that it "
        "completes in a cycle (it decodes three at most). Shares are upper bounds, because ONNX "
        "Runtime finds narrower vectors under callgrind and takes more instructions there."
    )
    rows = [
        (label, *(f"{rate * each / (CLOCK_HZ * ipc):.0%}" for ipc in PER_CYCLE))
        for label, rate, each in (
            (f"{LIVE_RATE} readings a second, live", LIVE_RATE, live),
            ("1,000 readings a second, flood", 1000, flood),
        )
    ]
    heads = ("share of one of the four cores", *(f"{ipc:g} a cycle" for ipc in PER_CYCLE))
    yield table(heads, rows)


def write_picture(path: Path, runs: Sequence[Run]) -> None:
    """Memory, CPU, delay and recovery against the number of devices, as a PNG."""
    from matplotlib.figure import Figure  # only here: a table needs no picture

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    kinds = (
        ("memory, MB", ("rss_mb",)),
        ("CPU-seconds per million readings", ("cpu_per_million",)),
        ("receipt to score, p99, ms", ("receive_to_score_ms", "p99")),
        ("ready after SIGKILL, s", ("ready_s",)),
    )
    for axis, (title, way) in zip(figure.subplots(2, 2).flat, kinds, strict=True):
        for candidate, colour in (("baseline", "tab:gray"), ("now", "tab:blue")):
            points = [
                (devices_of(run), value)
                for run in _of(runs, "devices")
                if run.candidate == candidate and (value := figure_of(run, way)) is not None
            ]
            if points:
                devices, values = zip(*points, strict=True)
                axis.plot(devices, values, marker="o", color=colour, label=candidate)
        axis.set(xscale="log", title=title, xlabel="devices", ylim=(0, None))
    if runs:
        axis.legend()
    figure.savefig(path, dpi=110)
