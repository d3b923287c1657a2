"""Mapped devices beside devices that send the same readings in our own form: the same scores."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from pipeline.console.queries import all_points
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import CHANNELS
from tests.e2e.plant import Plant

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow]

T0_MS, DT_MS = 1_750_000_000_000, 20
DEVICES = ("press", "saw")
READINGS = 128 + 2 * 64
KINDS = ("body_acc", "body_gyro", "total_acc")
WHOLE = """
topic = "tele/{device}/IMU"
site = "whole"
stream = "imu"
[time]
path = "Time"
form = "iso8601"
[channels]
"""
APART = """
topic = "bus/{device}/{kind}"
site = "apart"
stream = "imu"
[time]
path = "t"
form = "epoch-ms"
[join]
max_age_ms = 100
lateness_ms = 400
emit = "body_acc_x"
[channels]
"""


def values(device: str, number: int) -> dict[str, float]:
    shift = DEVICES.index(device)
    return {
        channel: float(number) if at == 0 else ((number + shift) // (at + 1) % 17) / 8
        for at, channel in enumerate(CHANNELS)
    }


def write_files(folder: Path) -> None:
    folder.mkdir()
    whole = "".join(f'{name} = "imu.{name}"\n' for name in CHANNELS)
    (folder / "whole.toml").write_text(WHOLE + whole)
    apart = ""
    for name in CHANNELS:
        kind, axis = name.rsplit("_", 1)
        apart += f'{name} = {{ path = "{axis}", when = {{ kind = ["{kind}"] }} }}\n'
    (folder / "apart.toml").write_text(APART + apart)


def test_scores_of_mapped_devices_are_those_of_our_own_form(tmp_path: Path) -> None:
    """Under kills, with disorder within the lateness and with duplicates."""
    files = tmp_path / "mappings"
    write_files(files)
    with Plant(tmp_path, broker_kind="mosquitto", KPSTREAM_INGEST_MAPPINGS=str(files)) as plant:
        asyncio.run(_publish(plant))
        total = 3 * len(DEVICES) * READINGS
        plant.wait_until(lambda: plant.totals().get("windowed") == total, "windowed")
        windows = 3 * len(DEVICES) * 3
        plant.wait_until(lambda: len(_points(plant)) == windows, "stored")
        totals = plant.totals()
        assert totals["dead_letters"] == {}
        assert (totals["missing"], totals["late"]) == (0, 0)
        mappings = (plant.get("health") or {})["parts"]["mappings"]
        assert list(mappings["in_force"]) == ["apart", "whole"]
        accounts = mappings["counters"]["apart"]
        taken = accounts["join_values_total"]
        ends = ("used", "superseded", "expired", "incomplete", "late", "dropped")
        ended = (
            sum(accounts[f"join_{end}_total"] for end in ends) + accounts["join_duplicates_total"]
        )
        assert taken == ended + mappings["waiting"]
        assert accounts["join_late_total"] == accounts["join_dropped_total"] == 0
        assert plant.stop_gateway() == 0
    found: dict[str, dict[tuple[str, int], object]] = {}
    for point in _points(plant):
        score = point["start_ms"], point["activity"], point["probability"], point["readings"]
        found.setdefault(point["site"], {})[point["device"], point["end_ms"]] = score
    assert len(found["json"]) == len(DEVICES) * 3
    assert found["whole"] == found["json"]
    assert found["apart"] == found["json"]


def test_a_file_is_mended_while_the_gateway_runs(tmp_path: Path) -> None:
    """What was refused is replayed through the mended file; nothing is restarted."""
    files = tmp_path / "mappings"
    write_files(files)
    path = files / "whole.toml"
    good = path.read_text()
    with Plant(tmp_path, broker_kind="mosquitto", KPSTREAM_INGEST_MAPPINGS=str(files)) as plant:
        path.write_text("this is not TOML")
        plant.wait_until(lambda: "whole" in _mappings(plant)["faults"], "the fault is told")
        asyncio.run(_publish_some(plant.broker.port, "tele", range(10)))
        plant.wait_until(lambda: plant.totals().get("received") == 10, "the former file works")
        path.write_text(good.replace("tele/", "device/"))
        assert plant.process is not None
        plant.process.send_signal(signal.SIGHUP)
        plant.wait_until(
            lambda: _mappings(plant)["in_force"]["whole"]["topics"] == ["device/+/IMU"], "read"
        )
        asyncio.run(_publish_some(plant.broker.port, "device", range(10, 20)))
        plant.wait_until(lambda: plant.totals().get("received") == 20, "the new one, too")
        assert plant.totals()["dead_letters"] == {}
        assert plant.stop_gateway() == 0


def _mappings(plant: Plant) -> dict[str, Any]:
    return (plant.get("health") or {"parts": {"mappings": {"faults": {}}}})["parts"]["mappings"]


async def _publish_some(port: int, first: str, numbers: range) -> None:
    async with Publisher(Endpoint("127.0.0.1", port, "mapped-devices")) as publisher:
        for number in numbers:
            await publisher.publish(f"{first}/press/IMU", _whole("press", number))
        await publisher.flush()


def _whole(device: str, number: int) -> bytes:
    ms = T0_MS + number * DT_MS
    seconds, rest = divmod(ms, 1000)
    text = f"2025-06-15T{_clock(seconds - T0_MS // 1000)}.{rest:03}Z"
    return orjson.dumps({"Time": text, "imu": values(device, number)})


def _clock(seconds: int) -> str:
    """Time of day; T0_MS is 2025-06-15T15:06:40Z."""
    seconds += 15 * 3600 + 6 * 60 + 40
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


async def _publish(plant: Plant) -> None:
    """Publish all readings in three forms, and kill the gateway twice meanwhile."""

    def restart() -> None:
        plant.kill_gateway()
        plant.start_gateway()

    restarting: list[asyncio.Future[None]] = []
    async with Publisher(Endpoint("127.0.0.1", plant.broker.port, "devices")) as publisher:
        for number in range(READINGS):
            if number in (READINGS // 3, 2 * READINGS // 3):
                await asyncio.gather(*restarting)
                restarting.append(asyncio.ensure_future(asyncio.to_thread(restart)))
            for device in DEVICES:
                now, ts_ms = values(device, number), T0_MS + number * DT_MS
                body = orjson.dumps({"ts": ts_ms, "values": now})
                await publisher.publish(f"sensors/json/{device}/imu", body)
                await publisher.publish(f"tele/{device}/IMU", _whole(device, number))
                kinds = KINDS if number % 3 else KINDS[::-1]
                for kind in (*kinds, *kinds[: number % 5 == 0]):
                    parts = {axis: now[f"{kind}_{axis}"] for axis in "xyz"}
                    part = orjson.dumps({"t": ts_ms, **parts})
                    await publisher.publish(f"bus/{device}/{kind}", part)
            await asyncio.sleep(0.01)
        await publisher.flush()
    await asyncio.gather(*restarting)


def _points(plant: Plant) -> list[dict[str, Any]]:
    results = ResultsFile(plant.results_path, read_only=True)
    try:
        return all_points(results, "activity")
    finally:
        results.close()
