"""An activity by its name on a made-up set: nine activities, three rhythms in three postures."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("onnx", reason="needs the extra [training]; make test installs it")

from models.anchors import AnchorSpace, anchor_of
from models.artifact import read_artifact
from models.manifest import Channel
from models.registry import Registry
from models.session import Student
from models.tasks.classfeatures import FEATURES
from training.candidate import train_candidate
from training.datasets.contract import DataSet
from training.datasets.dummy import make_facts
from training.errors import Hopeless, NamingError
from training.naming.extend import (
    _of_before,
    describe_all,
    extend_student,
    measures_name,
    with_centre,
)
from training.naming.names import Described, fit_named, fit_views
from training.recipes import parse_recipe
from training.teachers.facts import FACTS
from training.windows import digest_windows

pytestmark = pytest.mark.needs_training

RHYTHMS = ("no movement", "periodic motion with a slow rhythm", "fast periodic motion")
POSTURES = ("upright posture", "the thighs are horizontal", "the trunk is horizontal")
SENTENCES = [(rhythm, posture) for rhythm in RHYTHMS for posture in POSTURES]
LABELS = tuple(f"R{place // 3}P{place % 3}" for place in range(9))
NEW = 4
KNOWN = [place for place in range(9) if place != NEW]
RECIPE = parse_recipe(
    'task = "activity"\nmethod = "none"\nconv_channels = [16]\nkernels = [5]\nstrides = [2]\n'
    'pooling = "mean_max"\nfeature_size = 16\nepochs = 15\nbatch_size = 32\ncalibrate = true\n'
    "learning_rate = 5e-3\ndropout = 0.0\nhold_out = 0.34"
)


def data_of(windows):
    names = [f"{name}_{axis}" for name in ("lie", "acc") for axis in "xyz"]
    return DataSet(
        name="facts",
        title="Facts",
        task="activity",
        stream="waist",
        group_word="subject",
        channels=tuple(Channel(name=name, unit="g") for name in names),
        rate_hz=50.0,
        length=64,
        hop=32,
        gap_ms=None,
        labels=tuple(LABELS[place] for place in KNOWN),
        scaling="zscore",
        train=windows,
        test=None,
        digest=digest_windows(windows),
        terms="made up",
    )


def encode(descriptions):
    words = sorted({word for some in SENTENCES for text in some for word in text.split()})
    return np.array(
        [[" ".join(some).split().count(word) for word in words] for some in descriptions], float
    )


@pytest.fixture(scope="module")
def data():
    every = make_facts(0, groups=9)
    known = every.where(every.labels != NEW)
    places = np.searchsorted(KNOWN, known.labels)
    return data_of(dataclasses.replace(known, labels=places))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return train_candidate(data, RECIPE, "facts", folder, command="test").artifact


@pytest.fixture(scope="module")
def known_as():
    return {LABELS[place]: SENTENCES[place] for place in KNOWN}


def extended(trained, data, known_as, folder, sentences=SENTENCES[NEW], encode=encode, name="new"):
    return extend_student(
        trained,
        data,
        name,
        sentences,
        known_as,
        folder,
        share=0.05,
        encode=encode,
        command="test",
    )


@pytest.fixture(scope="module")
def extension(trained, data, known_as, tmp_path_factory):
    return extended(trained, data, known_as, tmp_path_factory.mktemp("extended") / "student")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a,b", "cannot be the name of a class"),
        ("x" * 65, "at most 64 characters"),
        ("", "at least 1 character"),
        ("r0p0", "knows R0P0 already"),
        ("Unknown", "resemble no class"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_any_work(
    trained, data, known_as, tmp_path, name, message
):
    with pytest.raises(NamingError, match=message):
        extended(trained, data, known_as, tmp_path, encode=None, name=name)


def test_a_long_name_and_a_long_description_fit_into_the_manifest(
    trained, data, known_as, tmp_path
):
    sentences = (*SENTENCES[NEW], "word " * 900)
    found = extended(trained, data, known_as, tmp_path / "long", sentences, name="x" * 64)
    assert found.artifact.manifest.decoding.labels[-1] == "x" * 64
    assert "known_misnamed" in found.artifact.manifest.metrics[measures_name("x" * 64)]


def test_a_student_of_two_classes_is_extended_without_an_expectation(data, known_as, tmp_path):
    two = data.train.where(np.isin(data.train.labels, (0, 7)))
    places = np.searchsorted((0, 7), two.labels)
    two = dataclasses.replace(
        data_of(dataclasses.replace(two, labels=places)), labels=("R0P0", "R2P2")
    )
    trained = train_candidate(two, RECIPE, "facts", tmp_path / "two", command="test").artifact
    names = {name: known_as[name] for name in two.labels}
    found = extended(trained, two, names, tmp_path / "out")
    measures = found.artifact.manifest.metrics[measures_name("new")]
    assert found.left_out == []
    assert "expected_recall" not in measures


def test_a_description_names_what_was_never_shown(extension):
    test = make_facts(1, groups=4)
    scores = Student(read_artifact(extension.artifact.path)).score(test.windows)
    named = np.array([scores.label(row) == "new" for row in range(len(test))])
    assert named[test.labels == NEW].mean() > 0.8
    assert named[test.labels != NEW].mean() <= 0.08
    assert np.abs(scores.values.sum(axis=1) - 1).max() < 1e-5


def test_features_of_a_student_that_may_know_all_people_set_no_margin(
    trained, data, known_as, tmp_path
):
    """The same student, and data whose digest is not that of its lineage."""
    others = dataclasses.replace(data, digest="other")
    found = extended(trained, others, known_as, tmp_path / "out")
    assert any("measured movement alone decides" in note for note in found.notes)
    assert all(one.with_features == one.by_movement for one in found.left_out)
    measures = found.artifact.manifest.metrics[measures_name("new")]
    assert measures["known_misnamed_at_most"] == pytest.approx(0.75 * 0.05)
    test = make_facts(1, groups=4)
    scores = Student(found.artifact).score(test.windows)
    named = np.array([scores.label(row) == "new" for row in range(len(test))])
    assert named[test.labels == NEW].mean() > 0.8
    assert named[test.labels != NEW].mean() <= 0.05


def test_wrong_descriptions_do_not(trained, data, known_as, tmp_path):
    """The same sentences, each given to another activity."""
    recalls = []
    for shift in (1, 4):
        names = [*known_as]
        wrong = {name: known_as[names[(place + shift) % 8]] for place, name in enumerate(names)}
        try:
            found = extended(trained, data, wrong, tmp_path / str(shift))
        except Hopeless:
            recalls.append(0.0)
            continue
        test = make_facts(1, groups=4)
        scores = Student(found.artifact).score(test.windows)
        recalls.append(np.mean(scores.values[test.labels == NEW].argmax(axis=1) == 8))
    assert np.mean(recalls) < 0.5


def test_labels_keep_their_order_and_probabilities_their_proportions(extension, trained, data):
    before, after = Student(trained), Student(extension.artifact)
    assert after.manifest.decoding.labels == (*trained.manifest.decoding.labels, "new")
    windows = data.train.windows[::20]
    old, new = before.score(windows).values, after.score(windows).values
    np.testing.assert_allclose(new[:, :-1], old * (1 - new[:, -1:]), atol=1e-5)


def test_a_window_like_nothing_stays_unknown_and_the_new_one_is_reached(extension, trained):
    """The guard shrinks the known probabilities only."""
    test = make_facts(1, groups=4)
    new = test.windows[test.labels == NEW]
    strange = np.random.default_rng(0).normal(0, 30, (20, 64, 6)).astype("f4")
    after = Student(extension.artifact)
    assert (after.score(new).known | ~Student(trained).score(new).known).mean() > 0.8
    assert not after.score(strange).known.any()


def test_measures_say_of_which_version_they_are_true(extension, trained, data, tmp_path):
    before, after = trained.manifest.metrics, extension.artifact.manifest.metrics
    assert {f"v1: {split}": found for split, found in before.items()}.items() <= after.items()
    assert not before.keys() & after.keys() - {"held_out"}
    own = after["held_out"]  # measured again: a window with the new name is wrong
    assert own.keys() >= {"macro_f1", "unknown_share", "windows"}
    assert own["macro_f1"] >= before["held_out"]["macro_f1"] - 0.05
    again = dataclasses.replace(
        extension.artifact, manifest=extension.artifact.manifest.model_copy(update={"version": 2})
    )
    kept = _of_before(again.manifest)
    assert kept["v1: held_out"] == before["held_out"]
    assert kept["v2: held_out"] == own


def test_card_and_lineage_say_what_was_done(extension, trained):
    manifest = extension.artifact.manifest
    measures = manifest.metrics["new, by name"]
    assert measures["known_misnamed"] <= 0.05
    assert measures["expected_recall_low"] <= measures["expected_recall"]
    assert measures["expected_recall"] > measures["by_permuted_descriptions"] + 0.3
    assert set(manifest.metrics["left out"]) == set(trained.manifest.decoding.labels)
    assert "no window of new" in manifest.lineage.data
    assert SENTENCES[NEW][0] in manifest.lineage.command
    assert trained.manifest.lineage.command in manifest.lineage.command


def test_examples_can_move_what_a_text_has_placed(extension):
    decoding = extension.artifact.manifest.decoding
    assert len(decoding.features.weights) == len(decoding.labels)
    test = make_facts(1, groups=4)
    new = test.windows[test.labels == NEW]
    _, features = Student(extension.artifact).score_with_features(new)
    space = AnchorSpace(decoding.labels, decoding.features)
    some = space.vectors(features[:5], new[:5])
    assert space.place([anchor_of("new", some)]) is not None


def test_the_predicted_centre_is_that_of_the_features(trained, data):
    """Without text the prediction is the mean of the known classes."""
    _, found = Student(trained).score_with_features(data.train.windows)
    values, labels = {FEATURES: found}, data.train.labels
    nothing = Described(np.zeros((8, len(FACTS))), np.zeros((8, 3)))
    views = fit_views(values, labels)
    named = fit_named(views, [], nothing, nothing.rows([0]), values, data.train.groups, 0.05)
    before = trained.manifest.decoding.features
    after = with_centre(before, named)
    centres = after.centre_vectors()
    means = np.stack([found[labels == label].mean(axis=0) for label in range(8)])
    assert after.weights == (*before.weights, 1.0)
    assert centres[-1] @ means.mean(axis=0) > 0.95 * np.linalg.norm(means.mean(axis=0))
    assert len(centres) == 9


def test_an_activity_like_a_known_one_is_refused(trained, data, known_as, tmp_path):
    folder = tmp_path / "student"
    with pytest.raises(Hopeless, match="I can't: 'new' lies too close to R1P0"):
        extended(trained, data, known_as, folder, SENTENCES[3])
    assert not folder.exists()


def test_descriptions_that_tell_nothing_are_refused(trained, data, known_as, tmp_path):
    same = dict.fromkeys(known_as, ("a thing",))
    with pytest.raises(Hopeless, match="I can't"):
        extended(trained, data, same, tmp_path / "student")


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (("walking", "S3"), {}, "nothing is known about S3"),
        (("walking",), {"running": ("fast",)}, "--known-as names 'running'"),
    ],
)
def test_a_label_without_a_description_is_named(labels, given, message):
    with pytest.raises(NamingError, match=message):
        describe_all(labels, given)


def test_a_registry_takes_the_next_version_and_it_can_be_extended_again(
    extension, trained, data, known_as, tmp_path
):
    registry = Registry(tmp_path / "registry")
    assert registry.publish(trained.path) == 1
    assert registry.publish(extension.artifact.path) == 2
    again = extend_student(
        registry.read("facts", 2),
        data,
        "newer",
        ("very strong movements with hard impacts", "the trunk is bent forward"),
        {**known_as, "new": SENTENCES[NEW]},
        tmp_path / "again",
        share=0.05,
        encode=encode,
        command="test",
    )
    assert again.artifact.manifest.decoding.labels[-2:] == ("new", "newer")
