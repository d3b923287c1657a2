"""The training loop of TIME-LLM, without a language model: when it stops, what it keeps."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from tests.fakes.smallseries import SMALL_TIMELLM, make_series  # noqa: E402
from training.errors import CheckpointError  # noqa: E402
from training.teachers.timellm_network import TimeLLMNetwork  # noqa: E402
from training.teachers.timellm_training import one_thread_one_seed, train_network  # noqa: E402
from training.teachers.timellm_windows import (  # noqa: E402
    channel_windows,
    few_windows,
    run_network,
)

pytestmark = pytest.mark.needs_training

BARE = replace(SMALL_TIMELLM, backbone="none")


@pytest.fixture(scope="module")
def parts():
    data = make_series()
    return [
        channel_windows(data, BARE, few_windows(data, BARE, part, 1))
        for part in ("train", "validation")
    ]


def build(**changes):
    with one_thread_one_seed(0):
        return TimeLLMNetwork(replace(BARE, **changes), 0, None)


def test_training_lowers_the_error_and_keeps_the_best_pass(parts):
    network = build(epochs=8, stride=1, learning_rate=1e-2)
    epochs = []
    history = train_network(network, None, *parts, on_epoch=epochs.append)
    assert history.lowest < 0.5 * history.start_mse
    assert history.best == 1 + int(np.argmin(history.validations))
    assert run_network(network, None, parts[1]).mse == pytest.approx(history.lowest, rel=1e-6)
    assert [epoch.validation_mse for epoch in epochs] == history.validations
    assert not network.training


def test_training_stops_after_patience_passes_without_a_gain(parts):
    network = build(epochs=50, patience=2, learning_rate=1.0)
    history = train_network(network, None, *parts)
    assert len(history.losses) == history.best + 2 < 50


def test_a_fixed_number_of_passes_is_made_without_stopping(parts):
    network = build(epochs=50, patience=1, learning_rate=1.0)
    history = train_network(network, None, *parts, passes=4)
    assert len(history.losses) == 4
    last = run_network(network, None, parts[1]).mse
    assert last == pytest.approx(history.validations[-1], rel=1e-6)


def test_a_pass_learns_from_one_in_stride_windows_and_others_each_time(parts):
    seen = []

    class Spy(TimeLLMNetwork):
        def forward(self, windows, language, index):
            if self.training:
                seen[-1].update(windows.sum(dim=1).tolist())
            return super().forward(windows, language, index)

    with one_thread_one_seed(0):
        network = Spy(replace(BARE, stride=4, epochs=3), 0, None)
    seen.append(set())
    train_network(network, None, *parts, on_epoch=lambda epoch: seen.append(set()))
    sizes = [len(rows) for rows in seen[:3]]
    assert sizes == [-(-len(parts[0]) // 4)] * 3
    assert seen[0] != seen[1] != seen[2]
    assert len(seen[0] | seen[1] | seen[2]) > 1.8 * sizes[0]


def test_threads_and_random_numbers_outside_are_left_alone(parts):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with one_thread_one_seed(5):
        assert torch.get_num_threads() == 1
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_state_of_another_run_is_refused(parts, tmp_path):
    train_network(build(epochs=1), None, *parts, folder=tmp_path, run_name="one")
    with pytest.raises(CheckpointError, match="belongs to run one, not two: choose another"):
        train_network(build(epochs=1), None, *parts, folder=tmp_path, run_name="two")
