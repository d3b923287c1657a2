"""The commands bridge, worker and store: waiting, refusals and status pages."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from deploy.stack.servers import KafkaServer
from tests.fakes.ports import free_port


def environment(folder: Path, **more: str) -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "KPSTREAM_SITE_STATE_DIR": str(folder),
        "KPSTREAM_SITE_KAFKA": "127.0.0.1:1",
        "KPSTREAM_SITE_NAME": "trial-1",
        "KPSTREAM_INGEST_MQTT_PORT": "1",
        "KPSTREAM_PIPELINE_INFLUX_URL": "http://127.0.0.1:1",
        "KPSTREAM_PIPELINE_INFLUX_TOKEN": "secret-token",
        **more,
    }


def command(kind: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli", kind, *options]


def refused(kind: str, folder: Path, *options: str, **more: str) -> str:
    """Output of a process that ends by itself."""
    done = subprocess.run(
        command(kind, *options),
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done
    return done.stderr


class Served:
    """A running process with its status port."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process

    def get(self, path: str) -> tuple[int, str]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            line.request("GET", path)
            answer = line.getresponse()
            return answer.status, answer.read().decode()
        finally:
            line.close()

    def ready(self) -> dict[str, Any]:
        """The page `/ready`, once it mentions Kafka."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                page: dict[str, Any] = json.loads(self.get("/ready")[1])
                if any("Unable to bootstrap" in problem for problem in page["problems"]):
                    return page
            time.sleep(0.1)
        raise AssertionError


@contextmanager
def served(kind: str, folder: Path, **more: str) -> Iterator[Served]:
    port = free_port()
    process = subprocess.Popen(
        command(kind),
        env=environment(folder, KPSTREAM_SITE_STATUS_PORT=str(port), **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Served(port, process)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bridge", "worker", "store"])
def test_without_kafka_a_process_waits_reports_it_and_can_be_stopped(
    kind: str, tmp_path: Path
) -> None:
    with served(kind, tmp_path) as found:
        page = found.ready()
        assert (page["alive"], page["ready"]) == (True, False)
        assert "waiting for Kafka" in page["problems"][0]
        assert (page["backlog"], page["progress"], page["partitions"]) == (0, None, [])
        assert found.get("/health")[0] == 200
        assert found.get("/ready")[0] == 503
        status, metrics = found.get("/metrics")
        assert status == 200
        assert "kpstream_ready 0.0" in metrics.splitlines()
        assert found.get("/")[0] == 404
        assert (tmp_path / "trial-1").stat().st_mode & 0o777 == 0o700
        found.process.send_signal(signal.SIGTERM)
        out, err = found.process.communicate(timeout=30)
        assert found.process.returncode == 0, (out, err)
        assert "trial-1 stopped" in out
        assert "secret-token" not in out + err + str(page) + metrics


def test_a_store_without_influxdb_is_refused_with_the_setting(tmp_path: Path) -> None:
    env = {"KPSTREAM_PIPELINE_INFLUX_TOKEN": ""}
    assert "KPSTREAM_PIPELINE_INFLUX_TOKEN" in refused("store", tmp_path, **env)


def test_invalid_settings_are_reported_by_name(tmp_path: Path) -> None:
    said = refused("worker", tmp_path, KPSTREAM_SITE_STALL_S="soon")
    assert "KPSTREAM_SITE_STALL_S" in said
    said = refused(
        "bridge",
        tmp_path,
        KPSTREAM_INGEST_MQTT_SHARED_GROUP="a",
        KPSTREAM_INGEST_MQTT_PROTOCOL="3.1.1",
    )
    assert "needs MQTT 5" in said


def test_a_bridge_that_is_the_only_one_does_not_leave(tmp_path: Path) -> None:
    assert "KPSTREAM_INGEST_MQTT_SHARED_GROUP" in refused("bridge", tmp_path, "--leave")


def test_a_certificate_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = refused("worker", tmp_path, KPSTREAM_SITE_KAFKA_CA_FILE=str(tmp_path / "no.pem"))
    assert "KPSTREAM_SITE_KAFKA_CA_FILE" in said
    assert "no such file" in said


@pytest.mark.slow
@pytest.mark.needs_kafka_server
def test_another_number_of_partitions_ends_the_process_with_advice(tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        env = {"KPSTREAM_SITE_KAFKA": kafka.address, "KPSTREAM_SITE_PARTITIONS": "2"}
        with served("worker", tmp_path, **env) as found:
            assert found.process.stdout is not None
            assert "trial-1 started" in found.process.stdout.readline()
        env["KPSTREAM_SITE_PARTITIONS"] = "3"
        said = refused("worker", tmp_path, **env)
    assert "has 2 partitions, but KPSTREAM_SITE_PARTITIONS is 3" in said
