"""Statistics of a window: the formulas that shipped graphs and the ledger were made with."""

import math

import numpy as np
import pytest

from models.features import pad_front

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.students.statistics import (  # noqa: E402
    BASELINE,
    GUARD,
    SPECTRAL,
    TREND,
    ArrayWindows,
    TensorWindows,
    count_readings,
    spectrum_matrices,
    tail_matrix,
)

pytestmark = pytest.mark.needs_training


@pytest.fixture(params=[(30, 14), (128, 9), (70, 3), (3, 2)], ids=str)
def windows(request):
    random = np.random.default_rng(7)
    return random.normal(3, 2, (50, *request.param)).astype(np.float32)


def test_the_guard_has_the_formulas_of_the_shipped_students_to_the_last_bit(windows):
    rows = torch.from_numpy(windows)
    length = rows.shape[1]
    time = torch.linspace(-1, 1, length)
    mean = rows.mean(dim=1)
    wanted = [
        mean,
        (rows - mean[:, None]).square().mean(dim=1).clamp_min(1e-8).sqrt(),
        rows.amin(dim=1),
        rows.amax(dim=1),
        rows[:, -1],
        rows[:, length - max(1, length // 5) :].mean(dim=1),
        (rows * (time / time.square().sum())[None, :, None]).sum(dim=1),
        (rows[:, 1:] - rows[:, :-1]).abs().mean(dim=1),
    ]
    found = TensorWindows(rows).columns(GUARD)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_trend_and_spectral_have_the_formulas_of_the_shipped_students_to_the_last_bit(windows):
    series = torch.from_numpy(windows).transpose(1, 2)
    moving = series - series.mean(dim=2)[:, :, None]
    steps = moving[:, :, 1:] - moving[:, :, :-1]
    trend = [
        moving.square().mean(dim=2).clamp_min(1e-8).sqrt(),
        series.amax(dim=2),
        series.amin(dim=2),
        series[:, :, -1],
    ]
    spectral = [
        series.mean(dim=2),
        torch.log(moving.square().mean(dim=2) + 1e-4),
        series.amax(dim=2),
        series.amin(dim=2),
        torch.log(steps.square().mean(dim=2) + 1e-5),
    ]
    for names, wanted in ((TREND, trend), (SPECTRAL, spectral)):
        found = TensorWindows(series, time=2).columns(names)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_the_baselines_have_the_formulas_of_the_ledger_to_the_last_bit(windows):
    length = windows.shape[1]
    time = np.linspace(-1, 1, length, dtype=np.float32)
    spectrum = np.abs(np.fft.rfft(windows - windows.mean(axis=1, keepdims=True), axis=1))
    split = max(2, spectrum.shape[1] // 6)
    wanted = [
        windows.mean(axis=1),
        windows.std(axis=1),
        windows.min(axis=1),
        windows.max(axis=1),
        windows[:, -1],
        windows[:, -max(1, length // 5) :].mean(axis=1),
        np.einsum("nlc,l->nc", windows, time) / np.float32((time**2).sum()),
        np.abs(np.diff(windows, axis=1)).mean(axis=1),
        np.log1p(spectrum[:, 1:split].mean(axis=1)),
    ]
    found = ArrayWindows(windows).table(BASELINE[:-1])
    assert np.array_equal(found, np.concatenate(wanted, axis=1).astype(np.float32))
    if split < spectrum.shape[1]:
        fast = np.log1p(spectrum[:, split:].mean(axis=1)).astype(np.float32)
        assert np.array_equal(ArrayWindows(windows).table(["fast_band"]), fast)


def test_both_implementations_agree_where_both_have_a_statistic(windows):
    found = torch.cat(TensorWindows(torch.from_numpy(windows)).columns(GUARD), dim=1).numpy()
    np.testing.assert_allclose(found, ArrayWindows(windows).table(GUARD), atol=1e-4)


@pytest.mark.parametrize("length", [1, 3, 30, 128])
def test_the_fixed_matrices_are_those_of_the_shipped_students_to_the_last_bit(length):
    columns = []
    for newest in [newest for newest in (5, 10, 20, 30, 50, 70, 100) if newest <= length] or [
        length
    ]:
        time = torch.linspace(-1, 1, newest) if newest > 1 else torch.ones(1)
        for weights in (torch.full((newest,), 1 / newest), time / time.square().sum()):
            columns.append(torch.cat([torch.zeros(length - newest), weights]))
    assert torch.equal(tail_matrix(length), torch.stack(columns, dim=1))
    bins = min(32, length // 2)
    angle = torch.arange(length)[:, None] * torch.arange(1, bins + 1) * (2 * math.pi / length)
    taper = torch.hann_window(length, periodic=False)[:, None] / length
    cosine, sine = spectrum_matrices(length)
    assert torch.equal(cosine, torch.cos(angle) * taper)
    assert torch.equal(sine, torch.sin(angle) * taper)


def test_the_readings_before_which_a_stream_has_padded_are_counted():
    random = np.random.default_rng(3)
    padded = [
        pad_front(random.normal(0, 1, (count, 2)).astype(np.float32), 9) for count in range(1, 10)
    ]
    counts = count_readings(torch.from_numpy(np.stack(padded)), 9)
    assert counts.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert count_readings(torch.zeros(2, 1, 3), 1).tolist() == [1, 1]
