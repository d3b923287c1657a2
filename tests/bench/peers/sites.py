"""One run of a site of any revision: live, then bridge, worker and store one after another."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ingest.kafka import KafkaLogWriter
from ingest.logwriter import LogRecord
from ingest.topics import SCORES
from tests.bench.peers.gateways import Revision
from tests.bench.peers.measured import Cpu, Load, memory_mb, wait_until
from tests.bench.peers.workloads import W1
from tests.e2e.site_plant import SitePlant, SiteProcess

__all__ = ["measure_site"]

_PARTITIONS = 12
_HOUR_MS = 3_600_000
_PARTS = ("bridge", "worker", "store")


def measure_site(
    revision: Revision,
    folder: Path,
    *,
    rate: int,
    seconds: float,
    per_device: int,
    single_scores: int,
) -> dict[str, Any]:
    """Measure bridge, worker and store of a revision, with real servers beside them.

    Args:
        revision: What is measured.
        folder: Scratch folder.
        rate: Messages a second of the live part.
        seconds: Length of the live part.
        per_device: Readings of each device of the flood.
        single_scores: Records of one score each that the store is given at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _add_student(revision, folder / "state/registry")
    plant = SitePlant(
        folder, bridges=0, workers=0, stores=0, partitions=_PARTITIONS,
        repository=revision.repository, KPSTREAM_SITE_ACCOUNT_MS="10000",
    )  # fmt: skip
    with plant:
        readings = W1.devices * per_device
        figures: dict[str, Any] = _flood(plant, readings)
        processes = {kind: plant[f"{kind}-1"] for kind in _PARTS}
        time.sleep(3)
        figures["live"] = _live(plant, processes, rate, seconds, per_device)
        readings += figures["live"]["readings"]
        figures["rss_mb"] = {kind: memory_mb(each.pid) for kind, each in processes.items()}
        expected = W1.devices * W1.scores_expected(readings // W1.devices)
        found = _points(plant, expected)
        figures |= {"check": f"{found:,} of {expected:,} points", "holds": found == expected}
        figures["store_single_per_million"] = _single(plant, processes["store"], single_scores)
    return figures


def _add_student(revision: Revision, registry: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli", "models", "--registry", str(registry)]
    subprocess.run(
        [*command, "add", W1.student],
        cwd=revision.repository,
        env={"PATH": "/usr/bin:/bin", **revision.env},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )


def _live(
    plant: SitePlant, processes: dict[str, SiteProcess], rate: int, seconds: float, first: int
) -> dict[str, Any]:
    messages = round(rate * seconds / W1.devices) * W1.devices
    load = Load(
        W1, plant.mosquitto.port, devices=W1.devices, messages=messages, rate=rate, live=True,
        first=first,
    )  # fmt: skip
    each = {kind: Cpu.of(process.pid) for kind, process in processes.items()}
    kafka = Cpu.of(plant.kafka.pid)
    load.run()
    time.sleep(2)  # the last scores are stored
    parts = {kind: cpu.seconds / messages * 1e6 for kind, cpu in each.items()}
    return {
        "readings": messages,
        "parts_per_million": parts,
        "cpu_per_million": sum(parts.values()),
        "kafka_per_million": kafka.seconds / messages * 1e6,
    }


def _flood(plant: SitePlant, readings: int) -> dict[str, Any]:
    """The bridge fills the log, then a worker empties it, then a store: each alone with Kafka."""
    bridge = plant.add("bridge-1")
    plant.wait_ready()
    base_ms = time.time_ns() // 1_000_000 - 24 * _HOUR_MS
    port = plant.mosquitto.port
    load = Load(W1, port, devices=W1.devices, messages=readings, base_ms=base_ms)
    cpu = Cpu.of(bridge.pid)
    load.run()
    wait_until(lambda: _logged(bridge) >= readings, 120, "logged", poll_s=0.1)
    figures: dict[str, Any] = {"bridge_per_million": cpu.seconds / readings * 1e6}
    time.sleep(1)  # the bridge says that nothing follows, which closes the last windows
    worker = plant.add("worker-1")
    figures["worker_per_million"] = _emptied(worker, ("parts", "line", "readings"), readings)
    scores = W1.devices * W1.scores_expected(readings // W1.devices)
    store = plant.add("store-1")
    figures["store_per_million"] = _emptied(store, ("parts", "store", "stored"), scores)
    return figures


def _emptied(process: SiteProcess, path: tuple[str, str, str], target: int) -> float | None:
    """CPU per million of what a process counts, from the first progress until `target`.

    None: it had done two thirds before the first look, so too little is left to measure.
    """
    outer, middle, inner = path

    def count() -> int:
        return int(process.get().get(outer, {}).get(middle, {}).get(inner, 0))

    wait_until(lambda: count() > 0, 120, f"{process.name} at work", poll_s=0.02)
    first, cpu = count(), Cpu.of(process.pid)
    wait_until(lambda: count() >= target, 300, f"{process.name} done", poll_s=0.1)
    spent = cpu.seconds
    return None if target - first < target // 3 else spent / (target - first) * 1e6


def _single(plant: SitePlant, store: SiteProcess, count: int) -> float | None:
    """The store with records of one score each, in the form that every revision reads."""
    store.stop()
    asyncio.run(_fill(plant.kafka.address, count))
    store.start()
    found = _emptied(store, ("parts", "store", "stored"), count)
    store.stop()
    return found


async def _fill(address: str, count: int) -> None:
    end_ms = time.time_ns() // 1_000_000 - 20 * _HOUR_MS
    records = [
        LogRecord(SCORES, n % _PARTITIONS, None, json.dumps([_score(n, end_ms)]).encode(), 0)
        for n in range(count)
    ]
    async with KafkaLogWriter(address) as writer:
        for start in range(0, count, 500):
            await writer.append(records[start : start + 500])


def _score(number: int, end_ms: int) -> dict[str, Any]:
    end = end_ms + number // W1.devices * W1.step_ms
    return {
        "task": "rul", "site": "plant", "device": f"single-{number % W1.devices}",
        "stream": "engine", "model": W1.student, "version": 1, "start_ms": end - 69_000,
        "end_ms": end, "readings": 70, "gaps": 0, "recv_ms": end + 10, "scored_ms": end + 210,
        "rul": 100.0 + number % 7,
    }  # fmt: skip


def _points(plant: SitePlant, expected: int, timeout_s: float = 60.0) -> int:
    """Points of the student in InfluxDB, as soon as there are so many or the time is over."""
    found = 0
    deadline = time.monotonic() + timeout_s
    while found < expected and time.monotonic() < deadline:
        time.sleep(0.5)
        found = plant.count("rul", "rul")
    return found


def _logged(bridge: SiteProcess) -> float:
    return bridge.metrics().get("kpstream_messages_logged_total", 0)
