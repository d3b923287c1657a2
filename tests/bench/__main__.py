"""`make bench`: throughput and latency of one gateway process on one core, with mosquitto.

Prints a table with the machine and the versions, and writes it as JSON when asked to. The measured
process is pinned to core 0; broker and load generator are pinned to core 1. The benchmark prints
ratios to the targets and asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from ingest.mqtt.broker import LocalBroker
from tests.bench.machine import describe_machine, machine_lines
from tests.e2e.plant import Plant

_RESULTS = Path(__file__).parents[2] / "docs" / "results"
_HEADS = ("measured", "value", "aim", "per CPU-second")
_ABOUT = """Written by `make bench ARGS=--results`. The gateway has one core to itself; broker and
load generator have another. Readings have nine channels. Latency starts at the event time of a
window's last reading, so it includes the 200 ms of lateness and the wait for the next message."""

Row = tuple[str, str, str, str]
"""One line of the table: what was measured, value, aim, value per CPU-second."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--json", type=Path, help="write the numbers to this file, too")
    parser.add_argument(
        "--results", action="store_true", help="write docs/results/gateway-bench.json and .md"
    )
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the latency run")
    args = parser.parse_args()
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        raise SystemExit("the benchmark needs mosquitto: apt-get install mosquitto")
    numbers: dict[str, Any] = {"machine": describe_machine()}
    with Console().status("measuring") as status:
        for readings in (1, 10):
            status.update(f"bridge, {readings} readings per message")
            numbers[f"bridge_{readings}"] = _measure("bridge", args.messages, readings)
        for readings in (1, 10):
            status.update(f"window + score, {readings} readings per message")
            numbers[f"line_{readings}"] = _measure("line", args.messages, readings)
        status.update("the whole gateway at its limit")
        numbers["gateway_max"] = _gateway_max(args.messages)
        half = numbers["gateway_max"]["messages_per_second"] / 2
        for name, rate in (("aim", 2500.0), ("half", half)):
            status.update(f"latency at {rate:.0f} messages/s")
            numbers[f"latency_{name}"] = _latency(rate, args.seconds)
    table = _table(numbers)
    _print(numbers["machine"], table)
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=2) + "\n")
    if args.results:
        (_RESULTS / "gateway-bench.json").write_text(json.dumps(numbers, indent=2) + "\n")
        (_RESULTS / "gateway-bench.md").write_text(_page(numbers["machine"], table))


def _measure(what: str, messages: int, readings: int) -> dict[str, Any]:
    """Run one measured process (and, for the bridge, broker and load beside it)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "tests.bench.measured", what, "--core", "0"),
            *("--state", folder, "--messages", str(messages), "--readings", str(readings)),
        ]
        if what == "line":
            return json.loads(_output(command))  # type: ignore[no-any-return]
        with LocalBroker(Path(folder) / "broker", kind="mosquitto") as broker:
            psutil.Process(broker.pid).cpu_affinity([1])
            measured = subprocess.Popen(
                [*command, "--port", str(broker.port)], stdout=subprocess.PIPE
            )
            time.sleep(3)
            load = json.loads(_output(_load(broker.port, messages, readings)))
            output, _ = measured.communicate(timeout=300)
        return json.loads(output) | {"load": load}  # type: ignore[no-any-return]


def _gateway_max(messages: int) -> dict[str, Any]:
    """The whole gateway process, fed as fast as it takes: 10 readings a message."""
    with tempfile.TemporaryDirectory() as folder, _plant(folder) as (plant, process):
        cpu = _cpu_seconds(process)
        started = time.perf_counter()
        _output(_load(plant.broker.port, messages, 10))
        plant.wait_until(
            lambda: plant.totals().get("windowed", 0) >= messages * 10, "done", timeout_s=300
        )
        seconds = time.perf_counter() - started
        return {
            "messages": messages,
            "messages_per_second": messages / seconds,
            "readings_per_second": messages * 10 / seconds,
            "cpu_seconds": _cpu_seconds(process) - cpu,
            "seconds": seconds,
            "rss_mb": process.memory_info().rss / 1e6,
        }


