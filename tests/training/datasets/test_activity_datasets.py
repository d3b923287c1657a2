"""Readers of the further activity sets, on small made-up files and on the real ones."""

import numpy as np
import pytest

from tests.training.datasets.small_files import (
    arem_files,
    replaced,
    rfid_files,
    spsw_files,
    wisdm_arrays,
    write_folder,
    write_tar,
    write_zip,
)
from training.datasets.arem import read_arem
from training.datasets.rfid_har import read_rfid_har
from training.datasets.spsw import read_spsw
from training.datasets.wisdm import read_wisdm
from training.errors import DataSetError
from training.teachers.anchors import read_anchors
from training.teachers.prompts import PROMPTS


def test_wisdm_keeps_the_last_users_for_the_test(tmp_path):
    np.savez(tmp_path / "w.npz", **wisdm_arrays())
    data = read_wisdm(tmp_path / "w.npz")
    assert (len(data.train), len(data.test)) == (28, 8)
    assert set(data.test.groups) == set(range(29, 37))
    np.savez(tmp_path / "odd.npz", **wisdm_arrays() | {"labels": np.array(tuple("abcdef"))})
    with pytest.raises(DataSetError, match="expected the labels"):
        read_wisdm(tmp_path / "odd.npz")


def test_spsw_reads_one_device_and_splits_by_subject(tmp_path):
    data = read_spsw(write_tar(tmp_path / "s.tar.xz", spsw_files(), "xz"), "watch")
    assert data.train.windows.shape == (6, 256, 6)
    assert data.train.groups.tolist() == [1, 1, 1, 18, 18, 18]
    assert set(data.test.groups) == {19}
    assert (data.train.windows[:, :, 5] == -1).all()
    # 600 readings: windows from 0, 128, 256; the label changes at reading 380.
    assert [data.labels[label] for label in data.train.labels[:3]] == ["WALKING"] * 2 + ["SEATED"]


def test_a_pause_breaks_the_windows_of_spsw(tmp_path):
    data = read_spsw(write_tar(tmp_path / "s.tar.xz", spsw_files(gap_ms=500), "xz"), "phone")
    assert len(data.train) == 4  # one window in each run of 300
    odd = replaced(spsw_files(), "DATA/s01/s01_01_sw.csv", "SEATED", "FLYING")
    with pytest.raises(DataSetError, match=r"s01_01_sw\.csv, line 382: label 'FLYING'"):
        read_spsw(write_folder(tmp_path / "odd", odd))


def test_arem_reads_blanks_and_commas(tmp_path):
    data = read_arem(write_zip(tmp_path / "a.zip", arem_files()))
    assert data.train.windows.shape[1:] == (32, 6)
    assert set(data.test.groups) == {1, 2, 601, 602, 603}
    assert set(data.train.groups) == {3, 4, 5, 604, 605}
    odd = replaced(arem_files(), "AReM/walking/dataset4.csv", "1.5 1.5\n", "1.5\n")
    with pytest.raises(DataSetError, match=r"dataset4\.csv in .*, line 2, has 6 values"):
        read_arem(write_folder(tmp_path / "odd", odd))


def test_rfid_trials_are_cut_at_long_pauses(tmp_path):
    data = read_rfid_har(write_zip(tmp_path / "r.zip", rfid_files()))
    assert data.train.windows.shape == (6 * 4, 16, 4)  # two runs of 20 readings, two windows each
    assert set(data.test.groups) == {1004, 1008}
    assert set(data.train.labels) == {3}
    odd = replaced(rfid_files(), "S1_Dataset/d1p03M", "920,4", "920,9")
    with pytest.raises(DataSetError, match=r"d1p03M in .*, labels: number 1 is 9"):
        read_rfid_har(write_folder(tmp_path / "odd", odd))


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("read", "file", "prompts", "train", "test"),
    [
        (read_wisdm, "wisdm_windows.npz", "wisdm", 5542, 1750),
        (read_spsw, "spsw_har.tar.xz", "spsw", 1357, 362),
        (read_arem, "arem.zip", "arem", 2000, 551),
        (read_rfid_har, "rfid_har.zip", "rfid", 14578, 3756),
    ],
)
def test_the_real_sets_have_their_windows_and_anchors(read, file, prompts, train, test, data_dir):
    data = read(data_dir / file)
    assert (len(data.train), len(data.test)) == (train, test)
    assert np.isfinite(data.train.windows).all()
    assert not set(data.train.groups) & set(data.test.groups)
    assert set(data.train.labels) == set(range(len(data.labels)))
    assert len(PROMPTS[prompts]) == len(read_anchors(prompts).vectors) == len(data.labels)
