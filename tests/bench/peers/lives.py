"""Runs of a gateway: a day in small, a flood, and how soon a message is acknowledged."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.bench.peers.gateways import Gateway, Revision, StoredLag, is_balanced, percentiles
from tests.bench.peers.measured import Cpu, Load, memory_mb, peak_mb, running_broker
from tests.bench.peers.reference import check_scores
from tests.bench.peers.workloads import W1, Workload

__all__ = ["WARM", "measure_day", "measure_flood", "measure_puback", "warm_up"]

WARM = 40
"""Readings of each device before a live run, so that every further reading closes a window."""
_HOUR_MS = 3_600_000


def measure_day(
    revision: Revision,
    folder: Path,
    *,
    rates: Sequence[int],
    seconds: float,
    idle_s: float,
    devices: int = W1.devices,
) -> dict[str, Any]:
    """Start, idle, then live loads one after another; event time is now.

    CPU of a rate is counted until its last score is stored.
    """
    figures: dict[str, Any] = {}
    with (
        running_broker(folder / "broker") as (port, _),
        Gateway(revision, folder, port, W1) as gateway,
    ):
        figures["cold_start_s"] = gateway.cold_start_s
        time.sleep(3)
        figures["rss_idle_mb"] = memory_mb(gateway.pid)
        cpu = Cpu.of(gateway.pid)
        time.sleep(idle_s)
        figures["idle_share"] = cpu.share
        sent = warm_up(gateway, port, devices)
        live: dict[str, Any] = {}
        for rate in rates:
            messages = round(rate * seconds / devices) * devices
            load = Load(
                W1, port, devices=devices, messages=messages, rate=rate, live=True,
                first=sent // devices,
            )  # fmt: skip
            since_ms = time.time_ns() // 1_000_000
            cpu = Cpu.of(gateway.pid)
            with StoredLag(gateway.results) as lag:
                load.run()
                share = cpu.share
                sent += messages
                scores = devices * W1.scores_expected(sent // devices)
                gateway.settled(sent, scores, 60)
            live[str(rate)] = {
                "cpu_per_million": cpu.seconds / messages * 1e6,
                "share": share,
                "receive_to_score_ms": gateway.receive_to_score_ms(since_ms),
                "sensor_to_stored_ms": lag.percentiles(),
            }
        totals = gateway.settled(sent, devices * W1.scores_expected(sent // devices), 60)
        check = check_scores(gateway.scores(), W1, devices, sent // devices)
        figures |= {
            "live": live,
            "rss_mb": memory_mb(gateway.pid),
            "peak_mb": peak_mb(gateway.pid),
            "check": str(check),
            "holds": check.holds and is_balanced(totals, sent),
        }
    return figures


def warm_up(gateway: Gateway, port: int, devices: int, readings: int = WARM) -> int:
    """Send some readings of every device, an hour old; returns how many were sent."""
    base_ms = time.time_ns() // 1_000_000 - _HOUR_MS - readings * W1.step_ms
    sent = readings * devices
    Load(W1, port, devices=devices, messages=sent, base_ms=base_ms).run()
    gateway.settled(sent, devices * W1.scores_expected(readings), 900)
    time.sleep(2)
    return sent


def measure_flood(
    revision: Revision, folder: Path, workload: Workload, per_device: int
) -> dict[str, Any]:
    """As fast as the broker takes it: CPU per reading until everything is stored."""
    devices = workload.devices
    readings = devices * per_device
    with (
        running_broker(folder / "broker") as (port, _),
        Gateway(revision, folder, port, workload) as gateway,
    ):
        base_ms = time.time_ns() // 1_000_000 // 10_000 * 10_000 - 24 * _HOUR_MS
        messages = readings // workload.per_message
        load = Load(workload, port, devices=devices, messages=messages, base_ms=base_ms)
        time.sleep(1)
        cpu = Cpu.of(gateway.pid)
        load.run()
        totals = gateway.settled(readings, devices * workload.scores_expected(per_device))
        seconds, spent = time.perf_counter() - cpu.started, cpu.seconds
        check = check_scores(gateway.scores(), workload, devices, per_device)
        return {
            "cpu_per_million": spent / readings * 1e6,
            "readings": readings,
            "seconds": seconds,
            "rss_mb": memory_mb(gateway.pid),
            "peak_mb": peak_mb(gateway.pid),
            "check": str(check),
            "holds": check.holds and is_balanced(totals, readings),
        }


def measure_puback(revision: Revision, folder: Path, *, alone: int = 12) -> dict[str, Any]:
    """Time between a PUBLISH of the broker and the gateway's PUBACK, from the broker's log.

    First messages that come alone, then a burst through a broker that sends at most twenty
    unacknowledged messages, which is the default of mosquitto.
    """
    log = ("max_inflight_messages 20", "log_dest stderr", "log_type debug")
    with (
        running_broker(folder / "broker", *log) as (port, broker),
        Gateway(revision, folder, port, W1) as gateway,
    ):
        acks = _Acks(broker)
        time.sleep(3)
        Load(W1, port, devices=1, messages=alone, rate=1.3, live=True).run()
        time.sleep(1)
        waits = acks.taken()
        burst = 6000
        load = Load(W1, port, devices=50, messages=burst, live=True, first=WARM)
        began = time.perf_counter()
        load.run()
        gateway.settled(alone + burst, 0, 60)
        times = acks.taken()
        return {
            "puback_alone_ms": percentiles([wait * 1000 for _, wait in waits]),
            "burst_per_second": len(times) / (max(at for at, _ in times) - began),
            "holds": len(waits) == alone and len(times) == burst,
        }


class _Acks:
    """Reads the log of a mosquitto: when it sent what to the gateway, when that was confirmed."""

    _LINE = re.compile(r"(Sending PUBLISH to|Received PUBACK from) (\S+) \(.*?[mM](?:id: )?(\d+)")

    def __init__(self, broker: Popen[str]) -> None:
        self._waits: list[tuple[float, float]] = []
        self._sent: dict[tuple[str, str], float] = {}
        threading.Thread(target=self._read, args=(broker,), daemon=True).start()

    def taken(self) -> list[tuple[float, float]]:
        """(time of the PUBACK, seconds since its PUBLISH) since the last call."""
        found, self._waits = self._waits, []
        return found

    def _read(self, broker: Popen[str]) -> None:
        assert broker.stdout is not None
        for line in broker.stdout:
            now = time.perf_counter()
            if match := self._LINE.search(line):
                verb, client, number = match.groups()
                if verb == "Sending PUBLISH to":
                    self._sent[client, number] = now
                elif (sent := self._sent.pop((client, number), None)) is not None:
                    self._waits.append((now, now - sent))
