"""Readings that are scaled, or in another unit, under the name and units of the original."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.artifact import read_artifact
from models.describe import seen_range
from models.zoo import zoo_path
from training.claimedunits import require_claimed_units
from training.errors import DataSetError

STARTER = read_artifact(zoo_path("rul-fd001"))
CHANNELS = STARTER.manifest.channels
TEMPERATURES = [number for number, channel in enumerate(CHANNELS) if channel.unit == "R"]


def real_readings() -> np.ndarray:
    """Readings in the range that the starter has learned from, `[n, channels]`."""
    seen = STARTER.manifest.seen
    assert seen is not None
    share = np.random.default_rng(0).uniform(size=(500, len(CHANNELS)))
    low, high = np.array(seen.low), np.array(seen.high)
    return (low + share * (high - low)).astype(np.float32)


def in_kelvin(readings: np.ndarray) -> np.ndarray:
    other = readings.copy()
    other[:, TEMPERATURES] /= 1.8
    return other


def in_percent(readings: np.ndarray) -> np.ndarray:
    """The bypass ratio (unit 1) alone, given in percent."""
    other = readings.copy()
    other[:, [channel.name for channel in CHANNELS].index("BPR")] *= 100
    return other


def check(readings: np.ndarray, *, new_range: bool = False, alone: bool = False) -> None:
    running = None if alone else STARTER
    seen = seen_range(readings.astype(np.float32))
    require_claimed_units("Engines", CHANNELS, seen, running, new_range=new_range)


def test_real_readings_pass() -> None:
    check(real_readings())
    check(real_readings(), alone=True)


@pytest.mark.parametrize(
    "scale",
    [
        lambda readings: (readings - readings.min(axis=0)) / np.ptp(readings, axis=0),
        lambda readings: (readings - readings.mean(axis=0)) / readings.std(axis=0),
        lambda readings: 2 * (readings - readings.min(axis=0)) / np.ptp(readings, axis=0) - 1,
    ],
    ids=["min-max", "z-score", "from -1 to 1"],
)
@pytest.mark.parametrize("new_range", [False, True])
def test_scaled_readings_are_impossible_in_their_unit(
    scale: Callable[[np.ndarray], np.ndarray], new_range: bool
) -> None:
    for alone in (False, True):
        with pytest.raises(DataSetError, match=r"T24 from .* R; T30 .* is impossible, so .* raw"):
            check(scale(real_readings()), new_range=new_range, alone=alone)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (in_kelvin, r"T24 lies between 35\d.* R, and it has seen 641.* --new-range"),
        (in_percent, r"BPR lies between 8\d\d.* and it has seen 8"),
    ],
    ids=["kelvin", "percent"],
)
def test_another_unit_is_far_from_what_the_running_student_has_seen(
    convert: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    with pytest.raises(DataSetError, match=message):
        check(convert(real_readings()))
    check(convert(real_readings()), new_range=True)
    check(convert(real_readings()), alone=True)  # nothing tells


def test_a_wider_range_that_holds_the_old_one_passes() -> None:
    readings = real_readings()
    middle = readings.mean(axis=0)
    check(middle + 3 * (readings - middle))
