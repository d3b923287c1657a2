"""Fake power transformers with forecasts, for the page and for tests; deterministic by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

from pipeline.points.points import Point
from pipeline.points.scores import points_of
from pipeline.status.counters import DeviceAccount
from pipeline.status.view import LiveFigures, ModelStatus
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.view import FakeView

TRANSFORMERS = ("transformer-01", "transformer-02", "transformer-03")
"""The second one raises an alarm for its oil temperature."""
CHANNELS = {"HUFL": "MW", "LUFL": "MW", "OT": "degC"}
LEADS = (1, 6, 12, 24)
HOUR_MS = 3_600_000
FAULT_HOURS = 5


def forecast_records(
    device: str, until_ms: int, hours: int, seed: int, *, is_odd: bool = False
) -> Iterator[dict[str, Any]]:
    """Score records of one window an hour; the last hours of an odd device are a fault."""
    random = Random(seed)
    noise = {name: [random.gauss(0, 1) for _ in range(hours)] for name in CHANNELS}
    for hour in range(hours):
        left = hours - 1 - hour
        is_fault = is_odd and left < FAULT_HOURS
        ordinary = 1 - random.random() ** 0.7
        yield {
            "task": "forecast",
            "site": "grid",
            "device": device,
            "stream": "power",
            "model": "forecast-power",
            "version": 1,
            "readings": 120,
            "gaps": 0,
            "start_ms": until_ms - (left + 119) * HOUR_MS,
            "end_ms": until_ms - left * HOUR_MS,
            "recv_ms": until_ms - left * HOUR_MS + 200,
            "scored_ms": until_ms - left * HOUR_MS + 215,
            "score": 0.9991 - 0.0003 * left if is_fault else min(ordinary, 0.985),
            "channel": "OT" if is_fault else random.choice(list(CHANNELS)),
            "alarm": int(is_fault),
            "mae": (1.9 if is_fault else 0.28) * (0.8 + 0.4 * random.random()),
            "covered": 0.3 if is_fault else 0.72 + 0.16 * random.random(),
            "step_ms": HOUR_MS,
            "actual": {
                name: _course(name, hour, seed)
                + 0.5 * noise[name][hour]
                + (14 + 2 * left if is_fault and name == "OT" else 0)
                for name in CHANNELS
            },
            "forecast": {
                name: {str(lead): _quantiles(name, hour + lead, lead, seed) for lead in LEADS}
                for name in CHANNELS
            },
        }


def add_transformers(view: FakeView, results: ResultsFile, now_ms: int, hours: int = 96) -> None:
    """Add the transformers to a fake fleet."""
    for i, device in enumerate(TRANSFORMERS):
        points = transformer_points(device, now_ms, hours, 40 + i)
        results.write(points)
        view.accounts.append(
            DeviceAccount(
                *("grid", device, "power"),
                received=hours + 121,
                windowed=hours + 119,
                duplicate=2,
                windows=hours,
                last_event_ms=now_ms - 1,
                last_recv_ms=now_ms - 200,
            )
        )
    view.students.append(
        ModelStatus(
            *("forecast-power", "forecast", "power", 1),
            digest="1f" * 32,
            since_ms=now_ms - HOUR_MS,
            metrics={"test": {"mse": 0.371, "mae": 0.392, "pinball": 0.142, "coverage": 0.803}},
            lineage={"teacher": "ridge", "method": "distillation"},
            unit="1",
            subject="machine",
            channels=tuple(CHANNELS),
            units=tuple(CHANNELS.values()),
            rate_hz=1000 / HOUR_MS,
            live=LiveFigures(hours, {"mae": 0.3 * hours, "covered": 0.79 * hours}),
        )
    )


def transformer_points(device: str, until_ms: int, hours: int, seed: int) -> list[Point]:
    """Points of the scores of one transformer, and of their details."""
    is_odd = device == TRANSFORMERS[1]
    return points_of(list(forecast_records(device, until_ms, hours, seed, is_odd=is_odd)))


def _course(channel: str, hour: int, seed: int) -> float:
    """A day of the channel: load in the morning and the evening, oil temperature behind it."""
    base, swing = {"HUFL": (8.0, 5.0), "LUFL": (3.0, 1.2), "OT": (31.0, 6.0)}[channel]
    phase = 2 * math.pi * (hour + 3 * seed) / 24
    return base + swing * math.sin(phase) + 0.3 * swing * math.sin(2 * phase + 1)


def _quantiles(channel: str, hour: int, lead: int, seed: int) -> list[float]:
    middle = _course(channel, hour, seed) + 0.3 * math.sin(1.7 * hour + lead)
    width = 0.7 + 0.12 * math.sqrt(lead) * {"HUFL": 2.0, "LUFL": 1.0, "OT": 3.0}[channel]
    return [middle - width, middle, middle + width]
