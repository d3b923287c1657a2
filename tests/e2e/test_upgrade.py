"""A gateway continues with the state folder of an older revision.

`tests/e2e/states` holds such folders: `flat-layout` is of revision 9d31681, the last one before the
packages got their folders; `make_state.py` made it.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.e2e.plant import Plant
from tests.e2e.states.make_state import ALL, KILLED, LONG, WINDOWS, messages, points, publish

STATES = Path(__file__).parent / "states"


@pytest.mark.needs_mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat-layout"])
def test_a_killed_gateway_of_an_older_revision_ends_with_the_points_of_an_undisturbed_one(
    tmp_path: Path, name: str
) -> None:
    expected = json.loads((STATES / f"{name}.json").read_text())
    plant = Plant(tmp_path, **LONG)
    with zipfile.ZipFile(STATES / f"{name}.zip") as state:
        state.extractall(plant.state_dir)
    before = points(plant.results_path)
    assert 0 < len(before["rul"]) < WINDOWS["rul"]
    with plant:
        killed, readings = sum(KILLED.values()), sum(ALL.values())
        plant.wait_until(lambda: plant.totals().get("windowed") == killed, 60, "windowed")
        publish(plant.broker.port, messages(KILLED, ALL))
        plant.wait_until(lambda: plant.totals().get("windowed") == readings, 60, "windowed")
        plant.wait_until(
            lambda: sum(map(len, points(plant.results_path).values())) >= sum(WINDOWS.values()),
            60,
            "stored",
        )
        totals, accounts = plant.totals(), plant.accounts()
        assert plant.stop_gateway() == 0
    assert (totals["missing"], totals["late"], totals["dead_lettered"]) == (0, 0, 0)
    received = {device: account["received"] for (_, device, _), account in accounts.items()}
    assert received == ALL
    for measurement, wanted in expected.items():
        found = points(plant.results_path)[measurement]
        assert found.keys() == wanted.keys()
        for key, values in wanted.items():
            assert found[key] == pytest.approx(values, abs=1e-4), f"{measurement} of {key}"
