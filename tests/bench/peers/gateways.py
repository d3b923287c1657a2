"""The gateway of any revision as a candidate: start, totals, results, stop."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.childprocess import tied_to_parent
from tests.bench.peers.measured import wait_until
from tests.bench.peers.reference import Found
from tests.bench.peers.workloads import ROOT, Workload
from tests.fakes.ports import free_port

__all__ = [
    "Gateway", "Revision", "StoredLag", "is_balanced", "made_worktree", "percentiles",
    "this_revision",
]  # fmt: skip

_KEPT = ("windowed", "duplicate", "corrected", "late")
_SHIPPED = ("rul-fd001", "har-waist")
"""Students that a new gateway has."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of this product.

    Attributes:
        name: Name in the results.
        commit: Short name of its commit.
        repository: Its files.
    """

    name: str
    commit: str
    repository: Path

    @property
    def env(self) -> dict[str, str]:
        """Environment of its processes: this interpreter, the code of the revision."""
        return {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.repository)}


def this_revision() -> Revision:
    """The files of this repository; a plus says that they differ from the commit."""
    commit = _git("describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=8")
    return Revision("now", commit, ROOT)


def made_worktree(revision: str, folder: Path) -> Revision:
    """The files of an earlier revision, in a git worktree below `folder`.

    Raises:
        subprocess.CalledProcessError: There is no such revision.
    """
    commit = _git("rev-parse", "--short=8", f"{revision}^{{commit}}")
    path = folder / "worktrees" / commit
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", str(path), commit)
    return Revision("baseline", commit, path)


def _git(*args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    ).stdout.strip()


class Gateway:
    """A gateway process with its state in `folder`; a context manager that starts and stops it.

    Attributes:
        cold_start_s: Seconds from the start of the process until it was ready.
    """

    def __init__(
        self,
        revision: Revision,
        folder: Path,
        mqtt_port: int,
        workload: Workload,
        *,
        under: Sequence[str] = (),
    ) -> None:
        """Prepare; `under` is a command that runs the gateway, such as a profiler."""
        self._revision, self._folder, self._workload = revision, folder, workload
        self._console = f"http://127.0.0.1:{(port := free_port())}"
        self._env, self._under = os.environ | revision.env, under
        self._env |= {
            "KPSTREAM_GATEWAY_STATE_DIR": str(folder / "state"),
            "KPSTREAM_GATEWAY_CONSOLE_PORT": str(port),
            "KPSTREAM_INGEST_MQTT_PORT": str(mqtt_port),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.cold_start_s = float("nan")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def results(self) -> Path:
        """The results file."""
        return self._folder / "state/results.db"

    def __enter__(self) -> Gateway:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._workload.student not in _SHIPPED:
            registry = ["models", "--registry", str(self._folder / "state/registry")]
            self._run(*registry, "add", self._workload.student)
        self.start(900.0 if self._under else 180.0)  # callgrind is some fifty times slower
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def start(self, timeout_s: float = 180.0) -> None:
        """Start and wait until it is ready."""
        began = time.perf_counter()
        with (self._folder / "gateway.log").open("ab") as output:
            self._process = subprocess.Popen(
                tied_to_parent([*self._under, sys.executable, "-m", "deploy.cli", "gateway"]),
                cwd=self._revision.repository,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_until(self._is_ready, timeout_s, "ready", poll_s=0.02)
        self.cold_start_s = time.perf_counter() - began

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            text = (self._folder / "gateway.log").read_text(errors="replace")[-2000:]
            message = f"the gateway ended with {self._process.returncode}:\n{text}"
            raise RuntimeError(message)
        return bool(self.get("ready").get("ready"))

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def get(self, path: str) -> dict[str, Any]:
        """A JSON page of the console; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self._console}/{path}", timeout=20) as answer:
                return json.load(answer)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            return json.loads(error.read() or b"{}")  # type: ignore[no-any-return]
        except (OSError, ValueError):
            return {}

    def totals(self) -> dict[str, Any]:
        """Its sums over all devices."""
        return self.get("api/v1/pipeline").get("totals", {})  # type: ignore[no-any-return]

    def settled(self, readings: int, scores: int, timeout_s: float = 300.0) -> dict[str, Any]:
        """Wait until every reading is accounted for and every score is stored; return the totals.

        After the time limit, return what there is: the check of the scores says what is missing.
        """
        totals: dict[str, Any] = {}

        def is_done() -> bool:
            totals.update(self.totals())
            seen = sum(totals.get(name, 0) for name in _KEPT)
            scored = totals.get("scored", -1)
            return seen >= readings and scored >= scores and totals["stored"] >= scored

        try:
            wait_until(is_done, timeout_s, "settled", poll_s=0.4)
        except TimeoutError:
            totals["timed_out"] = True
        return totals

    def scores(self) -> Found:
        """What is stored: device -> scores in the order of event time."""
        found: dict[str, list[tuple[float, ...]]] = {}
        view = "rul" if self._workload.stream == "engine" else "activity"
        with closing(self._database()) as db:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({view})")]
            wanted = ["rul"] if view == "rul" else [c for c in columns if c.startswith("p_")]
            names = ", ".join(f'"{name}"' for name in wanted)
            rows = db.execute(f"SELECT device, {names} FROM {view} ORDER BY device, time_ns")
            for device, *values in rows:
                found.setdefault(device, []).append(tuple(values))
        return found

    def receive_to_score_ms(self, since_ms: int) -> dict[str, float]:
        """Percentiles of the time from receipt to score, of windows that end later."""
        with closing(self._database()) as db:
            rows = db.execute(
                "SELECT latency_ms FROM points_rul WHERE time_ns >= ?", (since_ms * 1_000_000,)
            )
            return percentiles([row[0] for row in rows])

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.results}?mode=ro", uri=True)

    def _run(self, *command: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "deploy.cli", *command],
            cwd=self._revision.repository,
            env=self._env,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )


