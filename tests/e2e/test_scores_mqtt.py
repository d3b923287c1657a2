"""A gateway that also publishes its scores on the broker that its readings come from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from tests.deploy.processes.test_scoresmqtt import heard
from tests.e2e.devices import payload
from tests.e2e.plant import Plant

T0_MS = 1_750_000_000_000
MESSAGES, READINGS = 40, 10
WINDOWS = (MESSAGES * READINGS - 128) // 64 + 1


@pytest.mark.needs_mosquitto
@pytest.mark.slow
def test_a_gateway_publishes_each_score_and_takes_none_of_them_for_a_reading(
    tmp_path: Path,
) -> None:
    async def publish(port: int) -> None:
        async with Publisher(Endpoint("127.0.0.1", port, "scores-device")) as publisher:
            for message in range(MESSAGES):
                body = payload(message * READINGS, READINGS, T0_MS)
                await publisher.publish("sensors/lab/ann/imu", body)
            await publisher.flush()

    with Plant(tmp_path, broker_kind="mosquitto", KPSTREAM_GATEWAY_SCORES_MQTT="true") as plant:
        found = heard(plant.broker, WINDOWS + 1, lambda: asyncio.run(publish(plant.broker.port)))
        plant.wait_until(lambda: plant.totals()["stored"] == WINDOWS, "stored")
        totals = plant.totals()
        assert (totals["messages_received"], totals["dead_letters"]) == (MESSAGES, {})
        parts = (plant.get("health") or {})["parts"]
        assert parts["store-mqtt"] == "ok"
        assert plant.stop_gateway() == 0
    scores = [content for topic, content, _ in found if topic == "scores/lab/ann/imu"]
    (quality,) = [content for topic, content, _ in found if topic != "scores/lab/ann/imu"]
    assert quality["alarm"] is (quality["quality"] != "good")
    times = [content["time_ms"] for content in scores]
    assert times == sorted(set(times))
    assert len(times) == WINDOWS
