import shutil
import zipfile

import numpy as np
import pytest

from training.datasets.cmapss import read_cmapss
from training.datasets.contract import fit_scaler
from training.datasets.dummy import make_dummy
from training.datasets.uci_har import read_uci_har
from training.errors import DataSetError
from training.windows import digest_windows


@pytest.mark.parametrize("task", ["rul", "activity"])
def test_the_dummy_set_has_real_shapes_and_depends_on_its_seed(task):
    data = make_dummy(task, seed=3)
    assert data.train.windows.shape[1:] == (data.length, len(data.channels))
    assert data.train.windows.dtype == np.float32
    assert data.train.labels.dtype == np.int64
    assert data.train.labels.min() == 0
    assert make_dummy(task, seed=3).digest == data.digest != make_dummy(task, seed=4).digest
    answers = 126 if task == "rul" else len(data.labels)
    assert data.train.labels.max() < answers


def test_the_dummy_test_set_has_one_window_per_engine():
    data = make_dummy("rul")
    assert len(np.unique(data.test.groups)) == len(data.test) == 4


def test_the_digest_sees_every_part():
    data = make_dummy("rul").train
    changed = data.where(np.arange(len(data)) > 0)
    assert digest_windows(changed) != digest_windows(data)


def test_a_constant_channel_gets_no_weight():
    windows = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
    windows[:, :, 1] = 7.0
    for kind in ("minmax", "zscore"):
        scaler = fit_scaler(kind, windows)
        assert (scaler.scale[1], scaler.offset[1]) == (0.0, 0.0)
        assert scaler.scale[0] > 0


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataSetError, match=r"train_FD001\.txt"):
        read_cmapss(tmp_path)
    with pytest.raises(DataSetError, match="body_acc_x_train"):
        read_uci_har(tmp_path)


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("subset", "train", "test"),
    [("FD001", 17731, 100), ("FD002", 46219, 259), ("FD003", 21820, 100), ("FD004", 54028, 248)],
)
def test_cmapss_has_the_window_counts_of_the_literature(data_dir, subset, train, test):
    data = read_cmapss(data_dir / "cmapss.zip", subset)
    assert (len(data.train), len(data.test)) == (train, test)
    assert len(np.unique(data.test.groups)) == test
    assert data.train.labels.max() == 125
    engine = data.train.of_groups(np.array([1]))
    assert engine.labels[-1] == 0
    assert (np.diff(engine.labels) <= 0).all()


@pytest.mark.needs_data
def test_a_folder_gives_the_numbers_of_the_zip_and_needs_no_test_files(data_dir, tmp_path):
    with zipfile.ZipFile(data_dir / "cmapss.zip") as archive:
        (tmp_path / "train_FD001.txt").write_bytes(archive.read("train_FD001.txt"))
    data = read_cmapss(tmp_path, with_test=False)
    assert data.digest == read_cmapss(data_dir / "cmapss.zip", with_test=False).digest
    with pytest.raises(DataSetError, match="test_FD001"):
        read_cmapss(tmp_path)


@pytest.mark.needs_data
def test_uci_har_has_21_people_to_learn_from_and_9_to_test(data_dir, tmp_path):
    data = read_uci_har(data_dir)
    assert data.train.windows.shape == (7352, 128, 9)
    assert data.test.windows.shape == (2947, 128, 9)
    assert len(np.unique(data.train.groups)) == 21
    assert len(np.unique(data.test.groups)) == 9
    assert not set(data.train.groups) & set(data.test.groups)
    shutil.copy(data_dir / "uci_har_train.npz", tmp_path)
    assert read_uci_har(tmp_path, with_test=False).digest == data.digest
