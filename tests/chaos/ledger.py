"""One run of the chaos ledger: a site as users start it, devices, faults, the account."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from deploy.stack.sitesetup import GRAFANA_TOKEN_FILE
from deploy.supervisor.sitestate import Row, read_state
from models.tasks.activity import ACTIVITY
from pipeline.points.measurements import DEVICE
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from tests.chaos.expected import expected_windows
from tests.chaos.faults import Fault, schedule
from tests.chaos.fleet import SITE, ChaosDevices, device_name
from tests.fakes.ports import free_port, free_ports

__all__ = ["Account", "ChaosFailed", "Outcome", "run_chaos"]

VICTIMS = (
    "bridge-1",
    "bridge-2",
    "worker-1",
    "worker-2",
    "store-1",
    "mosquitto",
    "kafka",
    "influxdb",
)
_CONNECTIONS = 5
_READY_S = 180.0
_SETTLE_S = 300.0
_TOLERANCE = 1e-4
_COUNTERS = ("received", "windowed", "duplicate", "corrected", "late", "dead_lettered")
_FLUX = """
from(bucket: "kpstream") |> range(start: 0, stop: 2100-01-01T00:00:00Z)
  |> filter(fn: (r) => r._measurement == "{measurement}" and r.site == "{site}")
  {more}
