"""Faults of sensors, injected into any series `[readings, channels]`, with the truth about them.

Six kinds. `deviation` is the standard deviation of the channel that the caller states:

| kind | readings of the channel in `[start, end)` | size |
|---|---|---|
| `spike` | moved by size for one reading | deviations, with its sign |
| `step` | moved by size | deviations, with its sign |
| `drift` | moved by a line that reaches size at the last reading | deviations, with its sign |
| `stuck` | the last reading before `start`, repeated | 0: there is none |
| `noise` | white Gaussian noise added | deviations of the noise |
| `lost_phase` | the channel's own readings of `size` readings ago | readings |

A channel that has lost its phase shows plausible values, at the wrong time relative to the other
channels and to the hour of the day.

Injection is deterministic by seed and never changes a reading outside the faults.

>>> series = np.zeros((10, 2))
>>> broken = inject(series, [Fault("step", 1, 4, 6, 3.0)], deviations=np.array([1.0, 2.0]))
>>> broken[:, 1].tolist()
[0.0, 0.0, 0.0, 0.0, 6.0, 6.0, 0.0, 0.0, 0.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAULT_KINDS", "Fault", "FaultKind", "FaultPlan", "draw_faults", "inject"]

FaultKind = Literal["spike", "step", "drift", "stuck", "noise", "lost_phase"]

FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
"""All kinds, in the order of the table above."""

_DURATIONS: Final[Mapping[FaultKind, int]] = MappingProxyType(
    {"spike": 1, "step": 24, "drift": 48, "stuck": 24, "noise": 24, "lost_phase": 24}
)
_SIZES: Final[Mapping[FaultKind, float]] = MappingProxyType(
    {"spike": 4.0, "step": 3.0, "drift": 4.0, "stuck": 0.0, "noise": 1.5, "lost_phase": 12.0}
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the truth about it.

    Attributes:
        kind: One of `FAULT_KINDS`.
        channel: Column of the series.
        start: First faulty reading.
        end: First reading after the fault.
        size: See the table of this file.
    """

    kind: FaultKind
    channel: int
    start: int
    end: int
    size: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How faults are drawn.

    Attributes:
        kinds: Kinds to draw; each occurs once before any occurs again.
        first: No fault starts before this reading.
        gap: Undisturbed readings between two faults: the mean, of which each gap draws 0.5 to 1.5.
        durations: Readings of a fault by kind; a spike always has one.
        sizes: Size by kind; spikes, steps and drifts draw their sign.
    """

    kinds: tuple[FaultKind, ...] = FAULT_KINDS
    first: int = 0
    gap: int = 48
    durations: Mapping[FaultKind, int] = field(default_factory=lambda: _DURATIONS)
    sizes: Mapping[FaultKind, float] = field(default_factory=lambda: _SIZES)


def draw_faults(
    readings: int, channels: int, rng: np.random.Generator, plan: FaultPlan | None = None
) -> list[Fault]:
    """Draw faults that do not overlap, in ascending order, each of them whole inside the series.

    Args:
        readings: Length of the series.
        channels: Number of its channels; each fault has one of them.
        rng: Chooses order, channels, gaps and signs.
        plan: How faults are drawn; the default has one every few days of hourly readings.
    """
    plan = plan or FaultPlan()
    faults: list[Fault] = []
    order: list[FaultKind] = []
    start = plan.first + int(rng.integers(plan.gap // 2, plan.gap + 1))
    while True:
        if not order:
            order = [plan.kinds[at] for at in rng.permutation(len(plan.kinds))]
        kind = order.pop()
        size = plan.sizes[kind]
        if kind in ("spike", "step", "drift"):
            size *= float(rng.choice((-1.0, 1.0)))
        if kind == "lost_phase":
            start = max(start, int(size))
        end = start + (1 if kind == "spike" else plan.durations[kind])
        if end > readings:
            return faults
        faults.append(Fault(kind, int(rng.integers(channels)), start, end, size))
        start = end + int(rng.integers(max(plan.gap // 2, 1), plan.gap * 3 // 2 + 1))


def inject(
    series: NDArray[np.floating],
    faults: Sequence[Fault],
    deviations: NDArray[np.floating],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return a copy of the series with the faults.

    Args:
        series: Readings `[readings, channels]`, finite.
        faults: Faults in any order; where two overlap on a channel, the later of the list sees the
            readings that the earlier has left.
        deviations: Standard deviation of each channel `[channels]`, in its unit.
        seed: Chooses the noise of each fault, together with its place.

    Raises:
        ValueError: A fault does not fit the series; the message names it.
    """
    broken: NDArray[np.float64] = np.array(series, dtype=np.float64)
    for fault in faults:
        _check(fault, broken.shape)
        part = slice(fault.start, fault.end)
        column = broken[:, fault.channel]
        column[part] = _faulty(fault, column, float(deviations[fault.channel]), seed)
    return broken


def _faulty(
    fault: Fault, column: NDArray[np.float64], deviation: float, seed: int
) -> NDArray[np.float64]:
    """Return the readings of a fault `[end - start]`."""
    count = fault.end - fault.start
    good = column[fault.start : fault.end]
    moved: NDArray[np.float64]
    if fault.kind == "stuck":
        moved = np.full(count, column[fault.start - 1])
    elif fault.kind == "lost_phase":
        ago = int(fault.size)
        moved = column[fault.start - ago : fault.end - ago].copy()
    elif fault.kind == "noise":
        rng = np.random.default_rng((seed, fault.start, fault.channel))
        moved = good + fault.size * deviation * rng.standard_normal(count)
    elif fault.kind == "drift":
        moved = good + fault.size * deviation * np.arange(1, count + 1) / count
    else:
        moved = good + fault.size * deviation
    return moved


def _check(fault: Fault, shape: tuple[int, ...]) -> None:
    readings, channels = shape
    needed = {"stuck": 1, "lost_phase": int(fault.size)}.get(fault.kind, 0)
    problems = {
        f"its kind is none of {', '.join(FAULT_KINDS)}": fault.kind not in FAULT_KINDS,
        f"the series has channels 0 to {channels - 1}": not 0 <= fault.channel < channels,
        f"it must lie inside the {readings} readings": not 0 <= fault.start < fault.end <= readings,
        f"{needed} readings must precede it": fault.start < needed,
        "a lost phase is a whole number of readings, at least 1": fault.kind == "lost_phase"
        and (fault.size < 1 or fault.size != int(fault.size)),
    }
    for problem, holds in problems.items():
        if holds:
            msg = f"{fault} cannot be injected: {problem}"
            raise ValueError(msg)
