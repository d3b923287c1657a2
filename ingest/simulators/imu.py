"""People who wear a phone at the waist: nine IMU channels at 50 Hz with the statistics of UCI-HAR.

A person is a draw of effects: placement of the phone, cadence and gait cycle, and stillness. Their
day is a sequence of **bouts** of one activity with short transitions between them. Walking is the
Fourier series of `ingest.simulators.gait` plus coloured noise. Sitting, standing and laying are a
direction of gravity plus coloured noise, stronger at the start of a bout and in occasional fidgets.
`total_acc = body_acc + gravity`, as in the data set. The numbers are fits to its training part (21
people); no data is read.

The spread of sitting between people is two thirds of the fitted one, because the placement of a
real phone can make sitting and standing so similar that no student can distinguish them.

>>> chunk = Person(seed=3, schedule=[Bout("WALKING", 4_000), Bout("SITTING", 4_000)]).take(100)
>>> chunk.values.shape, {ACTIVITIES[label] for label in chunk.activity}
((100, 9), {'WALKING'})
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.simulators.gait import GAITS, HARMONICS, Gait

__all__ = [
    "ACTIVITIES",
    "CHANNELS",
    "DT_MS",
    "TRANSITION",
    "Bout",
    "ImuChunk",
    "Person",
    "markov_bouts",
]

ACTIVITIES: Final = (
    *("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS"),
    *("SITTING", "STANDING", "LAYING"),
)
"""The six activities of UCI-HAR in the order of its labels."""

CHANNELS: Final = tuple(
    f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
)
"""Channels in the order of the data set; g, rad/s, g. The x axis points up when upright."""

DT_MS: Final = 20
"""Milliseconds between two readings (50 Hz)."""

TRANSITION: Final = -1
"""Label of the readings between two bouts."""


class Bout(NamedTuple):
    """A stretch of one activity, without the transition into it."""

    activity: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ImuChunk:
    """Consecutive readings of a person.

    Attributes:
        offset_ms: Event time since the person's first reading, int64 `[n]`.
        values: Readings `[n, 9]` float64, rounded to 4 decimals as in a message.
        activity: Index in :data:`ACTIVITIES` or :data:`TRANSITION`, int8 `[n]`.
    """

    offset_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    activity: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _Posture:
    """An upright or seated posture: gravity's y and z (x follows from the norm), all in g."""

    norm: float
    yz: tuple[float, float]
    subject_sd: tuple[float, float]
    bout_sd: tuple[float, float]
    shares_placement: bool
    sway_sd: float


class _Still(NamedTuple):
    """Noise of a resting person: log deviation per channel and autocorrelation (lag 1, lag 2)."""

    log_sd: tuple[float, ...]
    lag: tuple[float, float]


# Placement of the phone on this person: shared by all upright postures (correlation 0.7 to 0.99 of
# the person means of their gravity), hardly by sitting (0.0 in y, 0.55 in z) and not by laying.
_PLACEMENT_SD = (0.07, 0.135)
_POSTURES: Final[Mapping[str, _Posture]] = {
    "WALKING": _Posture(1.027, (-0.181, -0.073), (0.02, 0.03), (0.02, 0.04), True, 0.006),
    "WALKING_UPSTAIRS": _Posture(1.021, (-0.271, -0.157), (0.03, 0.05), (0.03, 0.05), True, 0.013),
    "WALKING_DOWNSTAIRS": _Posture(
        1.015, (-0.153, -0.062), (0.03, 0.04), (0.02, 0.04), True, 0.012
    ),
    "SITTING": _Posture(1.02, (0.143, 0.153), (0.08, 0.105), (0.08, 0.09), False, 0.0015),
    "STANDING": _Posture(1.03, (-0.16, -0.026), (0.03, 0.04), (0.03, 0.05), True, 0.002),
}
# Laying: gravity's x, and the angle of the rest in the y-z plane; mean, person sd, bout sd.
_LAYING_NORM, _LAYING_SWAY_SD = 1.006, 0.0015
_LAYING_X = (0.077, 0.11, 0.05)
_LAYING_ANGLE_DEG = (44.0, 18.0, 8.0)

