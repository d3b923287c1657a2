"""A label on a running gateway names windows like it from then on, until it is revoked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ingest.labels import Label, encode_label
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from models.dummy import write_dummy
from models.registry import Registry
from pipeline.errors import SinkUnavailable
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.movingdevice import MovingDevice
from tests.e2e.plant import Plant

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow]


def device(plant: Plant, name: str) -> MovingDevice:
    return MovingDevice(name, partial(publish, plant), partial(newest, plant), 0.3)


def newest(plant: Plant, name: str) -> str:
    results = ResultsFile(plant.results_path, read_only=True)
    try:
        rows = results.select(
            "SELECT activity FROM activity WHERE device = ? ORDER BY time_ns DESC LIMIT 1", (name,)
        )
    except SinkUnavailable:  # no table before the first score
        return ""
    finally:
        results.close()
    return "" if not rows else str(rows[0][0])


def versions(plant: Plant) -> list[int]:
    page = plant.get("api/v1/models") or {}
    return [each["version"] for each in page.get("models", ()) if each["name"] == "dummy-activity"]


def publish(plant: Plant, topic: str, body: bytes) -> None:
    async def send() -> None:
        endpoint = Endpoint("127.0.0.1", plant.broker.port, f"examples-{time.time_ns()}")
        async with Publisher(endpoint) as publisher:
            await publisher.publish(topic, body)
            await publisher.flush()

    asyncio.run(send())


def test_a_label_names_what_resembles_it_until_it_is_revoked(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "state" / "registry")
    for seed in (0, 9):
        folder = tmp_path / f"student-{seed}"
        write_dummy(folder, "activity", features=True, seed=seed)
    registry.publish(tmp_path / "student-0", stable=True)
    with Plant(tmp_path, broker_kind="mosquitto") as plant:
        ada, bob = device(plant, "ada"), device(plant, "bob")
        start, end = ada.move(6)
        bob.move(6)
        plant.wait_until(lambda: bool(ada.newest() and bob.newest()), "scored")
        was = ada.newest()
        given = Label("span-1", "span", start, end, "climbing", by="Ada", example="device")
        publish(plant, "labels/hall/ada/imu", encode_label(given))
        plant.wait_until(lambda: ada.is_named("climbing"), "named", poll_s=0)
        assert not bob.is_named("climbing")
        health = plant.get("health") or {}
        assert health["parts"]["examples"] == {"labels": 1, "windows": 5, "without_effect": []}
        plant.kill_gateway()
        plant.start_gateway()
        plant.wait_until(lambda: ada.is_named("climbing"), "named after a kill", poll_s=0)
        registry.publish(tmp_path / "student-9", stable=True)
        plant.wait_until(
            lambda: (
                ((plant.get("api/v1/models") or {"models": [{}]})["models"][0]).get("version") == 2
            ),
            "swapped",
        )
        plant.wait_until(lambda: ada.is_named("climbing"), "named by v2", poll_s=0)
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "examples", "--state-dir", str(plant.state_dir)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "hall/ada/imu: climbing, 5 windows, for this device (label span-1)" in done.stdout
        revoked = Label("span-1", "span", start, end, "climbing", revoked=True)
        publish(plant, "labels/hall/ada/imu", encode_label(revoked))
        plant.wait_until(lambda: not ada.is_named("climbing"), "revoked", poll_s=0)
        assert (plant.get("health") or {})["parts"]["examples"]["labels"] == 0
        assert was != "climbing"
