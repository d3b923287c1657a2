"""Where a gateway spends its time, by function; and what the work costs at the least."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tests.bench.peers.environments import peer_python
from tests.bench.peers.gateways import Gateway, Revision
from tests.bench.peers.lives import WARM, warm_up
from tests.bench.peers.measured import Load, running_broker
from tests.bench.peers.programs.student import Student
from tests.bench.peers.workloads import ROOT, W1, Workload

__all__ = ["measure_floor", "measure_profile", "shares_by_function"]

_WAITING = (
    "epoll_wait", "EpollSelector.select", "select (selectors.py", "_worker (concurrent", "poll (",
    "wait (threading.py", "accept (", "readinto (socket.py", "get (queue.py",
)  # fmt: skip
"""Last frames of threads that wait, which a sampler may take for work."""
_WRITE_AT_ONCE = 64


def measure_profile(
    revision: Revision, folder: Path, environments: Path, *, seconds: int, rate: int = 200
) -> dict[str, Any]:
    """Sample a gateway live and in a flood of `w1`: shares of busy samples by function."""
    profiles: dict[str, Any] = {}
    for name in ("live", "flood"):
        home = folder / name
        with (
            running_broker(home / "broker") as (port, _),
            Gateway(revision, home, port, W1) as gateway,
        ):
            if name == "live":
                warm_up(gateway, port, W1.devices)
                load = Load(
                    W1, port, devices=W1.devices, messages=rate * seconds, rate=rate, live=True,
                    first=WARM,
                )  # fmt: skip
            else:
                base_ms = time.time_ns() // 1_000_000 - 24 * 3_600_000
                load = Load(W1, port, devices=W1.devices, messages=600 * 200, base_ms=base_ms)
            with _sampled(gateway.pid, home / "raw.txt", seconds, environments):
                load.run()
        profiles[name] = shares_by_function((home / "raw.txt").read_text(encoding="utf-8"))
    return {"profiles": profiles, "holds": True}


@contextmanager
def _sampled(pid: int, out: Path, seconds: int, environments: Path) -> Iterator[None]:
    program = peer_python("py-spy", environments).with_name("py-spy")
    command = ["record", "-p", str(pid), "-o", str(out), "-f", "raw", "-r", "100"]
    spy = subprocess.Popen(
        [str(program), *command, "-d", str(seconds)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    try:
        yield
    finally:
        spy.wait(seconds + 60)


def shares_by_function(raw: str, most: int = 25) -> list[tuple[str, float, float]]:
    """(function, own share, share with its calls) of the functions with the largest own share.

    `raw` has a line for each stack: frames, separated by semicolons, and a count.

    >>> shares_by_function("main (a.py:1);step (b.py:2) 3\\nmain (a.py:9);poll (c.py:1) 5\\n")
    [('step (b.py)', 1.0, 1.0), ('main (a.py)', 0.0, 1.0)]
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.partition(".py:")[0] + ".py)" if ".py:" in frame else frame
                  for frame in stack.split(";")]  # fmt: skip
        if any(waiting in frames[-1] for waiting in _WAITING):
            continue
        own[frames[-1]] += int(count)
        for name in set(frames):
            whole[name] += int(count)
    total = sum(own.values()) or 1
    names = sorted(whole, key=lambda name: (-own[name], -whole[name], name))
    return [(name, own[name] / total, whole[name] / total) for name in names[:most]]


def measure_floor(workload: Workload, folder: Path, *, per_device: int) -> dict[str, float]:
    """CPU per reading of what no design can do without, in microseconds.

    Every message is parsed once, every window goes through the network (64 in a run), every message
    and every score is one row of a SQLite file (64 in a transaction).
    """
    folder.mkdir(parents=True, exist_ok=True)
    devices = workload.devices
    bodies = [
        workload.body(0, values[round_ % len(values)])
        for values in (workload.values(device) for device in range(devices))
        for round_ in range(per_device // workload.per_message)
    ]
    readings = devices * per_device
    student = Student(ROOT / "models/zoo" / workload.student)
    scores = devices * workload.scores_expected(per_device)
    windows = np.zeros((_WRITE_AT_ONCE, student.length, len(student.names)), np.float32)

    def parse() -> None:
        for body in bodies:
            orjson.loads(body)

    def score() -> None:
        for _ in range(0, scores, _WRITE_AT_ONCE):
            student.run(windows)

    def write() -> None:
        with closing(sqlite3.connect(folder / "floor.db", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, body BLOB)")
            db.execute(
                "CREATE TABLE scores (series INTEGER, time_ns INTEGER, score REAL, "
                "PRIMARY KEY (series, time_ns)) WITHOUT ROWID"
            )
            for at in range(0, len(bodies), _WRITE_AT_ONCE):
                rows = [(body,) for body in bodies[at : at + _WRITE_AT_ONCE]]
                db.execute("BEGIN")
                db.executemany("INSERT INTO messages (body) VALUES (?)", rows)
                db.execute("COMMIT")
            for at in range(0, scores, _WRITE_AT_ONCE):
                found = [(n % devices, n, 1.0) for n in range(at, at + _WRITE_AT_ONCE)]
                db.execute("BEGIN")
                db.executemany("INSERT INTO scores VALUES (?, ?, ?)", found)
                db.execute("COMMIT")

    figures = {}
    for name, work in (("parse", parse), ("network", score), ("write", write)):
        began = time.process_time()
        work()
        figures[name] = (time.process_time() - began) / readings * 1e6
    return figures