def _latency(rate: float, seconds: float) -> dict[str, Any]:
    """Publish at a steady rate with event time = now; percentiles as the gateway reports them."""
    with tempfile.TemporaryDirectory() as folder, _plant(folder) as (plant, process):
        cold_start = plant.cold_start_s
        idle_rss = process.memory_info().rss / 1e6
        cpu = _cpu_seconds(process)
        devices = max(1, round(rate / 5))  # 50 Hz, 10 readings a message: 5 messages/s a device
        _output([*_load(plant.broker.port, round(rate * seconds), 10, devices),
                 "--rate", str(rate), "--live"])  # fmt: skip
        time.sleep(2)
        totals = plant.totals()
        return {
            "messages_per_second": rate,
            "devices": devices,
            "scored": totals["scored"],
            "stored": totals["stored"],
            "missing": totals["missing"],
            "sensor_to_score": totals["sensor_to_score"],
            "receive_to_score": totals["receive_to_score"],
            "sensor_to_stored": totals.get("sensor_to_stored"),
            "cpu_share": (_cpu_seconds(process) - cpu) / seconds,
            "rss_mb": process.memory_info().rss / 1e6,
            "rss_idle_mb": idle_rss,
            "cold_start_s": cold_start,
        }


class _plant:
    """A plant whose gateway is pinned to core 0, broker to core 1."""

    def __init__(self, folder: str) -> None:
        self._plant = Plant(Path(folder), broker_kind="mosquitto")

    def __enter__(self) -> tuple[Plant, psutil.Process]:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {0})  # inherited by the gateway from its first instruction
        try:
            self._plant.__enter__()
        finally:
            os.sched_setaffinity(0, before)
        assert self._plant.process is not None
        psutil.Process(self._plant.broker.pid).cpu_affinity([1])
        return self._plant, psutil.Process(self._plant.process.pid)

    def __exit__(self, *exc_info: object) -> None:
        self._plant.__exit__(*exc_info)


def _load(port: int, messages: int, readings: int, devices: int = 50) -> list[str]:
    return [
        *(sys.executable, "-m", "tests.bench.load", "--core", "1", "--port", str(port)),
        *("--messages", str(messages), "--readings", str(readings), "--devices", str(devices)),
    ]


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=True, text=True)
    return done.stdout


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _print(machine: dict[str, Any], rows: list[Row]) -> None:
    out = Console(width=110)
    out.print("\n" + "\n".join(machine_lines(machine)))
    table = Table(title="one gateway process on one core", title_justify="left")
    for name in _HEADS:
        table.add_column(name, justify="left" if name == _HEADS[0] else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _page(machine: dict[str, Any], rows: list[Row]) -> str:
    """The table as a page of the documentation."""
    lines = ["# Benchmark of a gateway", "", _ABOUT, "", *machine_lines(machine), ""]
    lines += [f"| {' | '.join(_HEADS)} |", "|---|---:|---:|---:|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _table(numbers: dict[str, Any]) -> list[Row]:
    rows = [
        _rate(
            f"bridge: messages/s confirmed, {readings} reading(s) each",
            numbers[f"bridge_{readings}"],
            "messages",
            "5,000",
        )
        for readings in (1, 10)
    ]
    rows += [
        _rate(
            f"window + score: readings/s, {readings} per message",
            numbers[f"line_{readings}"],
            "readings",
            "50,000" if readings == 10 else "",
        )
        for readings in (1, 10)
    ]
    run = numbers["gateway_max"]
    per_cpu = run["messages"] * 10 / run["cpu_seconds"]
    whole = "whole gateway: readings/s, 10 per message"
    rows.append((whole, f"{run['readings_per_second']:,.0f}", "", f"{per_cpu:,.0f}"))
    for name in ("aim", "half"):
        rows += _latency_rows(numbers[f"latency_{name}"])
    run = numbers["latency_aim"]
    rows.append(("RSS idle, MB", f"{run['rss_idle_mb']:.0f}", "< 150", ""))
    rows.append(("cold start to ready, s", f"{run['cold_start_s']:.1f}", "< 5", ""))
    return rows


def _latency_rows(run: dict[str, Any]) -> list[Row]:
    rate = f"at {run['messages_per_second']:,.0f} messages/s ({run['devices']} devices)"
    rows = []
    for kind in ("receive_to_score", "sensor_to_score", "sensor_to_stored"):
        found = run[kind] or {"p50_ms": float("nan"), "p99_ms": float("nan")}
        label = f"{kind.replace('_', ' ')} {rate}: p50 / p99 ms"
        aim = "p99 < 1000" if kind == "sensor_to_score" else ""
        rows.append((label, f"{found['p50_ms']:,.0f} / {found['p99_ms']:,.0f}", aim, ""))
    rows.append((f"CPU share of the core {rate}", f"{run['cpu_share']:.0%}", "", ""))
    rows.append((f"RSS {rate}, MB", f"{run['rss_mb']:.0f}", "< 150", ""))
    return rows


def _rate(name: str, run: dict[str, Any], unit: str, aim: str) -> Row:
    per_second, per_cpu = run[unit] / run["seconds"], run[unit] / run["cpu_seconds"]
    return name, f"{per_second:,.0f}", aim, f"{per_cpu:,.0f}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
