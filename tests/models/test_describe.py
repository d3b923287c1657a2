import json

import numpy as np
import pytest
from pydantic import ValidationError

from models.describe import describe_seen, describe_series, seen_range
from models.manifest import decode_manifest, encode_manifest
from models.seen import Histogram, Seen, count_bins, find_vectors, stability_index
from models.zoo import list_zoo, zoo_path


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


def readings(groups: int = 12, windows: int = 60, length: int = 10) -> np.ndarray:
    random = np.random.default_rng(0)
    level = np.repeat(random.normal(0, 0.3, groups), windows)[:, None]
    smooth = level + random.normal(0, 1, (groups * windows, length))
    steps = random.integers(0, 4, (groups * windows, length))
    still = np.full((groups * windows, length), 7.0)
    return np.stack([smooth, steps, still], axis=2).astype(np.float32)


GROUPS = np.repeat(np.arange(12), 60)
NAMES = ("smooth", "steps", "still")


def test_a_histogram_has_twenty_bins_of_equal_shares_and_fewer_for_few_values():
    seen = describe_seen(readings(), GROUPS, 5, NAMES)
    histogram = seen.histogram
    assert [len(edges) for edges in histogram.edges] == [19, 3, 0]
    assert np.allclose(histogram.shares[0], 0.05, atol=1e-3)
    assert histogram.edges[1] == (0.5, 1.5, 2.5)
    assert histogram.shares[2] == (1.0,)


def test_each_reading_counts_once_in_a_histogram_although_windows_overlap():
    series = np.arange(40, dtype=np.float32)[:, None]
    seen = describe_series([series], 10, 1, ["n"])
    counts = count_bins(series[9:], seen.histogram.edges[0])
    assert np.allclose(np.array(seen.histogram.shares[0]), counts / counts.sum(), atol=1e-5)


def test_a_part_of_training_is_within_its_limits_and_a_moved_channel_is_not():
    windows = readings()
    histogram = describe_seen(windows, GROUPS, 10, NAMES).histogram

    def index(values: np.ndarray) -> float:
        return stability_index(count_bins(values, histogram.edges[0]), histogram.shares[0])

    assert max(index(windows[at : at + 20, :, 0]) for at in range(0, 720, 20)) == pytest.approx(
        histogram.alone[0], rel=1e-4
    )
    assert histogram.many[0] < histogram.alone[0]
    assert index(windows[:600, :, 0] + 1) > histogram.many[0]
    assert index(windows[:600, :, 0] * 10) > histogram.alone[0]


def test_the_least_spread_of_a_channel_is_that_of_the_calmest_window():
    seen = describe_seen(readings(), GROUPS, 5, NAMES)
    spread = np.ptp(readings(), axis=1).min(axis=0)
    assert seen.least_spread[2] == 0
    assert (np.array(seen.least_spread) <= spread).all()
    assert np.allclose(seen.least_spread, spread, rtol=1e-4)


def test_channels_that_end_in_x_y_z_are_a_vector_whose_length_is_known():
    names = ["acc_x", "acc_y", "acc_z", "gyro_x"]
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, (50, 10))
    windows = np.stack(
        [9.81 * np.cos(angle), 9.81 * np.sin(angle), 0 * angle, angle], axis=2
    ).astype(np.float32)
    (acc,) = describe_seen(windows, np.arange(50), 10, names).lengths
    assert acc.channels == ("acc_x", "acc_y", "acc_z")
    assert acc.low == pytest.approx(9.81, rel=1e-4)
    assert acc.high == pytest.approx(9.81, rel=1e-4)
    assert find_vectors(["x", "y", "z"]) == [(0, 1, 2)]
    assert find_vectors(["a_x", "a_y"]) == []


def test_half_a_reading_in_each_bin_keeps_the_index_finite():
    assert stability_index(np.array([0, 0]), [0.5, 0.5]) == 0
    assert 5 < stability_index(np.array([1000, 0]), [0.01, 0.99]) < 20


@pytest.mark.parametrize(
    "part",
    [
        {"edges": ((2.0, 1.0),)},
        {"edges": ((1.0,), (1.0,))},
        {"shares": ((0.5, 0.2, 0.2),)},
        {"shares": ((0.5, 0.5),)},
        {"shares": ((1.5, -0.5, 0.0),)},
        {"alone": ()},
        {"edges": (tuple(map(float, range(20))),), "shares": ((0.05,) * 20 + (0.0,),)},
    ],
)
def test_a_histogram_that_contradicts_itself_is_refused(part):
    fine = {
        "edges": ((1.0, 2.0),),
        "shares": ((0.3, 0.3, 0.4),),
        "alone": (1.0,),
        "many": (0.5,),
    }
    Histogram(**fine)
    with pytest.raises(ValidationError):
        Histogram(**fine | part)


def test_a_histogram_of_other_channels_than_the_range_is_refused():
    seen = describe_seen(readings(), GROUPS, 5, NAMES)
    with pytest.raises(ValidationError, match="histogram has 3 channels, low has 1"):
        Seen(low=(0.0,), middle=(0.0,), high=(0.0,), histogram=seen.histogram)
    with pytest.raises(ValidationError, match="least_spread has 3 channels, low has 1"):
        Seen(low=(0.0,), middle=(0.0,), high=(0.0,), least_spread=seen.least_spread)


@pytest.mark.parametrize("name", list_zoo())
def test_a_shipped_manifest_tells_shape_and_movement_of_its_channels(name):
    data = (zoo_path(name) / "manifest.json").read_bytes()
    manifest = decode_manifest(data)
    seen = manifest.seen
    assert len(seen.histogram.edges) == len(seen.least_spread) == len(manifest.channels)
    assert all(0 < many <= alone for many, alone in _limits(seen.histogram))
    vectors = [vector.channels for vector in seen.lengths or ()]
    names = manifest.channel_names
    assert vectors == [tuple(names[i] for i in places) for places in find_vectors(names)]


def _limits(histogram: Histogram) -> list[tuple[float, float]]:
    found = zip(histogram.many, histogram.alone, histogram.edges, strict=True)
    return [(many, alone) for many, alone, edges in found if edges]


def test_a_manifest_without_shape_keeps_its_bytes():
    content = json.loads((zoo_path("rul-fd001") / "manifest.json").read_bytes())
    content["seen"] = {key: content["seen"][key] for key in ("low", "middle", "high")}
    data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    assert encode_manifest(decode_manifest(data)) == data
