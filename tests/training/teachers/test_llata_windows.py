from dataclasses import replace

import numpy as np
import pytest

from tests.fakes.smallseries import make_series
from training.datasets.dummy_series import make_dummy_series
from training.errors import TeacherError
from training.teachers.llata_windows import fit_ridge, fold_windows, training_windows


@pytest.mark.parametrize(("share", "count"), [(0.05, 332), (0.1, 759), (1.0, 8449)])
def test_few_shot_counts_are_those_of_the_papers_protocol(share, count):
    data = replace(make_series(rows=12_000), borders=((8640, 11_520, 12_000),))
    assert len(training_windows(data, 96, 96, 1, share)) == count


def test_few_shot_takes_the_oldest_readings_of_every_device():
    data = make_dummy_series()
    found = training_windows(data, 24, 8, 1, 0.3)
    assert set(found.device) == {0, 1}
    every = data.windows("train", 24, 8)
    for device in (0, 1):
        few, whole = (w.first[w.device == device] for w in (found, every))
        np.testing.assert_array_equal(few, whole[: len(few)])
        end = data.borders[device][0]
        offset = device * len(data.series[0])
        assert few[-1] + 8 == offset + int((end - 24) * 0.3) + 24


def test_the_ridge_is_the_penalised_least_squares_fit_that_validation_prefers():
    data = make_series()
    training, validation = data.windows("train", 12, 4), data.windows("validation", 12, 4)

    def rows(windows):
        inputs, targets = [], []
        for window, truth in zip(windows.inputs(), windows.targets(), strict=True):
            for channel in range(2):
                mean = window[:, channel].mean(dtype=np.float64)
                inputs.append(window[:, channel] - mean)
                targets.append(truth[:, channel] - mean)
        return np.array(inputs), np.array(targets)

    inputs, targets = rows(training)
    held_out, truth = rows(validation)
    fits = []
    for penalty in (1, 10, 100, 1000, 10_000):
        # A ridge is least squares with one more row, sqrt(penalty) and target 0, per weight.
        more = np.concatenate([inputs, np.sqrt(penalty) * np.eye(12)])
        fits.append(np.linalg.lstsq(more, np.concatenate([targets, np.zeros((12, 4))]))[0])
    errors = [np.square(held_out @ fit - truth).mean() for fit in fits]
    expected = fits[int(np.argmin(errors))]
    np.testing.assert_allclose(fit_ridge(training, validation), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_share_no_reading_with_their_training_windows(folds):
    data = make_series()
    training = training_windows(data, 12, 4, 1)
    products = training_windows(data, 12, 4, 2)
    seen = []
    for kept, block in fold_windows(training, products, folds):
        rows = {row for f in kept.first for row in range(f - 12, f + 4)}
        assert rows
        assert not rows & {row for f in products.first[block] for row in range(f - 12, f + 4)}
        seen.extend(block)
    assert seen == list(range(len(products)))


def test_too_few_windows_for_folds_are_refused():
    windows = training_windows(make_series(), 60, 40, 1)
    with pytest.raises(TeacherError, match="use fewer"):
        list(fold_windows(windows, windows, 2))
