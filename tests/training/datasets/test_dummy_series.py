import numpy as np

from training.datasets.dummy_series import make_dummy_series


def test_the_same_seed_makes_the_same_rooms():
    data = make_dummy_series(seed=3)
    assert make_dummy_series(seed=3).digest == data.digest != make_dummy_series(seed=4).digest
    assert data.borders[0] == (3360, 3840, 4800)
    assert (data.series[0] != data.series[1]).any()


def test_the_thermostat_keeps_the_room_between_its_limits():
    outside, room, power = make_dummy_series(readings=2000).series[0][100:].T
    assert 16 < room.min() < 18 < 22 < room.max() < 25
    assert np.mean(np.diff(room)[power[:-1] > 1] > 0) > 0.95
    assert abs(np.corrcoef(outside[:-24], outside[24:])[0, 1]) > 0.95
