import numpy as np

from models.features import seen_range


def test_the_range_of_a_channel_leaves_out_one_reading_in_a_thousand_at_each_end():
    usual = np.linspace(10, 20, 9990, dtype=np.float32)
    spikes = np.array([-1e6] * 5 + [1e6] * 5, dtype=np.float32)
    still = np.full(10_000, 3.0, dtype=np.float32)
    readings = np.stack([np.concatenate([usual, spikes]), still], axis=1)
    seen = seen_range(readings.reshape(100, 100, 2))
    assert (seen.low[1], seen.middle[1], seen.high[1]) == (3.0, 3.0, 3.0)
    assert 10 <= seen.low[0] < 10.1
    assert 19.9 < seen.high[0] <= 20
    assert abs(seen.middle[0] - 15) < 0.01
