import numpy as np
import pytest

from training.teachers.timellm_config import TimeLLMConfig
from training.teachers.window_prompts import WRONG_DOMAIN, write_prompts

ABOUT = "Load of a transformer, read every hour"


@pytest.fixture(scope="module")
def windows():
    return np.random.default_rng(0).normal(size=(200, 96)).cumsum(axis=1).astype(np.float32)


def test_a_prompt_names_domain_task_and_statistics_in_this_order():
    day = np.sin(2 * np.pi * np.arange(96) / 24 - 1)[None]
    prompts = write_prompts(TimeLLMConfig(statistics="exact"), ABOUT, 24, day)
    assert prompts.texts == (
        f"[domain] {ABOUT} [task] predict 96 future steps from 96 past steps [stats] min -1.413; "
        "max 1.413; median 0.000; trend down; main lags 24,48,1,2,23",
    )


def test_a_constant_window_has_a_finite_prompt():
    (text,) = write_prompts(
        TimeLLMConfig(statistics="exact"), ABOUT, 24, np.full((1, 96), -3)
    ).texts
    assert "min 0.000; max 0.000; median 0.000; trend down; main lags 1,2,3,4,5" in text


def test_bucketed_windows_share_prompts_and_exact_ones_do_not(windows):
    exact = write_prompts(TimeLLMConfig(statistics="exact"), ABOUT, 24, windows)
    shared = write_prompts(TimeLLMConfig(), ABOUT, 24, windows)
    assert len(exact.texts) == 200
    assert len(shared.texts) < 60
    for prompts in (exact, shared):
        assert sorted(set(prompts.texts)) == list(prompts.texts)
        assert prompts.index.shape == (200,)


@pytest.mark.parametrize("statistics", ["exact", "bucketed", "official"])
def test_the_prompt_of_a_window_does_not_depend_on_the_others(windows, statistics):
    config = TimeLLMConfig(statistics=statistics)
    all_of_them = write_prompts(config, ABOUT, 24, windows)
    alone = write_prompts(config, ABOUT, 24, windows[17:18])
    assert all_of_them.texts[all_of_them.index[17]] == alone.texts[0]


def test_official_prompts_state_full_precision_and_lag_zero(windows):
    (text,) = write_prompts(TimeLLMConfig(statistics="official"), ABOUT, 24, windows[:1]).texts
    assert "main lags 0," in text
    assert len(text.split("min ")[1].split(";")[0]) > 10


def test_the_control_of_the_domain_changes_the_description_only(windows):
    own = write_prompts(TimeLLMConfig(), ABOUT, 24, windows)
    wrong = write_prompts(TimeLLMConfig(prompt="wrong-domain"), ABOUT, 24, windows)
    changed = [text.replace(ABOUT, WRONG_DOMAIN) for text in own.texts]
    assert list(wrong.texts) == changed
    assert np.array_equal(own.index, wrong.index)


def test_the_control_of_statistics_deals_the_same_prompts_to_other_windows(windows):
    own = write_prompts(TimeLLMConfig(), ABOUT, 24, windows)
    shuffled = write_prompts(TimeLLMConfig(prompt="shuffled", seed=4), ABOUT, 24, windows)
    again = write_prompts(TimeLLMConfig(prompt="shuffled", seed=4), ABOUT, 24, windows)
    assert shuffled.texts == own.texts
    assert np.array_equal(np.bincount(shuffled.index), np.bincount(own.index))
    assert not np.array_equal(shuffled.index, own.index)
    assert np.array_equal(shuffled.index, again.index)
