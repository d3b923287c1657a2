"""A whole site with certificates: scores arrive, no device impersonates another, nothing leaks.

mosquitto, Kafka and InfluxDB are the real ones, started by `kpstream site up` with
`KPSTREAM_SITE_CERTS_DIR`; every connection is TLS, those of MQTT and Kafka with client
certificates.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from deploy.supervisor.sitestate import read_state
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from models.artifact import read_artifact
from models.zoo import zoo_path
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from tests.fakes.ports import free_port, free_ports

pytestmark = [
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.slow,
]

DEVICES = ("plant-7/press-1", "plant-7/press-2")
VICTIM = "plant-7/press-3"  # it has a certificate, and is switched off
READINGS, LENGTH = 40, 30
T0_MS = time.time_ns() // 1_000_000 - 60_000
SECRETS = ("influx-operator.token", "influx-store.token", "influx-grafana.token")


class Site:
    """A site on free ports, driven by the commands of a user."""

    def __init__(self, folder: Path) -> None:
        self.certs, self.state_dir = folder / "certs", folder / "site"
        self.devices_port, self.influx_port = free_ports(2), free_port()
        self.env = os.environ | {
            "KPSTREAM_SITE_STATE_DIR": str(self.state_dir),
            "KPSTREAM_SITE_CERTS_DIR": str(self.certs),
            "KPSTREAM_SITE_KAFKA": f"127.0.0.1:{free_ports(2)}",
            "KPSTREAM_SITE_PARTITIONS": "4",
            "KPSTREAM_SITE_BASE_PORT": str(free_ports(100, multiple_of=100)),
            "KPSTREAM_PIPELINE_INFLUX_URL": f"https://127.0.0.1:{self.influx_port}",
            "KPSTREAM_INGEST_MQTT_PORT": str(self.devices_port + 1),
        }

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()[-4000:]
        return done.stdout

    def logs(self) -> str:
        paths = sorted(self.state_dir.rglob("*.log*"))
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def secret(self, name: str) -> str:
        return (self.state_dir / "secrets" / name).read_text()

    def device(self, name: str, protocol: str = "5") -> Endpoint:
        cert = self.certs / f"devices/{name}.pem"
        return Endpoint(
            *("127.0.0.1", self.devices_port, "whatever"),
            protocol=protocol,  # type: ignore[arg-type]
            tls=True,
            ca_file=self.certs / "ca.pem",
            cert_file=cert,
            key_file=cert.with_suffix(".key"),
        )

    def windows(self) -> dict[str, int]:
        """Device -> points in InfluxDB, asked over https with Grafana's token."""
        connection = InfluxConnection(
            self.env["KPSTREAM_PIPELINE_INFLUX_URL"],
            SecretStr(self.secret("influx-grafana.token")),
            "kpstream",
            ca_file=self.certs / "ca.pem",
        )
        flux = (
            'from(bucket: "kpstream") |> range(start: -1h)'
            ' |> filter(fn: (r) => r._measurement == "rul" and r._field == "rul")'
            ' |> group(columns: ["site", "device"]) |> count()'
        )
        with InfluxClient(connection) as client:
            rows = client.query(flux)
        return {f"{row['site']}/{row['device']}": row["_value"] for row in rows}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("tls"))
    devices = [word for name in (*DEVICES, VICTIM) for word in ("--device", name)]
    site.run("certs", "make", "--out", str(site.certs), *devices)
    try:
        site.run("site", "up", "--detach")
        yield site
    finally:
        site.run("site", "down")


def readings(start: int, count: int) -> bytes:
    names = read_artifact(zoo_path("rul-fd001")).manifest.channel_names
    values = {name: [500.0 + start + i for i in range(count)] for name in names}
    return json.dumps({"t0": T0_MS + start * 100, "dt_ms": 100, "values": values}).encode()


async def publish(endpoint: Endpoint, topic: str) -> tuple[int, int]:
    """Publish all readings, ten a message; returns the numbers confirmed and refused."""
    async with Publisher(endpoint) as publisher:
        await asyncio.wait_for(publisher.connection.connected.wait(), 120)
        for start in range(0, READINGS, 10):
            await publisher.publish(topic, readings(start, 10))
        await asyncio.wait_for(publisher.flush(), 120)
        return publisher.confirmed_total, publisher.refused_total


async def test_readings_reach_influxdb_and_no_device_publishes_for_another(site: Site) -> None:
    messages = READINGS // 10
    thief = DEVICES[0]
    for protocol, refused in (("5", messages), ("3.1.1", 0)):  # 3.1.1 has no word for it
        answered = await publish(site.device(thief, protocol), f"sensors/{VICTIM}/engine")
        assert answered == (messages - refused, refused)
    for name in DEVICES:
        assert await publish(site.device(name), f"sensors/{name}/engine") == (messages, 0)
    expected = dict.fromkeys(DEVICES, READINGS - LENGTH + 1)
    deadline = time.monotonic() + 60
    while (found := site.windows()) != expected:
        assert time.monotonic() < deadline, (found, site.logs()[-3000:])
        await asyncio.sleep(0.5)


def test_dead_letters_are_read_with_the_operators_certificate(site: Site) -> None:
    assert "no dead letters" in site.run("dead-letters", "list", "--site")


def test_everything_listens_on_loopback_only(site: Site) -> None:
    state = read_state(site.state_dir)
    assert state is not None
    pids = [row.pid for row in state.rows if row.pid]
    assert len(pids) == 3 + 1 + 2 + 1, "three servers, a store, two workers, a bridge"
    listening = {
        connection.laddr
        for pid in pids
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(listening) >= 2 + 2 + 1 + 4, "mosquitto 2, Kafka 2, InfluxDB 1, four of ours"
    outside = [
        address
        for address in listening
        if not address.ip.startswith(("127.", "::ffff:127.")) and address.ip != "::1"
    ]
    assert outside == []


def test_no_secret_is_in_a_log_or_on_a_command_line(site: Site) -> None:
    state = read_state(site.state_dir)
    assert state is not None
    said = site.logs() + (site.state_dir / "site.json").read_text() + site.run("site", "status")
    for pid in [state.pid, *(row.pid for row in state.rows if row.pid)]:
        said += " ".join(psutil.Process(pid).cmdline())
    assert "All parts are ready" in said
    for name in SECRETS:
        assert len(site.secret(name)) >= 32
        assert site.secret(name) not in said, name
    assert "PRIVATE KEY" not in said


def test_secrets_are_readable_by_their_owner_only(site: Site) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(site.state_dir) == mode(site.state_dir / "secrets") == 0o700
    secrets = list((site.state_dir / "secrets").iterdir())
    assert {path.name for path in secrets} >= set(SECRETS)
    assert {mode(path) for path in secrets} == {0o600}
