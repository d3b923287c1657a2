"""The comparison of texts: it finds a text that tells, and none that doesn't."""

import numpy as np
import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from training.bench.ledger import read_lines
from training.bench.namingtexts import (
    MAPS,
    compared_texts,
    main,
    measure_text,
)
from training.teachers.prompts import PROMPTS

LABELS, WIDTH = 5, 16


def _cached(places, left_out, seed=0):
    """Windows around the place of their label, scored by a head that knows the seen labels."""
    random = np.random.default_rng(seed)
    seen = [label for label in range(LABELS) if label != left_out]
    found = {"seen": np.array(seen), "left_out": np.array(left_out)}
    found["labels"] = np.array([f"label {label}" for label in range(LABELS)])
    for part in ("learned", "held_out", "test"):
        labels = np.repeat(seen if part == "learned" else np.arange(LABELS), 60)
        features = places[labels] + 0.1 * random.normal(size=(len(labels), places.shape[1]))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        near = np.exp(8 * features @ places[seen].T)
        found |= {
            f"{part}_features": features.astype(np.float32),
            f"{part}_probabilities": (near / near.sum(axis=1, keepdims=True)).astype(np.float32),
            f"{part}_labels": labels,
            f"{part}_groups": np.arange(len(labels)) % 4,
        }
    return found


def _world(seed=0):
    """Texts, and places of the labels that are a linear map of them."""
    random = np.random.default_rng(seed)
    facts = random.normal(size=(LABELS, 2))
    texts = facts @ random.normal(size=(2, WIDTH))
    places = facts @ random.normal(size=(2, 8))
    return texts.astype(np.float32), places / np.linalg.norm(places, axis=1, keepdims=True)


def _mean(texts, places, kind, measure="recall"):
    found = [
        measure_text(texts, _cached(places, label), kind)["test"][measure]
        for label in range(LABELS)
    ]
    return np.mean(found)


def test_a_text_that_tells_names_what_random_vectors_do_not():
    told, drawn = [], []
    for seed in range(3):
        texts, places = _world(seed)
        random = np.random.default_rng(5).normal(size=texts.shape).astype(np.float32)
        told.append(_mean(texts, places, "features"))
        drawn.append(_mean(random, places, "features"))
    assert np.mean(told) > np.mean(drawn) + 0.2


@pytest.mark.parametrize("kind", MAPS)
def test_few_known_windows_get_the_new_name(kind):
    texts, places = _world()
    assert _mean(texts, places, kind, "misnamed") < 0.1


def test_every_text_has_vectors_for_every_set():
    names = set()
    for text in compared_texts():
        names.add(text.name)
        for benchmark, prompts in {"UCI-HAR": "activity", "SPSW-phone": "spsw"}.items():
            if (benchmark, text.name) != ("SPSW-phone", "attributes"):
                assert len(text.vectors(benchmark)) == len(PROMPTS[prompts])
    assert {"minilm", "smollm2-word-rule-whole", "glove", "facts", "random"} <= names


def test_the_command_writes_lines_and_report(tmp_path):
    _, places = _world()
    cache = tmp_path / "cache"
    cache.mkdir()
    for label in (0, 1, 2):
        np.savez(cache / f"SPSW-watch-{label}-none-0.npz", **_cached(places, label))
    results = tmp_path / "results.jsonl"
    done = CliRunner().invoke(main, ["--cache", str(cache), "--results", str(results)])
    assert done.exit_code == 0, done.output
    lines = read_lines(results)
    assert len(lines) == 3 * len(MAPS) * len({text.name for text in compared_texts()})
    assert "smollm2-word-rule-whole" in results.with_suffix(".md").read_text()


def test_a_folder_without_cache_is_refused(tmp_path):
    done = CliRunner().invoke(main, ["--cache", str(tmp_path)])
    assert done.exit_code != 0
    assert "namingcache" in done.output
