"""Facts about a movement, read by rule from sentences that describe it.

A text vector says that two activities are similar; it doesn't say in what. These rules read from a
description what a motion sensor can measure: how strong the movement is, how fast its rhythm, how
hard its impacts, how the body is tilted. `training.naming` predicts from them where the windows of
an activity without examples lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FACTS", "compared_facts", "fact_row", "fact_table", "read_facts"]

FACTS = {
    "motion": "strength of the movement: 0 still, 0.5 as in walking, 1 violent",
    "rhythm": "speed of a regular rhythm: 0 none, 0.6 steps of walking, 1 as fast as running",
    "impacts": "how hard the impacts are: 0 none, 0.4 steps of walking, 1 landings of running",
    "tilt": "tilt of the trunk: 0 upright, 0.3 leaning, 1 horizontal",
    "bent": "bent legs: 0 straight, 1 thighs horizontal, as when seated",
    "climb": "way of the body: -1 down, 0 level, 1 up",
    "turn": "rotation of the body: 0 none, 1 the body spins or turns around",
    "burst": "one short movement and rest, such as standing up: 0 no, 1 yes",
}
"""Facts and their scales."""

_STILL = (
    r"still|motionless|(?<!then )no movement|no motion|not moving|resting|at rest|sleep\w*|waiting|"
    r"idle|(almost )?no acceleration|constant signal|immobile|stationary|calm|relaxed"
)
# fact, value, pattern; the mean of all values found counts
_RULES: tuple[tuple[str, float, str], ...] = (
    ("motion", 0.0, rf"\b({_STILL})\b"),
    ("motion", 0.0, r"\b(very )?low variance|sits? still|stands? still|lies? still\b"),
    (
        "motion",
        0.2,
        r"\b(slight|gentle|gently|weak|light|soft|tiny|little) (movements?|motion|"
        r"sway|acceleration)|slowly|gently|weak acceleration\b",
    ),
    ("motion", 0.4, r"\b(one short movement|single burst|rises?|lowers?)\b"),
    (
        "motion",
        0.5,
        r"\b(medium strength|moderate|moderately|medium|continuous movement|"
        r"continuously|regular steps|walk\w*|steps?)\b(?! down| by| upwards)",
    ),
    (
        "motion",
        0.8,
        r"\b(great strength|(?<!very )strong|vigorous\w*|energetic\w*|intense|"
        r"hard|jolts?|powerful|quick)\b",
    ),
    (
        "motion",
        1.0,
        r"\b(very great strength|very strong|violent\w*|jump\w*|leap\w*|sprint\w*|"
        r"running|runs?|jogs?|jogging|bounc\w+|explosive)\b",
    ),
    ("rhythm", 0.0, rf"\b({_STILL}|no steps|no rhythm|single|one short)\b"),
    ("rhythm", 0.5, r"\b(slow (regular )?(steps|rhythm|strokes)|small steps|slow)\b"),
    (
        "rhythm",
        0.6,
        r"\b(regular steps|even rhythm|rhythmical\w*|periodic|rhythmic|pedal\w*|"
        r"repeated|walks?|walking)\b",
    ),
    ("rhythm", 0.8, r"\b(quick (regular )?(steps|rhythm)|quick|brisk\w*)\b"),
    ("rhythm", 1.0, r"\b(fast (steps|rhythm|regular)|fast|rapid\w*|running|jogs?|jogging|runs)\b"),
    ("impacts", 0.0, rf"\b({_STILL}|no impacts?|smooth\w*|no steps|glid\w+|pedal\w*)\b"),
    ("impacts", 0.3, r"\b(soft (impacts|steps)|soft landings|light steps|small steps)\b"),
    ("impacts", 0.4, r"\b(heel strikes?|regular steps|walks?|walking|foot falls?)\b"),
    ("impacts", 0.8, r"\b((?<!repeated )hard (impacts|landings)|jolts?|sharp peaks)\b"),
    (
        "impacts",
        1.0,
        r"\b(hard landings after|very hard|flight phase|bounc\w+|jump\w*|jogs?|"
        r"running|runs)\b",
    ),
    (
        "tilt",
        0.0,
        r"\b(upright|vertical posture|stands?|standing|walks?|walking)\b"
        r"(?! but lean)(?!, leaning)(?! from)",
    ),
    ("tilt", 0.15, r"\bleaning slightly|leans slightly\b"),
    ("tilt", 0.25, r"\b(leans? back a little|leans? back|reclin\w+|seated|sits?|sitting)\b"),
    ("tilt", 0.4, r"\b(leans? forward|leaning|bent forward|bends? (forward|over)|stoop\w*)\b"),
    (
        "tilt",
        1.0,
        r"\b(trunk is horizontal|lies|lying|lay|laying|lie|bed|face down|on (the|"
        r"its|his|her) back|gravity points across|prone|supine)\b",
    ),
    (
        "bent",
        0.0,
        r"\b(legs are straight|standing|stands?|walks?|walking|thighs turn to vertical|"
        r"lying|laying|lies)\b",
    ),
    (
        "bent",
        1.0,
        r"\b(thighs are horizontal|thighs turn to horizontal|seated|sits?|sitting|chair|"
        r"crouch\w*|squat\w*|kneel\w*|pedal\w*|cycl\w+)\b",
    ),
    ("climb", 0.0, r"\b(level ground|even ground)\b"),
    (
        "climb",
        1.0,
        r"\b(climb\w*|upwards?|upstairs|uphill|push upwards|lifting|ascend\w*|"
        r"rises?(?! again)|rising|stand(s|ing)? up)\b",
    ),
    (
        "climb",
        -1.0,
        r"\b(downwards?|downstairs|down the|downhill|descend\w*|lowers|sit(s|ting)? "
        r"down)\b",
    ),
    (
        "turn",
        1.0,
        r"\b(turns? around|turning|rotates|rotation of|angular velocity|spin\w*|"
        r"half a circle|twist\w*|pirouette\w*)\b",
    ),
    (
        "burst",
        1.0,
        r"\b(single|one short|burst|then no movement|after rest|before rest|"
        r"transition|once|sudden\w*)\b",
    ),
)
# fact, difference, words before "than LABEL"
_COMPARISONS: tuple[tuple[str, float, str], ...] = (
    ("motion", 0.25, r"stronger|more (vigorous|energetic|intense|strenuous|movement|motion)"),
    ("motion", -0.25, r"weaker|gentler|calmer|less (vigorous|energetic|intense|movement|motion)"),
    ("rhythm", 0.25, r"faster|quicker|brisker"),
    ("rhythm", -0.25, r"slower"),
    ("impacts", 0.3, r"harder|heavier"),
    ("impacts", -0.3, r"softer|smoother|lighter"),
    ("tilt", 0.3, r"more (tilted|inclined|bent)|leaning more"),
    ("tilt", -0.3, r"more upright|less (tilted|inclined|bent)"),
    ("turn", 0.5, r"more (turns|turning|rotation)"),
)
_PATTERNS = tuple((fact, value, re.compile(pattern)) for fact, value, pattern in _RULES)
_DEFAULTS = {"motion": 0.4, "rhythm": 0.0, "impacts": 0.0, "tilt": 0.1}


def read_facts(sentences: Sequence[str]) -> dict[str, float]:
    """Read the facts of one description; a fact that no sentence mentions is absent.

    A sentence that matches several rules of a fact gives their mean, and so do several sentences.

    >>> read_facts(["a person stands still", "no movement, upright posture"])["motion"]
    0.0
    """
    found: dict[str, list[float]] = {}
    for sentence in sentences:
        text = sentence.lower().replace("_", " ")
        here: dict[str, list[float]] = {}
        for fact, value, pattern in _PATTERNS:
            if pattern.search(text):
                here.setdefault(fact, []).append(value)
        for fact, values in here.items():
            found.setdefault(fact, []).append(sum(values) / len(values))
    return {fact: sum(values) / len(values) for fact, values in found.items()}


def fact_table(descriptions: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Read the facts of many descriptions: `[descriptions, facts]`, in the order of `FACTS`."""
    return np.array([fact_row(read_facts(sentences)) for sentences in descriptions])


