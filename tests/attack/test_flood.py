"""Floods of input that nobody reads, and of names that nobody has."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.commands.dead_letter_reader import read_dead_letters
from ingest.errors import RefusalReason
from ingest.messages import Batch
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.roster import RosterLimits
from pipeline.windows.devices import Devices, StreamPlan, device_limits
from pipeline.windows.spec import WindowSpec
from tests.attack.account import Attack
from tests.e2e.devices import payload
from tests.e2e.plant import Plant
from tests.fakes.windows import closed_windows

CAP_MB = 16
T0_MS = 1_750_000_000_000


@pytest.mark.needs_mosquitto
def test_garbage_of_one_device_stops_nobody_and_evicts_no_letter_of_another(
    attack: Attack, tmp_path: Path
) -> None:
    flood = attack.size(short=120, long=1500)  # of 200 kB each: 1.5 to 20 times the cap
    with Plant(tmp_path, broker_kind="mosquitto", KPSTREAM_GATEWAY_LOG_MAX_MB=str(CAP_MB)) as plant:
        asyncio.run(_flood(plant.broker.port, flood))
        plant.wait_until(
            lambda: _account(plant)["received"] == 640,
            "the readings of the good device",
            timeout_s=900,
        )
        account = _account(plant)
        assert account["missing"] == 0
        plant.stop_gateway()
        plant.start_gateway()  # with a full share; `wait_ready` is part of it
        asyncio.run(_flood(plant.broker.port, 20, begin=flood))
        plant.stop_gateway()
        text = plant.log_path.read_text(encoding="utf-8")
    found = read_dead_letters(plant.state_dir / "log.db")
    quiet = [each for each in found.dead_letters if "/quiet/" in each.mqtt_topic]
    greedy = [each for each in found.dead_letters if "/greedy/" in each.mqtt_topic]
    attack.note(f"{len(greedy)} dead letters of the flood kept")
    attack.report(
        count=flood + 20,
        lost=2 * 3 - sum(found.times[each.id] for each in quiet) + 640 - account["windowed"],
        unit="broken messages",
    )
    assert "g/greedy fills the topic dead-letters" in text
    assert 0 < len(greedy) < flood
    # The newest are kept, so what the device does now can be seen.
    assert max(each.recv_ms for each in greedy) == max(e.recv_ms for e in found.dead_letters)


@pytest.mark.needs_mosquitto
def test_every_deleted_dead_letter_is_counted(attack: Attack, tmp_path: Path) -> None:
    flood = attack.size(short=60, long=600)
    with Plant(tmp_path, broker_kind="mosquitto", KPSTREAM_GATEWAY_LOG_MAX_MB=str(CAP_MB)) as plant:
        asyncio.run(_flood(plant.broker.port, flood))
        greedy = 0

        def explained() -> int:
            nonlocal greedy
            found = read_dead_letters(plant.state_dir / "log.db")
            greedy = sum("/greedy/" in each.mqtt_topic for each in found.dead_letters)
            return greedy + int(_archive(plant)["evicted"])

        with suppress(AssertionError):  # reported below
            plant.wait_until(lambda: explained() == flood, "explained", timeout_s=900)
        archive = _archive(plant)
    attack.report(count=flood, lost=flood - greedy - archive["evicted"], unit="broken messages")
    assert archive["evicted_by"] == [["dead-letters", "g/greedy", archive["evicted"]]]
    assert "g/greedy fills dead-letters" in archive["state"]


async def _flood(port: int, count: int, begin: int = 0) -> None:
    async with Publisher(Endpoint("127.0.0.1", port, "flood"), in_flight=50) as publisher:
        await publisher.connection.connected.wait()
        for n in range(3):
            await publisher.publish("sensors/g/quiet/imu", b"not json %d" % n)
        for n in range(begin, begin + count):
            await publisher.publish("sensors/g/greedy/imu", b"not json %d " % n + b"x" * 200_000)
        for n in range(64):
            await publisher.publish("sensors/g/good/imu", payload(10 * n, 10, T0_MS))
        await publisher.flush()


def _account(plant: Plant) -> dict[str, int]:
    return plant.accounts().get(("g", "good", "imu"), {"received": 0, "windowed": 0})


def _archive(plant: Plant) -> dict[str, Any]:
    health = plant.get("health") or {}
    return health["parts"]["archive"]  # type: ignore[no-any-return]


def test_made_up_devices_lock_no_living_one_out_and_leave_nothing(attack: Attack) -> None:
    """A living device among made-up ones: the same windows as alone, and bounded state."""
    names = attack.size(short=2_000, long=200_000)
    limits = device_limits(500)
    alone, among = _worker(limits), _worker(limits)
    expected, found = [], []
    refused = 0
    for n in range(names):
        now_ms = T0_MS + 20 * n
        made_up = _batch(f"made-up-{n}", now_ms)
        living = _batch("living", now_ms)
        expected += closed_windows(alone.apply(0, n, [living]).windows)
        outcome = among.apply(0, n, [made_up, living])
        closed = closed_windows(outcome.windows)
        found += [window for window in closed if window.device == "living"]
        refused += sum(each.reason is RefusalReason.too_many_devices for each in outcome.refused)
        if n % 100 == 0:
            among.dirty_rows()
    lost = len(expected) - len(found)
    totals = among.totals()
    attack.note(f"{len(among)} device streams with state, {refused} readings refused")
    attack.report(count=names, lost=lost + totals.missing, unit="made-up devices")
    assert [w.window.end_ms for w in found] == [w.window.end_ms for w in expected]
    assert totals.received == 2 * names
    assert len(among) <= limits.most + 1


def _worker(limits: RosterLimits) -> Devices:
    plan = StreamPlan("m", ("a",), WindowSpec(length=32, hop=16, lateness_ms=0, idle_ms=100))
    return Devices({"imu": plan}.get, lambda _key: None, limits)


def _batch(device: str, now_ms: int) -> Batch:
    ts_ms = np.array([now_ms], dtype=np.int64)
    return Batch("g", device, "imu", now_ms, ts_ms, {"a": [1.0]})
