"""Processes of a benchmark: CPU time, memory, a broker without limits, the load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ingest.childprocess import tied_to_parent
from ingest.mqtt.broker import mosquitto_program
from tests.bench.peers.workloads import Workload
from tests.fakes.ports import free_port

__all__ = ["Cpu", "Load", "memory_mb", "peak_mb", "running_broker", "wait_until"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """User and system seconds of processes (with their children) since `Cpu.of`."""

    processes: tuple[psutil.Process, ...]
    begun: float
    started: float

    @classmethod
    def of(cls, *pids: int) -> Cpu:
        """Begin to measure."""
        processes = tuple(psutil.Process(pid) for pid in pids)
        return cls(processes, _seconds(processes), time.perf_counter())

    @property
    def seconds(self) -> float:
        """CPU seconds so far."""
        return _seconds(self.processes) - self.begun

    @property
    def share(self) -> float:
        """Share of one core so far."""
        return self.seconds / (time.perf_counter() - self.started)


def _seconds(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            total += float(times.user + times.system)
    return total


def memory_mb(pid: int) -> float:
    """Resident memory."""
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def peak_mb(pid: int) -> float:
    """High water of the resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def wait_until(
    holds: Callable[[], object], timeout_s: float, what: str, *, poll_s: float = 0.2
) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It does not hold after the time limit.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            message = f"not {what} after {timeout_s:.0f} s"
            raise TimeoutError(message)
        time.sleep(poll_s)


@contextmanager
def running_broker(folder: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A mosquitto that queues and sends without limits, unless `options` say otherwise.

    Yields its port and its process; with `log_type` among the options its log is the output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, path = free_port(), folder / "mosquitto.conf"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence false",
             "set_tcp_nodelay true", "max_queued_messages 0",
             *(options or ("max_inflight_messages 0", "log_type error"))]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    program = mosquitto_program()
    if program is None:
        raise SystemExit("the benchmark needs mosquitto: apt-get install mosquitto")
    process = subprocess.Popen(
        tied_to_parent([str(program), "-c", str(path)]),
        stdout=subprocess.PIPE if options else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        time.sleep(0.3)
        yield port, process
    finally:
        process.terminate()
        process.wait(10)


class Load:
    """A load generator in a process of its own, connected but silent until `start`."""

    def __init__(
        self,
        workload: Workload,
        port: int,
        *,
        devices: int,
        messages: int,
        first: int = 0,
        rate: float = 0,
        live: bool = False,
        base_ms: int = 0,
        in_flight: int = 2000,
    ) -> None:
        command = [
            *(sys.executable, "-m", "tests.bench.peers.load", "--workload", workload.name),
            *("--port", str(port), "--devices", str(devices), "--messages", str(messages)),
            *("--first", str(first), "--rate", str(rate), "--base-ms", str(base_ms)),
            *("--in-flight", str(in_flight), *(["--live"] if live else [])),
        ]
        self._process = subprocess.Popen(
            tied_to_parent(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the load generator did not start"

    def start(self) -> None:
        """Begin to publish."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self, timeout_s: float = 900.0) -> dict[str, Any]:
        """Wait until the broker has confirmed every message."""
        output, _ = self._process.communicate(timeout=timeout_s)
        return json.loads(output)  # type: ignore[no-any-return]

    def run(self) -> dict[str, Any]:
        """Publish everything."""
        self.start()
        return self.wait()
