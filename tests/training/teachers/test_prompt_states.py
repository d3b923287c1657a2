"""Prompts in front of patches: caches equal the whole pass, padding never counts."""

import sys

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("transformers")

from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from training.errors import TeacherError  # noqa: E402
from training.teachers import prompt_states  # noqa: E402
from training.teachers.prompt_states import make_prompt_form  # noqa: E402

pytestmark = pytest.mark.needs_training

TEXTS = ("[stats] min -1.0; trend up", "short", "[domain] a longer one [stats] min 2.0; trend down")
INDEX = torch.tensor([0, 1, 2, 1])


@pytest.fixture(scope="module")
def causal():
    return tiny_backbone()


@pytest.fixture(scope="module")
def encoder():
    return tiny_backbone(is_causal=False)


@pytest.fixture
def tokens():
    return torch.randn(4, 6, 24, generator=torch.Generator().manual_seed(2))


def test_cached_keys_and_values_equal_the_pass_over_the_whole_prompt(causal, tokens):
    whole = make_prompt_form("whole", causal, TEXTS).read(tokens, INDEX)
    prefix = make_prompt_form("prefix", causal, TEXTS).read(tokens, INDEX)
    bare = make_prompt_form("none", causal, ()).read(tokens, INDEX)
    torch.testing.assert_close(prefix, whole, atol=1e-4, rtol=0)
    assert (bare - whole).abs().max() > 0.01


CASES = [("prefix", True), ("whole", True), ("token", True), ("whole", False), ("token", False)]


@pytest.mark.parametrize(("form", "is_causal"), CASES)
def test_a_padded_batch_says_what_each_window_says_alone(form, is_causal, tokens):
    backbone = tiny_backbone(is_causal=is_causal)
    language = make_prompt_form(form, backbone, TEXTS)
    together = language.read(tokens, INDEX)
    for row in range(4):
        alone = language.read(tokens[row : row + 1], INDEX[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["prefix", "whole", "token"])
def test_another_prompt_gives_other_states(causal, tokens, form):
    language = make_prompt_form(form, causal, TEXTS)
    one, other = language.read(tokens, INDEX), language.read(tokens, INDEX.flip(0))
    assert (one[0] - other[0]).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["prefix", "whole", "token", "none"])
def test_gradients_reach_the_patches_and_no_weight_of_the_backbone(causal, tokens, form):
    patches = tokens.clone().requires_grad_()
    make_prompt_form(form, causal, TEXTS).read(patches, INDEX).sum().backward()
    assert patches.grad.abs().sum(dim=(1, 2)).min() > 0
    assert all(weights.grad is None for weights in causal.model.parameters())
    assert not causal.words.requires_grad


def test_auto_caches_causal_prompts_and_sums_up_bidirectional_ones(causal, encoder):
    assert isinstance(make_prompt_form("auto", causal, TEXTS), prompt_states.Prefix)
    assert isinstance(make_prompt_form("auto", encoder, TEXTS), prompt_states.OneToken)


def test_the_prompt_of_a_bidirectional_model_is_not_cached(encoder):
    with pytest.raises(TeacherError, match="bidirectional backbone tiny-encoder sees the patches"):
        make_prompt_form("prefix", encoder, TEXTS)


def test_too_many_prompts_are_refused_before_any_pass(causal):
    texts = [str(number) for number in range(prompt_states.MAX_PREFIXES + 1)]
    with pytest.raises(TeacherError, match=r"2001 distinct prompts.*larger statistics_step"):
        make_prompt_form("prefix", causal, texts)


def test_a_prompt_that_does_not_fit_is_refused(encoder, tokens):
    language = make_prompt_form("whole", encoder, ("x" * 510,))
    with pytest.raises(TeacherError, match="517 tokens, but backbone tiny-encoder reads 512"):
        language.read(tokens, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("form", ["prefix", "token"])
def test_a_cached_prompt_needs_no_pass(tmp_path, tokens, form):
    backbone = tiny_backbone()
    passes = []
    backbone.model.register_forward_hook(lambda *_: passes.append(1))
    first = make_prompt_form(form, backbone, TEXTS[:2], tmp_path).read(tokens, INDEX % 2)
    assert len(passes) == 2 + 1  # two prompts, one reading
    passes.clear()
    again = make_prompt_form(form, backbone, TEXTS[:2], tmp_path).read(tokens, INDEX % 2)
    assert len(passes) == 1
    assert torch.equal(first, again)
    make_prompt_form(form, backbone, TEXTS, tmp_path)
    assert len(passes) == 1 + 1  # the new text only


def test_prompts_of_other_weights_are_not_taken(tmp_path, tokens):
    one, other = tiny_backbone(seed=0), tiny_backbone(seed=1)
    make_prompt_form("prefix", one, TEXTS, tmp_path)
    cached = make_prompt_form("prefix", other, TEXTS, tmp_path).read(tokens, INDEX)
    fresh = make_prompt_form("prefix", other, TEXTS).read(tokens, INDEX)
    assert torch.equal(cached, fresh)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.needs_smollm2
def test_the_cached_prompts_of_smollm2_equal_the_whole_pass():
    from training.teachers.backbones import load_backbone

    backbone = load_backbone("smollm2")
    tokens = torch.randn(4, 12, 576, generator=torch.Generator().manual_seed(2)) * 0.1
    whole = make_prompt_form("whole", backbone, TEXTS).read(tokens, INDEX)
    prefix = make_prompt_form("prefix", backbone, TEXTS).read(tokens, INDEX)
    torch.testing.assert_close(prefix, whole, atol=1e-4, rtol=0)
    assert "llama_cpp" not in sys.modules
