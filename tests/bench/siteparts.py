"""Measurements of the site's benchmark: bridge, worker and store alone, and the whole pipeline."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psutil
from pydantic import SecretStr

from ingest.kafka import KafkaEndpoint, KafkaLogWriter, KafkaProbe
from ingest.logwriter import LogRecord
from ingest.topics import READINGS, SCORES
from pipeline.points.scores import ScoreRecord
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from tests.bench.siterig import PARTITIONS, Rig, Run, pinned, start_load
from tests.e2e.site_plant import ORG, SitePlant, SiteProcess
from tests.fakes.scores import encode_records

__all__ = ["Latency", "Log", "Pipeline", "measure_log", "measure_pipeline", "measure_store"]

_HZ = 50
_BATCH = 10


# ------------------------------------------------------------------- bridge, then workers, by log


@dataclass(frozen=True, slots=True)
class Log:
    """Results of one load: appended to Kafka, then windowed and scored.

    Attributes:
        readings: Readings in a message.
        bridge: The bridge, in messages.
        worker: One worker, in readings.
        workers: Two workers, in readings; None if not requested.
        messages_per_record: Messages in a record of the log, as bundled by the bridge.
        scores_per_record: Scores in a record of the log, as written by the worker.
    """

    readings: int
    bridge: Run
    worker: Run
    workers: Run | None
    messages_per_record: float
    scores_per_record: float


def measure_log(rig: Rig, messages: int, readings: int, *, two_workers: bool = False) -> Log:
    """Fill `readings` through mosquitto and a measured bridge; then read it with workers.

    The bridge, and the worker, have the first core; Kafka, mosquitto and the load have another. A
    second worker has to share that one with Kafka. Every group reads the same records.
    """
    messages = round(messages * rig.scale)
    with pinned(1), rig.plant() as plant:
        with pinned(0):
            bridge = plant.add("bridge-1")
        plant.wait_ready()
        with start_load(plant, messages, readings) as load:
            bridged = rig.measure(
                f"bridge-{readings}", plant, [bridge], lambda: _logged(bridge), messages
            )
            load.wait()
        bridge.stop()
        del plant.processes["bridge-1"]
        records = _records(plant, READINGS)
        target = messages * readings
        with pinned(0):
            worker = plant.add("worker-1")
        one = rig.measure(f"worker-{readings}", plant, [worker], lambda: _applied(worker), target)
        scored = _metrics(worker)["kpstream_scored_total"]
        worker.stop()
        scores = _records(plant, SCORES)
        two = None
        if two_workers:
            plant.env["KPSTREAM_PIPELINE_APP_ID"] = "again"
            two = _two_workers(rig, plant, worker, target)
    return Log(readings, bridged, one, two, messages / records, scored / scores)


def _two_workers(rig: Rig, plant: SitePlant, first: SiteProcess, target: int) -> Run:
    """Measure from the time when both have partitions; before, the first one works alone."""
    with pinned(0):
        first.start()
    with pinned(1):
        both = [first, plant.add("worker-2")]

    def done() -> float:
        return sum(_applied(worker) for worker in both)

    def share() -> bool:
        return all(worker.is_ready and _applied(worker) for worker in both)

    return rig.measure("workers", plant, both, done, target, begins=share)


def _logged(bridge: SiteProcess) -> float:
    return _metrics(bridge).get("kpstream_messages_logged_total", 0)


def _applied(worker: SiteProcess) -> float:
    return float(worker.get().get("parts", {}).get("line", {}).get("readings", 0))


def _stored(store: SiteProcess) -> float:
    return float(store.get().get("parts", {}).get("store", {}).get("stored", 0))


def _metrics(process: SiteProcess) -> dict[str, float]:
    """Return the metrics; on a busy machine an answer may take longer than 3 s."""
    for _ in range(10):
        with suppress(OSError):
            return process.metrics()
    return process.metrics()


def _records(plant: SitePlant, topic: str) -> int:
    async def ask() -> int:
        probe = KafkaProbe(KafkaEndpoint(plant.kafka.address))
        try:
            return sum((await probe.end_offsets(topic, range(PARTITIONS))).values())
        finally:
            await probe.close()

    return asyncio.run(ask())


# ------------------------------------------------------------------------------------------ store


def measure_store(rig: Rig, points: int, sizes: tuple[int, ...]) -> dict[int, Run]:
    """Store a `scores` topic in InfluxDB; returns results by number of scores per record."""
    runs = {}
    with pinned(1), rig.plant() as plant:
        end_ms = time.time_ns() // 1_000_000 // 1000 * 1000 - 20 * 3_600_000
        for size in sizes:
            count = round(points * rig.scale * min(1.0, size / 4)) // size * size
            with pinned(0):
                store = plant.add("store-1")
            plant.wait_ready()  # it has made the topics, and is stopped while they are filled
            store.stop()
            asyncio.run(_fill(plant, _scores(count, end_ms), size))
            end_ms += 4 * 3_600_000
            with pinned(0):
                store.start()
            stored = partial(_stored, store)
            runs[size] = rig.measure(f"store-{size}", plant, [store], stored, count)
            store.stop()
            del plant.processes["store-1"]
    return runs


async def _fill(plant: SitePlant, scores: list[ScoreRecord], size: int) -> None:
    async with KafkaLogWriter(plant.kafka.address) as writer:
        records = [
            LogRecord(SCORES, at % PARTITIONS, None, encode_records(scores[at : at + size]), 0)
            for at in range(0, len(scores), size)
        ]
        for start in range(0, len(records), 500):
            await writer.append(records[start : start + 500])


def _scores(count: int, end_ms: int) -> list[ScoreRecord]:
    """Scores like those of the benchmark's student, of 200 devices."""
    chance = random.Random(0)
    labels = ("walking", "upstairs", "downstairs", "sitting", "standing", "lying")
    found = []
    for n in range(count):
        probabilities = {label: chance.random() / 3 for label in labels}
        end = end_ms + n // 200 * 1280
        found.append(
            {
                "task": "activity",
                "site": "bench",
                "device": f"device-{n % 200:04d}",
                "stream": "imu",
                "model": "har-waist",
                "version": 1,
                "start_ms": end - 2560,
                "end_ms": end,
                "readings": 128,
                "gaps": 0,
                "recv_ms": end + 210,
                "scored_ms": end + 215,
                "activity": max(labels, key=probabilities.__getitem__),
                "probability": max(probabilities.values()),
                "probabilities": probabilities,
            }
        )
    return found


