"""Patches, prototypes and reprogramming attention against slow literal references."""

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.teachers.reprogramming import (  # noqa: E402
    PatchEmbedding,
    Reprogramming,
    TextPrototypes,
    cut_patches,
    principal_directions,
    prototype_source,
)
from training.teachers.timellm_config import TimeLLMConfig  # noqa: E402

pytestmark = pytest.mark.needs_training

CONFIG = TimeLLMConfig(
    length=40, patch_width=5, heads=3, head_width=4, prototypes=7, principal=6, dropout=0.5
)
WIDTH = 12


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def literal_patches(window, length, stride):
    padded = list(window) + [window[-1]] * stride
    count = (len(window) - length) // stride + 2
    return [padded[start * stride : start * stride + length] for start in range(count)]


@pytest.mark.parametrize(("readings", "length", "stride"), [(40, 16, 8), (16, 16, 8), (45, 10, 3)])
def test_patches_equal_the_literal_reference(readings, length, stride):
    windows = torch.randn(3, readings)
    found = cut_patches(windows, length, stride)
    literal = [literal_patches(window, length, stride) for window in windows.tolist()]
    np.testing.assert_allclose(found.numpy(), np.array(literal), rtol=1e-6)


def test_the_circular_convolution_sees_both_neighbours_of_a_patch():
    layer = PatchEmbedding(TimeLLMConfig(patch_embedding="convolution", patch_width=5)).eval()
    patches = torch.randn(2, 12, 16)
    kernel = layer.linear.weight.detach().numpy()  # [patch_width, patch_length, 3]
    values = patches.numpy()
    literal = np.zeros((2, 12, 5))
    for row in range(2):
        for patch in range(12):
            for out in range(5):
                for tap in range(3):
                    neighbour = values[row, (patch + tap - 1) % 12]
                    literal[row, patch, out] += kernel[out, :, tap] @ neighbour
    np.testing.assert_allclose(layer(patches).detach().numpy(), literal, atol=1e-5)
    assert [name for name, _ in layer.named_parameters()] == ["linear.weight"]


def test_the_linear_embedding_keeps_patches_apart():
    layer = PatchEmbedding(CONFIG).eval()
    patches = torch.randn(1, 6, 16)
    changed = patches.clone()
    changed[0, 0] += 1
    same = (layer(patches) == layer(changed)).all(dim=-1)[0]
    assert same.tolist() == [False] + [True] * 5


@pytest.mark.parametrize("scale", ["none", "unit"])
def test_prototypes_are_the_trained_map_over_the_vocabulary(scale):
    words = torch.randn(50, WIDTH)
    module = TextPrototypes(replace(CONFIG, prototype_scale=scale), words, WIDTH)
    weights, bias = (part.detach().numpy() for part in (module.mix.weight, module.mix.bias))
    literal = np.zeros((7, WIDTH))
    for prototype in range(7):
        for feature in range(WIDTH):
            literal[prototype, feature] = bias[prototype]
            for word in range(50):
                literal[prototype, feature] += weights[prototype, word] * words[word, feature]
        if scale == "unit":
            square = sum(value**2 for value in literal[prototype]) / WIDTH
            literal[prototype] /= math.sqrt(square)
    np.testing.assert_allclose(module().detach().numpy(), literal, atol=1e-5)


def literal_attention(module, patches, prototypes):
    """The equations of section 2.1, one head, patch and prototype at a time."""

    def map_of(layer, vector):
        return layer.weight.detach().numpy() @ vector + layer.bias.detach().numpy()

    batch, count, _ = patches.shape
    outs = np.zeros((batch, count, prototypes.shape[1]))
    weights = np.zeros((batch, module.heads, count, len(prototypes)))
    for row in range(batch):
        for patch in range(count):
            query = map_of(module.query, patches[row, patch])
            heads = []
            for head in range(module.heads):
                part = slice(head * module.head_width, (head + 1) * module.head_width)
                scores = [
                    query[part] @ map_of(module.key, prototype)[part] / math.sqrt(module.head_width)
                    for prototype in prototypes
                ]
                total = sum(math.exp(score) for score in scores)
                mixed = np.zeros(module.head_width)
                for place, score in enumerate(scores):
                    share = math.exp(score) / total
                    weights[row, head, patch, place] = share
                    mixed += share * map_of(module.value, prototypes[place])[part]
                heads.append(mixed)
            outs[row, patch] = map_of(module.out, np.concatenate(heads))
    return outs, weights


def test_reprogramming_equals_the_literal_reference():
    module = Reprogramming(CONFIG, WIDTH).eval()
    patches, prototypes = torch.randn(2, 6, 5), 3 * torch.randn(7, WIDTH)
    tokens, attention = module(patches, prototypes)
    outs, weights = literal_attention(module, patches.numpy(), prototypes.numpy())
    np.testing.assert_allclose(tokens.detach().numpy(), outs, atol=1e-5)
    np.testing.assert_allclose(attention.detach().numpy(), weights, atol=1e-6)
    assert weights.std() > 0.01  # the attention is not uniform
    np.testing.assert_allclose(attention.sum(dim=-1).detach().numpy(), 1, atol=1e-6)


def test_principal_directions_are_orthogonal_and_as_long_as_words():
    words = torch.randn(300, WIDTH) * torch.linspace(1, 4, WIDTH) + 2
    found = principal_directions(words, 6)
    gram = (found @ found.T).numpy()
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-3)
    assert found.norm(dim=1).mean() == pytest.approx(float(words.norm(dim=1).mean()), rel=1e-5)
    # Literal: singular vectors of the centred words, in their order.
    values = words.double().numpy()
    _, singular, right = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    for place in range(6):
        cosine = found[place].numpy() @ right[place] / np.linalg.norm(found[place].numpy())
        assert abs(cosine) == pytest.approx(1, abs=1e-4)
        assert found[place].numpy()[np.abs(found[place].numpy()).argmax()] > 0
    ratio = (found.norm(dim=1) / found[0].norm()).numpy()
    np.testing.assert_allclose(ratio, singular[:6] / singular[0], rtol=1e-4)


def test_too_many_principal_directions_are_refused():
    with pytest.raises(ValueError, match=r"13 principal directions of .* at most 12"):
        principal_directions(torch.randn(30, 12), 13)


def test_random_directions_have_the_spectrum_of_the_words_and_not_their_directions():
    words = torch.randn(300, WIDTH) * torch.linspace(1, 4, WIDTH)
    own, random = (
        prototype_source(TimeLLMConfig(prototype_source=kind, principal=6, seed=1), words)
        for kind in ("principal", "random")
    )
    spectrum = [np.linalg.svd(part.numpy(), compute_uv=False) for part in (own, random)]
    np.testing.assert_allclose(spectrum[0], spectrum[1], rtol=1e-4)
    assert not torch.allclose(own, random)


def test_free_prototypes_need_no_words():
    config = TimeLLMConfig(prototype_source="free", prototypes=7)
    assert prototype_source(config, torch.zeros(5, WIDTH)) is None
    module = TextPrototypes(config, None, WIDTH)
    assert module().shape == (7, WIDTH)
    assert module().requires_grad