"""
_PIVOT = '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
_SCORES_FLUX = _FLUX.format(measurement=ACTIVITY.name, site=SITE, more=_PIVOT)
_LAST = f"|> last() |> map(fn: (r) => ({{r with _time: 2000-01-01T00:00:00Z}})) {_PIVOT}"
_COUNTERS_FLUX = _FLUX.format(measurement=DEVICE.name, site=SITE, more=_LAST)


class ChaosFailed(AssertionError):
    """The promise was broken; the message names the missing points."""


@dataclass
class Account:
    """Summary of the content of InfluxDB, over all devices."""

    readings: int = 0
    windows: int = 0
    received: int = 0
    windowed: int = 0
    duplicate: int = 0
    corrected: int = 0
    late: int = 0
    dead_lettered: int = 0
    furthest: float = 0.0
    flaws: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """A run and its result."""

    faults: list[tuple[Fault, float]]
    account: Account
    devices: int
    seconds: float
    settled_s: float
    sent_twice: int
    sent_late: int
    sent_again: int
    restarts: dict[str, int]


class _Site:
    """A site with its own folder and ports, started by the command that users type."""

    def __init__(self, folder: Path, lateness_ms: int) -> None:
        self.state_dir = folder / "site"
        self.mqtt_port, influx_port = free_port(), free_port()
        self.influx_url = f"http://127.0.0.1:{influx_port}"
        self.env = os.environ | {
            "KPSTREAM_SITE_STATE_DIR": str(self.state_dir),
            "KPSTREAM_SITE_KAFKA": f"127.0.0.1:{free_ports(2)}",
            "KPSTREAM_SITE_BASE_PORT": str(free_ports(100, multiple_of=100)),
            "KPSTREAM_SITE_BRIDGES": "2",
            "KPSTREAM_SITE_WORKERS": "2",
            "KPSTREAM_INGEST_MQTT_PORT": str(self.mqtt_port),
            "KPSTREAM_PIPELINE_INFLUX_URL": self.influx_url,
            "KPSTREAM_PIPELINE_LATENESS_MS": str(lateness_ms),
            "KPSTREAM_PIPELINE_IDLE_MS": str(lateness_ms),
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> _Site:
        self._command("up", "--detach")
        self.wait_healthy()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._command("down")

    def _command(self, *words: str) -> None:
        command = [sys.executable, "-m", "deploy.cli", "site", *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=300)
        if done.returncode:
            msg = f"kpstream site {' '.join(words)}: {done.stdout}{done.stderr}"
            raise ChaosFailed(msg)

    def row(self, name: str) -> Row:
        state = read_state(self.state_dir)
        for row in () if state is None else state.rows:
            if row.name == name:
                return row
        msg = f"the site has no {name}: {state}"
        raise ChaosFailed(msg)

    def pid(self, name: str) -> int:
        """Process id of a part, once it runs."""
        for _ in range(600):
            pid = self.row(name).pid
            if pid is not None:
                return pid
            time.sleep(0.1)
        msg = f"{name} was not started again: {self.row(name).detail}"
        raise ChaosFailed(msg)

    def wait_healthy(self) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            state = read_state(self.state_dir)
            if state is not None and state.is_healthy:
                return
            if time.monotonic() > deadline:
                rows = () if state is None else state.rows
                words = "\n".join(f"{row.name}: {row.state} {row.detail}" for row in rows)
                msg = f"the site is not healthy after {_READY_S:.0f} s:\n{words}"
                raise ChaosFailed(msg)
            time.sleep(0.5)

    def restarts(self) -> dict[str, int]:
        state = read_state(self.state_dir)
        return {} if state is None else {row.name: row.restarts for row in state.rows}

    def influx(self) -> InfluxClient:
        """A client that reads with the token of the dashboards."""
        token = (self.state_dir / GRAFANA_TOKEN_FILE).read_text().strip()
        return InfluxClient(InfluxConnection(self.influx_url, SecretStr(token), "kpstream", 60_000))


def run_chaos(
    folder: Path,
    *,
    rounds: int,
    devices: int = 50,
    seed: int = 0,
    longest_pause_s: float = 60.0,
    lateness_ms: int | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Start a site and devices, inject `rounds` faults, and account for everything.

    Args:
        folder: Folder of the site's state.
        rounds: Number of faults.
        devices: Number of devices; each sends a message of ten readings a second.
        seed: Seed of the schedule, and of the duplicates and the disorder.
        longest_pause_s: Longest pause.
        lateness_ms: Lateness; None: the longest pause, plus half a minute for messages lost by a
            killed broker.
        say: Called with a text for every event.

    Raises:
        ChaosFailed: The site did not recover, or a point is missing, duplicated or different.
    """
    if lateness_ms is None:
        lateness_ms = round(1000 * (longest_pause_s + 30.0))
    began = time.monotonic()
    faults: list[tuple[Fault, float]] = []
    with _Site(folder, lateness_ms) as site:
        each = -(-devices // _CONNECTIONS)
        fleet = [
            ChaosDevices(
                site.mqtt_port,
                min(each, devices - first),
                first=first,
                client_id=f"chaos-{first}",
                seed=seed,
            )
            for first in range(0, devices, each)
        ]
        for some in fleet:
            some.start()
        for number, fault in enumerate(
            schedule(VICTIMS, rounds, seed, longest_pause_s=longest_pause_s)
        ):
            time.sleep(fault.after_s)
            at_s = time.monotonic() - began
            length = f" for {fault.pause_s:.0f} s" if fault.pause_s else ""
            round_ = f"round {number + 1:2d} of {rounds}"
            say(f"{at_s:6.0f} s  {round_}: {fault.kind} {fault.victim}{length}")
            _do(site, fault)
            faults.append((fault, at_s))
        time.sleep(3.0)
        for some in fleet:
            some.stop()
        stopped = time.monotonic()
        say(f"{stopped - began:6.0f} s  devices have stopped; waiting for the last windows")
        account = _settled(site, fleet, lateness_ms, say)
        return Outcome(
            faults=faults,
            account=account,
            devices=devices,
            seconds=time.monotonic() - began,
            settled_s=time.monotonic() - stopped,
            sent_twice=sum(some.sent_twice for some in fleet),
            sent_late=sum(some.sent_late for some in fleet),
            sent_again=sum(some.resent for some in fleet),
            restarts=site.restarts(),
        )


def _do(site: _Site, fault: Fault) -> None:
    pid = site.pid(fault.victim)
    if fault.kind == "kill":
        os.kill(pid, signal.SIGKILL)
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(fault.pause_s)
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # the supervisor has ended it: it did not answer


def _settled(
    site: _Site, fleet: list[ChaosDevices], lateness_ms: int, say: Callable[[str], None]
) -> Account:
    """Wait for the complete account.

    Raises:
        ChaosFailed: It is not complete after a long wait.
    """
    site.wait_healthy()
    deadline = time.monotonic() + lateness_ms / 1000 + _SETTLE_S
    while True:
        account = _account(site, fleet)
        if not account.flaws:
            return account
        if time.monotonic() > deadline:
            msg = f"{len(account.flaws)} flaws, e.g.:\n" + "\n".join(account.flaws[:20])
            raise ChaosFailed(msg)
        time.sleep(5.0)


def _account(site: _Site, fleet: list[ChaosDevices]) -> Account:
    with site.influx() as client:
        scores, counters = client.query(_SCORES_FLUX), client.query(_COUNTERS_FLUX)
    account = Account()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in scores:
        found.setdefault(row["device"], []).append(row)
    for some in fleet:
        for index in range(some.devices):
            device, name = some.first + index, device_name(some.first + index)
            total = some.published.get(name, 0)
            account.readings += total
            _check_scores(account, name, device, total, some.t0_ms, found.pop(name, []))
            _check_counters(account, name, total, [r for r in counters if r["device"] == name])
    if found:
        account.flaws.append(f"points of devices that never were: {sorted(found)}")
    return account


def _check_scores(
    account: Account, name: str, device: int, total: int, t0_ms: int, rows: list[dict[str, Any]]
) -> None:
    expected = {window.end_ms: window for window in expected_windows(device, total, t0_ms)}
    ends = [round(row["_time"].timestamp() * 1000) for row in rows]
    account.windows += len(expected)
    if sorted(ends) != sorted(expected):
        missing, odd = sorted(set(expected) - set(ends)), sorted(set(ends) - set(expected))
        account.flaws.append(
            f"{name}: {len(ends)} points, {len(expected)} windows; missing {missing[:5]}, "
            f"unexpected {odd[:5]}"
        )
        return
    for end_ms, row in zip(ends, rows, strict=True):
        window = expected[end_ms]
        off = abs(float(row["probability"]) - window.probability)
        account.furthest = max(account.furthest, off)
        if off > _TOLERANCE or row["activity"] != window.activity:
            account.flaws.append(f"{name} at {end_ms}: {row['activity']} {off:.2g} off {window}")


def _check_counters(account: Account, name: str, total: int, rows: list[dict[str, Any]]) -> None:
    if len(rows) != 1:
        account.flaws.append(f"{name}: {len(rows)} accounts")
        return
    row = {key: int(rows[0][key]) for key in _COUNTERS}
    for key, value in row.items():
        setattr(account, key, getattr(account, key) + value)
    if row["windowed"] != total:
        account.flaws.append(f"{name}: {total} readings sent, {row['windowed']} windowed: {row}")
    if row["received"] != sum(row[key] for key in _COUNTERS[1:]):
        account.flaws.append(f"{name}: the account does not balance: {row}")
    if row["dead_lettered"]:
        account.flaws.append(f"{name}: {row['dead_lettered']} readings dead-lettered")
