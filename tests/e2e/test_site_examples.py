"""On a site, an example of one device names windows of all, whichever worker has them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import paho.mqtt.publish as mqtt
import pytest

from ingest.labels import Label, encode_label
from models.dummy import write_dummy
from models.registry import Registry
from tests.e2e.movingdevice import MovingDevice
from tests.e2e.site_plant import SitePlant

pytestmark = [
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.slow,
]


def device(plant: SitePlant, name: str) -> MovingDevice:
    return MovingDevice(name, partial(publish, plant), partial(newest, plant), 0.5)


def newest(plant: SitePlant, name: str) -> str:
    found = [each[1:] for each in plant.values("activity", "activity") if each[0] == name]
    return str(max(found)[1]) if found else ""


def publish(plant: SitePlant, topic: str, body: bytes) -> None:
    mqtt.single(topic, body, qos=1, hostname="127.0.0.1", port=plant.mosquitto.port)


@pytest.mark.timeout(400)
def test_an_example_holds_on_every_worker_and_outlives_them(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    write_dummy(tmp_path / "student", "activity", features=True)
    registry.publish(tmp_path / "student", stable=True)
    root = str(registry.root)
    with SitePlant(tmp_path, workers=2, partitions=4, KPSTREAM_SITE_REGISTRY_DIR=root) as plant:
        devices = [device(plant, name) for name in ("ada", "bob", "cleo", "dora", "eve")]
        spans = {each.name: each.move(6) for each in devices}
        plant.wait_until(lambda: all(each.newest() for each in devices), "scored")
        assert "climbing" not in {each.newest() for each in devices}
        start, end = spans["ada"]
        given = Label("span-1", "span", start, end, "climbing", by="Ada", example="stream")
        publish(plant, "labels/hall/ada/imu", encode_label(given))
        for each in devices:
            plant.wait_until(lambda each=each: each.is_named("climbing"), each.name, poll_s=0)
        wanted = {"labels": 1, "windows": 5, "without_effect": []}
        for worker in plant.of("worker"):
            assert worker.get("health")["parts"]["examples"] == wanted

        plant["worker-1"].kill()
        plant["worker-2"].stop()
        del plant.processes["worker-1"], plant.processes["worker-2"]
        plant.add("worker-3")
        plant.wait_ready()
        for each in devices:
            plant.wait_until(lambda each=each: each.is_named("climbing"), each.name, poll_s=0)
        assert plant["worker-3"].get("health")["parts"]["examples"] == wanted

        revoked = Label("span-1", "span", start, end, "climbing", revoked=True)
        publish(plant, "labels/hall/ada/imu", encode_label(revoked))
        for each in devices:
            plant.wait_until(lambda each=each: not each.is_named("climbing"), "revoked", poll_s=0)
