import time
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.candidate import train_candidate  # noqa: E402
from training.checkpoints import STATE_FILE  # noqa: E402
from training.datasets.contract import fit_scaler  # noqa: E402
from training.datasets.dummy import make_dummy  # noqa: E402
from training.distill import distill  # noqa: E402
from training.errors import CheckpointError  # noqa: E402
from training.methods.build import build_method  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402
from training.windows import WindowSet, hold_out_groups  # noqa: E402

pytestmark = pytest.mark.needs_training


def run(task="rul", folder=None, on_epoch=lambda epoch: None, deadline_s=float("inf"), **changes):
    data = make_dummy(task, groups=4)
    name = "rul-fd001" if task == "rul" else "har-waist"
    recipe = shipped_recipe(name, **{"epochs": 3, **changes})
    scaler = fit_scaler(data.scaling, data.train.windows)
    answers = 126 if task == "rul" else 6
    return distill(
        recipe,
        data.train,
        scaler,
        answers,
        build_method,
        folder=folder,
        on_epoch=on_epoch,
        deadline_s=deadline_s,
    )


def weights(student):
    return {name: value.clone() for name, value in student.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("task", ["rul", "activity"])
@pytest.mark.parametrize("method", ["kp", "none"])
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(task, method):
    one, other = run(task, method=method), run(task, method=method)
    assert_same(weights(one.student), weights(other.student))
    assert one.losses == other.losses


def test_another_seed_gives_other_weights():
    one, other = weights(run(seed=0).student), weights(run(seed=1).student)
    assert not torch.equal(one["table"], other["table"])


def test_random_state_and_threads_of_the_caller_are_restored():
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_callbacks_do_not_change_the_weights():
    def watch(epoch):
        torch.randn(100)
        epoch.student(torch.randn(2, 30, 14))

    assert_same(weights(run(on_epoch=watch).student), weights(run().student))


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_a_taught_student_is_exported_and_the_same_again(task, tmp_path):
    name = "rul-fd001" if task == "rul" else "har-waist"
    recipe = shipped_recipe(name, epochs=1, method="ensemble", calibration_folds=0)
    data = make_dummy(task, groups=4)
    one, other = (
        train_candidate(data, recipe, name, tmp_path / folder, command="test")
        for folder in ("one", "other")
    )
    assert one.artifact.onnx_bytes == other.artifact.onnx_bytes
    assert "no language model" in one.artifact.manifest.lineage.teacher


class CutOff(Exception):
    """The simulated end of the process."""


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_an_interrupted_run_continues_to_the_weights_of_an_undisturbed_one(task, tmp_path):
    def die(epoch):
        if epoch.number == 2:
            raise CutOff

    with pytest.raises(CutOff):
        run(task, tmp_path, die)
    numbers = []
    rest = run(task, tmp_path, lambda epoch: numbers.append(epoch.number))
    whole = run(task)
    assert numbers == [3]
    assert rest.losses == whole.losses
    assert_same(weights(rest.student), weights(whole.student))


def test_a_run_stopped_by_the_deadline_keeps_its_state(tmp_path):
    stopped = run(folder=tmp_path, deadline_s=time.monotonic())
    assert stopped.student is None
    assert run(folder=tmp_path).student is not None


def test_the_folder_of_another_run_is_refused(tmp_path):
    run(folder=tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="another recipe"):
        run(folder=tmp_path, epochs=1, seed=3)


@pytest.mark.parametrize("content", [b"", b"garbage", "truncated"])
def test_a_damaged_state_is_refused(tmp_path, content):
    run(folder=tmp_path, epochs=1)
    state = tmp_path / STATE_FILE
    state.write_bytes(state.read_bytes()[:2000] if content == "truncated" else content)
    with pytest.raises(CheckpointError, match="delete it"):
        run(folder=tmp_path, epochs=1)


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_labels_of_held_out_and_test_windows_change_nothing(task, tmp_path):
    data = make_dummy(task, groups=5)
    name = "rul-fd001" if task == "rul" else "har-waist"
    recipe = shipped_recipe(name, epochs=2, calibration_folds=0)
    held_out = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    # The activity's graph holds the temperature, which is calibrated on held-out labels.
    train = poison(data.train, held_out) if task == "rul" else data.train
    poisoned = replace(data, train=train, test=poison(data.test, data.test.groups))
    clean, dirty = (
        train_candidate(some, recipe, name, tmp_path / folder, command="test")
        for some, folder in ((data, "clean"), (poisoned, "dirty"))
    )
    assert clean.artifact.onnx_bytes == dirty.artifact.onnx_bytes
    assert clean.artifact.manifest.scaler == dirty.artifact.manifest.scaler
    assert (clean.metrics != dirty.metrics) == (task == "rul")


def poison(windows: WindowSet, groups) -> WindowSet:
    chosen = np.isin(windows.groups, groups)
    values = np.where(chosen[:, None, None], windows.windows * -3 + 1, windows.windows)
    labels = np.where(chosen, windows.labels.max() - windows.labels, windows.labels)
    return WindowSet(values.astype(np.float32), labels, windows.groups)
