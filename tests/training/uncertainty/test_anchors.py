"""The numbers that anchors need, fitted by leaving known classes out."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.anchors import AnchorSpace, anchor_of
from models.tasks.classes import ClassesDecoding
from training.uncertainty.anchors import (
    LabelledFeatures,
    _left_out,
    choose_sample,
    fit_features,
    leave_people_out,
)

pytestmark = pytest.mark.needs_training
LABELS = ("a", "b", "c", "d")
DECODING = ClassesDecoding(kind="classes", output="probabilities", labels=LABELS)


def people(count, spread=0.15, each=20, seed=0):
    """Windows of people who each do the four activities in a way of their own."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.repeat(np.arange(4), each), count)
    groups = np.repeat(np.arange(count), 4 * each)
    own = random.normal(0, spread, (count, 4, 12))
    points = np.eye(4, 12)[labels] + own[groups, labels] + random.normal(0, 0.1, (len(labels), 12))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    shares = np.exp(8 * points[:, :4])
    shares /= shares.sum(axis=1, keepdims=True)
    statistics = 3 * points[:, 4:8] + random.normal(0, 0.1, (len(labels), 4))
    one, two, three = (each.astype(np.float32) for each in (points, shares, statistics))
    return LabelledFeatures(one, two, labels, groups, three)


def fitted(held_out):
    return fit_features(DECODING, people(10, seed=1), held_out, leave_people_out(held_out))


def test_the_promise_holds_for_people_that_nothing_was_fitted_to():
    held_out = people(8)
    part, measures = fit_features(
        DECODING, people(10, seed=1), held_out, leave_people_out(held_out)
    )
    assert part.share == 0.05
    assert 0 < min(part.sample_share, part.shared_share) <= 0.1
    assert measures["examples_misnamed"] <= 0.05
    assert measures["examples_recall"] > 0.5
    space, others = AnchorSpace(LABELS, part), people(20, seed=2)
    random = np.random.default_rng(0)
    new = random.normal(0, 0.1, (5, 12)) + np.eye(12)[5]
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    statistics = np.tile([0, 3, 0, 0], (5, 1)).astype(np.float32)
    vectors = space.vectors_of(new, statistics)
    placed = space.place([anchor_of("new", vectors, is_shared=True)])
    vectors = space.vectors_of(others.features, others.statistics)
    assert np.mean(space.leads(vectors, placed)[:, 0] > placed.margins[0]) <= 0.08


def test_examples_of_a_known_class_do_no_harm_to_their_person():
    held_out = people(8, spread=0.3)
    part, measures = fit_features(
        DECODING, people(10, seed=1), held_out, leave_people_out(held_out)
    )
    assert measures["examples_right"] >= measures["examples_right_before"] - 0.01
    assert len(set(part.weights)) == 1


def test_a_sample_has_as_many_windows_of_each_class_from_all_people():
    held_out = people(6, each=50)
    chosen = choose_sample(held_out.labels, 80)
    assert np.bincount(held_out.labels[chosen]).tolist() == [20] * 4
    assert set(held_out.groups[chosen]) == set(range(6))
    assert (np.diff(chosen) > 0).all()


def test_of_many_channels_features_alone_decide_so_that_the_manifest_stays_small():
    held_out, learned = people(8), people(10, seed=1)
    wide = [replace(each, statistics=np.tile(each.statistics, 400)) for each in (held_out, learned)]
    part, measures = fit_features(DECODING, wide[1], wide[0], leave_people_out(wide[0]))
    assert part.statistics is None
    assert AnchorSpace(LABELS, part).size == 12
    assert measures["examples_misnamed"] <= 0.05
    assert fitted(held_out)[0].statistics is not None


def test_too_few_windows_give_no_features():
    few = people(1, each=1).of(np.arange(3))
    assert fit_features(DECODING, few, few, leave_people_out(few)) == (None, {})


def test_one_person_gives_features_with_the_plain_share():
    one = people(1)
    part, _ = fit_features(DECODING, one, one, leave_people_out(one))
    assert part is not None


def test_the_people_it_learned_from_are_kept_and_are_no_people_of_the_margin():
    held_out, learned = people(4), people(10, seed=1)
    part, _ = fit_features(DECODING, learned, held_out, leave_people_out(held_out))
    assert part.learned is not None
    assert set(part.learned_labels()) == set(range(4))
    assert set(part.people()) == set(range(4))
    vectors, statistics = part.learned_vectors()
    assert (vectors.shape[1], statistics.shape[1]) == (12, 4)
    same, _ = fit_features(DECODING, held_out, held_out, leave_people_out(held_out))
    assert same.learned is None  # every person is in the sample already


def test_the_margin_of_shared_examples_is_not_found_among_the_windows_of_who_gave_them():
    drawn, others = people(3), people(1, seed=4)
    part, _ = fit_features(DECODING, people(10, seed=1), drawn, leave_people_out(drawn))
    pairs = [each for each in _left_out(DECODING, part, (drawn, others)) if each.is_shared]
    assert len(pairs) == 4
    assert {len(set(each.people)) for each in pairs} == {2}
    two = people(2, seed=4)
    two = replace(two, groups=two.groups + 10)  # both are new: one gives examples for the other
    pairs = [each for each in _left_out(DECODING, part, (drawn, two)) if each.is_shared]
    assert {len(set(each.people)) for each in pairs} == {3}
