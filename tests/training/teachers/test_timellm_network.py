"""The network of TIME-LLM: acceptance checks of its specification, and a literal reference."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("transformers")

from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from tests.training.teachers.test_reprogramming import (  # noqa: E402
    literal_attention,
    literal_patches,
)
from training.errors import TeacherError  # noqa: E402
from training.teachers.prompt_states import make_prompt_form  # noqa: E402
from training.teachers.reprogramming import prototype_source  # noqa: E402
from training.teachers.timellm_config import TimeLLMConfig  # noqa: E402
from training.teachers.timellm_network import TimeLLMNetwork, trained_weights  # noqa: E402

pytestmark = pytest.mark.needs_training

TEXTS = ("min -1", "a longer text; max 2")
SMALL = {
    "length": 40,
    "horizon": 9,
    "patch_width": 5,
    "heads": 2,
    "head_width": 12,
    "prototypes": 7,
    "principal": 6,
}
WIDTH = 24  # of the tiny backbones


def build(backbone, ridge=None, **changes):
    config = TimeLLMConfig(**(SMALL | changes))
    source = prototype_source(config, backbone.words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TimeLLMNetwork(config, WIDTH, source, ridge)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def language(backbone):
    return make_prompt_form("prefix", backbone, TEXTS)


@pytest.fixture
def windows():
    return 30 + 4 * torch.randn(5, 40, generator=torch.Generator().manual_seed(1))


INDEX = torch.tensor([0, 1, 0, 1, 1])


@pytest.mark.parametrize("reduction", ["first", "pooled"])
def test_the_forecast_equals_the_literal_reference(backbone, language, windows, reduction):
    """Norm, patches, reprogramming, flatten head and de-normalisation, in NumPy loops."""
    network = build(backbone, reduction=reduction).eval()
    found = network(windows, language, INDEX)
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    prototypes = network.prototypes().detach().numpy()
    for row, window in enumerate(windows.tolist()):
        mean = sum(window) / 40
        deviation = math.sqrt(sum((value - mean) ** 2 for value in window) / 40 + 1e-5)
        patches = literal_patches([(value - mean) / deviation for value in window], 16, 8)
        embedded = np.array(
            [weights["embedding.linear.weight"] @ patch for patch in np.array(patches)]
        )
        embedded += weights["embedding.linear.bias"]
        tokens, _ = literal_attention(network.reprogramming, embedded[None], prototypes)
        states = language.read(torch.tensor(tokens, dtype=torch.float32), INDEX[row : row + 1])[0]
        states = states.numpy()
        if reduction == "pooled":
            kept = states @ weights["pool.weight"].T + weights["pool.bias"]
        else:
            kept = states[:, :12]
        flat = [kept[patch, feature] for feature in range(12) for patch in range(len(patches))]
        forecast = weights["head.weight"] @ np.array(flat) + weights["head.bias"]
        np.testing.assert_allclose(
            found.values[row].detach().numpy(), forecast * deviation + mean, rtol=1e-4
        )
        np.testing.assert_allclose(found.feature[row].numpy(), states.mean(axis=0), atol=1e-4)


def test_normalisation_is_undone(backbone, language, windows):
    network = build(backbone).eval()
    one = network(windows, language, INDEX).values
    other = network(100 * windows - 7, language, INDEX).values
    torch.testing.assert_close(100 * one - 7, other, rtol=1e-3, atol=1e-2)


def test_a_constant_window_has_a_finite_forecast(backbone, language):
    network = build(backbone).eval()
    found = network(torch.full((1, 40), 1e4), language, INDEX[:1]).values
    torch.testing.assert_close(found, torch.full((1, 9), 1e4), rtol=1e-3, atol=0)


def test_two_prompts_give_two_forecasts_of_one_window(backbone, language, windows):
    network = build(backbone).eval()
    one = network(windows[:1], language, torch.tensor([0])).values
    other = network(windows[:1], language, torch.tensor([1])).values
    assert (one - other).abs().max() > 1e-3


def test_a_padded_batch_forecasts_what_a_window_alone_does(backbone, language, windows):
    network = build(backbone).eval()
    together = network(windows, language, INDEX).values
    for row in range(5):
        alone = network(windows[row : row + 1], language, INDEX[row : row + 1]).values
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-6)


def test_all_trained_weights_and_no_frozen_one_get_a_gradient(backbone, language, windows):
    network = build(backbone)
    network(windows, language, INDEX).values.square().sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
    # A bias of the keys shifts all scores alike, so its gradient is rounding only.
    silent = [n for n, w in network.named_parameters() if not w.grad.abs().max() > 1e-6]
    assert set(silent) <= {"reprogramming.key.bias"}
    assert all(weights.grad is None for weights in backbone.model.parameters())
    names = [name for name, _ in network.named_parameters()]
    assert not any("model" in name or "words" in name for name in names)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"patch_embedding": "convolution"},
        {"prototype_source": "words"},
        {"prototype_source": "free"},
        {"reduction": "pooled"},
    ],
)
def test_the_count_of_trained_weights_is_the_formula(backbone, changes):
    network = build(backbone, **changes)
    source = network.prototypes.source
    count = sum(weights.numel() for weights in network.parameters())
    assert count == trained_weights(network.config, WIDTH, 0 if source is None else len(source))


def test_the_formula_gives_the_counts_of_the_specification():
    minilm = TimeLLMConfig(length=512, patch_embedding="convolution", prototype_source="words")
    parts = 768 + 3_052_300 + 300_160 + 196_704
    assert trained_weights(minilm, 384, 30_522) == parts


def test_attention_sums_to_one_and_its_entropy_is_that_of_the_code(backbone, language, windows):
    found = build(backbone).eval()(windows, language, INDEX)
    np.testing.assert_allclose(found.code.sum(dim=1).numpy(), 1, atol=1e-5)
    assert 0 < float(found.entropy) <= math.log(7) + 1e-6


def test_a_network_that_starts_from_ridge_forecasts_like_it(backbone, language, windows):
    ridge = torch.randn(9, 40, generator=torch.Generator().manual_seed(5))
    network = build(backbone, ridge=ridge, start="ridge").eval()
    mean = windows.mean(dim=1, keepdim=True)
    expected = (windows - mean) @ ridge.T + mean
    torch.testing.assert_close(
        network(windows, language, INDEX).values, expected, rtol=1e-4, atol=1e-3
    )
    assert "ridge" not in dict(network.named_parameters())


def test_without_a_backbone_patches_go_to_the_head(windows):
    config = TimeLLMConfig(**SMALL, backbone="none")
    network = TimeLLMNetwork(config, 0, None).eval()
    found = network(windows, None, INDEX)
    assert found.values.shape == (5, 9)
    assert found.code is None
    count = sum(weights.numel() for weights in network.parameters())
    assert count == trained_weights(config, 0, 0) == 17 * 5 + (5 * 5 + 1) * 9


def test_a_network_without_its_language_model_says_so(backbone, windows):
    with pytest.raises(TeacherError, match="needs its backbone smollm2"):
        build(backbone)(windows, None, INDEX)


def test_a_head_wider_than_the_backbone_is_refused(backbone):
    with pytest.raises(TeacherError, match="head_width is 32, but the backbone is 24 wide"):
        build(backbone, head_width=32)
