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


def undisturbed(folder: Path, env: dict[str, str]) -> dict[str, dict[str, list[object]]]:
    """The points of a gateway of today that nobody kills."""
    with Plant(folder, **env) as plant:
        publish(plant.broker.port, messages({}, ALL))
        wanted = sum(WINDOWS.values())
        plant.wait_until(lambda: plant.totals().get("stored", 0) >= wanted, "stored")
        assert plant.stop_gateway() == 0
    return points(plant.results_path)


@pytest.mark.needs_mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat-layout"])
def test_a_killed_gateway_of_an_older_revision_ends_with_the_points_of_an_undisturbed_one(
    tmp_path: Path, name: str
) -> None:
    expected = json.loads((STATES / f"{name}.json").read_text())
    # The points are of a revision that did not resample, and the people send 10 readings a second.
    env = LONG | {"KPSTREAM_PIPELINE_UNRESAMPLED": '["imu"]'}
    # Other students ship than then: a window has the score of one of the two.
    today = undisturbed(tmp_path / "undisturbed", env)
    for measurement in ("activity", "rul"):
        assert today[measurement].keys() == expected[measurement].keys()
    plant = Plant(tmp_path, **env)
    with zipfile.ZipFile(STATES / f"{name}.zip") as state:
        state.extractall(plant.state_dir)
    before = points(plant.results_path)
    assert 0 < len(before["rul"]) < WINDOWS["rul"]
    with plant:
        killed, readings = sum(KILLED.values()), sum(ALL.values())
        plant.wait_until(lambda: plant.totals().get("windowed") == killed, "windowed")
        publish(plant.broker.port, messages(KILLED, ALL))
        plant.wait_until(lambda: plant.totals().get("windowed") == readings, "windowed")
        plant.wait_until(
            lambda: sum(map(len, points(plant.results_path).values())) >= sum(WINDOWS.values()),
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
            right = (values, today.get(measurement, wanted)[key])
            assert any(found[key] == pytest.approx(each, abs=1e-4) for each in right), (
                f"{measurement} of {key}: {found[key]}, not one of {right}"
            )