_STILL: Final[Mapping[str, _Still]] = {
    "SITTING": _Still((-5.56, -5.18, -4.85, -4.80, -4.17, -4.52), (0.85, 0.60)),
    "STANDING": _Still((-5.57, -4.85, -4.77, -3.80, -4.16, -4.39), (0.88, 0.68)),
    "LAYING": _Still((-4.97, -5.16, -4.94, -4.31, -4.10, -4.77), (0.85, 0.60)),
}
_STILL_SUBJECT_SD, _STILL_BOUT_SD, _STILL_CHANNEL_SD = 0.30, 0.40, 0.35
_SETTLE_TIMES, _SETTLE_MS = 5.0, 700.0
_FIDGET_EVERY_MS, _FIDGET_TIMES, _FIDGET_WIDTH_MS = 12_000.0, 4.0, 350.0

_SUBJECT_LOG_AMPLITUDE_SD = 0.10
_TURN_LAG = 0.985  # autocorrelation at one reading: turns last some 1.5 s
_SWAY_LAG = 0.98
_TRANSITION_MS, _TRANSITION_LAYING_MS = 1_500, 2_500
_MOVE_SD = (0.12, 0.12, 0.12, 0.6, 0.6, 0.6)
_DECIMALS = 4

_NEXT: Final[Mapping[str, Mapping[str, float]]] = {
    "WALKING": {"WALKING_UPSTAIRS": 0.3, "WALKING_DOWNSTAIRS": 0.3, "STANDING": 0.4},
    "WALKING_UPSTAIRS": {"WALKING": 0.6, "WALKING_DOWNSTAIRS": 0.2, "STANDING": 0.2},
    "WALKING_DOWNSTAIRS": {"WALKING": 0.6, "WALKING_UPSTAIRS": 0.2, "STANDING": 0.2},
    "SITTING": {"STANDING": 0.6, "LAYING": 0.4},
    "STANDING": {"WALKING": 0.5, "SITTING": 0.5},
    "LAYING": {"SITTING": 0.6, "STANDING": 0.4},
}


def markov_bouts(seed: int, shortest_ms: int = 20_000, longest_ms: int = 40_000) -> Iterator[Bout]:
    """Yield endless bouts of random length; walking never follows laying directly.

    Raises:
        ValueError: ``0 < shortest_ms <= longest_ms`` does not hold.
    """
    if not 0 < shortest_ms <= longest_ms:
        msg = f"bouts of {shortest_ms} to {longest_ms} ms: 0 < shortest <= longest must hold"
        raise ValueError(msg)
    rng = np.random.default_rng((seed, 1))
    activity = ACTIVITIES[rng.integers(len(ACTIVITIES))]
    while True:
        yield Bout(activity, int(rng.integers(shortest_ms, longest_ms + 1)))
        follow = _NEXT[activity]
        activity = str(rng.choice(list(follow), p=list(follow.values())))


