"""Statistics of movement: what they measure, and that a gateway's graph may have them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.manifest import Channel, Scaler  # noqa: E402
from training.students.movement import INFLUENCES, Movement, group_channels  # noqa: E402
from training.teachers.facts import FACTS  # noqa: E402

pytestmark = pytest.mark.needs_training

CHANNELS = tuple(Channel(name=f"acc_{axis}", unit="g") for axis in "xyz")


def measured(windows, scale=1.0, offset=0.0):
    scaler = Scaler(kind="affine", scale=(scale,) * 3, offset=(offset,) * 3)
    module = Movement(CHANNELS, scaler, 128, 50.0, np.ones(3))
    values = module(torch.tensor(windows * scale + offset, dtype=torch.float32))
    found = {}
    for place, (_, statistic) in enumerate(module.names):
        found.setdefault(statistic, []).append(values[:, place].numpy())
    return {name: np.stack(some, axis=1) for name, some in found.items()}


def wave(hz, strength, tilt=0.0):
    time = np.arange(128) / 50
    moved = strength * np.sin(2 * np.pi * hz * time)
    gravity = np.array([np.sin(tilt), 0, np.cos(tilt)])
    return gravity + moved[:, None] * np.array([0.2, 0.1, 1.0])


def test_each_statistic_follows_its_cause():
    windows = np.stack([wave(2, 0.1), wave(2, 1.0), wave(6, 0.1), wave(2, 0.1, tilt=1.5)])
    found = measured(windows)
    assert found["power"][1] > found["power"][0] + 2
    assert found["jerk"][2] > found["jerk"][0] + 0.5
    assert found["pitch"][2] > found["pitch"][0] + 0.8
    assert found["steps"][0] > 0.9 > found["steps"][2]
    np.testing.assert_allclose(found["mean"][0], [0, 0, 1], atol=0.05)
    np.testing.assert_allclose(found["mean"][3], [1, 0, 0.07], atol=0.05)


def test_a_burst_is_told_from_steady_movement():
    burst = wave(2, 0.0)
    burst[100:112] += np.array([0.5, 0.2, 1.0])
    found = measured(np.stack([wave(2, 0.4), burst]))
    assert found["burst"][1] > found["burst"][0] + 0.5
    assert found["trend"][1] > found["trend"][0] + 0.5


def test_the_scaler_is_undone():
    windows = np.stack([wave(2, 0.1), wave(3, 1.0)])
    plain, scaled = measured(windows), measured(windows, scale=3.0, offset=-2.0)
    for name, values in plain.items():
        np.testing.assert_allclose(scaled[name], values, atol=1e-3, err_msg=name)


def test_a_still_or_constant_sensor_gives_finite_numbers():
    found = measured(np.stack([np.zeros((128, 3)), np.full((128, 3), 1e4)]))
    assert all(np.isfinite(values).all() for values in found.values())


def test_axes_are_grouped_and_every_influence_is_a_fact():
    names = ["body_acc_x", "body_acc_y", "body_acc_z", "gyroX", "gyroY", "gyroZ", "heat"]
    groups = group_channels([Channel(name=name, unit="1") for name in names])
    assert [group.channels for group in groups] == [(0, 1, 2), (3, 4, 5), (6,)]
    assert {fact for facts in INFLUENCES.values() for fact in facts} == set(FACTS)
