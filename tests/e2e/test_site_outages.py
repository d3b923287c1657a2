"""Outages of servers and processes: dependent parts wait and report it, the others continue."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.fleet import ChaosDevices
from tests.e2e.site_account import check_accounts, check_windows, settle
from tests.e2e.site_plant import SitePlant

pytestmark = [
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.slow,
]

DEVICES = 20
PATIENT = {
    "KPSTREAM_PIPELINE_LATENESS_MS": "5000",
    "KPSTREAM_PIPELINE_IDLE_MS": "5000",
    "KPSTREAM_PIPELINE_SESSION_MS": "6000",
    "KPSTREAM_INGEST_LOG_PATIENCE_S": "300",
}


def scored(plant: SitePlant) -> int:
    lines = [worker.get().get("parts", {}).get("line", {}) for worker in plant.of("worker")]
    return sum(line.get("scored", 0) for line in lines)


def problems(plant: SitePlant, name: str) -> str:
    return "; ".join(plant[name].get().get("problems", ()))


@pytest.mark.timeout(420)
def test_an_unavailable_server_is_reported_and_awaited_without_loss(tmp_path: Path) -> None:
    with SitePlant(tmp_path, workers=2, **PATIENT) as plant:
        fleet = ChaosDevices(plant.mosquitto.port, DEVICES)
        fleet.start()
        plant.wait_until(lambda: scored(plant) > DEVICES, "first scores")

        # InfluxDB is down: the store reports it, and scoring continues.
        plant.influx.kill()
        plant.wait_until(lambda: not plant["store-1"].is_ready, "store not ready")
        assert "InfluxDB" in problems(plant, "store-1")
        before = scored(plant)
        plant.wait_until(lambda: scored(plant) >= before + DEVICES, "scoring goes on")
        assert all(worker.is_ready for worker in plant.of("worker"))
        plant.influx.start()
        plant.wait_ready()

        # Kafka is down: every process waits and reports it, none ends; the bridge may even be
        # killed.
        plant.kafka.kill()
        plant.wait_until(lambda: "Kafka" in problems(plant, "bridge-1"), "the bridge misses Kafka")
        plant.wait_until(lambda: "Kafka" in problems(plant, "worker-1"), "the worker misses Kafka")
        plant["bridge-1"].kill()
        plant["bridge-1"].start()
        plant.wait_until(
            lambda: "waiting for Kafka" in problems(plant, "bridge-1"), "it waits for Kafka"
        )
        plant.kafka.start()
        plant.wait_ready(90)

        # Processes are killed: a restart continues at the last confirmed record.
        for name in ("store-1", "bridge-1", "worker-2"):
            plant[name].kill()
            time.sleep(1)
            plant[name].start()
        plant.wait_ready(90)
        time.sleep(5)
        fleet.stop()
        settle(plant, fleet, 120)
        check_windows(plant, fleet)
        check_accounts(plant, fleet)
        for process in plant.processes.values():
            assert process.stop() == 0, process.output()