def is_balanced(totals: Mapping[str, Any], readings: int) -> bool:
    """Whether every reading was received and is accounted for exactly once."""
    kept = sum(totals.get(name, 0) for name in _KEPT)
    kept += sum(totals.get("dead_letters", {}).values())
    return bool(kept == totals.get("received") == readings)


class StoredLag:
    """Time from the end of a window to the moment when a reader of the results file sees its score.

    A thread asks for the newest score of some devices fifty times a second, within the `with`
    block.
    """

    def __init__(self, results: Path, most_devices: int = 100) -> None:
        self._results, self._most = results, most_devices
        self._values: list[float] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> StoredLag:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ends.set()
        self._thread.join()

    def percentiles(self) -> dict[str, float]:
        """p50 and p99 in milliseconds, once the block is left."""
        return percentiles(self._values)

    def _poll(self) -> None:
        with closing(sqlite3.connect(f"file:{self._results}?mode=ro", uri=True)) as db:
            last: dict[int, int] = {}
            while not self._ends.wait(0.02):
                for series, time_ns in list(self._newest(db)):
                    if last.get(series, time_ns) != time_ns:
                        self._values.append((time.time_ns() - time_ns) / 1e6)
                    last[series] = time_ns

    def _newest(self, db: sqlite3.Connection) -> Iterator[tuple[int, int]]:
        return db.execute(
            "SELECT id, (SELECT max(time_ns) FROM points_rul WHERE series = id) AS t "
            "FROM (SELECT id FROM _series WHERE measurement = 'rul' LIMIT ?) WHERE t IS NOT NULL",
            (self._most,),
        )


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99, and how many values there are.

    >>> percentiles([3, 1, 2])
    {'count': 3, 'p50': 2, 'p99': 3}
    >>> percentiles([])
    {'count': 0}
    """
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "count": len(ordered),
        "p50": ordered[round(last * 0.5)],
        "p99": ordered[round(last * 0.99)],
    }
