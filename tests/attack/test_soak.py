"""A soak: a gateway under steady load and an open page grows no further after its warm-up.

`KPSTREAM_SOAK_S` sets the seconds (45 minutes in the long form). The slope of the resident memory
is that of a line through the minima of equal spans after the first third; a short form is all
warm-up, so it checks the account only.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.attack.account import Attack
from tests.e2e.plant import Plant

DEVICES, READINGS, RATE = 20, 10, 200
DT_MS = 1000 * DEVICES // (RATE * READINGS)
SLOPE_S = 900
"""Shorter soaks say nothing about growth."""
MOST_MB_PER_HOUR = 1.0
STUCK_S = 120
"""A gateway that is behind and takes no reading for so long does not catch up."""
STUDENT_T = 2.23
"""The 97.5 % quantile of Student's t with ten degrees of freedom: twelve minima, a line."""


@pytest.mark.needs_mosquitto
@pytest.mark.slow
def test_memory_does_not_grow_under_steady_load(attack: Attack, tmp_path: Path) -> None:
    seconds = int(os.environ.get("KPSTREAM_SOAK_S", attack.size(short=10, long=2700)))
    messages = seconds * RATE
    samples: list[tuple[float, float]] = []
    with Plant(tmp_path, broker_kind="mosquitto", zoo=["har-waist"]) as plant:
        assert plant.process is not None
        load = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.bench.load", "--port", str(plant.broker.port)),
                *("--messages", str(messages), "--rate", str(RATE), "--past-s", "0"),
                *("--devices", str(DEVICES), "--readings", str(READINGS), "--dt-ms", str(DT_MS)),
            ],
            stdout=subprocess.PIPE,
        )
        began = time.monotonic()
        with (tmp_path / "rss.csv").open("w") as file:
            while load.poll() is None:
                plant.get("api/v1/fleet")
                plant.totals()
                sample = time.monotonic() - began, resident_mb(plant.process.pid)
                samples.append(sample)
                print(f"{sample[0]:.0f},{sample[1]:.3f}", file=file, flush=True)
                time.sleep(min(5.0, seconds / 10))
        sent = json.loads(load.communicate()[0])
        assert sent["confirmed"] == messages
        readings = messages * READINGS
        behind = readings - taken(plant)
        catch_up(plant, readings)
        windowed = taken(plant)
        totals = plant.totals()
    slope, error = slope_mb_per_hour(samples)
    attack.note(f"{seconds} s at {RATE} messages/s: {samples[-1][1]:.1f} MB resident")
    if seconds >= SLOPE_S:
        attack.note(f"{slope:+.2f} ± {error:.2f} MB per hour after warm-up")
        attack.note(f"{behind / READINGS / RATE:.0f} s behind at the end of the load")
    doubled = totals["duplicate"] + totals["late"]
    attack.report(count=readings, lost=readings - windowed, doubled=doubled)
    assert seconds < SLOPE_S or slope < MOST_MB_PER_HOUR


def test_the_slope_is_that_of_the_time_after_the_warm_up() -> None:
    warm = [(s, 60 + min(s, 900) / 30) for s in range(0, 2700, 5)]
    assert max(map(abs, slope_mb_per_hour(warm))) < 1e-9
    noisy = [(s, 80 + 2 * s / 3600 + (s % 7)) for s in range(0, 2700, 5)]
    slope, _ = slope_mb_per_hour(noisy)
    assert 1.8 < slope < 2.2


def test_the_error_of_the_slope_covers_the_slope_of_a_flat_process_that_scatters() -> None:
    chance = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        slope, error = slope_mb_per_hour([(s, chance.exponential()) for s in range(0, 2700, 5)])
        covered += abs(slope) < error
    assert 180 <= covered <= 199  # 95 % of 200


def taken(plant: Plant) -> int:
    """Readings that the windows have."""
    return sum(account["windowed"] for account in plant.accounts().values())


def catch_up(plant: Plant, readings: int) -> None:
    """Wait until all readings are in windows, as long as more and more are.

    How far a gateway is behind after a soak depends on the machine, so the time for all of them
    says nothing. One that takes nothing more is broken.
    """
    now = -1
    while (before := now) < readings:
        plant.wait_until(
            lambda: taken(plant) > before, f"beyond {before} of {readings}", timeout_s=STUCK_S
        )
        now = taken(plant)


def slope_mb_per_hour(
    samples: Sequence[tuple[float, float]], spans: int = 12
) -> tuple[float, float]:
    """Slope of a process's size after the first third of the time, and its error; MB per hour.

    The slope is that of the least-squares line through the minima of `spans` equal spans, because
    buffers that come and go only add. The error is half the 95 % interval from the scatter of the
    minima about the line.
    """
    times, sizes = np.array(samples).T
    warm = times >= times[-1] / 3
    parts = np.array_split(np.flatnonzero(warm), spans)
    lowest = [part[np.argmin(sizes[part])] for part in parts if len(part)]
    if len(lowest) < 3:
        return 0.0, math.inf
    hours, minima = times[lowest] / 3600, sizes[lowest]
    slope, start = np.polyfit(hours, minima, 1)
    rest = minima - (slope * hours + start)
    scatter = math.sqrt(np.sum(rest**2) / (len(lowest) - 2))
    spread = math.sqrt(np.sum((hours - hours.mean()) ** 2))
    return float(slope), STUDENT_T * scatter / spread


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000
