"""An explanation as plain data: what the console, the command line and a store show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.explain import Baseline, Effect, Explanation
from models.manifest import Manifest
from models.tasks.registry import find_task

__all__ = ["ChannelReport", "Report", "make_report", "report_json", "seen_of", "steady_times"]

_COMPARED: dict[Baseline, str] = {
    "middle": "usual readings",
    "mean": "the mean of the window",
    "line": "a straight line",
    "expected": "the readings that were expected",
}


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """One channel of an explanation.

    Attributes:
        name: Name of the channel.
        unit: Its unit.
        effect: Effect of all its readings, in the unit of the report; above 0: they raised it.
        spans: Effect of its readings in each span.
        strongest: Number of the span that mattered most.
        value: Its newest reading in the window.
        seen: Range of the readings in training, as `seen_of` gives it; None if it is not known.
    """

    name: str
    unit: str
    effect: float
    spans: tuple[float, ...]
    strongest: int
    value: float
    seen: dict[str, float] | None


@dataclass(frozen=True, slots=True)
class Report:
    """Why a student gave a score.

    Attributes:
        model: The student that explains.
        version: Its version.
        number: The number whose change is told, as part of a sentence.
        unit: Its unit; "1" for a probability or a score from 0 to 1.
        compared_with: What readings were replaced by, in words.
        baseline: The same as `models.explain.Baseline`, for whole channels.
        span_baseline: The same for spans.
        spans: First and last event time of each span, oldest first.
        channels: The most important one first.
        others: Effects on further numbers of the answer: `number`, `unit`, and `effects`,
            {channel: effect of all its readings}.
        text: The explanation in one sentence.
    """

    model: str
    version: int
    number: str
    unit: str
    compared_with: str
    baseline: Baseline
    span_baseline: Baseline
    spans: tuple[tuple[int, int], ...]
    channels: tuple[ChannelReport, ...]
    others: tuple[dict[str, Any], ...]
    text: str


def make_report(
    explanation: Explanation,
    manifest: Manifest,
    window: NDArray[np.float32],
    ts_ms: NDArray[np.int64],
) -> Report:
    """Report on an explanation.

    Args:
        explanation: The explanation.
        manifest: Manifest of the student that gave it.
        window: [length, channels] float32, the window.
        ts_ms: [length] int64 event times of its readings.
    """
    effect = explanation.effect
    channels = tuple(
        ChannelReport(
            name=manifest.channels[place].name,
            unit=manifest.channels[place].unit,
            effect=float(effect.channels[place]),
            spans=tuple(effect.spans[:, place].tolist()),
            strongest=explanation.strongest_span(place),
            value=float(window[-1, place]),
            seen=seen_of(manifest, place),
        )
        for place in explanation.order
    )
    compared = _COMPARED[explanation.baseline]
    number = _number(manifest, effect.name)
    return Report(
        model=manifest.name,
        version=manifest.version,
        number=number,
        unit=effect.unit,
        compared_with=compared,
        baseline=explanation.baseline,
        span_baseline=explanation.span_baseline,
        spans=tuple((int(ts_ms[first]), int(ts_ms[end - 1])) for first, end in explanation.spans),
        channels=channels,
        others=tuple(
            _other(other, manifest) for other in explanation.effects if other is not effect
        ),
        text=_before(explanation, manifest) + _sentence(channels, number, effect.unit, compared),
    )


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON-able data."""
    return asdict(report)


def seen_of(manifest: Manifest, place: int) -> dict[str, float] | None:
    """`low`, `middle` and `high` of a channel in training; None if the manifest has no range."""
    seen = manifest.seen
    if seen is None:
        return None
    return {"low": seen.low[place], "middle": seen.middle[place], "high": seen.high[place]}


def steady_times(start_ms: int, end_ms: int, length: int, readings: int) -> NDArray[np.int64]:
    """Event times of a window of which only the ends are known, as if it had a steady rate.

    Padding in front has the time of the first reading.

    >>> steady_times(1000, 4001, 5, 4).tolist()
    [1000, 1000, 2000, 3000, 4000]
    """
    real = np.linspace(start_ms, end_ms - 1, readings).astype(np.int64)
    return np.concatenate([np.full(length - readings, start_ms, dtype=np.int64), real])


def _number(manifest: Manifest, name: str) -> str:
    """The name of a number for people: the headline field has the title of the task."""
    task = find_task(manifest.task)
    if name != task.answer.headline_field:
        return name
    return task.title[:1].lower() + task.title[1:]


def _other(effect: Effect, manifest: Manifest) -> dict[str, Any]:
    names = manifest.channel_names
    return {
        "number": effect.name,
        "unit": effect.unit,
        "effects": dict(zip(names, effect.channels.tolist(), strict=True)),
    }


def _before(explanation: Explanation, manifest: Manifest) -> str:
    """What to say first when the number that people know is not the one that is explained."""
    first = explanation.effects[0]
    if first is explanation.effect:
        return ""
    return f"No channel alone moves the {_number(manifest, first.name)}. "


def _sentence(channels: Sequence[ChannelReport], number: str, unit: str, compared: str) -> str:
    moved = [channel for channel in channels if channel.effect][:3]
    if not moved:
        return f"No channel alone moves the {number}, compared with {compared}."
    first, *others = moved
    verb = "raises" if first.effect > 0 else "lowers"
    amount = f"{abs(first.effect):.3g}{'' if unit in ('', '1') else f' {unit}'}"
    text = f"{first.name} {verb} the {number} by {amount}, compared with {compared}"
    rest = [f"{channel.name} {channel.effect:+.3g}" for channel in others]
    return f"{text}; then {', '.join(rest)}." if rest else f"{text}."
