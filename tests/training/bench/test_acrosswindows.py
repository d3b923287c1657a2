"""Windows of different sets in one form."""

from dataclasses import replace

import numpy as np
import pytest

from models.manifest import Channel
from training.bench.acrosswindows import LENGTH, common_windows, resample_windows
from training.datasets.dummy import make_dummy
from training.windows import WindowSet

_AXES = "xyz"


def _set(rate_hz, length, unit="g", seed=0, gyro=True):
    random = np.random.default_rng(seed)
    count = 6
    windows = random.normal(size=(count, length, 6 if gyro else 3)).astype(np.float32)
    windows[:, :, 2] += 1
    names = [f"acc_{axis}" for axis in _AXES] + [f"gyro_{axis}" for axis in _AXES] * gyro
    channels = tuple(
        Channel(name=name, unit=unit if name.startswith("acc") else "rad/s") for name in names
    )
    labels = np.arange(count) % 2
    whole = WindowSet(windows, labels, np.array([0, 0, 0, 1, 1, 1]))
    data = make_dummy("activity")
    return replace(data, channels=channels, rate_hz=rate_hz, length=length, train=whole, test=None)


@pytest.mark.parametrize(("rate_hz", "length"), [(20.0, 64), (50.0, 128), (103.0, 256)])
def test_every_rate_becomes_the_same_length_and_keeps_a_slow_curve(rate_hz, length):
    seconds = (np.arange(length) + 0.5) / rate_hz
    curve = np.sin(2 * np.pi * 0.5 * seconds)[None, :, None].astype(np.float32)
    found = resample_windows(curve, rate_hz)
    assert found.shape == (1, LENGTH, 1)
    steps = (np.arange(LENGTH) + 0.5) / 20.0
    np.testing.assert_allclose(found[0, :, 0], np.sin(2 * np.pi * 0.5 * steps), atol=0.02)


@pytest.mark.parametrize(("form", "channels"), [("physical", 4), ("relative", 3)])
def test_the_form_has_its_channels(form, channels):
    found = common_windows(_set(50.0, 128), form)
    assert found.windows.shape == (6, LENGTH, channels)
    assert np.isfinite(found.windows).all()


def test_a_long_window_becomes_two():
    found = common_windows(_set(20.0, 128, gyro=False), "relative")
    assert len(found) == 12
    assert found.labels.tolist() == [0, 1] * 6


def test_the_orientation_of_the_device_changes_nothing():
    data = _set(50.0, 128)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned = data.train.windows.copy()
    turned[:, :, :3] = turned[:, :, :3] @ turn
    turned[:, :, 3:] = turned[:, :, 3:] @ turn
    other = replace(data, train=replace(data.train, windows=turned))
    np.testing.assert_allclose(
        common_windows(data, "physical").windows,
        common_windows(other, "physical").windows,
        atol=1e-5,
    )


def test_metres_per_second_squared_become_g():
    data = _set(50.0, 128)
    metric = data.train.windows.copy()
    metric[:, :, :3] *= 9.80665
    channels = tuple(
        Channel(name=channel.name, unit="m/s2" if channel.unit == "g" else channel.unit)
        for channel in data.channels
    )
    other = replace(data, channels=channels, train=replace(data.train, windows=metric))
    np.testing.assert_allclose(
        common_windows(data, "physical").windows,
        common_windows(other, "physical").windows,
        atol=1e-5,
    )


def test_the_relative_form_needs_no_unit():
    data = _set(20.0, 64, gyro=False)
    other = replace(data, train=replace(data.train, windows=data.train.windows * 7 + 3))
    np.testing.assert_allclose(
        common_windows(data, "relative").windows,
        common_windows(other, "relative").windows,
        atol=1e-4,
    )
