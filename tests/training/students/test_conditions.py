"""Scaling per operating condition inside the graph."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from ingest.recordings import EngineHistory, engine_recordings  # noqa: E402
from models.session import Student  # noqa: E402
from training.candidate import train_candidate  # noqa: E402
from training.datasets.cmapss import describe_cmapss, label_engines  # noqa: E402
from training.errors import DataSetError  # noqa: E402
from training.export.artifact import score_raw  # noqa: E402
from training.recipes import Recipe  # noqa: E402
from training.students.conditions import fit_conditions  # noqa: E402
from training.windows import slice_series  # noqa: E402

pytestmark = pytest.mark.needs_training


def engines(count=6, cycles=60, seed=0):
    """Engines that change between two conditions at random; wear is small beside the change."""
    random = np.random.default_rng(seed)
    histories = []
    for engine in range(1, count + 1):
        high = random.integers(0, 2, cycles)
        settings = np.stack([35 * high, 0.84 * high, 100 - 40 * high], axis=1)
        settings = settings + 0.002 * random.standard_normal(settings.shape)
        wear = np.arange(cycles)[:, None] / cycles
        sensors = 2388 - 500 * high[:, None] + (0.5 + high[:, None]) * wear + np.zeros((1, 21))
        histories.append(
            EngineHistory(
                engine,
                np.arange(1, cycles + 1),
                settings.astype(np.float32),
                sensors.astype(np.float32),
                0,
            )
        )
    return histories


def test_only_the_wear_remains_under_every_condition():
    windows = label_engines(engines(), 30, conditions=True).windows
    scaled = fit_conditions(windows)(torch.from_numpy(windows)).numpy()
    assert scaled.shape == (*windows.shape[:2], 14)
    np.testing.assert_allclose(scaled[0, :, 0], np.arange(30) / 59, atol=0.04)
    assert scaled.min() >= 0
    assert scaled.max() <= 1


def test_windows_do_not_influence_each_other():
    windows = label_engines(engines(), 30, conditions=True).windows
    scaling = fit_conditions(windows)
    together = scaling(torch.from_numpy(windows[:9]))
    assert torch.equal(together[4:5], scaling(torch.from_numpy(windows[4:5])))


def test_a_sensor_far_outside_is_bounded():
    windows = label_engines(engines(), 30, conditions=True).windows
    scaling = fit_conditions(windows)
    assert float(scaling(torch.from_numpy(windows * 100)).abs().max()) <= 3


def test_settings_with_too_many_values_are_refused():
    windows = np.random.default_rng(0).uniform(0, 1000, (5, 30, 17)).astype(np.float32)
    with pytest.raises(DataSetError, match="no operating conditions"):
        fit_conditions(windows)


@pytest.mark.parametrize("student", ["conv", "residual"])
def test_the_gateway_runs_the_scaling_inside_the_student(student, tmp_path):
    histories = engines()
    data = describe_cmapss("made", label_engines(histories, 40, conditions=True), None)
    recipe = Recipe("rul", student=student, length=40, conditions=True, epochs=1)
    candidate = train_candidate(data, recipe, "rul-made", tmp_path, command="test")
    manifest = candidate.artifact.manifest
    assert manifest.channel_names[:4] == ("setting_1", "setting_2", "setting_3", "T24")
    assert set(manifest.scaler.scale) == {1.0}
    assert (manifest.window.length, manifest.window.min_readings) == (40, 30)
    scored = score_raw(Student(candidate.artifact), candidate.held_out.windows)
    np.testing.assert_allclose(scored, candidate.scored, atol=1e-4)


def test_replay_publishes_the_channels_of_such_a_student():
    histories = engines()
    data = describe_cmapss("made", label_engines(histories, 40, conditions=True), None)
    (recording, *_) = engine_recordings(histories, all_channels=True)
    columns = [recording.channels.index(channel.name) for channel in data.channels]
    full = slice_series(recording.values[:, columns], 40, 1)
    offline = data.train.of_groups(np.array([1])).windows
    assert np.array_equal(offline[-len(full) :], full)


def test_padded_windows_end_at_the_same_cycles_whatever_the_length():
    short, long = (label_engines(engines(), length) for length in (30, 50))
    assert np.array_equal(short.labels, long.labels)
    assert np.array_equal(short.groups, long.groups)
    assert np.array_equal(short.windows, long.windows[:, -30:])
    assert (long.windows[0, :21] == long.windows[0, 20]).all()
