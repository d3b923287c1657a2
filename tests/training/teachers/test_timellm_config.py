import pytest

from training.errors import RecipeError
from training.teachers.timellm_config import TimeLLMConfig


@pytest.mark.parametrize(("length", "patches"), [(512, 64), (96, 12), (16, 2)])
def test_the_number_of_patches_is_that_of_the_paper(length, patches):
    assert TimeLLMConfig(length=length).patches == patches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "gpt2"}, "backbone is 'gpt2', expected one of .*smollm2"),
        ({"prompt": "no"}, "prompt is 'no'"),
        ({"length": 12}, "length is 12, shorter than one patch of 16"),
        ({"epochs": 0}, "epochs is 0, expected a positive number"),
        ({"share": 0.0}, "share is 0.0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"backbone": "none", "weights": "random"}, "'none' has no weights"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key(changes, message):
    with pytest.raises(RecipeError, match=message):
        TimeLLMConfig(**changes)


def test_the_digest_names_what_differs_from_the_defaults():
    assert TimeLLMConfig(seed=3, horizon=192).changes() == {"seed": 3, "horizon": 192}
    assert TimeLLMConfig().digest == TimeLLMConfig(seed=0).digest != TimeLLMConfig(seed=1).digest
