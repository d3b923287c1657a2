"""Readers of the further activity sets, on small made-up files and on the real ones."""

import io
import tarfile
import zipfile

import numpy as np
import pytest

from training.datasets.arem import read_arem
from training.datasets.rfid_har import read_rfid_har
from training.datasets.spsw import read_spsw
from training.datasets.wisdm import read_wisdm
from training.errors import DataSetError
from training.teachers.anchors import read_anchors
from training.teachers.prompts import PROMPTS


def write_wisdm(
    path, labels=("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
):
    users = np.arange(1, 37)
    np.savez(
        path,
        X=np.zeros((36, 8, 3)) + users[:, None, None],
        y=users % 6,
        user=users,
        labels=np.array(labels),
    )
    return path


def write_spsw(path, gap_ms=0, label="WALKING"):
    with tarfile.open(path, "w:xz") as archive:
        for subject in (18, 1, 19):
            for suffix in ("sp", "sw"):
                rows = ["x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"]
                rows += [
                    f"{subject},0,0,0,0,{'-1' if suffix == 'sw' else '1'},"
                    f"{1000 + 10 * i + gap_ms * (i >= 300)},{label if i < 380 else 'SEATED'}"
                    for i in range(600)
                ]
                content = "\n".join(rows).encode()
                member = tarfile.TarInfo(f"DATA/s{subject:02d}/s{subject:02d}_01_{suffix}.csv")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_arem(path, columns=7):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("bending1", "walking"):
            for number in range(1, 6):
                gap = " " if number == 4 else ","
                rows = [gap.join([str(250 * i), *["1.5"] * (columns - 1)]) for i in range(64)]
                archive.writestr(f"AReM/{name}/dataset{number}.csv", "# a\n" + "\n".join(rows))
    return path


def write_rfid(path, label=4):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("S1_Dataset/README.txt", "about")
        for number in range(1, 9):
            rows = [
                f"{0.5 * i + 100 * (i >= 20)},0.1,0.2,0.3,{i % 4},-60,1.5,920,{label}"
                for i in range(40)
            ]
            archive.writestr(f"S1_Dataset/d1p{number:02d}M", "\n".join(rows))
    return path


def test_wisdm_keeps_the_last_users_for_the_test(tmp_path):
    data = read_wisdm(write_wisdm(tmp_path / "w.npz"))
    assert (len(data.train), len(data.test)) == (28, 8)
    assert set(data.test.groups) == set(range(29, 37))
    with pytest.raises(DataSetError, match="expected X"):
        read_wisdm(write_wisdm(tmp_path / "odd.npz", tuple("abcdef")))


def test_spsw_reads_one_device_and_splits_by_subject(tmp_path):
    data = read_spsw(write_spsw(tmp_path / "s.tar.xz"), "watch")
    assert data.train.windows.shape == (6, 256, 6)
    assert data.train.groups.tolist() == [1, 1, 1, 18, 18, 18]
    assert set(data.test.groups) == {19}
    assert (data.train.windows[:, :, 5] == -1).all()
    # 600 readings: windows from 0, 128, 256; the label changes at reading 380.
    assert [data.labels[label] for label in data.train.labels[:3]] == ["WALKING"] * 2 + ["SEATED"]


def test_a_pause_breaks_the_windows_of_spsw(tmp_path):
    data = read_spsw(write_spsw(tmp_path / "s.tar.xz", gap_ms=500), "phone")
    assert len(data.train) == 4  # one window in each run of 300
    with pytest.raises(DataSetError, match="is not a recording of SPSW"):
        read_spsw(write_spsw(tmp_path / "odd.tar.xz", label="FLYING"))


def test_arem_reads_blanks_and_commas(tmp_path):
    data = read_arem(write_arem(tmp_path / "a.zip"))
    assert data.train.windows.shape[1:] == (32, 6)
    assert set(data.test.groups) == {1, 2, 601, 602, 603}
    assert set(data.train.groups) == {3, 4, 5, 604, 605}
    with pytest.raises(DataSetError, match="not a sequence"):
        read_arem(write_arem(tmp_path / "odd.zip", columns=5))


def test_rfid_trials_are_cut_at_long_pauses(tmp_path):
    data = read_rfid_har(write_rfid(tmp_path / "r.zip"))
    assert data.train.windows.shape == (6 * 4, 16, 4)  # two runs of 20 readings, two windows each
    assert set(data.test.groups) == {1004, 1008}
    assert set(data.train.labels) == {3}
    with pytest.raises(DataSetError, match="not a trial"):
        read_rfid_har(write_rfid(tmp_path / "odd.zip", label=9))


@pytest.mark.parametrize("read", [read_wisdm, read_spsw, read_arem, read_rfid_har])
def test_a_file_of_something_else_is_refused(read, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataSetError, match="data"):
        read(path)
    with pytest.raises(DataSetError):
        read(tmp_path / "missing")


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
