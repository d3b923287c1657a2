"""`python -m tests.bench.store`: measures a store process with the real Kafka and InfluxDB.

1. Rate: the store writes scores that wait in Kafka, in records of 1, 10, 50 and 250.
2. Outage: InfluxDB is down while a day of scores of a fleet arrives; then InfluxDB returns, the
   fleet continues, and the store catches up. Every score is counted in InfluxDB at the end.
3. Live: scores arrive at a rate; the result is the time until each can be read from InfluxDB.

The store is pinned to core 0; Kafka, InfluxDB and the writer of scores share core 1. CPU-seconds
are those of the store process, its threads included, so they do not depend on the number of cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from deploy.stack.servers import InfluxServer, KafkaServer
from deploy.stack.topics import site_topics
from ingest.childprocess import tied_to_parent
from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint, create_topics
from ingest.topics import SCORES, device_key, partition_of
from pipeline.points.scores import ScoreRecord
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from pipeline.stores.influxlayout import STORE_TOKEN, site_layout
from pipeline.stores.influxsetup import ensure_layout
from tests.fakes.ports import free_port
from tests.fakes.scores import encode_records

PARTITIONS = 12
_SETTLE_S = 5.0
_RECORD: ScoreRecord = {
    "task": "rul",
    "site": "plant-7",
    "stream": "engine",
    "model": "rul-fd001",
    "version": 3,
    "readings": 30,
    "gaps": 0,
}


class Site:
    """Kafka, InfluxDB and a writer of scores; `store()` runs `kpstream store` beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = KafkaServer(folder / "kafka")
        self.influx = InfluxServer(folder / "influx")
        self.status_port = free_port("127.0.0.1")
        self.written = 0
        self.producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Start the servers, make topics and layout (points of any age are kept)."""
        self.kafka.start()
        self.influx.start()
        self.influx.setup("kpstream", "first")
        while True:
            try:
                await create_topics(KafkaEndpoint(self.kafka.address), site_topics(PARTITIONS))
                break
            except LogUnavailable:  # a topic that was just made may be unknown for a moment
                await asyncio.sleep(0.5)
        self.client = self.connect()
        ensured = ensure_layout(self.client, site_layout(scores_days=0, hourly_days=0))
        self.token = ensured.tokens[STORE_TOKEN].get_secret_value()
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka.address, acks="all", linger_ms=5, max_batch_size=262_144
        )
        await self.producer.start()

    async def stop(self) -> None:
        """Stop everything."""
        if self.producer is not None:
            await self.producer.stop()
        self.influx.stop()
        self.kafka.stop()

    def connect(self) -> InfluxClient:
        """A client with the operator's token."""
        token = SecretStr(self.influx.token)
        connection = InfluxConnection(self.influx.url, token, "kpstream", timeout_ms=60_000)
        return InfluxClient(connection)

    async def write(self, scores: Sequence[ScoreRecord], per_record: int) -> None:
        """Append scores, the devices of a partition together, `per_record` in each record."""
        assert self.producer is not None
        sent = []
        by_partition: dict[int, list[ScoreRecord]] = {}
        for score in scores:
            partition = partition_of(device_key(score["site"], score["device"]), PARTITIONS)
            by_partition.setdefault(partition, []).append(score)
        for partition, group in by_partition.items():
            for start in range(0, len(group), per_record):
                value = encode_records(group[start : start + per_record])
                sent.append(await self.producer.send(SCORES, value, partition=partition))
        for confirmation in sent:
            await confirmation
        self.written += len(scores)

    @contextmanager
    def store(self, core: int | None = 0, **settings: object) -> Iterator[psutil.Process]:
        """A store process, until the end of the block."""
        environment = os.environ | {
            "KPSTREAM_SITE_KAFKA": self.kafka.address,
            "KPSTREAM_SITE_PARTITIONS": str(PARTITIONS),
            "KPSTREAM_SITE_STATE_DIR": str(self.folder / "state"),
            "KPSTREAM_SITE_STATUS_PORT": str(self.status_port),
            "KPSTREAM_PIPELINE_INFLUX_URL": self.influx.url,
            "KPSTREAM_PIPELINE_INFLUX_TOKEN": self.token,
            "OMP_NUM_THREADS": "1",
            **{f"KPSTREAM_PIPELINE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with (self.folder / "store.log").open("ab") as log:
            command = tied_to_parent([sys.executable, "-m", "deploy.cli", "store"])
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        process = psutil.Process(child.pid)
        try:
            if core is not None:
                process.cpu_affinity([core])
            yield process
        finally:
            child.terminate()
            child.wait(60)

    def stored(self) -> float:
        """Points that the running store reports as stored, accounts included; 0 while it does not
        answer."""
        try:
            url = f"http://127.0.0.1:{self.status_port}/metrics"
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return 0.0
        for line in text.splitlines():
            if line.startswith("kpstream_stored_total"):
                return float(line.split()[-1])
        return 0.0

    async def all_counted(self) -> int:
        """Number of scores missing in InfluxDB, after waiting for up to half a minute."""
        deadline = time.monotonic() + 30
        while (missing := self.written - self.counted()) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return missing

    def counted(self) -> int:
        """Number of scores in InfluxDB."""
        rows = self.client.query(
            'from(bucket: "kpstream") |> range(start: 0)'
            ' |> filter(fn: (r) => r._measurement == "rul" and r._field == "version")'
            " |> group() |> count()"
        )
        return sum(row["_value"] for row in rows)


def scores(count: int, first_ms: int, step_ms: float, devices: int) -> list[ScoreRecord]:
    """`count` scores, `step_ms` apart, of the devices in turn."""
    return [
        _RECORD
        | {
            "device": f"engine-{n % devices:04d}",
            "start_ms": (end := first_ms + round(n * step_ms)) - 29_000,
            "end_ms": end,
            "recv_ms": end + 40,
            "scored_ms": end + 55,
            "rul": 125.0 - n % 9973 / 80.37,
            "rul_low": 105.0 - n % 9973 / 80.37,
            "rul_high": 145.0 - n % 9973 / 80.37,
        }
        for n in range(count)
    ]


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def site_in(folder: Path) -> AsyncIterator[Site]:
    """A site whose servers, like this process, are pinned to core 1."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    site = Site(folder)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()


async def rate(folder: Path, count: int, per_record: int) -> dict[str, Any]:
    """Measure the storing of waiting scores: points per second and per CPU-second."""
    async with site_in(folder) as site:
        await site.write(scores(count, 1_700_000_000_000, 0.5, 700), per_record)
        with site.store() as store:
            while not site.stored():
                await asyncio.sleep(0.02)
            began, cpu, before = time.perf_counter(), cpu_seconds(store), site.stored()
            while (stored := site.stored()) < count:
                await asyncio.sleep(0.05)
            seconds, cpu = time.perf_counter() - began, cpu_seconds(store) - cpu
            rss_mb = store.memory_info().rss / 1e6
            missing = await site.all_counted()
        return {
            "scores": count,
            "per_record": per_record,
            "points_per_second": (stored - before) / seconds,
            "points_per_cpu_second": (stored - before) / cpu,
            "rss_mb": rss_mb,
            "missing": missing,
        }


async def outage(folder: Path, per_second: float, hours: float, devices: int) -> dict[str, Any]:
    """Stop InfluxDB for `hours` of scores, then start it again and measure the recovery."""
    async with site_in(folder) as site:
        backlog = round(hours * 3_600 * per_second)
        now_ms = time.time_ns() // 1_000_000
        first_ms = now_ms - round(hours * 3_600_000)
        site.influx.stop()
        with site.store() as store:
            for start in range(0, backlog, 50_000):
                part = scores(
                    min(50_000, backlog - start),
                    first_ms + round(start * 1000 / per_second),
                    1000 / per_second,
                    devices,
                )
                # One second of the fleet is one micro-batch of the worker, over all partitions.
                await site.write(part, max(1, round(per_second / PARTITIONS)))
            rss_away_mb = store.memory_info().rss / 1e6
            enough = asyncio.Event()
            live = asyncio.create_task(_live(site, per_second, devices, enough))
            site.influx.start()
            began, cpu, wrote = time.perf_counter(), cpu_seconds(store), site.written
            while not site.stored():
                await asyncio.sleep(0.02)
            while site.stored() < site.written - 2 * per_second:
                await asyncio.sleep(0.05)
            seconds, cpu = time.perf_counter() - began, cpu_seconds(store) - cpu
            enough.set()
            await live
            missing = await site.all_counted()
        return {
            "backlog": backlog,
            "live_per_second": per_second,
            "outage_hours": hours,
            "caught_up_seconds": seconds,
            "points_per_second": backlog / seconds,
            "times_live": backlog / seconds / per_second,
            "points_per_cpu_second": (backlog + site.written - wrote) / cpu,
            "rss_away_mb": rss_away_mb,
            "missing": missing,
        }


async def _live(site: Site, per_second: float, devices: int, enough: asyncio.Event) -> None:
    """Scores of a live fleet that end now, a few times a second."""
    every_s = 0.2
    while not enough.is_set():
        began = time.monotonic()
        now_ms = time.time_ns() // 1_000_000
        count = max(1, round(per_second * every_s))
        part = scores(count, now_ms, every_s * 1000 / count, devices)
        await site.write(part, max(1, count // PARTITIONS))
        await asyncio.sleep(max(0.0, every_s - (time.monotonic() - began)))


async def live(folder: Path, per_second: float, samples: int) -> dict[str, Any]:
    """Milliseconds from appending a score to reading it from InfluxDB, while others arrive."""
    async with site_in(folder) as site:
        with site.store() as store:
            enough = asyncio.Event()
            others = asyncio.create_task(_live(site, per_second, 700, enough))
            while site.stored() < site.written - per_second:  # what came while it started
                await asyncio.sleep(0.05)
            await asyncio.sleep(_SETTLE_S)
            began, cpu, stored = time.perf_counter(), cpu_seconds(store), site.stored()
            took_ms = sorted([await _seen_after_ms(site, n) for n in range(samples)])
            seconds, cpu = time.perf_counter() - began, cpu_seconds(store) - cpu
            stored = site.stored() - stored
            enough.set()
            await others
        return {
            "points_per_second": stored / seconds,
            "cpu_share": cpu / seconds,
            "visible_p50_ms": took_ms[len(took_ms) // 2],
            "visible_p99_ms": took_ms[min(len(took_ms) - 1, round(len(took_ms) * 0.99))],
            "samples": samples,
        }


async def _seen_after_ms(site: Site, number: int) -> float:
    now_ms = time.time_ns() // 1_000_000
    (mark,) = scores(1, now_ms, 1, 1)
    began = time.perf_counter()
    await site.write([mark | {"device": f"mark-{number}"}], 1)
    flux = (
        f'from(bucket: "kpstream") |> range(start: -1m) |> filter(fn: (r) => r.device == '
        f'"mark-{number}" and r._field == "rul")'
    )
    while not await asyncio.to_thread(site.client.query, flux):
        await asyncio.sleep(0.005)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Run the requested measurements and print the numbers as JSON, one line each."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store")
    parser.add_argument("what", nargs="*", default=["rate", "outage", "live"])
    parser.add_argument("--scores", type=int, default=200_000, help="that wait, for the rate")
    parser.add_argument("--per-record", type=int, nargs="*", default=[1, 10, 50, 250])
    parser.add_argument("--per-second", type=float, default=16.0, help="of the fleet, outage")
    parser.add_argument("--hours", type=float, default=24.0, help="of the outage")
    parser.add_argument("--live-per-second", type=float, default=5_000.0)
    parser.add_argument("--samples", type=int, default=100)
    args = parser.parse_args()
    runs: list[tuple[str, Any]] = []
    if "rate" in args.what:
        for per_record in args.per_record:
            runs.append(("rate", lambda at, k=per_record: rate(at, args.scores, k)))
    if "outage" in args.what:
        runs.append(("outage", lambda at: outage(at, args.per_second, args.hours, 16)))
    if "live" in args.what:
        runs.append(("live", lambda at: live(at, args.live_per_second, args.samples)))
    for name, run in runs:
        with tempfile.TemporaryDirectory(
            prefix="kpstream-bench-", ignore_cleanup_errors=True
        ) as folder:
            print(json.dumps({"what": name, **asyncio.run(run(Path(folder)))}), flush=True)


if __name__ == "__main__":
    main()
