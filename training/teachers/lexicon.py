"""What a sensor sees of common activities, by their names.

A label such as `WALKING_UPSTAIRS` says nothing by itself to a rule, and little to a text model.
These are the sentences that stand for it where nobody describes it. They were written from what
everybody knows about the activities, with the words that `training.teachers.facts` reads; those of
the benchmarks are the prompts `-described`, which are older than this use.

`kpstream models extend` reads them. They describe a person and leave the place of the sensor open,
as a user's own description does. `training.teachers.motions` is the other table of activities: its
sentences differ by the place of the sensor, and only the comparison of texts uses them.
"""

from __future__ import annotations

import re
from functools import cache

from training.teachers.prompts import PROMPTS, SENTENCES_APART

__all__ = ["describe_label"]

_SMALL = ("", "a", "an", "the", "on", "of", "and")  # words of labels that say nothing
# name -> synonyms
_SYNONYMS = {
    "walking": "walk|walking|ambulating|strolling|stroll|gait|walking around",
    "walking upstairs": "upstairs|walking upstairs|stairs up|climbing stairs|ascending stairs|"
    "stairs ascent|going up|walk up|walking up",
    "walking downstairs": "downstairs|walking downstairs|stairs down|descending stairs|"
    "stairs descent|going down|walk down|walking down",
    "sitting": "sit|sitting|seated|sitting on chair|sitting on bed|sit on chair|sit on bed",
    "standing": "stand|standing|standing still",
    "laying": "lie|lying|laying|lying down|lay|sleeping",
    "jogging": "jog|jogging|running|run",
    "standing up": "standing up|stand up|getting up|rising|sit to stand",
    "sitting down": "sitting down|sit down|stand to sit",
    "turning": "turn|turning|turning around",
}
_FROM_PROMPTS = {
    "activity-described": (
        "walking",
        "walking upstairs",
        "walking downstairs",
        "sitting",
        "standing",
        "laying",
    ),
    "spsw-described": ("sitting", "standing up", "walking", "turning", "sitting down"),
    "wisdm-described": ("", "jogging", "", "", "", ""),
}
# synonyms -> sentences
_OTHERS = {
    "sprinting|sprint|fast running": (
        "a person sprints as fast as possible",
        "very fast steps with very strong vertical acceleration",
        "repeated hard landings after a flight phase, the trunk is upright",
        "periodic motion of very great strength with a very fast rhythm",
    ),
    "brisk walking|fast walking|nordic walking|power walking|marching|hiking": (
        "a person walks briskly on level ground",
        "quick regular steps with strong vertical acceleration",
        "the trunk is upright and the body moves rhythmically with firm heel strikes",
    ),
    "slow walking|shuffling|limping": (
        "a person walks slowly with small steps",
        "slow regular steps with soft impacts and gentle movements",
        "the trunk is upright",
    ),
    "cycling|biking|riding a bike|bicycling|bike": (
        "a person rides a bicycle",
        "pedalling, a smooth periodic rhythm without impacts",
        "seated on a saddle, the trunk leans forward, the thighs move up and down",
        "continuous movement of moderate strength",
    ),
    "rowing|row": (
        "a person rows",
        "slow regular strokes, strong movement to and fro without impacts",
        "seated, the trunk leans forward and back",
    ),
    "jumping|jump|hopping|jumping jacks|rope jumping|jump rope|skipping": (
        "a person jumps up and down on the spot",
        "very strong vertical acceleration with hard landings after a flight phase",
        "periodic motion of very great strength with a fast rhythm, upright posture",
    ),
    "elliptical|cross trainer|stepper": (
        "a person exercises on a cross trainer",
        "a smooth periodic rhythm without impacts, upright posture",
        "continuous movement of strong intensity",
    ),
    "vacuuming|vacuum cleaning|sweeping|mopping|raking": (
        "a person pushes a broom to and fro",
        "slow repeated movements of moderate strength with small steps",
        "the trunk leans forward",
    ),
    "ironing|washing dishes|cooking|brushing teeth|washing hands|wiping": (
        "a person stands and works with the hands",
        "no steps, gentle movements of the arms",
        "upright posture, the body itself hardly moves",
    ),
    "typing|computer work|writing|reading|eating|drinking|watching tv|desk work|driving|car": (
        "a person sits and uses the hands a little",
        "no steps, gentle movements, almost no acceleration besides gravity",
        "seated, the thighs are horizontal",
    ),
    "bending|bending over|waist bends|bending forward|picking up|lifting": (
        "a person bends forward and rises again",
        "slow repeated movements without steps",
        "the trunk leans forward until it is bent over and becomes upright again",
    ),
    "squats|squatting|knees bending|crouching|lunges": (
        "a person bends the knees deeply and rises again",
        "slow repeated movements up and down without impacts",
        "the trunk is upright, the legs bend until the thighs are horizontal",
    ),
    "push ups|pushups|plank": (
        "a person supports the body on hands and feet, face down",
        "slow repeated movements up and down without steps",
        "the trunk is horizontal",
    ),
    "sit ups|situps|crunches": (
        "a person lying on the back raises the trunk again and again",
        "slow repeated movements without steps, the thighs are horizontal",
        "the trunk goes from horizontal to upright and back",
    ),
    "lying face down|prone|lying on stomach": (
        "a person lies face down",
        "no movement, the trunk is horizontal",
    ),
    "lying on side|lying left|lying right": (
        "a person lies on the side",
        "no movement, the trunk is horizontal",
    ),
    "falling|fall": (
        "a person falls to the ground",
        "one short movement downwards with a very hard impact, then no movement",
        "a single burst of very strong acceleration, afterwards the trunk is horizontal",
    ),
    "lying down|going to bed|stand to lie|sit to lie": (
        "a person lies down on a bed",
        "one short movement downwards, then no movement",
        "a transition from an upright to a lying posture, the trunk is horizontal at the end",
    ),
    "elevator|lift|escalator|riding": (
        "a person stands still and is carried",
        "no steps and almost no acceleration besides gravity, upright posture",
    ),
    "dancing|dance|badminton|tennis|basketball|soccer|football|boxing|playing": (
        "a person plays or dances vigorously",
        "quick irregular steps with strong movements and many turns, the body rotates",
        "upright posture, movement of great strength with sharp peaks of acceleration",
    ),
    "waving|clapping|arm swings|frontal elevation of arms|throwing": (
        "a person stands and swings the arms",
        "repeated strong movements of the arms without steps, a periodic rhythm, upright posture",
    ),
    "idle|off|stopped|rest|resting|stationary|still": (
        "nothing moves",
        "no movement, a constant signal of very low variance",
    ),
}


