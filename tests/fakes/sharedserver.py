"""One real server for every worker of a test run.

The first worker that needs the server starts a keeper process (`python -m tests.fakes.sharedserver
KIND FOLDER`), which starts the server and waits. Each worker holds a shared lock on a file for as
long as it uses the server; the system releases it at any end of the worker. The keeper
stops the server as soon as it gets the lock for itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from deploy.stack.servers import InfluxServer, KafkaServer
from tests.fakes.ports import free_port

__all__ = ["run_folder", "shared_influx", "shared_kafka"]

_START_S = 120


def run_folder(factory: pytest.TempPathFactory, worker: str) -> Path:
    """The temporary folder that all workers of this run share."""
    base = factory.getbasetemp()
    return base if worker == "master" else base.parent


@contextmanager
def shared_kafka(folder: Path) -> Iterator[KafkaServer]:
    """The Kafka node of this run; `folder` is the same for all workers."""
    with _shared("kafka", folder) as ready:
        ports = {"port": ready["port"], "controller_port": ready["controller_port"]}
        yield KafkaServer(Path(ready["folder"]), **ports)


@contextmanager
def shared_influx(folder: Path, org: str) -> Iterator[InfluxServer]:
    """The InfluxDB of this run, with an organisation for this worker's buckets."""
    with _shared("influx", folder) as ready:
        server = InfluxServer(Path(ready["folder"]), port=ready["port"])
        server.token, server.org = ready["token"], org
        server.call("POST", "/api/v2/orgs", {"name": org})
        yield server


@contextmanager
def _shared(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "users.lock").open("a") as users, (folder / "start.lock").open("a") as start:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(start, fcntl.LOCK_EX)
        ready = folder / "ready.json"
        if not ready.exists():
            _start_keeper(kind, folder)
        fcntl.flock(start, fcntl.LOCK_UN)
        yield json.loads(ready.read_text())


def _start_keeper(kind: str, folder: Path) -> None:
    log = folder / "keeper.log"
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.sharedserver", kind, str(folder)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert keeper.stdout is not None
    with keeper.stdout as answer:
        if not answer.readline():
            keeper.wait(_START_S)
            raise RuntimeError(f"{kind} did not start:\n{log.read_text()}")
    keeper.returncode = 0  # it outlives this worker: no warning about a child that still runs


def _keep(kind: str, folder: Path, users: IO[str]) -> None:
    data = folder / f"{kind}-{os.getpid()}"
    if kind == "kafka":
        with KafkaServer(data, port=free_port(), controller_port=free_port()) as kafka:
            ready = {"port": kafka.port, "controller_port": kafka.controller_port}
            _serve_until_unused(folder, ready | {"folder": str(data)}, users)
    else:
        with InfluxServer(data, port=free_port()) as influx:
            ready = {"port": influx.port, "token": influx.setup("test", "test")}
            _serve_until_unused(folder, ready | {"folder": str(data)}, users)


def _serve_until_unused(folder: Path, ready: dict[str, Any], users: IO[str]) -> None:
    new = folder / "ready.json.new"
    new.write_text(json.dumps(ready))
    new.replace(folder / "ready.json")
    print("ready", flush=True)
    fcntl.flock(users, fcntl.LOCK_EX)
    (folder / "ready.json").unlink()


if __name__ == "__main__":
    with (Path(sys.argv[2]) / "users.lock").open("a") as users_lock:
        _keep(sys.argv[1], Path(sys.argv[2]), users_lock)
