"""Which stresses apply to a student, and how strong they are.

Strengths that belong to a sensor are shares of the range that training saw of a channel (0.1 to
99.9 %), as a data sheet states them in percent of full scale. They are the same for all students,
so that tables compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.seen import find_vectors
from models.tasks.quantiles import QuantilesAnswer
from models.tasks.registry import find_task
from pipeline.windows.spec import WindowSpec
from training.stress import stresses
from training.stress.runs import Cut, Run, at_rate, cut_runs, lost

__all__ = ["Material", "Stress", "plan_stresses", "window_spec"]

_TURNS_DEG = (15, 30, 90, 180)
_TILTS_DEG = (15, 30, 90)
_NOISES = (0.01, 0.03, 0.1)
_BIASES = (0.05, 0.2, 0.6)
_STILL = (0.5, 1.0)
_CLIPS = (0.25, 0.5, 0.75)
_LOST = (0.05, 0.2, 0.5)
_BURST = 10
_RATES = (0.4, 0.5, 0.8, 2.0, 4.0)
_FORECAST_RATES = (0.5, 0.8, 2.0)
_NO_UNITS = {"", "1", "-"}


@dataclass(frozen=True, slots=True)
class Material:
    """What is stressed: windows as they come, and the runs that they are parts of.

    Attributes:
        plain: The windows without a stress.
        runs: Runs that give these windows.
        at_end: Whether the newest reading decides the truth of a window, else that in its middle.
        last_only: Whether only the last window of a run is scored.
        every: Each n-th window of a run is scored, counted from its end.
    """

    plain: Cut
    runs: Sequence[Run]
    at_end: bool
    last_only: bool = False
    every: int = 1

    def cut(self, runs: Sequence[Run], spec: WindowSpec, sent_hz: float | None) -> Cut:
        """Cut runs into the windows that are scored."""
        return cut_runs(
            runs,
            spec,
            sent_hz,
            at_end=self.at_end,
            last_only=self.last_only,
            every=self.every,
        )


@dataclass(frozen=True, slots=True)
class Stress:
    """One stress of one strength.

    Attributes:
        kind: The stress, e.g. `turned about the vertical`.
        strength: Its strength with the unit.
        changes: Makes the stressed windows; several by the channel that they harm, of which the
            table shows the worst. A single one has the name "".
    """

    kind: str
    strength: str
    changes: Mapping[str, Callable[[Material], Cut]]


def plan_stresses(manifest: Manifest) -> list[Stress]:
    """List the stresses of a student, in the order of the table.

    Raises:
        ValueError: The manifest does not say what the student has learned from.
    """
    if manifest.seen is None:
        msg = f"{manifest.name} was made before manifests told the range of the training readings"
        raise ValueError(msg)
    names = manifest.channel_names
    triples = find_vectors(names)
    low, high = (np.array(end, np.float64) for end in (manifest.seen.low, manifest.seen.high))
    widths, all_places = high - low, list(range(len(names)))
    units = _Units([channel.unit for channel in manifest.channels], widths)
    each = {name: [place] for place, name in enumerate(names)}
    sensors = {names[places[0]][:-2]: list(places) for places in triples}
    found: list[Stress] = []

    pads = manifest.window.min_readings < manifest.window.length

    def add(kind: str, strength: str, change: Callable[..., NDArray[np.float32]]) -> None:
        found.append(Stress(kind, strength, {"": partial(_changed, change, pads)}))

    def add_each(
        kind: str,
        strength: str,
        parts: Mapping[str, list[int]],
        change: Callable[..., NDArray[np.float32]],
    ) -> None:
        changes = {
            name: partial(_changed, partial(change, places=places), pads)
            for name, places in parts.items()
        }
        found.append(Stress(kind, strength, changes))

    subject = manifest.subject or find_task(manifest.task).subject
    if triples and subject == "person":
        for angle in _TURNS_DEG:
            change = partial(stresses.turned, triples=triples, angle_deg=angle)
            add("turned about the vertical", f"{angle} degrees", change)
        for angle in _TILTS_DEG:
            change = partial(stresses.tilted, triples=triples, angle_deg=angle)
            add("tilted", f"{angle} degrees", change)
    found += _rates(manifest)
    for share in _NOISES:
        add("noise", units.of(share), partial(stresses.noisy, widths=widths, share=share))
    shifted = partial(stresses.shifted, widths=widths)
    for share in _BIASES:
        add_each("offset of one channel", f"{share:.0%}", each, partial(shifted, share=share))
    for share in _BIASES:
        shift = partial(shifted, share=share, places=all_places)
        add("offset of all channels", units.of(share), shift)
    for parts, word in ((each, "one channel"), (sensors, "one sensor of three axes")):
        for name, function in (("stuck", stresses.stuck), ("zero", stresses.dropped)):
            for share in _STILL if parts else ():
                kind = f"{word} {name} for the newest part of the window"
                add_each(kind, f"{share:.0%}", parts, partial(function, share=share))
    for share in _CLIPS:
        clip = partial(stresses.clipped, low=low, high=high, share=share)
        add("all channels saturate, range narrower by", f"{share:.0%}", clip)
    return [*found, *_gaps(manifest)]


def _changed(
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]], pads: bool, on: Material
) -> Cut:
    windows = change(on.plain.windows)
    if pads:
        windows = stresses.padded_again(windows, on.plain.windows)
    return replace(on.plain, windows=windows)


def window_spec(manifest: Manifest) -> WindowSpec:
    """The rules by which a gateway cuts the windows of a student."""
    window = manifest.window
    return WindowSpec(
        length=window.length,
        hop=window.hop,
        min_readings=window.min_readings,
        gap_ms=window.gap_ms,
        rate_hz=manifest.rate_hz,
    )


def _rates(manifest: Manifest) -> Iterator[Stress]:
    rate_hz, spec = manifest.rate_hz, window_spec(manifest)
    if rate_hz is None:
        return
    forecasts = isinstance(find_task(manifest.task).answer, QuantilesAnswer)
    for resampled in (True,) if forecasts else (False, True):
        kind = "other rate, resampled" if resampled else "other rate, as it comes"
        for factor in _FORECAST_RATES if forecasts else _RATES:
            sent_hz = factor * rate_hz
            used = spec if resampled else replace(spec, rate_hz=None)

            def change(
                on: Material,
                factor: float = factor,
                sent_hz: float = sent_hz,
                used: WindowSpec = used,
            ) -> Cut:
                return on.cut([at_rate(run, factor) for run in on.runs], used, sent_hz)

            yield Stress(kind, _rate(sent_hz), {"": change})


def _gaps(manifest: Manifest) -> Iterator[Stress]:
    rate_hz, spec = manifest.rate_hz, window_spec(manifest)
    for burst in (1, _BURST):
        time = f" ({_seconds(burst / rate_hz)})" if rate_hz else ""
        kind = "readings lost" if burst == 1 else f"readings lost, {burst} at a time{time}"
        for share in _LOST:

            def change(on: Material, share: float = share, burst: int = burst) -> Cut:
                runs = [lost(run, share, burst, seed) for seed, run in enumerate(on.runs)]
                return on.cut(runs, spec, rate_hz)

            yield Stress(kind, f"{share:.0%}", {"": change})


class _Units:
    """Strengths as shares of the range, with their size in the units of the channels."""

    def __init__(self, units: Sequence[str], widths: NDArray[np.float64]) -> None:
        self._usual = {
            unit: float(np.median(widths[[one == unit for one in units]]))
            for unit in dict.fromkeys(units)
        }

    def of(self, share: float) -> str:
        """Write a share of the range; of few units also what it is in each of them."""
        if len(self._usual) > 2 or _NO_UNITS & self._usual.keys():
            return f"{share:.0%}"
        sizes = [f"{share * width:.2g} {unit}" for unit, width in self._usual.items()]
        return f"{share:.0%} ({', '.join(sizes)})"


def _rate(rate_hz: float) -> str:
    return f"{rate_hz:.3g} Hz" if rate_hz >= 0.1 else f"every {_seconds(1 / rate_hz)}"


def _seconds(seconds: float) -> str:
    """Write a time.

    >>> _seconds(0.2), _seconds(4500), _seconds(36_000)
    ('0.2 s', '75 min', '10 h')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
