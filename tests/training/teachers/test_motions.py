from dataclasses import replace

import pytest

from training.errors import RecipeError
from training.teachers.motions import MOTIONS, PLACES, find_motion, numbers_of, sentences_of
from training.teachers.prompts import FACTS, PROMPTS, SENTENCES_APART, rule_prompt


@pytest.mark.parametrize(
    ("label", "name"),
    [("LAYING", "lying"), ("Upstairs", "walking upstairs"), ("SITTING_DOWN", "sitting down")],
)
def test_labels_of_data_sets_are_found(label, name):
    assert find_motion(label).names[0] == name


def test_an_unknown_activity_has_no_facts_and_no_description():
    assert find_motion("juggling") is None
    with pytest.raises(RecipeError, match=r"'juggling'.*your own words"):
        rule_prompt("juggling", "waist")


def test_no_name_means_two_motions():
    names = [name for motion in MOTIONS for name in motion.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("place", PLACES)
def test_every_motion_has_sentences_and_numbers_in_range(place):
    for motion in MOTIONS:
        sentences = sentences_of(motion, place)
        assert len(sentences) == 6
        assert all(sentences)
        numbers = numbers_of(motion, place)
        assert len(numbers) == 9
        assert all(-1 <= number <= 1 for number in numbers)


def test_no_two_motions_of_a_set_have_the_same_facts():
    for prompts in ("activity", "spsw", "wisdm"):
        assert len(set(FACTS[prompts])) == len(FACTS[prompts])
        assert len(set(PROMPTS[f"{prompts}-rule"])) == len(FACTS[prompts])


def test_a_sensor_sees_only_the_part_of_the_body_that_carries_it():
    sitting = find_motion("sitting")
    assert "horizontal" in sentences_of(sitting, "thigh")[2]
    assert "upright" in sentences_of(sitting, "waist")[2]
    other = replace(sitting, thigh=find_motion("cycling").thigh)
    assert sentences_of(other, "waist") == sentences_of(sitting, "waist")
    assert sentences_of(other, "thigh") != sentences_of(sitting, "thigh")


def test_a_short_movement_says_before_and_after():
    motion = find_motion("standing up")
    assert sentences_of(motion, "thigh")[2] == "the thigh is horizontal and then vertical"
    assert sentences_of(motion, "thigh")[5] == "one short movement between two states of rest"


def test_the_whole_text_has_the_sentences_of_the_rule():
    parts, whole = PROMPTS["spsw-rule"][3], PROMPTS["spsw-rule-whole"][3]
    assert parts.split(SENTENCES_APART) == whole.split(", ")[:1] + parts.split(SENTENCES_APART)[1:]
    assert all(part in whole for part in parts.split(SENTENCES_APART))
