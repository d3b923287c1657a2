"""Late readings of a device that goes on sending are scored after all, in windows of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.commands.dead_letter_reader import read_progress
from deploy.commands.deadletters import dead_letters
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from tests.e2e.devices import payload
from tests.e2e.plant import Plant

T0_MS = 1_750_000_000_000
OLD, LIVE = 256, 640


@pytest.mark.needs_mosquitto
def test_a_backfill_scores_late_readings_and_leaves_the_device_alone(tmp_path: Path) -> None:
    with Plant(tmp_path, broker_kind="mosquitto") as plant:
        asyncio.run(_publish(plant.broker.port, OLD, LIVE))
        asyncio.run(_publish(plant.broker.port, 0, OLD))  # the outage's readings come at the end
        live = ("g", "press", "imu")
        plant.wait_until(lambda: _of(plant, live, "late") == OLD, "late")
        last = (LIVE - OLD - 128) // 64 + 1
        plant.wait_until(lambda: _of(plant, live, "windows") == last, "windowed")
        before = dict(plant.accounts()[live])
        newest_ms = before["last_event_ms"]  # replay reads what the last checkpoint has saved
        log_path = plant.state_dir / "log.db"
        plant.wait_until(
            lambda: read_progress(log_path, "kpstream").get(live) == newest_ms, "saved"
        )
        there = ["--state-dir", str(plant.state_dir), "--mqtt", f"127.0.0.1:{plant.broker.port}"]
        replay = ["replay", *there, "--late", "--all"]
        refused = CliRunner().invoke(dead_letters, replay)
        assert f"{OLD} of {OLD} readings would be late" in refused.output
        done = CliRunner().invoke(dead_letters, [*replay, "--backfill"])
        assert done.exit_code == 0, done.output
        own = ("g", "press.backfill-20250615T150640", "imu")
        windows = (OLD - 128) // 64 + 1
        plant.wait_until(lambda: _of(plant, own, "windows") == windows, "windowed")
        assert _of(plant, own, "windowed") == OLD
        again = CliRunner().invoke(dead_letters, [*replay, "--backfill"])
        assert again.exit_code == 0
        plant.wait_until(lambda: _of(plant, own, "duplicate") == OLD, "duplicates")
        assert plant.accounts()[live] == before
        totals = plant.totals()
        assert totals["missing"] == 0


def _of(plant: Plant, device: tuple[str, str, str], counter: str) -> int:
    return int(plant.accounts().get(device, {}).get(counter, 0))


async def _publish(port: int, begin: int, end: int) -> None:
    async with Publisher(Endpoint("127.0.0.1", port, "press"), in_flight=20) as publisher:
        await publisher.connection.connected.wait()
        for start in range(begin, end, 16):
            await publisher.publish("sensors/g/press/imu", payload(start, 16, T0_MS))
        await publisher.flush()
