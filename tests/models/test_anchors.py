"""Anchors from labelled windows: what they do to scores, and that nothing else changes them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.anchors import AnchorSpace, anchor_of
from models.artifact import read_artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx, write_dummy
from models.manifest import decode_manifest, encode_manifest
from models.session import Student
from models.tasks.classes import ClassesDecoding, ClassScores
from models.tasks.classfeatures import (
    ClassFeatures,
    LearnedWindows,
    pack_classes,
    pack_vectors,
)

NONE = np.zeros((0, 8, 3), np.float32)  # these features need no windows
LABELS = ("walking", "sitting", "standing")
SIZE = 6


def around(place, count, seed=0, spread=0.08):
    points = np.random.default_rng(seed).normal(0, spread, (count, SIZE))
    points += np.eye(SIZE)[place]
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def features(weights=(5.0, 5.0, 5.0), share=0.05):
    sample = np.concatenate([around(place, 40, seed=place) for place in range(3)])
    return ClassFeatures(
        output="features",
        size=SIZE,
        centres=pack_vectors(np.eye(3, SIZE)),
        weights=weights,
        sample=pack_vectors(sample),
        sample_classes=pack_classes(np.repeat(np.arange(3), 40)),
        share=share,
        sample_share=share,
        softness=4.0,
    )


SPACE = AnchorSpace(LABELS, features())


def scores(winners, features, valid=None):
    winners = np.array(winners)
    probabilities = np.full((len(winners), 3), 0.1, np.float32)
    probabilities[np.arange(len(winners)), winners] = 0.8
    is_valid = np.ones(len(winners), bool) if valid is None else np.array(valid)
    probabilities[~is_valid] = 0
    known = np.ones(len(winners), bool)
    winners = probabilities.argmax(axis=1)
    return ClassScores(LABELS, probabilities, winners, is_valid, known, features)


def test_a_new_name_wins_near_its_examples_and_nowhere_else():
    placed = SPACE.place([anchor_of("climbing", around(4, 5, seed=7))])
    windows = np.concatenate([around(4, 30, seed=8), around(0, 30, seed=9), around(5, 30, seed=10)])
    found = placed.answer(scores([0] * 30 + [0] * 30 + [2] * 30, windows), NONE)
    assert found.labels == (*LABELS, "climbing")
    names = [found.label(row) for row in range(90)]
    assert names[:30].count("climbing") >= 28
    assert names[30:60].count("walking") >= 28
    assert "climbing" not in names[60:]  # resembles neither: out of reach
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


def test_at_most_the_stated_share_of_the_sample_changes_its_label():
    sample, classes = features().sample_vectors(), features().sample_labels()
    for place in range(3):
        near = 0.75 * np.eye(SIZE)[place] + 0.25 * np.eye(SIZE)[4]
        placed = SPACE.place([anchor_of("odd", near[None])])
        found = placed.answer(scores(classes, sample), NONE)
        assert np.mean(found.winners == 3) <= 0.05


def test_examples_of_a_known_label_give_it_a_second_place():
    mine = around(4, 5, seed=7)  # sits in a way that the student takes for standing
    placed = SPACE.place([anchor_of("sitting", mine)])
    found = placed.answer(scores([2] * 20, around(4, 20, seed=8)), NONE)
    assert found.labels == LABELS
    far = AnchorSpace(LABELS, features(weights=(5.0, 1000.0, 5.0)))
    drawn = far.place([anchor_of("sitting", mine)])
    same = drawn.answer(scores([2] * 20, around(4, 20, seed=8)), NONE)
    assert np.mean(found.winners == 1) > 0.8
    assert np.mean(same.winners == 1) < 0.3  # the centre counts for a thousand windows


def test_a_winning_window_is_known_and_an_invalid_one_stays_without_a_score():
    placed = SPACE.place([anchor_of("climbing", around(4, 5))])
    windows = np.concatenate([around(4, 1, seed=3), around(5, 1), np.zeros((1, SIZE))])
    base = scores([0, 0, 0], windows, valid=[True, True, False])
    found = placed.answer(replace(base, known=np.zeros(3, bool)), NONE)
    with pytest.raises(ValueError, match="need the features"):
        placed.answer(replace(base, features=None), NONE)
    assert [found.label(0), found.label(1)] == ["climbing", "unknown"]
    assert not found.valid[2]
    assert not found.probabilities[2].any()


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(6)), copies=st.integers(1, 4))
def test_order_and_repetition_of_examples_change_nothing(order, copies):
    examples = around(4, 6, seed=2)
    one = anchor_of("climbing", examples)
    other = anchor_of("climbing", np.concatenate([examples[list(order)]] * copies))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-12)
    two = anchor_of("rowing", around(3, 4, seed=5))
    windows = np.concatenate([around(place, 10, seed=place) for place in range(6)])
    first = SPACE.place([one, two]).answer(scores([0] * 60, windows), NONE)
    second = SPACE.place([two, one]).answer(scores([0] * 60, windows), NONE)
    assert first.labels == second.labels
    np.testing.assert_array_equal(first.winners, second.winners)


def test_several_anchors_share_what_may_be_misnamed():
    alone = SPACE.place([anchor_of("a", around(4, 5))])
    both = SPACE.place([anchor_of("a", around(4, 5)), anchor_of("b", around(5, 5))])
    assert both.margins[0] >= alone.margins[0]


def test_anchors_that_contradict_the_space_are_refused():
    with pytest.raises(ValueError, match="two anchors of one label"):
        SPACE.place([anchor_of("a", around(4, 5)), anchor_of("a", around(5, 5))])
    with pytest.raises(ValueError, match="another size"):
        SPACE.place([anchor_of("a", np.ones((1, 2)))])


def test_a_class_without_a_known_window_has_its_centre():
    part = features()
    is_kept = part.sample_labels() != 2
    part = part.model_copy(
        update={
            "sample": pack_vectors(part.sample_vectors()[is_kept]),
            "sample_classes": pack_classes(part.sample_labels()[is_kept]),
        }
    )
    space = AnchorSpace(LABELS, part)
    placed = space.place([anchor_of("near", around(2, 5, seed=1, spread=0.3))])
    found = placed.answer(scores([2] * 10, around(2, 10, seed=4)), NONE)
    assert len(found) == 10


def replace_classes(label):
    """Learned windows, all of one class."""
    return learned().model_copy(update={"classes": pack_classes(np.full(90, label))})


def learned(statistics=""):
    """Windows of people who scatter along an axis along which those of the sample don't."""
    apart = np.random.default_rng(5).normal(0, 0.6, (90, 1)) * np.eye(SIZE)[5]
    points = np.concatenate([around(place, 30, seed=20 + place) for place in range(3)]) + apart
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    classes = pack_classes(np.repeat(np.arange(3), 30))
    return LearnedWindows(features=pack_vectors(points), classes=classes, statistics=statistics)


