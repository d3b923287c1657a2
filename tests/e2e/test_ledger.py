"""The delivery promise against SIGKILL: gateway and broker die at random, nothing is missing.

Numbered readings at QoS 1 through mosquitto. In each round the gateway, the broker or both are
killed and started again. At the end every reading is windowed exactly once, every expected window
has exactly one score, and the account balances per device. `KPSTREAM_LEDGER_ROUNDS` sets the
rounds (default 6).
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.devices import DT_MS, NumberedDevices
from tests.e2e.plant import Plant

ROUNDS = int(os.environ.get("KPSTREAM_LEDGER_ROUNDS", "6"))
DEVICES = 6
LENGTH, HOP = 128, 64


@pytest.mark.needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_no_reading_is_missing_after_kills_of_gateway_and_broker(tmp_path: Path) -> None:
    rng = random.Random(20)
    # A device sends the last seconds again after a kill of the broker; the lateness must cover it.
    patient = {"KPSTREAM_PIPELINE_LATENESS_MS": "10000", "KPSTREAM_PIPELINE_IDLE_MS": "10000"}
    with Plant(tmp_path, broker_kind="mosquitto", **patient) as plant:
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()
        for round_ in range(ROUNDS):
            _kill_something(plant, rng, ("gateway", "broker", "both")[round_ % 3])
        time.sleep(1.0)
        fleet.stop()
        _settle(plant, fleet)
        accounts = plant.accounts()
        assert sorted(device for _, device, _ in accounts) == sorted(fleet.published)
        for (_, device, _), account in accounts.items():
            total = fleet.published[device]
            assert account["windowed"] == total, (device, account, total)
            # Copies older than the windower's memory count as late: never more than were sent.
            again = account["duplicate"] + account["late"]
            assert account["received"] == account["windowed"] + again, account
            assert account["dead_lettered"] == 0, account
        assert plant.stop_gateway() == 0
    _check_scores(plant.results_path, fleet)


def _kill_something(plant: Plant, rng: random.Random, victim: str) -> None:
    time.sleep(rng.uniform(0.3, 2.5))
    if victim in ("gateway", "both"):
        plant.kill_gateway()
    if victim in ("broker", "both"):
        plant.kill_broker()
        time.sleep(rng.uniform(0.0, 0.5))
        plant.broker.start()
    if victim in ("gateway", "both"):
        time.sleep(rng.uniform(0.0, 0.5))
        plant.start_gateway(wait=rng.random() < 0.5)


def _settle(plant: Plant, fleet: NumberedDevices) -> None:
    """Wait until everything published is windowed and every window is stored."""

    def settled() -> bool:
        accounts = {device: a for (_, device, _), a in plant.accounts().items()}
        done = all(
            accounts.get(device, {}).get("windowed", 0) >= total
            for device, total in fleet.published.items()
        )
        return done and _stored(plant.results_path) >= sum(map(_windows, fleet.published.values()))

    plant.wait_ready()
    try:
        plant.wait_until(settled, "settled", poll_s=0.5)
    except AssertionError as exc:
        found = "\n".join(f"{key}: {account}" for key, account in plant.accounts().items())
        wanted = sum(map(_windows, fleet.published.values()))
        msg = (
            f"published {fleet.published}, sent again {fleet.resent}; {wanted} windows expected, "
            f"{_stored(plant.results_path)} stored\n{found}\n{plant.totals()}"
        )
        raise AssertionError(msg) from exc


def _windows(readings: int) -> int:
    return max(0, (readings - LENGTH) // HOP + 1)


def _stored(path: Path) -> int:
    results = ResultsFile(path, read_only=True)
    try:
        if not results.select("SELECT 1 FROM sqlite_master WHERE name = 'points_activity'"):
            return 0  # nothing has been scored yet
        return int(results.select("SELECT count(*) FROM points_activity")[0][0])
    finally:
        results.close()


def _check_scores(path: Path, fleet: NumberedDevices) -> None:
    results = ResultsFile(path, read_only=True)
    try:
        rows = results.select(
            "SELECT s.device, p.time_ns FROM points_activity p JOIN _series s ON s.id = p.series"
        )
    finally:
        results.close()
    found: dict[str, list[int]] = {}
    for device, time_ns in rows:
        found.setdefault(device, []).append(time_ns // 1_000_000)
    for device, total in fleet.published.items():
        ends = [fleet.t0_ms + (LENGTH - 1 + k * HOP) * DT_MS + 1 for k in range(_windows(total))]
        assert sorted(found[device]) == ends, device
