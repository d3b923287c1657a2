"""Prompts: the sentences that describe the answers, one prompt per answer, in their order.

A prompt may contain several sentences separated by ` | `; its anchor is the mean of theirs. Plain
sets have one short sentence per answer, as in the paper; RUL has the grid 0..125. Sets named
`-described` have paraphrases of what a sensor can measure, written by hand. Sets named `-cls` are
the plain sets, read out from the encoder's first token instead of the mean over tokens. Sets named
`-ensemble` put the plain name into several sentences. Sets named `-rule` have the sentences that
the rule of `training.teachers.motions` writes for the place of wear, and `-rule-whole` has the same
as one text. All of them were written before any result was known.
"""

from __future__ import annotations

from models.tasks.rul import MAX_RUL
from training.errors import RecipeError
from training.teachers.motions import Motion, Place, find_motion, numbers_of, sentences_of

__all__ = [
    "ATTRIBUTES",
    "FACTS",
    "PROMPTS",
    "SENTENCES_APART",
    "ensemble_prompt",
    "rule_prompt",
]

SENTENCES_APART = " | "

_ACTIONS = {
    "activity": (
        "walking",
        "walking upstairs",
        "walking downstairs",
        "sitting",
        "standing",
        "laying",
    ),
    "arem": (
        "bending over and upright again",
        "bending over and staying bent",
        "cycling",
        "lying",
        "sitting",
        "standing",
        "walking",
    ),
    "rfid": ("sitting on the bed", "sitting on a chair", "lying", "walking around"),
    "spsw": ("seated", "standing up", "walking", "turning", "sitting down"),
    "wisdm": (
        "walking downstairs",
        "jogging",
        "sitting",
        "standing",
        "walking upstairs",
        "walking",
    ),
}

_WALKING = (
    "a person walks on level ground",
    "regular steps, about two per second, with moderate vertical acceleration",
    "the trunk is upright and the body moves rhythmically forward",
    "periodic motion of medium strength with an even rhythm",
    "continuous movement, repeated heel strikes, upright posture",
)
_UPSTAIRS = (
    "a person climbs stairs, step by step upwards",
    "slow regular steps with a push upwards and soft impacts",
    "the trunk is upright, leaning slightly forward, and the body moves rhythmically",
    "periodic motion of medium strength with a slow rhythm",
    "continuous movement, repeated lifting of the body, upright posture",
)
_DOWNSTAIRS = (
    "a person goes down the stairs, step by step downwards",
    "quick regular steps with hard impacts of the feet",
    "the trunk is upright and the body moves rhythmically with strong jolts",
    "periodic motion of great strength with sharp peaks of acceleration",
    "continuous movement, repeated hard landings, upright posture",
)
_SITTING = (
    "a person sits still on a chair",
    "no steps and almost no acceleration besides gravity",
    "the trunk is upright but leans back a little, the thighs are horizontal",
    "a constant signal of very low variance",
    "no movement, resting, seated posture",
)
_STANDING = (
    "a person stands still",
    "no steps and almost no acceleration besides gravity",
    "the trunk is upright and vertical, the legs are straight",
    "a constant signal of low variance with a slight sway",
    "no movement, waiting, upright posture",
)
_DESCRIBED = {
    "activity-described": (
        _WALKING,
        _UPSTAIRS,
        _DOWNSTAIRS,
        _SITTING,
        _STANDING,
        (
            "a person lies down on a bed",
            "no steps and almost no acceleration besides gravity",
            "the trunk is horizontal, so gravity points across the body",
            "a constant signal of very low variance with the body axis turned",
            "no movement, sleeping, lying posture",
        ),
    ),
    "spsw-described": (
        _SITTING,
        (
            "a person rises from a chair to stand up",
            "one short movement upwards, then no movement",
            "the trunk leans forward and then becomes upright, the thighs turn to vertical",
            "a single burst of acceleration and rotation after rest",
            "a transition from a seated to an upright posture",
        ),
        _WALKING,
        (
            "a person turns around on the spot",
            "the body rotates about the vertical axis, strong angular velocity",
            "small steps while the heading changes by half a circle",
            "rotation of an upright body with weak acceleration",
            "continuous movement, turning, upright posture",
        ),
        (
            "a person lowers the body to sit down on a chair",
            "one short movement downwards, then no movement",
            "the trunk leans forward and then back, the thighs turn to horizontal",
            "a single burst of acceleration and rotation before rest",
            "a transition from an upright to a seated posture",
        ),
    ),
    "wisdm-described": (
        _DOWNSTAIRS,
        (
            "a person jogs, running at an easy pace",
            "fast steps, about three per second, with very strong vertical acceleration",
            "the trunk is upright and the body bounces up and down",
            "periodic motion of very great strength with a fast rhythm",
            "continuous movement, repeated hard landings after a flight phase, upright posture",
        ),
        _SITTING,
        _STANDING,
        _UPSTAIRS,
        _WALKING,
    ),
}


