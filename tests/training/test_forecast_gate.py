from dataclasses import replace

import numpy as np
import pytest

from models.tasks.forecast import FORECAST
from training.datasets.dummy_series import make_dummy_series
from training.errors import DataSetError
from training.forecast_gate import Verdict, cut_held_out, judge, repeat_season


@pytest.fixture(scope="module")
def known():
    return make_dummy_series(readings=2400).before_test()


@pytest.fixture(scope="module")
def held_out(known):
    return cut_held_out(known, length=30, horizon=6)


def truth_with_noise(windows, deviation, seed=0):
    """A forecast that looks up what came, and adds noise of this deviation."""
    random = np.random.default_rng(seed)
    rows = {inputs.tobytes(): at for at, inputs in enumerate(windows.inputs())}

    def forecast(inputs):
        at = np.array([rows[one.tobytes()] for one in inputs])
        truth = windows.targets(at)
        return (truth + deviation * random.standard_normal(truth.shape))[..., None].astype("f4")

    return forecast


def test_held_out_time_ends_before_the_test_part_and_begins_after_all_learning(known, held_out):
    whole = make_dummy_series(readings=2400)
    windows = held_out.windows
    begin, end = known.borders[0][1], known.borders[0][2]
    assert (begin, end) == (whole.borders[0][0], whole.borders[0][1])
    times = whole.times_ms[0]
    assert windows.times_ms().min() == times[begin]
    assert windows.times_ms().max() == times[end - 6]


def test_blocks_are_as_long_as_the_season_or_the_horizon_and_shared_by_devices(known, held_out):
    assert held_out.block_ms == 24 * 3_600_000
    assert len(np.unique(held_out.blocks)) == 10
    times = held_out.windows.times_ms()
    for block in np.unique(held_out.blocks):
        inside = held_out.blocks == block
        assert np.ptp(times[inside]) < held_out.block_ms
        assert set(held_out.windows.device[inside]) == {0, 1}
    assert cut_held_out(known, length=30, horizon=40).block_ms == 40 * 3_600_000


def test_too_few_blocks_are_refused(known):
    with pytest.raises(DataSetError, match="4 blocks of 60 readings"):
        cut_held_out(known, length=30, horizon=60)


def test_many_windows_are_thinned_out(known, monkeypatch):
    monkeypatch.setattr("training.forecast_gate._MOST_WINDOWS", 100)
    thin = cut_held_out(known, length=30, horizon=6)
    assert 90 < len(thin.windows) <= 100
    assert len(np.unique(thin.blocks)) == 10


def test_errors_and_measures_are_those_of_the_task(held_out):
    windows = held_out.windows
    judged = judge(FORECAST, "naive", repeat_season(24, 6), held_out)
    wanted = windows.inputs()[:, -24:-18]
    errors = ((wanted - windows.targets()) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(judged.errors, errors, rtol=1e-5)
    assert judged.measures["mse"] == pytest.approx(errors.mean(), rel=1e-5)
    assert np.isnan(judged.measures["coverage"])
    assert list(judged.measures) == [measure.name for measure in FORECAST.measures]


def test_a_band_is_measured(held_out):
    def band(inputs):
        middle = repeat_season(24, 6)(inputs)
        return np.concatenate([middle - 9, middle, middle + 9], axis=3)

    assert judge(FORECAST, "wide", band, held_out).measures["coverage"] == 1


def beats_all(verdict, held_out):
    rivals = verdict.against("mse", held_out)
    for rival, judged in zip(rivals, verdict.rivals, strict=True):
        assert rival.value == judged.measures["mse"] == pytest.approx(rival.measures["mse"])
        assert rival.gain == pytest.approx(judged.errors.mean() - verdict.new.errors.mean())
        assert rival.noise >= 0
    return all(rival.comparison.is_better for rival in rivals)


def test_a_student_must_beat_every_rival_in_the_interval(held_out):
    windows = held_out.windows
    fine, good, bad = (
        judge(FORECAST, name, truth_with_noise(windows, deviation), held_out)
        for name, deviation in (("fine", 0.1), ("good", 0.2), ("bad", 0.5))
    )
    assert beats_all(Verdict.of(fine, (good, bad), held_out), held_out)
    assert not beats_all(Verdict.of(good, (fine, bad), held_out), held_out)
    assert not beats_all(Verdict.of(good, (bad, fine), held_out), held_out)
    same = judge(FORECAST, "same", truth_with_noise(windows, 0.2, seed=1), held_out)
    assert not beats_all(Verdict.of(same, (good,), held_out), held_out)
    gain = Verdict.of(fine, (bad,), held_out).gains[0]
    assert gain.gain == pytest.approx(0.25 - 0.01, rel=0.05)
    assert gain.groups == gain.wins == 10


def test_a_gain_in_one_stretch_of_time_is_not_enough(held_out):
    windows = held_out.windows
    good = judge(FORECAST, "good", truth_with_noise(windows, 0.2), held_out)
    lucky = replace(good, errors=np.where(held_out.blocks == 3, 0.0, good.errors * 1.001))
    assert good.errors.mean() > lucky.errors.mean()
    assert not beats_all(Verdict.of(lucky, (good,), held_out), held_out)
