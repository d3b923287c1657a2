"""A soak: a gateway under steady load and an open page grows no further after its warm-up.

`KPSTREAM_SOAK_S` sets the seconds (45 minutes in the long form). The slope of the resident memory
is that of a line through the minima of equal spans after the first third; a short form is all
warm-up, so it checks the account only.
"""

from __future__ import annotations

import json
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
        plant.wait_until(
            lambda: sum(a["windowed"] for a in plant.accounts().values()) >= readings,
            max(120, seconds),  # a busy machine catches up slowly, which is no loss
            "taken",
        )
        windowed = sum(account["windowed"] for account in plant.accounts().values())
        totals = plant.totals()
    slope = slope_mb_per_hour(samples)
    attack.note(f"{seconds} s at {RATE} messages/s: {samples[-1][1]:.1f} MB resident")
    if seconds >= SLOPE_S:
        attack.note(f"{slope:+.2f} MB per hour after warm-up")
    doubled = totals["duplicate"] + totals["late"]
    attack.report(count=readings, lost=readings - windowed, doubled=doubled)
    assert seconds < SLOPE_S or slope < MOST_MB_PER_HOUR


def test_the_slope_is_that_of_the_time_after_the_warm_up() -> None:
    warm = [(s, 60 + min(s, 900) / 30) for s in range(0, 2700, 5)]
    assert abs(slope_mb_per_hour(warm)) < 1e-9
    noisy = [(s, 80 + 2 * s / 3600 + (s % 7)) for s in range(0, 2700, 5)]
    assert 1.8 < slope_mb_per_hour(noisy) < 2.2


def slope_mb_per_hour(samples: Sequence[tuple[float, float]], spans: int = 12) -> float:
    """Slope of a line through the minima of `spans` spans after the first third, MB per hour."""
    times, sizes = np.array(samples).T
    warm = times >= times[-1] / 3
    parts = np.array_split(np.flatnonzero(warm), spans)
    lowest = [part[np.argmin(sizes[part])] for part in parts if len(part)]
    if len(lowest) < 2:
        return 0.0
    return float(np.polyfit(times[lowest], sizes[lowest], 1)[0] * 3600)


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000
