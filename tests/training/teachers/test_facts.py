"""Facts that rules read from descriptions, and the descriptions of usual labels."""

import numpy as np
import pytest

from training.teachers.facts import FACTS, compared_facts, fact_table, read_facts
from training.teachers.lexicon import describe_label


@pytest.mark.parametrize(
    ("fact", "less", "more"),
    [
        ("motion", "a person stands still", "a person walks"),
        ("motion", "a person walks", "very strong acceleration"),
        ("rhythm", "slow regular steps", "fast steps"),
        ("impacts", "smooth gliding", "hard landings after a flight phase"),
        ("tilt", "upright posture", "the trunk is horizontal"),
        ("bent", "the legs are straight", "the thighs are horizontal"),
        ("climb", "goes down the stairs", "climbs the stairs"),
        ("turn", "a person walks", "the body rotates about the vertical axis"),
        ("burst", "continuous movement", "one short movement, then no movement"),
    ],
)
def test_a_fact_is_larger_where_the_words_say_so(fact, less, more):
    low, high = (read_facts([text]).get(fact, 0.0) for text in (less, more))
    assert low < high


def test_a_sentence_without_a_known_word_says_nothing():
    assert read_facts(["the quick red fox"]).keys() <= {"motion", "rhythm"}
    assert read_facts(["S3"]) == {}


def test_facts_lie_within_their_scales():
    table = fact_table([describe_label(name) or () for name in ("walking", "running", "lying")])
    assert table.shape == (3, len(FACTS))
    assert np.abs(table).max() <= 1


@pytest.mark.parametrize(
    "label",
    [
        "WALKING_UPSTAIRS",
        "WalkingUpstairs",
        "walking-upstairs",
        "Upstairs (2 floors)",
        "climbing the stairs",
    ],
)
def test_a_label_is_found_however_it_is_written(label):
    assert describe_label(label) == describe_label("walking upstairs")


def test_a_comparison_starts_from_the_facts_of_the_known_label():
    known = {"WALKING": np.full(len(FACTS), 0.4), "WALKING_UPSTAIRS": np.full(len(FACTS), 0.8)}
    found = compared_facts(["stronger and faster than WALKING"], known)
    assert found == pytest.approx({"motion": 0.65, "rhythm": 0.65})
    like = compared_facts(
        ["like walking upstairs", "slower than walking upstairs", "the trunk is horizontal"], known
    )
    assert len(like) == len(FACTS)
    assert like["rhythm"] == pytest.approx(0.55)
    assert (like["impacts"], like["tilt"]) == (0.8, 1.0)


def test_an_unusual_label_has_no_description():
    assert describe_label("state 4") is None
