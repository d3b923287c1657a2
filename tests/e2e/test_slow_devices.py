"""Slow devices, where nearly every reading meets a tick, and an unavailable store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.recordings import ENGINE_CHANNELS
from tests.e2e.plant import Plant
from tests.fakes.ports import free_port

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow]

VALUES = dict.fromkeys(ENGINE_CHANNELS, 600.0)


async def _publish_slowly(port: int, devices: int, readings: int, every_s: float) -> int:
    """One reading per message, devices out of step with each other and with the ticks."""
    sent = 0
    async with Publisher(Endpoint("127.0.0.1", port, "quiet")) as publisher:
        began = time.monotonic()
        for step in range(readings * devices):
            await asyncio.sleep(max(0.0, began + step * every_s / devices - time.monotonic()))
            body = orjson.dumps({"ts": time.time_ns() // 1_000_000, "values": VALUES})
            await publisher.publish(f"sensors/quiet/engine-{step % devices:03d}/engine", body)
            sent += 1
        await publisher.flush()
    return sent


def test_every_reading_of_slow_devices_is_windowed_and_scored(tmp_path: Path) -> None:
    with Plant(tmp_path, broker_kind="mosquitto") as plant:
        sent = asyncio.run(_publish_slowly(plant.broker.port, devices=50, readings=34, every_s=0.3))
        plant.wait_until(lambda: plant.totals().get("windowed", 0) >= sent, "windowed")
        plant.wait_until(lambda: plant.totals()["stored"] == 50 * (34 - 29), "stored")
        totals = plant.totals()
        assert (totals["received"], totals["windowed"]) == (sent, sent)
        assert plant.stop_gateway() == 0


def test_an_outage_of_influxdb_delays_neither_scoring_nor_the_stop(tmp_path: Path) -> None:
    away = {
        "KPSTREAM_PIPELINE_INFLUX_URL": f"http://127.0.0.1:{free_port()}",
        "KPSTREAM_PIPELINE_INFLUX_TOKEN": "not-a-secret",
    }
    with Plant(tmp_path, broker_kind="mosquitto", **away) as plant:
        sent = asyncio.run(
            _publish_slowly(plant.broker.port, devices=10, readings=40, every_s=0.05)
        )
        plant.wait_until(lambda: plant.totals().get("stored", 0) == 10 * (40 - 29), "stored")
        assert plant.totals()["windowed"] == sent
        began = time.monotonic()
        assert plant.stop_gateway() == 0
        assert time.monotonic() - began < 60
        assert "not-a-secret" not in plant.output()
        # What InfluxDB has not got is still in the log for the next start.
        plant.start_gateway()
        groups = {
            p["app"]: p["backlog"]
            for p in (plant.get("api/v1/pipeline") or {})["partitions"]
            if p["topic"] == "scores" and p["backlog"]
        }
        assert "kpstream-store-influx" in groups
