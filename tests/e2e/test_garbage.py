"""One per cent of garbage changes no other device's output and is all in the dead letters."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import orjson
import pytest

from deploy.commands.dead_letter_reader import read_dead_letters
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from pipeline.console.queries import all_points
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import CHANNELS, payload
from tests.e2e.plant import Plant

T0_MS = 1_750_000_000_000
DEVICES, MESSAGES, READINGS = 10, 64, 10
WINDOWS = DEVICES * ((MESSAGES * READINGS - 128) // 64 + 1)
COLUMN = [0.0] * 2
VALUES = dict.fromkeys(CHANNELS, COLUMN)


def _body(**changes: object) -> bytes:
    return orjson.dumps({"t0": T0_MS, "dt_ms": 20, "values": VALUES} | changes)


# (topic, payload, reason): every kind the issue names, and some more
GARBAGE = [
    ("sensors/g/bad-0/imu", b'{"t0": 1750000000000, "dt_ms": 20, "val', "not_json"),
    ("sensors/g/bad-1/imu", b"\xff\xfe\x00\x01", "not_json"),
    ("sensors/g/bad-2/imu", _body(values=VALUES | {"body_acc_x": ["1", "2"]}), "wrong_type"),
    ("sensors/g/bad-3/imu", _body(values=VALUES | {"body_acc_x": [True, False]}), "wrong_type"),
    ("sensors/g/bad-4/imu", _body().replace(b"[0.0,0.0]", b"[NaN,0.0]", 1), "not_json"),
    ("sensors/g/bad-5/imu", _body(values=VALUES | {"body_acc_x": [1e300, 0.0]}), "not_finite"),
    ("sensors/g/bad-6/imu", _body() + b" " * 300_000, "too_large"),
    ("sensors/g/bad-7/imu", _body(values={"acc_x": COLUMN, "acc_y": COLUMN}), "missing_channel"),
    ("sensors/g/bad-8/imu", _body(t0=1000), "clock_unset"),
    ("sensors/g/bad-9/imu", _body(t0=4_102_444_800_000), "future"),
    ("sensors/g/bad-10/unknown", _body(), "no_model"),
    ("sensors/g/ba d/imu", _body(), "bad_topic"),
    ("sensors/g/bad-11/imu", b"", "empty"),
    ("sensors/g/bad-12/imu", _body(values=VALUES | {"body_acc_x": [0.0]}), "wrong_shape"),
    # A healthy device's own topic is no way to disturb it either.
    ("sensors/g/device-3/imu", b"[]", "wrong_shape"),
    ("sensors/g/device-4/imu", _body(t0=4_102_444_800_000), "future"),
]


@pytest.mark.needs_mosquitto
@pytest.mark.slow
def test_garbage_changes_no_other_device_and_is_all_in_the_dead_letters(tmp_path: Path) -> None:
    clean = _run(tmp_path / "clean", garbage=False)
    mixed = _run(tmp_path / "mixed", garbage=True)
    assert len(clean) == WINDOWS
    assert mixed == clean
    found = read_dead_letters(tmp_path / "mixed" / "state" / "log.db")
    assert found.unreadable == 0
    assert Counter(dead_letter.reason.value for dead_letter in found.dead_letters) == Counter(
        reason for _, _, reason in GARBAGE
    )
    raw = {
        (dead_letter.mqtt_topic, dead_letter.raw)
        for dead_letter in found.dead_letters
        if dead_letter.source == "bridge"
    }
    for topic, body, reason in GARBAGE:
        if reason not in ("missing_channel", "no_model"):  # these keep the readings, re-encoded
            assert (topic, body[: 256 * 1024]) in raw, reason


def _run(folder: Path, *, garbage: bool) -> dict[tuple[str, int], tuple[object, ...]]:
    folder.mkdir()
    with Plant(folder, broker_kind="mosquitto") as plant:
        asyncio.run(_publish(plant.broker.port, garbage=garbage))
        total = DEVICES * MESSAGES * READINGS
        refusals = len(GARBAGE) if garbage else 0

        def settled() -> bool:
            totals = plant.totals()
            return (
                totals.get("windowed") == total
                and sum(totals["dead_letters"].values()) == refusals
                and totals["stored"] == totals["scored"] == totals["windows"] == WINDOWS
            )

        plant.wait_until(settled, "settled")
        totals = plant.totals()
        assert (totals["missing"], totals["late"], totals["duplicate"]) == (0, 0, 0)
        assert plant.stop_gateway() == 0
    results = ResultsFile(folder / "state" / "results.db", read_only=True)
    try:
        points = all_points(results, "activity")
    finally:
        results.close()
    return {
        (p["device"], p["end_ms"]): (p["start_ms"], p["activity"], p["probability"]) for p in points
    }


async def _publish(port: int, *, garbage: bool) -> None:
    async with Publisher(Endpoint("127.0.0.1", port, "garbage-test")) as publisher:
        bad = list(GARBAGE) if garbage else []
        for message in range(MESSAGES):
            for device in range(DEVICES):
                body = payload(message * READINGS, READINGS, T0_MS + device)
                await publisher.publish(f"sensors/g/device-{device}/imu", body)
            if bad and message % 4 == 1:
                await publisher.publish(*bad.pop(0)[:2])
        assert not bad
        await publisher.flush()