# ----------------------------------------------------------------------------------------- a line


@dataclass(frozen=True, slots=True)
class Latency:
    """One rate of messages through the whole pipeline.

    Attributes:
        rate: Requested and reached messages a second, each of ten readings, of devices at 50 Hz.
        stored: Time from the end of a window (event time) to the point confirmed by InfluxDB: p50
            and p99 in ms.
        scored: Likewise, to the score in Kafka.
        seen: Time from the end of a window to the answer of a query that has it; of a few devices.
        points: Points in InfluxDB afterwards; equal to `scores`.
        scores: Scores written by the worker.
        scores_per_record: Scores in a record of the log.
        cpu: Shares of one core, by process.
    """

    rate: tuple[float, float]
    devices: int
    stored: tuple[float, float]
    scored: tuple[float, float]
    seen: tuple[float, float]
    points: int
    scores: int
    scores_per_record: float
    cpu: dict[str, float]


@dataclass(slots=True)
class Pipeline:
    """The whole pipeline, nothing pinned: servers, load and our processes share the cores.

    Attributes:
        limit: Messages of ten readings, from the first one sent to the last point stored.
        latencies: Latencies at half of the limit, and at a modest rate.
        rss_mb: Resident memory by process, at the end.
    """

    limit: Run
    latencies: list[Latency] = field(default_factory=list)
    rss_mb: dict[str, float] = field(default_factory=dict)


def measure_pipeline(rig: Rig, messages: int, rate: float, seconds: float) -> Pipeline:
    """Find the limit of bridge, worker, store and servers together; then measure latency below
    it."""
    messages, seconds = round(messages * rig.scale), max(8.0, seconds * rig.scale)
    with rig.plant() as plant:
        for name in ("store-1", "worker-1", "bridge-1"):
            plant.add(name)
        plant.wait_ready()
        limit = _limit(rig, plant, messages)
        line = Pipeline(limit)
        for each in (rate, limit.per_second / 2):
            line.latencies.append(_latency(plant, each, seconds))
        line.rss_mb = {
            name: process.memory_info().rss / 1e6 for name, process in _all(plant).items()
        }
    return line


def _all(plant: SitePlant) -> dict[str, psutil.Process]:
    pids = {name: process.pid for name, process in plant.processes.items()}
    for server in (plant.kafka, plant.influx, plant.mosquitto):
        assert server.pid is not None
        pids[server.name] = server.pid
    return {name: psutil.Process(pid) for name, pid in pids.items()}


