"""Runs of a gateway with many devices."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.peers.gateways import Gateway, Revision, StoredLag, is_balanced
from tests.bench.peers.lives import WARM, warm_up
from tests.bench.peers.measured import Cpu, Load, memory_mb, peak_mb, running_broker
from tests.bench.peers.reference import check_scores
from tests.bench.peers.workloads import W1

__all__ = ["measure_devices", "measure_instructions", "measure_recovery"]


def measure_devices(
    revision: Revision, folder: Path, devices: int, *, rate: int, seconds: float
) -> dict[str, Any]:
    """Live load of many devices, then SIGKILL and a new start.

    The load lasts until every device has sent at least one message.
    """
    with (
        running_broker(folder / "broker") as (port, _),
        Gateway(revision, folder, port, W1) as gateway,
    ):
        sent = warm_up(gateway, port, devices)
        time.sleep(3)
        rounds = max(1, round(rate * seconds / devices))
        messages = rounds * devices
        load = Load(
            W1, port, devices=devices, messages=messages, rate=rate, live=True, first=WARM
        )  # fmt: skip
        since_ms = time.time_ns() // 1_000_000
        cpu = Cpu.of(gateway.pid)
        with StoredLag(gateway.results, 500) as lag:
            load.run()
            share = cpu.share
            sent += messages
            scores = devices * W1.scores_expected(WARM + rounds)
            totals = gateway.settled(sent, scores, 60)
            spent = cpu.seconds
        check = check_scores(gateway.scores(), W1, devices, WARM + rounds)
        figures = {
            "cpu_per_million": spent / messages * 1e6,
            "share": share,
            "receive_to_score_ms": gateway.receive_to_score_ms(since_ms),
            "sensor_to_stored_ms": lag.percentiles(),
            "rss_mb": memory_mb(gateway.pid),
            "peak_mb": peak_mb(gateway.pid),
            "check": str(check),
            "holds": check.holds and is_balanced(totals, sent),
        }
        return figures | _recovered(gateway, sent)


def measure_recovery(
    revision: Revision, folder: Path, devices: int, *, readings: int
) -> dict[str, Any]:
    """SIGKILL of a gateway that has the state of very many devices, and its new start."""
    with (
        running_broker(folder / "broker") as (port, _),
        Gateway(revision, folder, port, W1) as gateway,
    ):
        sent = warm_up(gateway, port, devices, readings)
        time.sleep(5)  # the newest states are saved
        figures = {"rss_mb": memory_mb(gateway.pid), "peak_mb": peak_mb(gateway.pid)}
        return figures | _recovered(gateway, sent)


def _recovered(gateway: Gateway, sent: int) -> dict[str, Any]:
    gateway.kill()
    cpu_free = time.perf_counter()
    gateway.start(300)
    figures = {
        "ready_s": gateway.cold_start_s,
        "ready_cpu_s": Cpu.of(gateway.pid).begun,
        "recovered_rss_mb": memory_mb(gateway.pid),
        "recovered": is_balanced(gateway.settled(sent, 0, 60), sent),
        "complete_s": time.perf_counter() - cpu_free,
    }
    return figures | ({} if figures["recovered"] else {"holds": False})


def measure_instructions(
    revision: Revision, folder: Path, *, messages: int, rate: int
) -> dict[str, Any]:
    """Instructions of a reading in a flood, counted by callgrind; CPU time in a flood and live.

    Callgrind counts only the load, not the start. It runs a program some fifty times slower, so a
    live load cannot be counted.
    """
    if shutil.which("valgrind") is None:
        return {"absent": "valgrind is not installed", "holds": False}
    out = f"--callgrind-out-file={folder / 'callgrind.out'}"
    tool = ("valgrind", "--tool=callgrind", "--instr-atstart=no", out)
    with (
        running_broker(folder / "counted/broker") as (port, _),
        Gateway(revision, folder / "counted", port, W1, under=tool) as gateway,
    ):
        fleet = _Fleet(gateway, port)
        _control(gateway.pid, "-i", "on")
        counts = [0]
        for share in (1, 3):  # what a flood costs besides its messages is in both
            fleet.flood(share * messages)
            counts.append(counted_instructions(_control(gateway.pid, "-e")))
        _control(gateway.pid, "-i", "off")
        first, second = (after - before for before, after in pairwise(counts))
    with (
        running_broker(folder / "timed/broker") as (port, _),
        Gateway(revision, folder / "timed", port, W1) as gateway,
    ):
        fleet = _Fleet(gateway, port)
        cpu, many = Cpu.of(gateway.pid), 20 * messages
        fleet.flood(many)
        flood_us = cpu.seconds / many * 1e6
        cpu, few = Cpu.of(gateway.pid), 10 * rate
        fleet.live(few, rate)
        live_us = cpu.seconds / few * 1e6
    instructions = (second - first) / (2 * messages)
    return {"instructions": instructions, "flood_us": flood_us, "live_us": live_us, "holds": True}


class _Fleet:
    """Fifty devices of a gateway, which have sent enough for a score of every further reading."""

    _DEVICES = 50

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway, self._port = gateway, port
        self._sent = warm_up(gateway, port, self._DEVICES)
        self._next_ms = time.time_ns() // 1_000_000 - 3_000_000

    def flood(self, messages: int) -> None:
        """Send messages of the last hour, and wait for their scores."""
        self._send(messages, base_ms=self._next_ms)
        self._next_ms += messages // self._DEVICES * W1.step_ms

    def live(self, messages: int, rate: int) -> None:
        """Send messages of now."""
        self._send(messages, rate=rate, live=True)

    def _send(self, messages: int, **options: Any) -> None:
        devices, first = self._DEVICES, self._sent // self._DEVICES
        Load(W1, self._port, devices=devices, messages=messages, first=first, **options).run()
        self._sent += messages
        scores = devices * W1.scores_expected(self._sent // devices)
        totals = self._gateway.settled(self._sent, scores, 500)
        if "timed_out" in totals:
            raise TimeoutError(f"{messages} messages were not scored in time")


def _control(pid: int, *options: str) -> str:
    command = ["callgrind_control", *options, str(pid)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True
    )
    return done.stdout


def counted_instructions(text: str) -> int:
    """Instructions of all threads, from the answer of callgrind_control."""
    numbers = re.findall(r"(?m)^\s*Th\s*\d+\s+([\d ,]+)", text)
    return sum(int(re.sub(r"\D", "", number)) for number in numbers)