def _engine(num: int) -> tuple[str, ...]:
    bounds = ((10, "critical"), (30, "severe"), (60, "advanced"), (90, "moderate"), (124, "slight"))
    wear = next((word for bound, word in bounds if num <= bound), "no visible")
    return (
        f"the remaining useful life is {num}",
        f"the engine will fail after {num} more flights",
        f"{num} cycles are left before breakdown and the sensors show {wear} wear",
        f"the health of the engine is {100 * num // MAX_RUL} percent",
        f"{wear} degradation of the compressor, {num} cycles until failure",
    )


_TEMPLATES = (
    "the subject is {}",
    "a person is {}",
    "someone is {} while wearing a motion sensor",
    "accelerometer data of a person who is {}",
    "the activity is {}",
    "{}",
)


def ensemble_prompt(action: str) -> str:
    """Put the name of an activity into six sentences; their mean is the anchor.

    >>> ensemble_prompt("cycling").split(SENTENCES_APART)[1]
    'a person is cycling'
    """
    return SENTENCES_APART.join(template.format(action) for template in _TEMPLATES)


def rule_prompt(action: str, place: Place) -> str:
    """Describe an activity by the rule of `training.teachers.motions`, its name in front.

    Raises:
        RecipeError: The table of motions does not have the activity.
    """
    motion = _motion(action)
    return SENTENCES_APART.join((f"a person is {motion.names[0]}", *sentences_of(motion, place)))


def _motion(action: str) -> Motion:
    motion = find_motion(action)
    if motion is None:
        msg = f"no facts about {action!r} are known: describe it in your own words"
        raise RecipeError(msg)
    return motion


PROMPTS: dict[str, tuple[str, ...]] = {
    "rul": tuple(f"the remaining useful life is {num}" for num in range(MAX_RUL + 1)),
    **{
        name: tuple(f"the subject is {action}" for action in actions)
        for name, actions in _ACTIONS.items()
    },
    "rul-described": tuple(SENTENCES_APART.join(_engine(num)) for num in range(MAX_RUL + 1)),
    **{
        name: tuple(SENTENCES_APART.join(sentences) for sentences in answers)
        for name, answers in _DESCRIBED.items()
    },
}
PROMPTS.update({f"{name}-cls": PROMPTS[name] for name in ("rul", "activity", "spsw", "wisdm")})
PROMPTS.update(
    {
        f"{name}-ensemble": tuple(ensemble_prompt(action) for action in _ACTIONS[name])
        for name in ("activity", "spsw", "wisdm")
    }
)

_WORN: dict[str, tuple[str, Place]] = {
    "activity": ("activity", "waist"),
    "spsw": ("spsw", "wrist"),
    "spsw-pocket": ("spsw", "thigh"),
    "wisdm": ("wisdm", "thigh"),
}
for _set, (_actions, _place) in _WORN.items():
    PROMPTS[f"{_set}-rule"] = tuple(rule_prompt(name, _place) for name in _ACTIONS[_actions])
    PROMPTS[f"{_set}-rule-whole"] = tuple(
        ", ".join(prompt.split(SENTENCES_APART)) for prompt in PROMPTS[f"{_set}-rule"]
    )

FACTS: dict[str, tuple[tuple[float, ...], ...]] = {
    name: tuple(numbers_of(_motion(action), place) for action in _ACTIONS[actions])
    for name, (actions, place) in _WORN.items()
}
"""The facts behind the `-rule` sets as numbers: the control with the rule but without a text."""

ATTRIBUTES: dict[str, tuple[tuple[float, ...], ...]] = {
    # moves, hard impacts, fast rhythm, trunk upright, leans back, 1
    "activity": (
        (1.0, 0.5, 0.6, 1.0, 0.0, 1.0),
        (1.0, 0.3, 0.3, 0.9, 0.0, 1.0),
        (1.0, 1.0, 0.8, 1.0, 0.0, 1.0),
        (0.0, 0.0, 0.0, 0.8, 0.5, 1.0),
        (0.0, 0.0, 0.0, 1.0, 0.0, 1.0),
        (0.0, 0.0, 0.0, 0.0, 1.0, 1.0),
    ),
    # moves, steps, rotates about the vertical axis, goes up, goes down, legs straight, 1
    "spsw": (
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        (0.7, 0.0, 0.2, 1.0, 0.0, 0.5, 1.0),
        (1.0, 1.0, 0.1, 0.0, 0.0, 1.0, 1.0),
        (1.0, 0.6, 1.0, 0.0, 0.0, 1.0, 1.0),
        (0.7, 0.0, 0.2, 0.0, 1.0, 0.5, 1.0),
    ),
    # moves, hard impacts, fast rhythm, legs straight, 1
    "wisdm": (
        (1.0, 0.7, 0.6, 0.8, 1.0),
        (1.0, 1.0, 1.0, 0.8, 1.0),
        (0.0, 0.0, 0.0, 0.0, 1.0),
        (0.0, 0.0, 0.0, 1.0, 1.0),
        (1.0, 0.3, 0.3, 0.7, 1.0),
        (1.0, 0.5, 0.5, 0.9, 1.0),
    ),
}
"""Facts about activities, recorded before any result was known: the control with knowledge."""
