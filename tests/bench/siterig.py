"""The rig of the site's benchmark: real servers and processes, cores, CPU time, profiles."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.e2e.site_plant import SitePlant, SiteProcess

__all__ = ["Rig", "Run", "pinned", "start_load"]

PARTITIONS = 12
_PY_SPY = "py-spy"
_WAIT_S = 180.0


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one measurement of one or several processes.

    Attributes:
        done: Items counted from the first progress to the end.
        seconds: Seconds between the two.
        cpu_seconds: CPU time of the measured processes, between the two.
        kafka_cpu_seconds: CPU time of Kafka.
        rss_mb: Largest resident memory of a measured process at the end.
    """

    done: float
    seconds: float
    cpu_seconds: float
    kafka_cpu_seconds: float
    rss_mb: float

    @property
    def per_second(self) -> float:
        return self.done / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return self.done / self.cpu_seconds

    @property
    def cpu_seconds_per_million(self) -> float:
        return self.cpu_seconds * 1e6 / self.done


@dataclass(frozen=True, slots=True)
class Rig:
    """Environment of the benchmark.

    Attributes:
        folder: Folder for state; every plant has its own below it.
        scale: Factor for all amounts; 1 is the whole benchmark.
        profiles: Folder for profiles of the measured processes (with py-spy), or None.
    """

    folder: Path
    scale: float = 1.0
    profiles: Path | None = None

    def below(self, name: str) -> Rig:
        """The same in a folder of its own."""
        return replace(self, folder=self.folder / name)

    def plant(self) -> SitePlant:
        """Servers only, on the last core; processes are added where they are measured."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return SitePlant(
            self.folder,
            bridges=0,
            workers=0,
            stores=0,
            partitions=PARTITIONS,
            KPSTREAM_SITE_ACCOUNT_MS="10000",
        )

    def measure(
        self,
        what: str,
        plant: SitePlant,
        processes: Sequence[SiteProcess],
        progress: Callable[[], float],
        target: float,
        *,
        begins: Callable[[], object] | None = None,
    ) -> Run:
        """Measure processes until `progress` is `target`, from `begins` or the first progress
        on."""
        begins = begins or progress
        plant.wait_until(begins, f"at work ({what})", timeout_s=_WAIT_S, poll_s=0.05)
        measured = [psutil.Process(process.pid) for process in processes]
        kafka = psutil.Process(plant.kafka.pid)
        with self._profiled(what, measured):
            first = progress()
            started, cpu, kafka_cpu = time.perf_counter(), _cpu(measured), _cpu([kafka])
            plant.wait_until(
                lambda: progress() >= target, f"done ({what})", timeout_s=_WAIT_S, poll_s=0.2
            )
            last = progress()
            seconds = time.perf_counter() - started
            cpu, kafka_cpu = _cpu(measured) - cpu, _cpu([kafka]) - kafka_cpu
        rss_mb = max(process.memory_info().rss for process in measured) / 1e6
        return Run(last - first, seconds, cpu, kafka_cpu, rss_mb)

    @contextmanager
    def _profiled(self, what: str, processes: Sequence[psutil.Process]) -> Iterator[None]:
        """Sample the stacks of all threads that run; slower, so its figures are not the result."""
        if self.profiles is None:
            yield
            return
        program = shutil.which(_PY_SPY)
        if program is None:
            raise SystemExit("a profile needs py-spy on PATH: pip install py-spy")
        self.profiles.mkdir(parents=True, exist_ok=True)
        files = [self.profiles / f"{what}-{n}.txt" for n in range(len(processes))]
        spies = [
            subprocess.Popen(
                [program, "record", "-r", "250", "-f", "raw", "-o", str(file), "-p", str(p.pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for file, p in zip(files, processes, strict=True)
        ]
        try:
            yield
        finally:
            for spy in spies:
                spy.send_signal(signal.SIGINT)
                spy.wait(60)
        for file in files:
            print(_summary(file))


_IDLE = {
    "_worker (concurrent/futures/thread.py)",
    "EpollSelector.select (selectors.py)",
    "SocketIO.readinto (socket.py)",
}
"""Waiting, which py-spy takes for work on a busy machine."""


def _summary(file: Path, most: int = 25) -> str:
    """Summarise a profile: time by function, without and with its calls."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        names = [frame.partition(":")[0].rstrip(")") + ")" for frame in stack.split(";")]
        if names[-1] in _IDLE:
            continue
        own[names[-1]] += int(count)
        for name in set(names):
            whole[name] += int(count)
    total = sum(own.values()) or 1
    lines = [f"{file}: {total} samples", f"{'own':>6}  {'':40}{'whole':>6}"]
    for (a, n), (b, m) in zip(own.most_common(most), whole.most_common(most), strict=False):
        lines.append(f"{n / total:6.1%}  {a[:60]:62}{m / total:6.1%}  {b[:60]}")
    return "\n".join(lines)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin processes started in the block to one core: 0 is the first available one, 1 another
    one."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, {cores[min(core, len(cores) - 1)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_load(plant: SitePlant, messages: int, readings: int, *more: str) -> Load:
    """Start a load whose messages have four decimals of noise."""
    return Load(
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.bench.load", "--port", str(plant.mosquitto.port)),
                *("--messages", str(messages), "--readings", str(readings), "--noisy", *more),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
    )


class Load:
    """A running load generator."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait(self) -> dict[str, float]:
        """Return its report once the broker has confirmed everything."""
        output, _ = self._process.communicate(timeout=_WAIT_S)
        if self._process.returncode:
            raise SystemExit(f"the load generator ended with {self._process.returncode}")
        return json.loads(output)  # type: ignore[no-any-return]

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()


def _cpu(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(time.user + time.system for time in times))
