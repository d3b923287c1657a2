"""A site of real processes: mosquitto, Kafka, InfluxDB, bridges, workers, stores; tests can kill
each.

`plant["worker-1"].kill()` is SIGKILL, `.pause()` and `.resume()` are SIGSTOP and SIGCONT, `.stop()`
asks; the servers (`plant.mosquitto`, `plant.kafka`, `plant.influx`) have the same verbs. State and
ports survive, so a restart finds the same state as one in the field.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from deploy.stack.mosquitto import MosquittoServer
from deploy.stack.servers import InfluxServer, KafkaServer
from ingest.childprocess import pause_child, tied_to_parent
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from tests.fakes.ports import free_port

WAIT_S = 120.0
"""Limit of a wait: it ends a test that hangs, and says nothing about speed."""
ORG, BUCKET = "kpstream", "kpstream"
_ALL = 'from(bucket: "kpstream") |> range(start: 0, stop: 2100-01-01T00:00:00Z)'


class SiteProcess:
    """One kpstream process as a child."""

    def __init__(self, name: str, plant: SitePlant) -> None:
        self.name = name
        self.kind = name.partition("-")[0]
        self.port = free_port()
        self.log_path = plant.folder / f"{name}.log"
        self.restarts = -1
        self._plant = plant
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> SiteProcess:
        """Start; does not wait until it is ready."""
        assert not self.alive, f"{self.name} runs"
        self.restarts += 1
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                tied_to_parent([sys.executable, "-m", "deploy.cli", self.kind]),
                cwd=self._plant.repository,
                env=os.environ | self._plant.env_of(self),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def stop(self, timeout_s: float = 50.0) -> int:
        """Send SIGTERM and return the exit code."""
        assert self._process is not None
        for number in (signal.SIGTERM, signal.SIGCONT):
            if self._process.poll() is None:
                self._process.send_signal(number)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        pause_child(self._process)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def get(self, path: str = "ready") -> dict[str, Any]:
        """A JSON page of its status port; empty while it does not answer."""
        try:
            with urllib.request.urlopen(self._url(path), timeout=3) as answer:
                return json.load(answer)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                return json.loads(error.read() or b"{}")  # type: ignore[no-any-return]
        except (urllib.error.URLError, OSError, ValueError):
            return {}

    def metrics(self) -> dict[str, float]:
        """Its metrics, name with labels -> value."""
        with urllib.request.urlopen(self._url("metrics"), timeout=3) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def is_ready(self) -> bool:
        return bool(self.get().get("ready"))

    def output(self) -> str:
        return self.log_path.read_text(errors="replace")[-3000:]


class SitePlant:
    """The servers and processes of one site, in `folder`; a context manager.

    `repository` has the code of the processes, when it is not this one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bridges: int = 1,
        workers: int = 2,
        stores: int = 1,
        partitions: int = 6,
        properties: Mapping[str, str] | None = None,
        repository: Path | None = None,
        **env: str,
    ) -> None:
        self.folder = folder
        self.repository = repository
        self.partitions = partitions
        self.mosquitto = MosquittoServer(folder / "mosquitto")
        self.kafka = KafkaServer(folder / "kafka", properties=properties)
        self.influx = InfluxServer(folder / "influx")
        self.env = env
        self.processes: dict[str, SiteProcess] = {}
        self._shared = bridges > 1
        self._stack = ExitStack()
        for kind, count in (("store", stores), ("worker", workers), ("bridge", bridges)):
            for number in range(1, count + 1):
                name = f"{kind}-{number}"
                self.processes[name] = SiteProcess(name, self)

    def __getitem__(self, name: str) -> SiteProcess:
        return self.processes[name]

    def __enter__(self) -> SitePlant:
        with ExitStack() as stack:
            for server in (self.mosquitto, self.influx, self.kafka):
                stack.enter_context(server)
            self.influx.setup(ORG, BUCKET)
            stack.callback(self._end)
            for process in self.processes.values():
                process.start()
            self.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def add(self, name: str) -> SiteProcess:
        """Add a process."""
        process = self.processes[name] = SiteProcess(name, self)
        return process.start()

    def of(self, kind: str) -> list[SiteProcess]:
        return [process for process in self.processes.values() if process.kind == kind]

    def env_of(self, process: SiteProcess) -> dict[str, str]:
        """The environment of a process."""
        env = {
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "KPSTREAM_SITE_NAME": process.name,
            "KPSTREAM_SITE_STATUS_PORT": str(process.port),
            "KPSTREAM_SITE_STATE_DIR": str(self.folder / "state"),
            "KPSTREAM_SITE_KAFKA": self.kafka.address,
            "KPSTREAM_SITE_PARTITIONS": str(self.partitions),
            "KPSTREAM_SITE_ACCOUNT_MS": "1000",
            "KPSTREAM_INGEST_MQTT_PORT": str(self.mosquitto.port),
            "KPSTREAM_INGEST_MQTT_CLIENT_ID": process.name,
            "KPSTREAM_PIPELINE_INFLUX_URL": self.influx.url,
            "KPSTREAM_PIPELINE_INFLUX_TOKEN": self.influx.token,
            "KPSTREAM_PIPELINE_INFLUX_BUCKET": BUCKET,
        }
        if self._shared:
            env["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] = "site"
        if self.repository is not None:
            env["PYTHONPATH"] = str(self.repository)
        return env | self.env

    def wait_ready(self, timeout_s: float = WAIT_S) -> None:
        """Wait until every running process is ready."""
        running = [process for process in self.processes.values() if process.alive]
        self.wait_until(
            lambda: all(process.is_ready for process in running),
            "ready",
            timeout_s=timeout_s,
            may_end=True,
        )

    def wait_until(
        self,
        holds: Callable[[], object],
        what: str,
        *,
        timeout_s: float = WAIT_S,
        poll_s: float = 0.2,
        may_end: bool = False,
    ) -> None:
        """Wait for a condition; fail with the last output of all processes after the time limit."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            dead = [p.name for p in self.processes.values() if not p.alive]
            if dead and not may_end:
                raise AssertionError(f"{dead} ended while waiting for {what}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} after {timeout_s:.0f} s:\n{self.output()}")
            time.sleep(poll_s)

    def output(self) -> str:
        """The last output of all processes."""
        found = []
        for process in self.processes.values():
            page = process.get()
            said = process.output().strip()
            found.append(f"--- {process.name}: {page.get('problems')} {page.get('parts')}\n{said}")
        return "\n".join(found)

    # -- what reached InfluxDB ----------------------------------------------------------------

    def query(self, flux: str) -> list[dict[str, Any]]:
        """Rows of a Flux query."""
        connection = InfluxConnection(self.influx.url, SecretStr(self.influx.token), ORG)
        with InfluxClient(connection) as client:
            return client.query(flux)

    def count(self, measurement: str, field: str) -> int:
        """Points of a measurement that are stored."""
        rows = self.query(
            f'{_ALL} |> filter(fn: (r) => r._measurement == "{measurement}" and '
            f'r._field == "{field}") |> group() |> count()'
        )
        return int(rows[0]["_value"]) if rows else 0

    def values(self, measurement: str, field: str) -> Iterator[tuple[str, int, Any]]:
        """(device, time in epoch ms, value) of every point."""
        rows = self.query(
            f'{_ALL} |> filter(fn: (r) => r._measurement == "{measurement}" and '
            f'r._field == "{field}") |> keep(columns: ["_time", "_value", "device"])'
        )
        for row in rows:
            at_ms = round(row["_time"].timestamp() * 1000)
            yield row["device"], at_ms, row["_value"]

    def accounts(self) -> dict[tuple[str, str], dict[str, int]]:
        """The last account of every (device, stream)."""
        rows = self.query(
            f'{_ALL} |> filter(fn: (r) => r._measurement == "device") |> last() '
            '|> keep(columns: ["_field", "_value", "device", "stream"])'
        )
        found: dict[tuple[str, str], dict[str, int]] = {}
        for row in rows:
            found.setdefault((row["device"], row["stream"]), {})[row["_field"]] = row["_value"]
        return found

    def _end(self) -> None:
        for kind in ("bridge", "worker", "store"):
            running = [process for process in self.of(kind) if process.alive]
            for process in running:
                process.stop()
