"""The measured processes, each pinned to one core; prints one JSON line at the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["bridge", "line"])
    parser.add_argument("--core", type=int)
    parser.add_argument("--port", type=int)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--readings", type=int, default=10)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--profile", type=Path)
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    work = bridge if args.what == "bridge" else line
    if args.profile:
        import cProfile

        profiler = cProfile.Profile()
        answer = profiler.runcall(lambda: asyncio.run(work(args)))
        profiler.dump_stats(args.profile)
    else:
        answer = asyncio.run(work(args))
    print(json.dumps(answer | {"rss_mb": psutil.Process().memory_info().rss / 1e6}))


async def bridge(args: argparse.Namespace) -> dict[str, Any]:
    """MQTT -> durable log, nothing else in the process."""
    from ingest.bridge import Bridge
    from ingest.settings import IngestSettings
    from pipeline.log.locallog import LocalLogWriter, open_log

    log = open_log(args.state / "log.db", partitions=4)
    part = Bridge(IngestSettings(mqtt_port=args.port), LocalLogWriter(log, 4))
    task = asyncio.create_task(part.run())
    while part.counters.received_total == 0:
        await asyncio.sleep(0.001)
    started, cpu = time.perf_counter(), time.process_time()
    while part.counters.logged_total < args.messages:
        await asyncio.sleep(0.002)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    part.stop()
    await task
    stats = log.stats()
    log.close()
    return {
        "messages": args.messages,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "records": part.counters.records_total,
        "log_commits": stats.commits,
        "log_commit_seconds": stats.commit_seconds,
    }


async def line(args: argparse.Namespace) -> dict[str, Any]:
    """A log full of bundles -> window -> score -> log, nothing else in the process."""
    from ingest.clock import now_ms
    from ingest.messages import encode_envelope
    from ingest.topics import READINGS, device_key, partition_of
    from models.artifact import read_artifact
    from models.session import Student
    from models.zoo import zoo_path
    from pipeline.app import create_scoring_app
    from pipeline.log.locallog import open_log
    from pipeline.log.state import NewRecord
    from pipeline.scoring.students import stream_plan
    from pipeline.settings import PipelineSettings
    from tests.bench.load import _template
    from tests.fakes.records import encode_bundle

    settings = PipelineSettings()
    url = f"sqlite://{args.state / 'log.db'}"
    log = open_log(args.state / "log.db", partitions=4)
    base = now_ms() - 3_600_000
    rounds = args.messages // args.devices
    for start in range(0, rounds, 20):
        bundles: dict[int, list[bytes]] = {}
        for round_ in range(start, min(start + 20, rounds)):
            for device in range(args.devices):
                topic, values = _template(device, args.readings)
                _, site, name, stream = topic.decode().split("/")
                t0 = base + round_ * args.readings * 20
                body = b'{"t0":%d,"dt_ms":20,"values":%s}' % (t0, values)
                partition = partition_of(device_key(site, name), 4)
                envelope = encode_envelope(site, name, stream, now_ms(), body)
                bundles.setdefault(partition, []).append(envelope)
        log.append(
            [NewRecord(READINGS, encode_bundle(b), None, p) for p, b in bundles.items()]
        ).result()
    student = Student(read_artifact(zoo_path("har-waist")))
    plan = stream_plan(student.manifest, settings)
    scoring = create_scoring_app(
        url,
        settings,
        lambda stream: plan,
        lambda stream: student,
        data_dir=args.state / "faust",
    )
    total = rounds * args.devices * args.readings
    await scoring.start()
    counters = scoring.stage.counters
    while counters.readings == 0:
        await asyncio.sleep(0.001)
    started, cpu, already = time.perf_counter(), time.process_time(), counters.readings
    while counters.readings < total:
        await asyncio.sleep(0.005)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    await scoring.stop()
    log.close()
    return {
        "readings": total - already,
        "messages": (total - already) // args.readings,
        "scored": counters.scored,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "apply_seconds": counters.apply_seconds,
        "score_seconds": counters.score_seconds,
    }


if __name__ == "__main__":
    main()
