"""A whole site with its real servers, by its commands: up, status, kills of parts, down."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.stack.sitesetup import GRAFANA_TOKEN_FILE, OPERATOR_TOKEN_FILE
from deploy.stack.tlsconfig import service_settings
from deploy.supervisor.sitestate import Row, left_over, read_state
from tests.fakes.ports import free_port, free_ports

pytestmark = [
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.needs_mosquitto,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


class Typed:
    """A site in a folder of its own, driven by its commands."""

    def __init__(self, folder: Path, certs: Path | None = None) -> None:
        self.folder = folder
        self.ca_file = str(certs / "ca.pem") if certs else None
        self.influx = f"http{'s' if certs else ''}://127.0.0.1:{free_port()}"
        self.mqtt = f"127.0.0.1:{free_port()}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KPSTREAM_")}
        if servers := os.environ.get("KPSTREAM_SERVERS_DIR"):
            kept["KPSTREAM_SERVERS_DIR"] = servers
        self.env = kept | {
            "KPSTREAM_SITE_STATE_DIR": str(folder),
            "KPSTREAM_SITE_KAFKA": f"127.0.0.1:{free_ports(2)}",
            "KPSTREAM_SITE_BASE_PORT": str(free_ports(100, multiple_of=100)),
            "KPSTREAM_SITE_PARTITIONS": "4",
            "KPSTREAM_SITE_STALL_S": "20",
            "KPSTREAM_INGEST_MQTT_PORT": self.mqtt.rpartition(":")[2],
            "KPSTREAM_PIPELINE_INFLUX_URL": self.influx,
        }
        if certs is not None:
            self.env["KPSTREAM_SITE_CERTS_DIR"] = str(certs)
            self.env |= service_settings(certs, "operator")

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def rows(self) -> dict[str, Any]:
        shown = json.loads(self("site", "status", "--json").stdout)
        return {row["name"]: row for row in shown.get("rows", ())}

    def is_healthy(self) -> bool:
        return self("site", "status").returncode == 0

    def points(self) -> int:
        """Scores in InfluxDB, read with the token for Grafana."""
        flux = (
            'from(bucket: "kpstream") |> range(start: -1h) '
            '|> filter(fn: (r) => r._measurement == "rul" and r._field == "rul") '
            "|> group() |> count()"
        )
        token = (self.folder / GRAFANA_TOKEN_FILE).read_text()
        request = urllib.request.Request(
            f"{self.influx}/api/v2/query?org=kpstream",
            data=json.dumps({"query": flux}).encode(),
            headers={"Authorization": f"Token {token}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            lines = answer.read().decode().split()
        return int(lines[-1].rpartition(",")[2]) if lines else 0


@contextmanager
def fleet_on(site: Typed) -> Iterator[None]:
    """Publish five engines at twenty cycles a second."""
    fleet = subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.cli", "simulate", "--mqtt", site.mqtt),
            *("--engines", "5", "--people", "0", "--cycles-per-second", "20"),
        ],
        env=site.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        fleet.terminate()
        fleet.wait()


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    site = Typed(tmp_path_factory.mktemp("site"))
    up = site("site", "up", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr + site("site", "status").stdout
    assert "All parts are ready." in up.stdout
    assert "The site is ready" in up.stdout
    yield site
    site("site", "down")


def _await(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_all_parts_are_ready(typed: Typed) -> None:
    rows = typed.rows()
    assert list(rows) == [
        *("mosquitto", "kafka", "influxdb", "topics", "buckets"),
        *("store-1", "worker-1", "worker-2", "bridge-1"),
    ]
    assert {row["state"] for row in rows.values()} == {"ready", "done"}
    assert typed.is_healthy()
    again = typed("site", "up")
    assert again.returncode == 1
    assert "already" in again.stderr


def test_scores_of_a_fleet_arrive_and_can_be_read_with_the_token_for_grafana(typed: Typed) -> None:
    with fleet_on(typed):
        _await(lambda: typed.points() > 50)


@pytest.mark.parametrize("victim", ["worker-1", "kafka", "influxdb", "mosquitto", "bridge-1"])
def test_a_killed_part_comes_back(typed: Typed, victim: str) -> None:
    before = typed.rows()[victim]
    os.kill(before["pid"], signal.SIGKILL)
    _await(lambda: typed.rows()[victim]["restarts"] > before["restarts"])
    _await(typed.is_healthy)
    after = typed.rows()[victim]
    assert after["pid"] != before["pid"]
    assert after["words"] == "before: killed by SIGKILL"


def test_a_frozen_worker_is_restarted_by_the_watchdog(typed: Typed) -> None:
    before = typed.rows()["worker-2"]
    os.kill(before["pid"], signal.SIGSTOP)
    _await(lambda: typed.rows()["worker-2"]["restarts"] > before["restarts"])
    _await(typed.is_healthy)
    after = typed.rows()["worker-2"]
    assert after["words"].startswith("before: ended by the watchdog: silent for ")
    assert left_over([Row.from_json(before)]) == []


def test_a_killed_supervisor_takes_everything_along_and_the_next_one_finds_all(
    typed: Typed,
) -> None:
    state = read_state(typed.folder)
    assert state is not None
    points = typed.points()
    assert points > 50
    token = (typed.folder / OPERATOR_TOKEN_FILE).read_text()
    os.kill(state.pid, signal.SIGKILL)
    _await(lambda: not left_over(state.rows))
    assert typed("site", "status").returncode == 3
    up = typed("site", "up", "--detach", "--workers", "1")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "worker-2" not in typed.rows()
    assert typed.points() >= points
    assert (typed.folder / OPERATOR_TOKEN_FILE).read_text() == token
    assert typed.rows()["topics"]["words"] == "8 topics of 4 partitions, 0 changed"


def test_down_stops_all_of_it_in_order(typed: Typed) -> None:
    state = read_state(typed.folder)
    assert state is not None
    down = typed("site", "down")
    assert down.returncode == 0, down.stderr
    reported = down.stdout.splitlines()
    assert reported[-1] == "the site is down"
    ended = [line.partition(" ")[0] for line in reported if line.endswith(" ended")]
    assert ended.index("bridge-1") < ended.index("worker-1") < ended.index("kafka")
    assert left_over(state.rows) == []
    assert typed("site", "status").returncode == 3
    assert typed("site", "down").returncode == 0


def test_with_certificates_everything_speaks_tls_and_scores_arrive(tmp_path: Path) -> None:
    made = Typed(tmp_path)("certs", "make", "--out", str(tmp_path / "certs"))
    assert made.returncode == 0, made.stderr
    site = Typed(tmp_path / "site", tmp_path / "certs")
    try:
        up = site("site", "up", "--detach", "--workers", "1")
        assert up.returncode == 0, up.stdout + up.stderr
        with fleet_on(site):
            _await(lambda: site.points() > 50)
    finally:
        assert site("site", "down").returncode == 0
