"""Sparkplug nodes beside devices that send the same readings as JSON: the same scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from pipeline.console.queries import all_points
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import CHANNELS
from tests.e2e.live_node import LiveNode
from tests.e2e.plant import Plant
from tests.fakes.sparkplugnode import EdgeNode

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow]

T0_MS, DT_MS = 1_750_000_000_000, 20
DEVICES = ("press", "saw")
READINGS = 128 + 2 * 64
MAPPING = """
host_id = "kpstream"
groups = ["Plant 7"]

[[stream]]
name = "imu"
devices = ["Plant 7/line/*"]
"""


def values(device: str, number: int) -> dict[str, float]:
    """Values of a device; each channel changes at its own pace."""
    shift = DEVICES.index(device)
    return {
        channel: float(number) if at == 0 else ((number + shift) // (at + 1) % 17) / 8
        for at, channel in enumerate(CHANNELS)
    }


@pytest.mark.parametrize("qos", [1, 0], ids=["killed, QoS 1", "restarted, QoS 0 and a host"])
def test_scores_of_sparkplug_are_those_of_json(tmp_path: Path, qos: int) -> None:
    """With QoS 1 under kills; with QoS 0, as in the specification, under planned restarts."""
    metrics = [f'{channel} = "Motion/{channel}"' for channel in CHANNELS]
    toml = tmp_path / "sparkplug.toml"
    toml.write_text(MAPPING + "[stream.metrics]\n" + "\n".join(metrics))
    present = {device: {f"Motion/{c}": -1.0 for c in CHANNELS} for device in DEVICES}
    node = EdgeNode("Plant 7", "line", present)  # type: ignore[arg-type]
    with (
        Plant(tmp_path, broker_kind="mosquitto", KPSTREAM_INGEST_SPARKPLUG=str(toml)) as plant,
        LiveNode(plant.broker.port, node, qos=qos, host=None if qos else "kpstream") as live,
    ):
        live.wait_online()
        restart = partial(_restart, plant, kill=qos == 1)
        asyncio.run(_publish(plant.broker.port, live, restart))
        total = 2 * len(DEVICES) * READINGS
        plant.wait_until(lambda: plant.totals().get("windowed") == total, "windowed")
        windows = 2 * len(DEVICES) * 3
        plant.wait_until(lambda: len(_points(plant)) == windows, "stored")
        totals = plant.totals()
        assert totals["dead_letters"] == {}
        assert (totals["missing"], totals["late"]) == (0, 0)
        health = (plant.get("health") or {})["parts"]["sparkplug"]
        assert health["devices_online"] == len(DEVICES)
        assert health["seq_gaps_total"] == 0
        assert live.rebirths <= 2 if qos == 0 else live.rebirths == 0
        assert plant.stop_gateway() == 0
    assert (live.kept > 0) == (qos == 0)
    found: dict[str, dict[tuple[str, int], object]] = {}
    for point in _points(plant):
        device = point["device"].removeprefix("line.")
        score = point["start_ms"], point["activity"], point["probability"], point["readings"]
        found.setdefault(point["site"], {})[device, point["end_ms"]] = score
    plain = found.pop("json")
    ((site, spark),) = found.items()
    assert site.startswith("Plant-7-")  # kpstream's name for "Plant 7"
    assert len(plain) == len(DEVICES) * 3
    assert spark == plain


def _restart(plant: Plant, *, kill: bool) -> None:
    if kill:
        plant.kill_gateway()
    else:
        assert plant.stop_gateway() == 0
    plant.start_gateway()


async def _publish(port: int, live: LiveNode, restart: Callable[[], None]) -> None:
    """Publish all readings in both formats, and restart the gateway meanwhile."""
    restarting: asyncio.Future[None] | None = None
    async with Publisher(Endpoint("127.0.0.1", port, "json-devices")) as publisher:
        for number in range(READINGS):
            if number == READINGS // 3:
                restarting = asyncio.ensure_future(asyncio.to_thread(restart))
            for device in DEVICES:
                now = values(device, number)
                ts_ms = T0_MS + number * DT_MS
                live.report(device, ts_ms, {f"Motion/{c}": v for c, v in now.items()})
                body = orjson.dumps({"ts": ts_ms, "values": now})
                await publisher.publish(f"sensors/json/{device}/imu", body)
            await asyncio.sleep(0.01)
        await publisher.flush()
    assert restarting is not None
    await restarting
    await asyncio.to_thread(live.flush)


def _points(plant: Plant) -> list[dict[str, Any]]:
    results = ResultsFile(plant.results_path, read_only=True)
    try:
        return all_points(results, "activity")
    finally:
        results.close()
