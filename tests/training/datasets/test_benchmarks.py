"""Benchmarks of the ledger by name: bearings, unseen faults and altitudes, few labels."""

from dataclasses import replace

import numpy as np
import pytest

from ingest.recordings import EngineHistory
from tests.training.datasets.small_files import ims_files, write_zip
from training.datasets import cmapss_altitudes
from training.datasets.benchmarks import BENCHMARKS, read_benchmark
from training.datasets.dummy import make_dummy
from training.datasets.ims import read_ims
from training.datasets.scarce import keep_labels
from training.errors import DataSetError


def test_a_bearing_ages_by_running_hours_only(tmp_path):
    data = read_ims(write_zip(tmp_path / "i.zip", ims_files()), 2)
    assert set(data.train.groups) == {13, 14, 33}
    assert set(data.test.groups) == {21}
    # 200 hours, the pause counts as one more: windows of 30 end at hours 30 to 201.
    assert len(data.test) in (171, 172)
    assert data.test.labels.max() == 125
    assert data.test.labels[-3:].tolist() == [2, 1, 0]
    # Relative to its own first day: about 1 at the beginning.
    assert abs(float(data.test.windows[0, 0, 0]) - 0.9) < 0.1
    assert float(data.test.windows[-1, -1, 0]) > 2.5


def test_one_test_of_the_rig_is_left_out(tmp_path):
    path = write_zip(tmp_path / "ims_bearing_meanabs.zip", ims_files())
    for number, groups in ((1, {13, 14}), (2, {21}), (3, {33})):
        data = read_benchmark(f"IMS-{number}", tmp_path)
        assert set(data.test.groups) == groups
        assert not groups & set(data.train.groups)
    path.write_bytes(b"something else")
    with pytest.raises(DataSetError, match="neither a zip nor a tar: use the path of the IMS"):
        read_ims(path, 1)


def test_an_engine_is_learned_at_low_and_tested_at_high_altitudes(monkeypatch):
    cycles = 240

    def engine(number, rul):
        altitude = np.array([0, 10, 20, 25, 35, 42], dtype=np.float32)[np.arange(cycles) % 6]
        settings = np.stack([altitude + 0.004] * 3, axis=1)
        sensors = np.repeat(np.arange(cycles, dtype=np.float32)[:, None], 21, axis=1)
        return EngineHistory(number, np.arange(1, cycles + 1), settings, sensors, rul)

    monkeypatch.setattr(
        cmapss_altitudes.recordings,
        "read_cmapss",
        lambda path, subset, split: [engine(1, 0), engine(2, 0 if split == "train" else 20)],
    )
    data = cmapss_altitudes.read_altitudes(None, 40)
    assert set(np.round(data.train.windows[:, :, 0]).ravel()) == {0, 10, 20}
    assert set(np.round(data.test.windows[:, :, 0]).ravel()) == {25, 35, 42}
    assert data.test.labels.tolist() == [0, 20]
    # The newest reading says its cycle: what is left follows from it.
    newest = data.train.windows[:, -1, 3]
    assert np.array_equal(data.train.labels, np.minimum(cycles - 1 - newest, 125))


def test_few_labels_keep_every_class_and_the_held_out_people():
    data = make_dummy("activity", groups=5)
    few = keep_labels(data, np.array([2]), 0.1, seed=0)
    assert np.array_equal(
        few.train.of_groups(np.array([2])).windows, data.train.of_groups(np.array([2])).windows
    )
    rest = few.train.without_groups(np.array([2]))
    assert np.bincount(rest.labels).tolist() == [3] * 6  # a tenth of 32 windows each
    again = keep_labels(data, np.array([2]), 0.1, seed=0)
    assert np.array_equal(again.train.windows, few.train.windows)
    poisoned = replace(data, test=None)
    assert np.array_equal(
        keep_labels(poisoned, np.array([2]), 0.1, seed=0).train.labels, few.train.labels
    )


def test_an_unknown_benchmark_is_refused(tmp_path):
    with pytest.raises(DataSetError, match="'FD009' is not one of FD001"):
        read_benchmark("FD009", tmp_path)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if "FD" in name or "IMS" in name])
def test_real_engines_and_bearings_have_their_windows(name, data_dir):
    data = read_benchmark(name, data_dir)
    assert np.isfinite(data.train.windows).all()
    assert 0 <= data.train.labels.min() <= data.train.labels.max() <= 125
    assert data.test is not None
    if name == "FD001>FD003":
        assert data.digest == read_benchmark("FD001", data_dir).digest
        assert np.array_equal(data.test.windows, read_benchmark("FD003", data_dir).test.windows)
