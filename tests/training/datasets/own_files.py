"""Made-up own data for tests: machines that wear, people who move, and their descriptions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RUL_TOML = """\
name = "pumps"
task = "rul"
stream = "pump"
files = ["{files}"]
device_column = "pump"

[time]
column = "cycle"

[[channels]]
name = "flow"
unit = "m3/h"
column = "Flow [m3/h]"

[[channels]]
name = "heat"
unit = "degC"

[rul]
end = "failure"
cap = 60

[window]
length = 20
"""
HEADER = ("pump", "cycle", "Flow [m3/h]", "heat")


def machine_rows(count: int, seed: int = 0, shortest: int = 70) -> list[list[object]]:
    """Rows of machines that run to failure: flow falls and heat rises, faster towards the end."""
    chance = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for number in range(1, count + 1):
        life = int(chance.integers(shortest, shortest + 60))
        left = np.arange(life - 1, -1, -1)
        wear = np.exp(-left / 20.0)
        flow = 30 + chance.normal(0, 1) - 6 * wear + chance.normal(0, 0.4, life)
        heat = 60 + chance.normal(0, 2) + 15 * wear**0.7 + chance.normal(0, 0.8, life)
        rows += [
            [f"P-{number:02d}", cycle, round(float(one), 4), round(float(two), 4)]
            for cycle, (one, two) in enumerate(zip(flow, heat, strict=True), start=1)
        ]
    return rows


def loose_rows(count: int, seed: int = 0) -> list[list[object]]:
    """Rows of machines that work loose: one vibration lags behind the other, more and more.

    Each channel by itself looks the same from the first cycle to the last.
    """
    chance = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for number in range(1, count + 1):
        life = int(chance.integers(50, 90))
        lag = np.pi * (np.clip(1 - np.arange(life - 1, -1, -1) / 50.0, 0, 1))
        phase = 2 * np.pi * (np.arange(life) * 0.23 + chance.random())
        near = np.sin(phase) + chance.normal(0, 0.15, life)
        far = np.sin(phase + lag) + chance.normal(0, 0.15, life)
        rows += [
            [f"press-{number}", cycle, round(float(one), 4), round(float(two), 4)]
            for cycle, (one, two) in enumerate(zip(near, far, strict=True), start=1)
        ]
    return rows


def to_csv(
    rows: Sequence[Sequence[object]], header: Sequence[str] | None = HEADER, separator: str = ","
) -> str:
    """Write a CSV table."""
    buffer = io.StringIO()
    lines = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    if header is not None:
        lines.writerow(header)
    lines.writerows(rows)
    return buffer.getvalue()


def write_machines(folder: Path, count: int = 8, description: str = RUL_TOML) -> Path:
    """Write `pumps.csv` and `dataset.toml`, and return the path of the description."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pumps.csv").write_text(to_csv(machine_rows(count)))
    path = folder / "dataset.toml"
    path.write_text(description.replace("{files}", "pumps.csv"))
    return path


ACTIVITY_TOML = """\
name = "yard"
task = "activity"
stream = "imu"
files = ["yard.csv"]
device_column = "who"

[time]
column = "ms"
form = "epoch_ms"

[[channels]]
name = "acc"
unit = "g"

[activity]
column = "doing"

[window]
length = 20
hop = 10
rate_hz = 20
"""
START_MS = 1_700_000_000_000


def people_rows(count: int, seed: int = 0) -> list[list[object]]:
    """Rows of people who rest and walk in turns, ten seconds each, at 20 Hz."""
    chance = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for number in range(count):
        for turn in range(4):
            walks = turn % 2 == 1
            steps = np.arange(200)
            swing = np.sin(2 * np.pi * steps * 2 / 20) if walks else np.zeros(200)
            acc = 1 + 0.5 * swing + chance.normal(0, 0.05, 200)
            rows += [
                [
                    f"person-{number}",
                    START_MS + (200 * turn + step) * 50,
                    round(float(one), 4),
                    "walk" if walks else "rest",
                ]
                for step, one in zip(steps, acc, strict=True)
            ]
    return rows


def write_people(folder: Path, count: int = 6, description: str = ACTIVITY_TOML) -> Path:
    """Write `yard.csv` and `dataset.toml`, and return the path of the description."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "yard.csv").write_text(to_csv(people_rows(count), ("who", "ms", "acc", "doing")))
    path = folder / "dataset.toml"
    path.write_text(description)
    return path