def _limit(rig: Rig, plant: SitePlant, messages: int) -> Run:
    worker, store, bridge = plant["worker-1"], plant["store-1"], plant["bridge-1"]

    def done() -> float:
        """Messages whose windows are stored, except for windows that are still open."""
        if _applied(worker) < messages * _BATCH:
            return _applied(worker) / _BATCH / 2
        scored = worker.get().get("parts", {}).get("line", {}).get("scored", math.inf)
        return messages if _stored(store) >= scored else messages / 2

    with start_load(plant, messages, _BATCH) as load:
        run = rig.measure(
            "line", plant, [bridge, worker, store], done, messages, begins=lambda: _logged(bridge)
        )
        load.wait()
    return Run(messages, run.seconds, run.cpu_seconds, run.kafka_cpu_seconds, run.rss_mb)


def _latency(plant: SitePlant, rate: float, seconds: float) -> Latency:
    """Publish with event time = now; worker and store restart, because they report latency by the
    minute.

    All devices have been heard before: InfluxDB takes a second or two for a thousand new series.
    """
    _send(plant, rate, 4.0)
    time.sleep(1.0)
    for name in ("worker-1", "store-1"):
        plant[name].stop()
        plant[name].start()
    plant.wait_ready()
    before, records = _points(plant), _records(plant, SCORES)
    _send(plant, 5, 4.0)  # a few windows of one device, because a new process is slow
    devices = max(1, round(rate * _BATCH / _HZ))
    processes = _all(plant)
    cpu = {name: _cpu(process) for name, process in processes.items()}
    with _Watcher(plant, range(min(devices, 5))) as watcher:
        started = time.perf_counter()
        sent = _send(plant, rate, seconds)
        spent = time.perf_counter() - started
        cpu = {name: (_cpu(process) - cpu[name]) / spent for name, process in processes.items()}
        time.sleep(2.5)
    worker, store = _metrics(plant["worker-1"]), _metrics(plant["store-1"])
    scores = round(worker["kpstream_scored_total"])
    return Latency(
        rate=(rate, sent["sent"] / sent["seconds"]),
        devices=devices,
        stored=_percentiles(store, "kpstream_stored_latency_seconds"),
        scored=_percentiles(worker, "kpstream_latency_seconds"),
        seen=watcher.percentiles(),
        points=_points(plant) - before,
        scores=scores,
        scores_per_record=scores / max(1, _records(plant, SCORES) - records),
        cpu=cpu,
    )


def _send(plant: SitePlant, rate: float, seconds: float) -> dict[str, float]:
    devices = str(max(1, round(rate * _BATCH / _HZ)))
    more = ("--rate", str(rate), "--live", "--devices", devices)
    with start_load(plant, max(1, round(rate * seconds)), _BATCH, *more) as load:
        return load.wait()


def _points(plant: SitePlant) -> int:
    return plant.count("activity", "gaps")


def _percentiles(metrics: Mapping[str, float], name: str) -> tuple[float, float]:
    p50, p99 = (
        metrics.get(f'{name}{{origin="sensor",quantile="{q}"}}', math.nan) for q in ("0.5", "0.99")
    )
    return p50 * 1000, p99 * 1000


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class _Watcher:
    """Asks InfluxDB for the last windows of a few devices, ten times a second.

    The observed time of a point is late by the time of the query and up to a tenth of a second.
    """

    def __init__(self, plant: SitePlant, devices: Iterable[int]) -> None:
        self._plant = plant
        names = " or ".join(f'r.device == "device-{device:04d}"' for device in devices)
        self._flux = (
            'from(bucket: "kpstream") |> range(start: -30s) |> filter(fn: (r) => '
            f'r._measurement == "activity" and r._field == "gaps" and ({names})) |> last() '
            '|> keep(columns: ["_time", "device"])'
        )
        self._seen: dict[tuple[str, int], float] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher")

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._thread.join()

    def percentiles(self) -> tuple[float, float]:
        """p50 and p99, ms, without the points of the first query."""
        found = sorted(self._seen.values())
        if not found:
            return math.nan, math.nan
        return found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)]

    def _watch(self) -> None:
        influx = self._plant.influx
        connection = InfluxConnection(influx.url, SecretStr(influx.token), ORG)
        known: set[tuple[str, int]] | None = None
        with InfluxClient(connection) as client:
            while not self._ending.wait(0.1):
                rows = client.query(self._flux)
                now_ms = time.time() * 1000
                found = {(r["device"], round(r["_time"].timestamp() * 1000)) for r in rows}
                for at in found - (found if known is None else known):
                    self._seen[at] = now_ms - at[1]
                known = (known or set()) | found
