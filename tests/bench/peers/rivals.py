"""Runs of the peers; each returns its figures as the runs of a gateway do."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.stack.servers import KafkaServer
from ingest.childprocess import tied_to_parent
from tests.bench.peers.environments import peer_python
from tests.bench.peers.lives import WARM
from tests.bench.peers.measured import (
    Cpu,
    Load,
    memory_mb,
    peak_mb,
    running_broker,
    wait_until,
)
from tests.bench.peers.programs.student import Progress
from tests.bench.peers.reference import Found, check_scores
from tests.bench.peers.workloads import ROOT, W1, Workload, device_name

__all__ = ["Peer", "flood_bytewax", "flood_kafka", "flood_script", "live_script"]

_PROGRAMS = Path(__file__).parent / "programs"
_BASE_MS = 1_760_000_000_000
_PARTITIONS = 4
_HOUR_MS = 3_600_000


@dataclass(slots=True)
class Peer:
    """A peer as a process, with its files in `folder`.

    Attributes:
        folder: Scratch folder of the run.
        environments: Where environments of peers are kept.
    """

    folder: Path
    environments: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def out(self) -> Path:
        """The file into which a peer writes its scores, a JSON line each."""
        return self.folder / "scores.jsonl"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def running(self, environment: str, program: str, *args: str, **env: str) -> Iterator[Progress]:
        """Run a program of `programs/` until the end of the block; yields its progress."""
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = Progress.create(self.folder / "progress")
        python = peer_python(environment, self.environments)
        with (self.folder / "peer.log").open("wb") as output:
            self._process = subprocess.Popen(
                tied_to_parent([str(python), str(_PROGRAMS / program), *args]),
                env=self._env() | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self.wait_until(lambda: progress.get()[2] == 1, 180, "ready", poll_s=0.02)
            yield progress
        finally:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def wait_until(self, holds: Any, timeout_s: float, what: str, *, poll_s: float = 0.1) -> None:
        """Wait for a condition; fail with the output when the peer ends before."""

        def checked() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                text = (self.folder / "peer.log").read_text(errors="replace")[-2000:]
                message = f"the peer ended before it was {what}:\n{text}"
                raise RuntimeError(message)
            return bool(holds())

        wait_until(checked, timeout_s, what, poll_s=poll_s)

    def scores(self) -> Found:
        """The scores of its file."""
        found: dict[str, list[list[float]]] = {}
        for line in self.out.read_bytes().splitlines():
            score = json.loads(line)
            found.setdefault(score["device"], []).append(score["score"])
        return found

    def _env(self) -> dict[str, str]:
        return os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": "",
            "PROGRESS": str(self.folder / "progress"),
            "STATE": str(self.folder / "state"),
            "OUT": str(self.out),
        }


def flood_script(peer: Peer, style: str, workload: Workload, per_device: int) -> dict[str, Any]:
    """The script `naive` or `batch`, as fast as the broker takes messages."""
    devices = workload.devices
    readings, expected = devices * per_device, devices * workload.scores_expected(per_device)
    with (
        running_broker(peer.folder / "broker") as (port, _),
        _script(peer, style, workload, port) as progress,
    ):
        messages = readings // workload.per_message
        load = Load(workload, port, devices=devices, messages=messages, base_ms=_BASE_MS)
        cpu = Cpu.of(peer.pid)
        load.run()
        _settled(peer, progress, readings, expected)
        figures = _figures(peer, cpu, readings)
        time.sleep(0.5)  # the last lines are flushed
    check = check_scores(peer.scores(), workload, devices, per_device)
    return figures | {"check": str(check), "holds": check.holds}


def live_script(peer: Peer, *, rates: Sequence[int], seconds: float) -> dict[str, Any]:
    """The script `batch` under live loads, one after another."""
    devices = W1.devices
    live: dict[str, Any] = {}
    with (
        running_broker(peer.folder / "broker") as (port, _),
        _script(peer, "batch", W1, port) as progress,
    ):
        idle_mb = memory_mb(peer.pid)
        sent = WARM * devices
        base_ms = time.time_ns() // 1_000_000 - _HOUR_MS
        Load(W1, port, devices=devices, messages=sent, base_ms=base_ms).run()
        _settled(peer, progress, sent, devices * W1.scores_expected(WARM))
        for rate in rates:
            messages = round(rate * seconds / devices) * devices
            load = Load(
                W1, port, devices=devices, messages=messages, rate=rate, live=True,
                first=sent // devices,
            )  # fmt: skip
            cpu = Cpu.of(peer.pid)
            load.run()
            share = cpu.share
            sent += messages
            _settled(peer, progress, sent, devices * W1.scores_expected(sent // devices))
            live[str(rate)] = {"cpu_per_million": cpu.seconds / messages * 1e6, "share": share}
        figures = {"rss_idle_mb": idle_mb, "rss_mb": memory_mb(peer.pid), "live": live}
        time.sleep(0.5)
    check = check_scores(peer.scores(), W1, devices, sent // devices)
    return figures | {"check": str(check), "holds": check.holds}


def flood_bytewax(peer: Peer, workload: Workload, per_device: int) -> dict[str, Any]:
    """bytewax with all messages in memory before its time begins."""
    peer.folder.mkdir(parents=True, exist_ok=True)
    messages = peer.folder / "messages.txt"
    with messages.open("wb") as file:
        for device, body in _messages(workload, per_device):
            file.write(b"%s\t%s\n" % (device.encode(), body))
    devices = workload.devices
    readings, expected = devices * per_device, devices * workload.scores_expected(per_device)
    student = str(_student(workload))
    env = {"STUDENT": student, "MESSAGES": str(messages)}
    with peer.running("bytewax", "bytewax_flow.py", **env) as progress:
        cpu = Cpu.of(peer.pid)
        progress.set(0, 0, 2)
        _settled(peer, progress, readings, expected)
        figures = _figures(peer, cpu, readings)
        time.sleep(1)
    check = check_scores(peer.scores(), workload, devices, per_device)
    return figures | {"check": str(check), "holds": check.holds}


def flood_kafka(
    peer: Peer, environment: str, workload: Workload, per_device: int, *, full_only: bool
) -> dict[str, Any]:
    """A peer that reads a filled Kafka topic and writes its scores to another one.

    `full_only`: it knows only windows of full length. CPU of Kafka is given beside. The CPU of the
    start is not counted: measuring begins with the first reading.
    """
    devices = workload.devices
    readings = devices * per_device
    expected = devices * workload.scores_expected(per_device, full_only=full_only)
    properties = {"auto.create.topics.enable": "true"}
    kafka = KafkaServer(peer.folder / "kafka", properties=properties)
    with kafka:
        _fill(kafka.address, workload, per_device)
        env = {"STUDENT": str(_student(workload)), "BROKER": kafka.address}
        with peer.running(environment, f"{environment}_app.py", **env) as progress:
            peer.wait_until(lambda: progress.get()[0] > 0, 120, "at work", poll_s=0.02)
            first = progress.get()[0]
            cpu, beside = Cpu.of(peer.pid), Cpu.of(kafka.pid)
            _settled(peer, progress, readings, expected)
            done = readings - first
            figures = _figures(peer, cpu, done)
            figures["kafka_per_million"] = beside.seconds / done * 1e6
            time.sleep(2)
        found = _consumed(kafka.address)
    check = check_scores(found, workload, devices, per_device, full_only=full_only)
    return figures | {"check": str(check), "holds": check.holds}


@contextmanager
def _script(peer: Peer, style: str, workload: Workload, port: int) -> Iterator[Progress]:
    args = ["--student", str(_student(workload)), "--port", str(port), "--out", str(peer.out)]
    args += ["--progress", str(peer.folder / "progress")]
    with peer.running("paho", "paho_script.py", style, *args) as progress:
        yield progress


def _settled(peer: Peer, progress: Progress, readings: int, scores: int) -> None:
    def is_done() -> bool:
        return progress.get()[0] >= readings and progress.get()[1] >= scores

    peer.wait_until(is_done, 600, f"done ({readings} readings, {scores} scores)")


def _figures(peer: Peer, cpu: Cpu, readings: int) -> dict[str, Any]:
    return {
        "cpu_per_million": cpu.seconds / readings * 1e6,
        "seconds": time.perf_counter() - cpu.started,
        "rss_mb": memory_mb(peer.pid),
        "peak_mb": peak_mb(peer.pid),
    }


def _student(workload: Workload) -> Path:
    return ROOT / "models/zoo" / workload.student


def _messages(workload: Workload, per_device: int) -> Iterator[tuple[str, bytes]]:
    """(device, body) of every message, round after round as the load sends them."""
    bodies = [workload.values(device) for device in range(workload.devices)]
    span_ms = workload.per_message * workload.step_ms
    for round_ in range(per_device // workload.per_message):
        for device, values in enumerate(bodies):
            body = workload.body(_BASE_MS + round_ * span_ms, values[round_ % len(values)])
            yield device_name(device), body


def _fill(address: str, workload: Workload, per_device: int) -> None:
    """The topic `readings`: a message a record, its key the device."""
    from confluent_kafka import Producer  # only here: not every test environment has it
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": address})
    topics = [NewTopic(name, _PARTITIONS, 1) for name in ("readings", "scores")]
    for made in admin.create_topics(topics).values():
        made.result()
    producer = Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,  # in order, also when a new topic has no leader yet
            "log_level": 3,
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
            "partitioner": "murmur2_random",
        }
    )
    for number, (device, body) in enumerate(_messages(workload, per_device)):
        producer.produce("readings", body, device)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush()


def _consumed(address: str) -> Found:
    """The scores of the topic `scores`, by key."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "check"})
    parts = [TopicPartition("scores", n, OFFSET_BEGINNING) for n in range(_PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(part)[1] for part in parts)
    consumer.assign(parts)
    found: dict[str, list[list[float]]] = {}
    while left > 0:
        records = consumer.consume(min(left, 5000), timeout=20)
        if not records:
            break
        left -= len(records)
        for record in records:
            score = json.loads(record.value())["score"]
            found.setdefault(record.key().decode(), []).append(score)
    consumer.close()
    return found