def test_learned_windows_show_in_which_ways_people_differ():
    with_learned = features().model_copy(update={"learned": learned()})
    space = AnchorSpace(LABELS, with_learned)
    odd = np.eye(SIZE)[4] + 0.6 * np.eye(SIZE)[5]  # another person does it in a way of her own
    leads = [
        one.leads(odd[None], one.place([anchor_of("climbing", around(4, 5, seed=7))]))[0, 0]
        for one in (SPACE, space)
    ]
    assert not np.isfinite(leads[0])  # too far away, as far as the sample tells
    assert leads[1] > 0
    assert len(space.people) == len(SPACE.people)  # they give no margin
    part = ClassFeatures.model_validate(with_learned.model_dump())
    assert part == with_learned
    assert "learned" not in features().model_dump()


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"learned": learned("AAAA")}, "learned has .* numbers for 90 windows"),
        ({"learned": replace_classes(3)}, "above the last one"),
        ({"centres": pack_vectors(np.zeros((2, SIZE)))}, "centres has 12 numbers"),
        ({"sample": "AAA"}, "no base64|sample has"),
        ({"sample_classes": pack_classes(np.full(120, 3))}, "above the last one"),
        ({"weights": (1.0, 1.0)}, "centres has"),
        ({"sample_share": 0.0}, "greater than 0"),
    ],
)
def test_features_that_contradict_themselves_are_refused(changes, match):
    with pytest.raises(ValidationError, match=match):
        ClassFeatures.model_validate({**features().model_dump(), **changes})
    with pytest.raises(ValidationError, match="features has 3 classes for 2 labels"):
        ClassesDecoding(
            kind="classes", output="probabilities", labels=("a", "b"), features=features()
        )


def test_a_student_with_features_scores_as_one_without_and_old_manifests_keep_their_bytes(tmp_path):
    with_features = Student(write_dummy(tmp_path / "new", "activity", features=True))
    draft = dummy_draft("activity")
    old = write_artifact(tmp_path / "old", draft, dummy_onnx(draft))
    assert b"features" not in old.manifest_bytes
    assert encode_manifest(decode_manifest(old.manifest_bytes)) == old.manifest_bytes
    without = Student(read_artifact(tmp_path / "old"))
    windows = np.random.default_rng(0).normal(0, 1, (30, 8, 3)).astype(np.float32)
    windows[3, 2, 1] = np.nan
    np.testing.assert_array_equal(
        with_features.score(windows).values, without.score(windows).values
    )
    scored, found = with_features.score_with_features(windows)
    assert with_features.score(windows).features is None
    assert found.shape == (30, 8)
    assert not scored.valid[3] and not found[3].any()
    assert not without.has_features
    with pytest.raises(ValueError, match="has no output 'features'"):
        without.score_with_features(windows)
    with_features.self_test()
