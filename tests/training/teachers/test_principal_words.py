import numpy as np
import pytest

from training.errors import TeacherError
from training.teachers import principal_words as module
from training.teachers.principal_words import cached_words, principal_words, random_words

WORDS = np.random.default_rng(0).normal(size=(40, 8)) * np.linspace(3, 1, 8)


def slow_principal_words(words, count):
    """PCA of the transposed matrix by power iteration, one component after the other.

    The samples are the coordinates, the features are the words; a score is the projection of a
    coordinate on a component.
    """
    coordinates = [[float(words[word, axis]) for word in range(len(words))] for axis in range(8)]
    for word in range(len(words)):
        mean = sum(row[word] for row in coordinates) / 8
        for row in coordinates:
            row[word] -= mean
    found = []
    for _ in range(count):
        component = np.random.default_rng(1).normal(size=len(words))
        for _ in range(3000):
            scores = [
                sum(a * b for a, b in zip(row, component, strict=True)) for row in coordinates
            ]
            component = np.zeros(len(words))
            for score, row in zip(scores, coordinates, strict=True):
                component += score * np.array(row)
            component /= np.linalg.norm(component)
        scores = np.array([np.dot(row, component) for row in coordinates])
        found.append(scores * np.sign(scores[np.abs(scores).argmax()]))
        coordinates = [
            np.array(row) - score * component
            for row, score in zip(coordinates, scores, strict=True)
        ]
    return np.array(found)


def test_principal_words_are_the_scores_of_the_pca_of_the_transposed_matrix():
    np.testing.assert_allclose(
        principal_words(WORDS, 3), slow_principal_words(WORDS, 3), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("make", [principal_words, lambda w, k: random_words(w, k, 5)])
def test_they_are_orthogonal_and_their_norms_descend(make):
    vectors = make(WORDS, 7).astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors.T / np.outer(norms, norms)
    assert np.abs(cosines - np.eye(7)).max() < 1e-4
    assert (np.diff(norms) <= 0).all()
    np.testing.assert_allclose(norms, np.linalg.norm(principal_words(WORDS, 7), axis=1), rtol=1e-5)


def test_signs_do_not_depend_on_the_solver():
    vectors = principal_words(WORDS, 7)
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    assert (peaks > 0).all()
    np.testing.assert_array_equal(vectors, principal_words(WORDS.copy(), 7))


def test_random_words_have_other_directions():
    assert not np.allclose(random_words(WORDS, 7, 1), random_words(WORDS, 7, 2), atol=0.1)
    assert not np.allclose(random_words(WORDS, 7, 1), principal_words(WORDS, 7), atol=0.1)


@pytest.mark.parametrize("count", [0, 8])
def test_more_words_than_there_can_be_are_refused(count):
    with pytest.raises(TeacherError, match="ask for 1 to 7"):
        principal_words(WORDS, count)


def test_a_second_run_computes_nothing(tmp_path, monkeypatch):
    first = cached_words(tmp_path, WORDS, "ab", 5)
    control = cached_words(tmp_path, WORDS, "ab", 5, random_seed=1)
    monkeypatch.delattr(module, "principal_words")
    monkeypatch.delattr(module, "random_words")
    np.testing.assert_array_equal(cached_words(tmp_path, WORDS, "ab", 5), first)
    np.testing.assert_array_equal(cached_words(tmp_path, WORDS, "ab", 5, random_seed=1), control)
    with pytest.raises(NameError):
        cached_words(tmp_path, WORDS, "cd", 5)


def test_a_damaged_cache_is_refused(tmp_path):
    cached_words(tmp_path, WORDS, "ab", 5)
    path = next(tmp_path.glob("words-*")) / "words.npy"
    np.save(path, np.load(path) + 1)
    with pytest.raises(TeacherError, match="was changed"):
        cached_words(tmp_path, WORDS, "ab", 5)