class Person:
    """One person; readings depend on seed and schedule only, not on the sizes requested.

    Args:
        seed: Chooses the person's effects, the noise, and the schedule if none is given.
        schedule: Bouts in order, repeated when they end; None: `markov_bouts(seed)`.

    Raises:
        ValueError: The schedule is empty, names an unknown activity, or has a bout shorter than one
            reading; the last two are raised when that bout begins.
    """

    def __init__(self, seed: int, schedule: Iterable[Bout] | None = None) -> None:
        self._rng = np.random.default_rng((seed, 0))
        self._body = _Body(self._rng)
        self._bouts = markov_bouts(seed) if schedule is None else itertools.cycle(schedule)
        self._taken = 0
        self._gravity: NDArray[np.float64] | None = None
        self._values: NDArray[np.float64] = np.empty((0, len(CHANNELS)))
        self._activity: NDArray[np.int8] = np.empty(0, dtype=np.int8)

    def take(self, n: int) -> ImuChunk:
        """Return the next ``n`` readings."""
        while len(self._values) < n:
            values, activity = self._next_bout()
            self._values = np.concatenate([self._values, values])
            self._activity = np.concatenate([self._activity, activity])
        offset_ms = (self._taken + np.arange(n, dtype=np.int64)) * DT_MS
        chunk = ImuChunk(offset_ms, self._values[:n], self._activity[:n])
        self._values, self._activity = self._values[n:], self._activity[n:]
        self._taken += n
        return chunk

    def chunks(self, n: int) -> Iterator[ImuChunk]:
        """Yield endless chunks of ``n`` readings."""
        while True:
            yield self.take(n)

    def _next_bout(self) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return readings and labels of the next bout and of the transition into it."""
        bout = next(self._bouts, None)
        if bout is None or bout.activity not in ACTIVITIES or bout.duration_ms < DT_MS:
            msg = f"{bout} is not a bout: use {', '.join(ACTIVITIES)} for at least {DT_MS} ms"
            raise ValueError(msg)
        rng, before = self._rng, self._gravity
        n = bout.duration_ms // DT_MS
        moving = 0
        gravity_end = self._body.gravity(bout.activity, rng)
        if before is not None:
            laying = bout.activity == "LAYING" or abs(before[0]) < abs(before[1:]).max()
            moving = (_TRANSITION_LAYING_MS if laying else _TRANSITION_MS) // DT_MS
        body = self._body.motion(bout.activity, moving + n, rng)
        gravity = np.tile(gravity_end, (moving + n, 1))
        if before is not None:
            _blend(body, gravity, before, moving, rng)
        gravity += _sway_sd(bout.activity) * _coloured(rng, moving + n, [_SWAY_LAG] * 3)
        self._gravity = gravity_end
        acc, gyro = body[:, :3], body[:, 3:]
        values = np.round(np.concatenate([acc, gyro, acc + gravity], axis=1), _DECIMALS)
        activity = np.full(moving + n, ACTIVITIES.index(bout.activity), dtype=np.int8)
        activity[:moving] = TRANSITION
        return values, activity


class _Body:
    """The effects of one person, drawn once."""

    def __init__(self, rng: np.random.Generator) -> None:
        placement = rng.normal(0, _PLACEMENT_SD)
        self._yz: dict[str, NDArray[np.float64]] = {}
        for activity, posture in _POSTURES.items():
            own = np.array(posture.yz) + rng.normal(0, posture.subject_sd)
            self._yz[activity] = own + placement if posture.shares_placement else own
        self._laying_x = rng.normal(*_LAYING_X[:2])
        self._laying_deg = rng.normal(*_LAYING_ANGLE_DEG[:2])
        self._still = rng.normal(0, _STILL_SUBJECT_SD)
        self._log_amplitude = rng.normal(0, _SUBJECT_LOG_AMPLITUDE_SD)
        # One draw for all kinds of walking: people who walk fast also climb fast.
        pace = float(np.clip(rng.normal(), -2, 2))
        self._stride_hz = {
            name: gait.stride_hz[0]
            + gait.stride_hz[1] * (0.7 * pace + 0.7 * float(np.clip(rng.normal(), -2, 2)))
            for name, gait in GAITS.items()
        }
        self._cycle = {
            name: gait.mean + gait.subject_sd * _complex_normal(rng) for name, gait in GAITS.items()
        }

    def gravity(self, activity: str, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return gravity ``[3]`` in g, as the phone measures it during one bout."""
        if activity == "LAYING":
            x = self._laying_x + rng.normal(0, _LAYING_X[2])
            angle = np.radians(self._laying_deg + rng.normal(0, _LAYING_ANGLE_DEG[2]))
            rest = np.sqrt(_LAYING_NORM**2 - x**2)
            return np.array([x, rest * np.cos(angle), rest * np.sin(angle)])
        posture = _POSTURES[activity]
        y, z = self._yz[activity] + rng.normal(0, posture.bout_sd)
        return np.array([np.sqrt(max(posture.norm**2 - y**2 - z**2, 0.25)), y, z])

    def motion(self, activity: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return body_acc (g) and body_gyro (rad/s) of ``n`` readings, ``[n, 6]``."""
        if activity in _STILL:
            return self._rest(_STILL[activity], n, rng)
        return self._walk(activity, GAITS[activity], n, rng)

    def _rest(self, still: _Still, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        log_sd = np.array(still.log_sd) + self._still + rng.normal(0, _STILL_BOUT_SD)
        log_sd = log_sd + rng.normal(0, _STILL_CHANNEL_SD, 6)
        at_ms = np.arange(n) * DT_MS
        restless = 1 + _SETTLE_TIMES * np.exp(-at_ms / _SETTLE_MS)
        for fidget_ms in rng.uniform(0, n * DT_MS, rng.poisson(n * DT_MS / _FIDGET_EVERY_MS)):
            near = np.exp(-(((at_ms - fidget_ms) / _FIDGET_WIDTH_MS) ** 2))
            restless = restless + rng.exponential(_FIDGET_TIMES) * near
        noise = _coloured(rng, n, [still.lag[0]] * 6, [still.lag[1]] * 6)
        resting: NDArray[np.float64] = np.exp(log_sd) * restless[:, None] * noise
        return resting

    def _walk(
        self, activity: str, gait: Gait, n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        cycle = self._cycle[activity] + gait.bout_ratio * gait.subject_sd * _complex_normal(rng)
        stride_hz = self._stride_hz[activity] + rng.normal(0, gait.stride_hz[2])
        turns = rng.random() + stride_hz * np.arange(n) * DT_MS / 1000
        harmonics = np.arange(1, HARMONICS + 1)
        steps = (np.exp(2j * np.pi * turns[:, None] * harmonics) @ cycle.T).real
        lag1, lag2 = gait.residual_lag
        walking = steps + np.array(gait.residual_sd) * _coloured(rng, n, lag1, lag2)
        walking = np.exp(self._log_amplitude) * walking
        walking[:, 3] += gait.turn_sd * _coloured(rng, n, [_TURN_LAG])[:, 0]
        result: NDArray[np.float64] = walking
        return result


def _blend(
    body: NDArray[np.float64],
    gravity: NDArray[np.float64],
    before: NDArray[np.float64],
    moving: int,
    rng: np.random.Generator,
) -> None:
    """Turn the first ``moving`` rows into a movement from gravity ``before``, in place."""
    part = (np.arange(moving) + 0.5) / moving
    ease = (part * part * (3 - 2 * part))[:, None]
    body[:moving] *= ease
    swing = np.sin(np.pi * part) * np.sin(2 * np.pi * part + rng.uniform(0, 2 * np.pi))
    body[:moving] += swing[:, None] * rng.normal(0, _MOVE_SD)
    gravity[:moving] = (1 - ease) * before + ease * gravity[:moving]


def _sway_sd(activity: str) -> float:
    return _LAYING_SWAY_SD if activity == "LAYING" else _POSTURES[activity].sway_sd


def _complex_normal(rng: np.random.Generator) -> NDArray[np.complex128]:
    """Draw complex numbers ``[6, harmonics]`` of mean square 1."""
    real, imaginary = rng.standard_normal((2, 6, HARMONICS))
    drawn: NDArray[np.complex128] = (real + 1j * imaginary) / np.sqrt(2)
    return drawn


def _coloured(
    rng: np.random.Generator, n: int, lag1: Iterable[float], lag2: Iterable[float] | None = None
) -> NDArray[np.float64]:
    """Draw noise of variance 1 with the given autocorrelations, ``[n, channels]``.

    Autoregressive of order 2 (order 1 without ``lag2``), shaped in the frequency domain because a
    loop over readings would cost more than everything else.
    """
    r1 = np.array(list(lag1))
    r2 = r1 * r1 if lag2 is None else np.array(list(lag2))
    a1, a2 = r1 * (1 - r2) / (1 - r1 * r1), (r2 - r1 * r1) / (1 - r1 * r1)
    padded = max(256, 1 << (n - 1).bit_length())  # few distinct lengths, and no short periods
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(padded))[:, None]
    gain = 1 / np.abs(1 - a1 * z - a2 * z * z)
    gain /= np.sqrt(np.mean(np.concatenate([gain, gain[1:-1]]) ** 2, axis=0))
    white = np.fft.rfft(rng.standard_normal((padded, len(r1))), axis=0)
    noise: NDArray[np.float64] = np.fft.irfft(white * gain, n=padded, axis=0)[:n]
    return noise