def fact_row(facts: Mapping[str, float]) -> NDArray[np.float64]:
    """Order facts as in `FACTS`; those that are absent get the value of an ordinary activity."""
    return np.array([facts.get(fact, _DEFAULTS.get(fact, 0.0)) for fact in FACTS])


def compared_facts(
    sentences: Sequence[str], known: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Read facts as `read_facts` does, and from comparisons with known labels.

    "like WALKING" takes all facts of the label that no other sentence mentions; "stronger than
    WALKING" takes one and changes it.

    Args:
        sentences: Description of the new activity.
        known: Facts `[facts]` of the known labels.

    >>> row = np.full(len(FACTS), 0.5)
    >>> compared_facts(["stronger and slower than WALKING"], {"WALKING": row})
    {'motion': 0.75, 'rhythm': 0.25}
    """
    alike, apart, plain = dict[str, float](), dict[str, float](), []
    for sentence in sentences:
        text = sentence.lower().replace("_", " ")
        for label in sorted(known, key=len, reverse=True):  # "walking upstairs" before "walking"
            name = re.escape(label.lower().replace("_", " "))
            own = dict(zip(FACTS, known[label].tolist(), strict=True))
            if re.search(rf"\bthan {name}\b", text):
                apart |= {
                    fact: own[fact] + change
                    for fact, change, words in _COMPARISONS
                    if re.search(rf"\b({words})\b", text)
                }
                break
            if re.search(rf"\blike {name}\b", text):
                alike |= own
                break
        else:
            plain.append(sentence)
    return alike | read_facts(plain) | apart
