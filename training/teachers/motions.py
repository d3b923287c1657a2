"""Motions: physical facts about everyday activities, and the sentences that a rule makes of them.

The facts say what the body does: rhythm, impacts, height, and for trunk, thigh and forearm the
strength of the movement, tilt and turning. The rule says what a sensor at a place of wear sees of
it. Both were written from general knowledge of how people move, before any result was known, and no
data set was looked at. `sentences_of` and `numbers_of` are pure functions of the facts.

The prompts `-rule` of the comparison of texts (`training.bench.namingtexts`) come from here, since
it knows the place of wear in every data set. `kpstream models extend` doesn't know it, and reads
the sentences of `training.teachers.lexicon`, which leave it open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "MOTIONS",
    "PLACES",
    "Motion",
    "Place",
    "Segment",
    "find_motion",
    "numbers_of",
    "sentences_of",
]

Place = Literal["waist", "thigh", "wrist"]
PLACES: tuple[Place, ...] = ("waist", "thigh", "wrist")


@dataclass(frozen=True, slots=True)
class Segment:
    """What one part of the body does.

    Attributes:
        strength: Acceleration beside gravity: 0 none, 1 slight, 2 medium, 3 strong, 4 very strong.
        tilt: Angle from the direction it has in standing, in degrees; in a short movement, before.
        turning: Angular velocity: 0 none, 1 little, 2 swings, 3 fast.
        tilt_after: Tilt after a short movement; None for the same.
    """

    strength: float
    tilt: float
    turning: float
    tilt_after: float | None = None


@dataclass(frozen=True, slots=True)
class Motion:
    """Facts about an activity.

    Attributes:
        names: What people call it; the first one is used in sentences ("a person is ...").
        rhythm_hz: Repetitions (steps, turns of the pedals) per second; 0 for none.
        impacts: 0 none, 1 soft, 2 medium, 3 hard.
        climb: -1 the body goes down, 1 it goes up, 0 neither.
        is_short: One movement between two states of rest.
        trunk: What a sensor at the waist follows.
        thigh: What a sensor in the trouser pocket follows.
        forearm: What a sensor on the wrist follows; tilt 0 is a hanging arm.
    """

    names: tuple[str, ...]
    rhythm_hz: float
    impacts: int
    climb: int
    is_short: bool
    trunk: Segment
    thigh: Segment
    forearm: Segment

    def at(self, place: Place) -> Segment:
        """Return the part of the body that carries a sensor at `place`."""
        return {"waist": self.trunk, "thigh": self.thigh, "wrist": self.forearm}[place]


def _lasting(
    names: str,
    rhythm_hz: float,
    impacts: int,
    climb: int,
    trunk: tuple[float, float, float],
    thigh: tuple[float, float, float],
    forearm: tuple[float, float, float],
) -> Motion:
    parts = (Segment(*part) for part in (trunk, thigh, forearm))
    return Motion(tuple(names.split(", ")), rhythm_hz, impacts, climb, False, *parts)


def _short(
    names: str,
    impacts: int,
    climb: int,
    trunk: tuple[float, float, float, float],
    thigh: tuple[float, float, float, float],
    forearm: tuple[float, float, float, float],
) -> Motion:
    parts = (Segment(*part) for part in (trunk, thigh, forearm))
    return Motion(tuple(names.split(", ")), 0.0, impacts, climb, True, *parts)


# Columns: names; repetitions per second; impacts; climb; then (strength, tilt, turning) of trunk,
# thigh and forearm, and the tilt afterwards where the movement is short.
MOTIONS: tuple[Motion, ...] = (
    _lasting("walking, walking around, strolling", 1.9, 2, 0, (2, 0, 1), (3, 5, 2), (2, 10, 2)),
    _lasting(
        "walking upstairs, upstairs, climbing stairs, ascending stairs",
        *(1.5, 1, 1, (2, 10, 1), (3, 25, 2), (2, 20, 1)),
    ),
    _lasting(
        "walking downstairs, downstairs, descending stairs",
        *(2.1, 3, -1, (3, 0, 1), (3, 10, 2), (2, 20, 1)),
    ),
    _lasting("jogging", 2.7, 3, 0, (4, 5, 1), (4, 20, 3), (4, 80, 3)),
    _lasting("running, sprinting", 3.0, 3, 0, (4, 10, 2), (4, 25, 3), (4, 80, 3)),
    _lasting("nordic walking", 1.8, 2, 0, (2, 5, 1), (3, 5, 2), (3, 50, 2)),
    _lasting("sitting, seated, sitting still", 0, 0, 0, (0.1, 15, 0), (0.1, 90, 0), (0.3, 80, 0)),
    _lasting("standing, standing still", 0, 0, 0, (0.3, 0, 0), (0.3, 0, 0), (0.5, 10, 0)),
    _lasting("lying, laying, lying down, sleeping", 0, 0, 0, (0, 90, 0), (0, 90, 0), (0.1, 90, 0)),
    _lasting("cycling, biking, bicycling", 1.2, 1, 0, (1, 35, 0.5), (3, 60, 3), (1, 70, 0.5)),
    _lasting("rowing", 0.5, 1, 0, (3, 25, 2), (3, 80, 2), (3, 90, 2)),
    _lasting("jumping", 1.5, 3, 0, (4, 5, 1), (4, 15, 2), (4, 40, 2)),
    _lasting("rope jumping, jumping rope", 2.2, 3, 0, (4, 0, 1), (4, 10, 1), (4, 60, 3)),
    _lasting("elliptical trainer, cross trainer", 1.2, 0, 0, (2, 5, 1), (3, 25, 2), (2, 70, 2)),
    _lasting("vacuum cleaning, vacuuming", 0.6, 0, 0, (1.5, 20, 1), (1, 10, 1), (2.5, 60, 2)),
    _lasting("ironing", 0.6, 0, 0, (0.7, 10, 0.5), (0.4, 0, 0), (2, 75, 2)),
    _lasting("sweeping, mopping", 0.8, 0, 0, (1.5, 25, 1.5), (1, 10, 1), (2.5, 50, 2)),
    _lasting("washing dishes", 0.8, 0, 0, (0.5, 10, 0.5), (0.4, 0, 0), (2, 70, 2)),
    _lasting("brushing teeth", 3.0, 0, 0, (0.5, 0, 0), (0.4, 0, 0), (2.5, 140, 3)),
    _lasting("eating", 0.2, 0, 0, (0.4, 10, 0), (0.2, 90, 0), (1, 100, 1)),
    _lasting("drinking", 0.1, 0, 0, (0.3, 10, 0), (0.2, 90, 0), (0.8, 120, 1)),
    _lasting("typing, working at a computer", 0, 0, 0, (0.2, 15, 0), (0.1, 90, 0), (0.6, 90, 0)),
    _lasting("driving a car, driving, car driving", 0, 0, 0, (1, 25, 0), (0.8, 85, 0), (1, 80, 1)),
    _lasting("clapping", 3.0, 2, 0, (0.7, 0, 0), (0.4, 0, 0), (4, 90, 3)),
    _lasting("waving", 1.5, 0, 0, (0.6, 0, 0), (0.4, 0, 0), (3, 150, 3)),
    _lasting("turning, turning around", 1.5, 1, 0, (1.5, 0, 3), (2, 0, 3), (2, 10, 3)),
    _lasting("riding an elevator up, elevator up", 0, 0, 1, (0.6, 0, 0), (0.6, 0, 0), (0.7, 10, 0)),
    _lasting(
        "riding an elevator down, elevator down",
        *(0, 0, -1, (0.6, 0, 0), (0.6, 0, 0), (0.7, 10, 0)),
    ),
    _short("standing up, rising", 0, 1, (2, 40, 1.5, 0), (2, 90, 2, 0), (2, 80, 2, 10)),
    _short("sitting down", 1, -1, (2, 0, 1.5, 15), (2, 0, 2, 90), (2, 10, 2, 80)),
    _short("getting into bed, going to bed", 1, -1, (2, 15, 2, 90), (2, 90, 2, 90), (2, 80, 2, 90)),
    _short("getting up from bed", 0, 1, (2, 90, 2, 15), (2, 90, 2, 90), (2, 90, 2, 80)),
    _short("bending over, bending", 0, -1, (1.5, 0, 2, 80), (1, 0, 1, 15), (1.5, 10, 2, 60)),
    _short("falling, falling down", 3, -1, (4, 0, 3, 90), (4, 0, 3, 90), (4, 10, 3, 90)),
)

_WHAT: dict[Place, tuple[str, str, str]] = {
    "waist": ("a sensor at the waist", "the trunk", "upright"),
    "thigh": ("a sensor in the trouser pocket", "the thigh", "vertical"),
    "wrist": ("a sensor on the wrist", "the forearm", "hanging down"),
}
_STRENGTH = (
    (0.2, "measures no movement at all, only gravity"),
    (0.8, "measures almost no movement beside gravity, a slight sway"),
    (1.4, "measures slight movement"),
    (2.4, "measures movement of medium strength"),
    (3.4, "measures strong movement"),
    (9.0, "measures very strong movement with large peaks of acceleration"),
)
_TILT = (
    (20, "{0}"),
    (50, "leaning"),
    (70, "half-way to horizontal"),
    (110, "horizontal"),
    (180, "raised"),
)
_TURNING = (
    (0.2, "does not turn"),
    (1.2, "turns a little"),
    (2.2, "swings with medium angular velocity"),
    (9.0, "turns fast, with high angular velocity"),
)
_RHYTHM = (
    (0.0, "no rhythm, nothing repeats"),
    (1.0, "a slow rhythm, less than one repetition per second"),
    (1.7, "a calm rhythm, between one and two repetitions per second"),
    (2.4, "an even rhythm, about two repetitions per second"),
    (9.0, "a fast rhythm, about three repetitions per second"),
)
_IMPACTS = ("no impacts", "soft impacts", "impacts of medium strength", "hard impacts")
_CLIMB = {-1: "the body goes down", 0: "the body stays at the same height", 1: "the body goes up"}


def find_motion(label: str) -> Motion | None:
    """Find the facts about an activity by its name; None if the table does not have it.

    >>> find_motion("WALKING_UPSTAIRS").names[0]
    'walking upstairs'
    """
    name = " ".join(re.findall(r"[a-z]+", label.lower()))
    return next((motion for motion in MOTIONS if name in motion.names), None)


def sentences_of(motion: Motion, place: Place) -> tuple[str, ...]:
    """Write what a sensor at `place` sees, one sentence per kind of fact, by rule.

    >>> sentences_of(find_motion("jogging"), "waist")[1]
    'a fast rhythm, about three repetitions per second, with hard impacts'
    """
    part = motion.at(place)
    sensor, segment, still = _WHAT[place]
    tilt = _word(_TILT, part.tilt).format(still)
    if part.tilt_after is None:
        posture = f"{segment} is {tilt}"
    else:
        posture = f"{segment} is {tilt} and then {_word(_TILT, part.tilt_after).format(still)}"
    lasting = "goes on" if part.strength >= 1 else "lasts"
    return (
        f"{sensor} {_word(_STRENGTH, part.strength)}",
        f"{_word(_RHYTHM, motion.rhythm_hz)}, with {_IMPACTS[motion.impacts]}",
        posture,
        f"{segment} {_word(_TURNING, part.turning)}",
        _CLIMB[motion.climb],
        "one short movement between two states of rest" if motion.is_short else f"this {lasting}",
    )


def numbers_of(motion: Motion, place: Place) -> tuple[float, ...]:
    """Return the facts as nine numbers between -1 and 1, the last of them 1; no text is involved.

    Strength, rhythm, impacts, climb, tilt (mean of before and after), change of tilt, turning,
    shortness, 1.
    """
    part = motion.at(place)
    after = part.tilt if part.tilt_after is None else part.tilt_after
    return (
        part.strength / 4,
        motion.rhythm_hz / 3,
        motion.impacts / 3,
        float(motion.climb),
        (part.tilt + after) / 2 / 180,
        (after - part.tilt) / 180,
        part.turning / 3,
        float(motion.is_short),
        1.0,
    )


def _word(scale: tuple[tuple[float, str], ...], value: float) -> str:
    return next(word for most, word in scale if value <= most)
