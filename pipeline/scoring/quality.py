"""Whether the readings of a window are of the world that its student has learned. Pure.

Flags of a score, from the manifest's `seen` and the rate of the window:

- `unit: T24 (degC)`: readings outside of what training saw, which a known unit error explains; the
  unit is named if it is the only one that does.
- `range: T24, T30`: readings outside of what training saw, and no unit explains them.
- `constant: acc_x`: the channel does not move, and in every training window it did.
- `rate`: the stream comes at less than half of the student's rate.
- `made up`: more than half of the readings were made up by resampling.
- `unfamiliar`: the student itself finds the window unlike what it has learned, by the distance that
  its graph gives (`models.tasks.familiarity`).

A student whose manifest lacks a part of `seen` is not checked for that part. Limits were chosen on
training data, as the share of windows that are flagged of people and engines that the range had
not seen (docs/drift.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.units import UNITS, convert
from models.manifest import Draft
from models.tasks.quality import GOOD, UNFAMILIAR
from models.tasks.registry import find_task

__all__ = ["QualityCheck", "QualityChecks"]

_NEAR = 0.5
"""A reading is outside if it is further from the seen range than this share of its width.

A machine leaves the range a little just before it fails, when its score matters most.
"""
_LENGTH = 0.25
"""The same for the length of a vector."""
_SHARE = 0.05
"""Share of the readings of a window that may be outside."""
_FAR = 1.0
"""No reading may be further from the seen range than this many times its width."""
_STILL = 0.5
"""A channel is constant if it moves less than this share of its stillest training window."""
_HALF = 0.5
_NAMED = 8
"""Most channels in a flag."""
_MOST_KNOWN = 256
_PART_BYTES = 400_000
"""Windows looked at together: what is computed of them stays in the cache, and below the size from
which a process gets its memory anew each time (`deploy.processes.memory`)."""
_NARROW = 1e-3
"""A range is taken to be at least this wide, as a share of its larger end."""

_Bools = NDArray[np.bool_]
_Floats = NDArray[np.float32]
_Places = tuple[int, ...]
_Flags = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Limits:
    """Bounds of a quantity: readings beyond `near` are outside, beyond `far` at once."""

    near_low: _Floats
    near_high: _Floats
    far_low: _Floats
    far_high: _Floats

    @classmethod
    def around(
        cls, low: Sequence[float], high: Sequence[float], near_share: float = _NEAR
    ) -> _Limits:
        bottom, top = np.array(low, np.float64), np.array(high, np.float64)
        least = _NARROW * np.maximum(np.abs(bottom), np.abs(top))
        width = np.maximum(top - bottom, np.maximum(least, 1e-9))
        ends = (
            bottom - near_share * width,
            top + near_share * width,
            bottom - _FAR * width,
            top + _FAR * width,
        )
        return cls(*(end.astype(np.float32) for end in ends))

    def of(self, place: int) -> tuple[float, float]:
        """The near bounds of one channel."""
        return float(self.near_low[place]), float(self.near_high[place])


@dataclass(frozen=True, slots=True)
class _Vector:
    """Places of three axes, and the length of their vector in training.

    A unit error of a vector is one of all its axes, and its length tells it better than each axis.
    """

    places: tuple[int, ...]
    bounds: _Limits


@dataclass(frozen=True, slots=True)
class _Slip:
    """A unit in which somebody may send a channel by mistake, and what it converts to."""

    unit: str
    scale: float
    offset: float


@dataclass(frozen=True, slots=True)
class _Signs:
    """What is odd about some windows.

    Attributes:
        outside: [batch, channels] readings are outside of what training saw.
        still: [batch, channels] the channel does not move.
        odd_lengths: For each vector, [batch] its length is outside.
    """

    outside: _Bools
    still: _Bools
    odd_lengths: list[_Bools]


class QualityChecks:
    """The checks of the students that score, one per stream, each made when it is first needed."""

    def __init__(self) -> None:
        self._checks: dict[str, QualityCheck] = {}

    def of(self, manifest: Draft) -> QualityCheck:
        """The check of a student; another student of the stream takes its place."""
        known = self._checks.get(manifest.stream)
        if known is None or known.manifest is not manifest:
            known = self._checks[manifest.stream] = QualityCheck(manifest)
        return known


class QualityCheck:
    """Finds the flags of windows for one student; made once per student.

    Attributes:
        manifest: The student's.
    """

    def __init__(self, manifest: Draft) -> None:
        """Prepare the limits of the manifest's channels."""
        self.manifest = manifest
        self._names = manifest.channel_names
        self._rate_hz = manifest.rate_hz
        self._slips = [_slips(channel.unit) for channel in manifest.channels]
        seen = manifest.seen
        # Students that forecast normalise each window, so that a level may move with the seasons.
        near = _FAR if find_task(manifest.task).trusts_doubtful else _NEAR
        self._limits = None if seen is None else _Limits.around(seen.low, seen.high, near)
        still = None if seen is None else seen.least_spread
        self._still = None if still is None else _STILL * np.array(still, np.float32)
        self._vectors = [
            _Vector(
                tuple(self._names.index(name) for name in vector.channels),
                _Limits.around([vector.low], [vector.high], _LENGTH),
            )
            for vector in (seen.lengths if seen is not None and seen.lengths else ())
        ]
        self._known: dict[tuple[tuple[_Places, ...], bytes], _Flags] = {}
        self._in_vectors = {place for vector in self._vectors for place in vector.places}

    def flags(
        self,
        windows: _Floats,
        rates_hz: NDArray[np.float64] | None = None,
        made_up: NDArray[np.float64] | None = None,
        unfamiliar: _Bools | None = None,
    ) -> list[str]:
        """The quality of each window: `good`, or its flags.

        Args:
            windows: [batch, length, channels] float32 in raw units.
            rates_hz: [batch] measured rate of each window; None if it is not known.
            made_up: [batch] share of made-up readings of each window; None if there are none.
            unfamiliar: [batch] what the student says, see `Answer.unfamiliar`.
        """
        found: dict[int, list[str]] = {}
        if self._limits is not None:
            most = max(1, _PART_BYTES // max(1, windows[:1].nbytes))
            with np.errstate(all="ignore"):  # a window may not be finite
                for start in range(0, len(windows), most):
                    self._flag_readings(windows[start : start + most], start, self._limits, found)
        if self._rate_hz is not None and rates_hz is not None:
            for at in np.flatnonzero(rates_hz < _HALF * self._rate_hz).tolist():
                found.setdefault(at, []).append("rate")
        if made_up is not None:
            for at in np.flatnonzero(made_up > _HALF).tolist():
                found.setdefault(at, []).append("made up")
        if unfamiliar is not None:
            for at in np.flatnonzero(unfamiliar).tolist():
                found.setdefault(at, []).append(UNFAMILIAR)
        qualities = [GOOD] * len(windows)
        for at, flags in found.items():
            qualities[at] = "; ".join(flags)
        return qualities

    def _flag_readings(
        self, windows: _Floats, start: int, limits: _Limits, found: dict[int, list[str]]
    ) -> None:
        low, high = _reduced(np.minimum, windows), _reduced(np.maximum, windows)
        outside = _outside(windows, low, high, limits)
        still = np.zeros_like(outside) if self._still is None else high - low < self._still
        odd_lengths = [
            _length_outside(windows, vector.places, vector.bounds) for vector in self._vectors
        ]
        is_odd = outside.any(axis=1) | still.any(axis=1)
        for part in odd_lengths:
            is_odd |= part
        rows = np.flatnonzero(is_odd)
        if len(rows):
            signs = _Signs(outside[rows], still[rows], [part[rows] for part in odd_lengths])
            fits = self._fits(windows[rows], low[rows], high[rows], signs, limits)
            for at, flags in zip(rows.tolist(), self._flags_of(signs, fits), strict=True):
                if flags:
                    found[start + at] = [*flags]

    def _flags_of(self, signs: _Signs, fits: Sequence[tuple[_Places, _Bools]]) -> Iterator[_Flags]:
        """The flags of each odd window; the same signs always give the same flags."""
        parts = [signs.outside, signs.still, *(each[:, None] for each in signs.odd_lengths)]
        keys = np.concatenate([*parts, *(fit for _, fit in fits)], axis=1)
        layout = tuple(places for places, _ in fits)
        for row, bits in enumerate(keys):
            key = (layout, bits.tobytes())
            flags = self._known.get(key)
            if flags is None:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                flags = self._known[key] = self._new_flags(row, signs, fits)
            yield flags

    def _new_flags(self, row: int, signs: _Signs, fits: Sequence[tuple[_Places, _Bools]]) -> _Flags:
        odd = set(np.flatnonzero(signs.outside[row]).tolist())
        for vector, part in zip(self._vectors, signs.odd_lengths, strict=True):
            if part[row]:
                odd.update(vector.places)
        slips: dict[int, str] = {}
        for places, fit in fits:
            units = [
                slip.unit
                for slip, fits_it in zip(self._slips[places[0]], fit[row], strict=True)
                if fits_it
            ]
            if units:
                slips |= dict.fromkeys(places, _named(units))
        constant = set(np.flatnonzero(signs.still[row]).tolist()) - slips.keys()
        return tuple(self._texts(slips, odd, constant))

    def _fits(
        self, windows: _Floats, low: _Floats, high: _Floats, signs: _Signs, limits: _Limits
    ) -> list[tuple[_Places, _Bools]]:
        """Channels that are odd somewhere, with the units that explain them: [batch, units] each.

        A unit explains a vector whose length it makes one that training saw, and a channel all of
        whose readings it brings back into what training saw, if they move as in training: else it
        is a fault.
        """
        if self._still is None:
            return []
        found: list[tuple[_Places, _Bools]] = []
        for vector, is_odd in zip(self._vectors, signs.odd_lengths, strict=True):
            slips = self._slips[vector.places[0]]
            if not slips or not is_odd.any():
                continue
            places = list(vector.places)
            axes = windows[:, :, places].astype(np.float64)
            spread, (least, most) = np.ptp(axes, axis=1), vector.bounds.of(0)
            fit = np.zeros((len(windows), len(slips)), np.bool_)
            for column, slip in enumerate(slips):
                lengths = np.linalg.norm(axes * slip.scale + slip.offset, axis=2).mean(axis=1)
                moves = (spread * slip.scale >= self._still[places]).all(axis=1)
                fit[:, column] = (least <= lengths) & (lengths <= most) & moves & is_odd
            found.append((vector.places, fit))
        for place in np.flatnonzero(signs.outside.any(axis=0)).tolist():
            slips = self._slips[place]
            if place in self._in_vectors or not slips:
                continue
            lows, highs, (least, most) = low[:, place], high[:, place], limits.of(place)
            fit = np.zeros((len(windows), len(slips)), np.bool_)
            for column, slip in enumerate(slips):
                bottom, top = lows * slip.scale + slip.offset, highs * slip.scale + slip.offset
                moves = (highs - lows) * slip.scale >= self._still[place]
                fit[:, column] = (least <= bottom) & (top <= most) & moves
            found.append(((place,), fit & signs.outside[:, place, None]))
        return found

    def _texts(self, slips: dict[int, str], odd: set[int], constant: set[int]) -> list[str]:
        names = self._names
        flags = {
            "unit": [names[place] + slips[place] for place in sorted(slips)],
            "range": [names[place] for place in sorted(odd - slips.keys())],
            "constant": [names[place] for place in sorted(constant)],
        }
        return [f"{flag}: {_listed(some)}" for flag, some in flags.items() if some]


def _outside(windows: _Floats, low: _Floats, high: _Floats, limits: _Limits) -> _Bools:
    """[batch, channels] whether too many readings are outside, or one is far outside."""
    outside: _Bools = (low < limits.far_low) | (high > limits.far_high)
    near = ((low < limits.near_low) | (high > limits.near_high)) & ~outside
    at, places = np.nonzero(near)
    if len(at):
        readings = windows[at, :, places]
        beyond = (readings < limits.near_low[places, None]) | (
            readings > limits.near_high[places, None]
        )
        outside[at, places] = beyond.mean(axis=1) > _SHARE
    return outside


def _reduced(extreme: np.ufunc, windows: _Floats) -> _Floats:
    """[batch, channels] least or greatest reading, halving the windows: numpy is slow on axis 1."""
    count, length, channels = windows.shape
    found = windows.reshape(count, length * channels)
    while length > 1:
        half, odd = length // 2 * channels, length % 2 * channels
        front = extreme(found[:, :half], found[:, half : 2 * half])
        if odd:
            extreme(front[:, :odd], found[:, 2 * half :], out=front[:, :odd])
        found, length = front, length // 2
    return found


def _length_outside(windows: _Floats, places: tuple[int, ...], bounds: _Limits) -> _Bools:
    """[batch] whether the mean length of a vector is outside."""
    squares = sum(windows[:, :, place] ** 2 for place in places)
    lengths = np.sqrt(squares).mean(axis=1)
    is_odd: _Bools = (lengths < bounds.near_low[0]) | (lengths > bounds.near_high[0])
    return is_odd


def _slips(unit: str) -> list[_Slip]:
    """Units of the same dimension, each in one spelling; none for a unit that is not known.

    Nothing converts into "1", which is every number without a unit.
    """
    if unit not in UNITS or unit == "1":
        return []
    dimension = UNITS[unit][0]
    found: dict[tuple[float, float], _Slip] = {}
    for other, (of, *_) in UNITS.items():
        if of == dimension:
            scale, offset = convert(other, unit)
            if (scale, offset) != (1.0, 0.0):
                found.setdefault((scale, offset), _Slip(other, scale, offset))
    return list(found.values())


def _named(units: Sequence[str]) -> str:
    """The unit in brackets if only one explains the readings; a wide range fits several."""
    return f" ({units[0]})" if len(units) == 1 else ""


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
