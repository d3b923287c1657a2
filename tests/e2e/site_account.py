"""Checks of InfluxDB after chaos devices have published through a `SitePlant`."""

from __future__ import annotations

import pytest

from tests.chaos.expected import expected_windows
from tests.chaos.fleet import ChaosDevices
from tests.e2e.site_plant import SitePlant


def settle(plant: SitePlant, fleet: ChaosDevices, timeout_s: float) -> None:
    """Wait until everything is stored, or nothing more arrives."""
    wanted = sum(
        len(expected_windows(n, fleet.published[name], fleet.t0_ms))
        for n, name in enumerate(sorted(fleet.published))
    )
    plant.wait_until(
        lambda: plant.count("activity", "probability") >= wanted,
        f"{wanted} windows stored",
        timeout_s=timeout_s,
        poll_s=1.0,
        may_end=True,
    )


def check_windows(plant: SitePlant, fleet: ChaosDevices) -> None:
    """Check that every window of every device is stored once, equal to the offline computation."""
    found: dict[str, dict[int, float]] = {}
    for device, end_ms, probability in plant.values("activity", "probability"):
        found.setdefault(device, {})[end_ms] = probability
    for number, name in enumerate(sorted(fleet.published)):
        wanted = expected_windows(number, fleet.published[name], fleet.t0_ms)
        assert sorted(found[name]) == [window.end_ms for window in wanted], name
        for window in wanted:
            assert found[name][window.end_ms] == pytest.approx(window.probability, abs=1e-4)


def check_accounts(plant: SitePlant, fleet: ChaosDevices) -> None:
    """Check that every reading is windowed once; repeated ones are duplicate or late."""

    def settled() -> bool:
        accounts = plant.accounts()
        return all(
            accounts.get((device, "imu"), {}).get("windowed") == total
            for device, total in fleet.published.items()
        )

    plant.wait_until(settled, "accounts", may_end=True)
    for (device, _), account in plant.accounts().items():
        total = fleet.published[device]
        again = account["duplicate"] + account["late"]
        assert account["received"] == total + again, (device, account, total)
        assert account["dead_lettered"] == 0, (device, account)