def describe_label(label: str, *, whole: bool = False) -> tuple[str, ...] | None:
    """Look up a label: its whole name, or the longest known name in it; None if there is none.

    Args:
        label: The label.
        whole: Only its whole name counts, so that a sentence is not taken for a name.

    >>> describe_label("WALKING_UPSTAIRS")[0]
    'a person climbs stairs, step by step upwards'
    >>> describe_label("Jump front & back (20x)") == describe_label("jumping")
    True
    >>> describe_label("stage 3") is None
    True
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"\(.*?\)", " ", label))
    words = [word for word in re.split(r"[\W_]+", spaced.lower()) if word not in _SMALL]
    for count in range(len(words), len(words) - 1 if whole else 0, -1):
        for first in range(len(words) - count + 1):
            found = _lexicon().get(" ".join(words[first : first + count]))
            if found is not None:
                return found
    return None


@cache
def _lexicon() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for synonyms, sentences in _OTHERS.items():
        found |= dict.fromkeys(map(_plain, synonyms.split("|")), sentences)
    for prompts, names in _FROM_PROMPTS.items():
        for name, text in zip(names, PROMPTS[prompts], strict=True):
            if name:
                known = (name, *_SYNONYMS[name].split("|"))
                found |= dict.fromkeys(map(_plain, known), tuple(text.split(SENTENCES_APART)))
    return found


def _plain(name: str) -> str:
    return " ".join(word for word in name.split() if word not in _SMALL)
