"""Facts that rules read from descriptions, and the descriptions of usual labels."""

import numpy as np
import pytest

from training.teachers.facts import FACTS, fact_table, read_facts
from training.teachers.lexicon import describe_label, known_activities


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
    ["WALKING_UPSTAIRS", "WalkingUpstairs", "walking-upstairs", "Upstairs", "climbing stairs"],
)
def test_a_label_is_found_however_it_is_written(label):
    assert describe_label(label) == describe_label("walking upstairs")


def test_an_unusual_label_has_no_description():
    assert describe_label("state 4") is None
    assert len(known_activities()) > 25
