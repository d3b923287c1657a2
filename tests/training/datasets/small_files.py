"""Small made-up files of every data set, and every way to pack them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingest.recordings import HAR_CHANNELS
from tests.ingest.small_engines import engine_text
from training.datasets.arem import read_arem
from training.datasets.beijing_air import read_beijing_air
from training.datasets.cmapss import read_cmapss
from training.datasets.contract import DataSet
from training.datasets.ett import read_ett
from training.datasets.ims import read_ims
from training.datasets.ltsf import read_ltsf
from training.datasets.rfid_har import read_rfid_har
from training.datasets.series import SeriesSet
from training.datasets.spsw import read_spsw
from training.datasets.uci_har import read_uci_har
from training.datasets.wisdm import LABELS as WISDM_LABELS
from training.datasets.wisdm import read_wisdm

Files = dict[str, bytes]


@dataclass(frozen=True)
class TextSet:
    """A data set of text files.

    Attributes:
        read: Reads it from a path.
        files: Makes its files, by their paths.
        file: Path of the file that faults go into.
        number: Text of one line of that file, and where a number goes.
    """

    read: Callable[[Path], DataSet | SeriesSet]
    files: Callable[[], Files]
    file: str
    number: tuple[str, str]

    def with_number(self, text: str) -> Files:
        """The files with one number replaced by a text."""
        old, new = self.number
        return replaced(self.files(), self.file, old, new.format(text))


def replaced(files: Files, name: str, old: str, new: str) -> Files:
    text = files[name].decode("utf-8")
    assert old in text
    return files | {name: text.replace(old, new, 1).encode("utf-8")}


def cmapss_files() -> Files:
    texts = {
        "train_FD001.txt": engine_text([40, 35]),
        "test_FD001.txt": engine_text([31, 32]),
        "RUL_FD001.txt": "112 \n98 \n",
    }
    return {f"CMAPSSData/{name}": text.encode() for name, text in texts.items()}


def uci_har_files() -> Files:
    values = np.random.default_rng(0).normal(size=(6, 128, 9))
    values[0, 0] = 0.25
    texts = {}
    for split in ("train", "test"):
        for at, channel in enumerate(HAR_CHANNELS):
            lines = [" " + " ".join(f"{value:.7e}" for value in row) for row in values[:, :, at]]
            texts[f"{split}/Inertial Signals/{channel}_{split}.txt"] = "\n".join(lines)
        texts[f"{split}/y_{split}.txt"] = "1\n2\n3\n4\n5\n6\n"
        texts[f"{split}/subject_{split}.txt"] = "1\n1\n3\n3\n5\n30\n"
    return {f"UCI HAR Dataset/{name}": text.encode() for name, text in texts.items()}


def uci_har_arrays() -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).normal(size=(6, 128, 9)).astype(np.float32)
    return {
        "X": values,
        "y": np.arange(1, 7, dtype=np.int8),
        "subject": np.array([1, 1, 3, 3, 5, 30], dtype=np.int8),
        "channels": np.array(HAR_CHANNELS),
    }


def wisdm_arrays() -> dict[str, np.ndarray]:
    users = np.arange(1, 37)
    return {
        "X": np.zeros((36, 8, 3)) + users[:, None, None],
        "y": users % 6,
        "user": users,
        "labels": np.array(WISDM_LABELS),
    }


def arem_files() -> Files:
    files = {}
    for name in ("bending1", "walking"):
        for number in range(1, 6):
            gap = " " if number == 4 else ","
            rows = [gap.join([str(250 * i), "39.25", *["1.5"] * 5]) for i in range(64)]
            files[f"AReM/{name}/dataset{number}.csv"] = ("# a\n" + "\n".join(rows)).encode()
    return files


def rfid_files() -> Files:
    files = {"S1_Dataset/README.txt": b"about"}
    for number in range(1, 9):
        rows = [f"{0.5 * i + 100 * (i >= 20)},0.1,0.2,0.3,{i % 4},-60,1.5,920,4" for i in range(40)]
        files[f"S1_Dataset/d1p{number:02d}M"] = "\n".join(rows).encode()
    return files


def spsw_files(gap_ms: int = 0) -> Files:
    files = {}
    for subject in (18, 1, 19):
        for suffix in ("sp", "sw"):
            rows = ["x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"]
            rows += [
                f"{subject},0,0,0,0,{'-1' if suffix == 'sw' else '1'},"
                f"{1000 + 10 * i + gap_ms * (i >= 300)},{'WALKING' if i < 380 else 'SEATED'}"
                for i in range(600)
            ]
            files[f"DATA/s{subject:02d}/s{subject:02d}_01_{suffix}.csv"] = "\n".join(rows).encode()
    return files


def ims_files(hours: int = 200) -> Files:
    """Snapshots every ten minutes, a pause of two days after hour 50, the rig off at the end."""
    files = {}
    for number, name in enumerate(("1st", "2nd", "3rd"), start=1):
        columns = 8 if number == 1 else 4
        rows = ["," + ",".join(["Datetime", *(f"B{i}" for i in range(columns))])]
        for at in range(6 * hours):
            minute = 10 * at + (2880 if at >= 300 else 0)
            day, rest = divmod(minute, 1440)
            stamp = f"2004.02.{1 + day:02d}.{rest // 60:02d}.{rest % 60:02d}.00"
            level = 0.001 if at == 6 * hours - 1 else 0.1 * (1 + at // 6 / 100)
            rows.append(f"{at},{stamp}," + ",".join([f"{level:.5f}"] * columns))
        files[f"{name}_test_meanabs.csv"] = "\n".join(rows).encode()
    return files


def series_text(head: str, rows: int, step: np.timedelta64, channels: int) -> bytes:
    times = np.datetime64("2016-07-01T00:00:00") + step * np.arange(rows)
    lines = [
        f"{str(time).replace('T', ' ')},{5 + at % 7}.25," + ",".join(["1.5"] * (channels - 1))
        for at, time in enumerate(times)
    ]
    return "\n".join([head, *lines]).encode()


def ett_files() -> Files:
    head = "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"
    return {"ETT-small/ETTh1.csv": series_text(head, 14_400, np.timedelta64(3600, "s"), 7)}


def illness_files() -> Files:
    head = "date,% WEIGHTED ILI,%UNWEIGHTED ILI,AGE 0-4,AGE 5-24,ILITOTAL,NUM. OF PROVIDERS,OT"
    return {"illness/national_illness.csv": series_text(head, 966, np.timedelta64(7, "D"), 7)}


def air_files() -> Files:
    head = "No,year,month,day,hour,PM2.5,PM10,SO2,NO2,CO,O3,TEMP,PRES,DEWP,RAIN,wd,WSPM,station"
    files = {}
    for station in ("Wanliu", "Gucheng"):
        lines = [
            f"{hour},2013,3,{1 + hour // 24},{hour % 24},{'NA' if hour in (10, 11) else hour},"
            f'1,1,1,1,1,1,1,1,0,"NNW",2,{station}'
            for hour in range(100)
        ]
        name = f"PRSA_Data_20130301-20170228/PRSA_Data_{station}_20130301-20170228.csv"
        files[name] = "\n".join([head, *lines]).encode()
    return files


TEXT_SETS = {
    "cmapss": TextSet(
        read_cmapss,
        cmapss_files,
        "CMAPSSData/train_FD001.txt",
        ("1 3 1003.00 ", "1 3 {} "),
    ),
    "uci_har": TextSet(
        read_uci_har,
        uci_har_files,
        "UCI HAR Dataset/test/Inertial Signals/body_gyro_y_test.txt",
        ("2.5000000e-01", "{}"),
    ),
    "arem": TextSet(read_arem, arem_files, "AReM/walking/dataset2.csv", ("39.25", "{}")),
    "rfid_har": TextSet(read_rfid_har, rfid_files, "S1_Dataset/d1p03M", ("0.2", "{}")),
    "spsw": TextSet(
        read_spsw, spsw_files, "DATA/s01/s01_01_sw.csv", ("1,0,0,0,0,-1,1000", "{},0,0,0,0,-1,1000")
    ),
    "ims": TextSet(
        lambda path: read_ims(path, 2), ims_files, "2nd_test_meanabs.csv", ("0.10000", "{}")
    ),
    "ett": TextSet(
        lambda path: read_ett(path, "ETTh1"), ett_files, "ETT-small/ETTh1.csv", ("7.25", "{}")
    ),
    "ltsf": TextSet(
        lambda path: read_ltsf(path, "ILI"),
        illness_files,
        "illness/national_illness.csv",
        ("7.25", "{}"),
    ),
    "beijing_air": TextSet(
        read_beijing_air,
        air_files,
        "PRSA_Data_20130301-20170228/PRSA_Data_Wanliu_20130301-20170228.csv",
        (",0,0,1,", ",0,{},1,"),
    ),
}
"""Every reader of text files."""

ARRAY_SETS = {
    "uci_har_train.npz": (lambda path: read_uci_har(path, with_test=False), uci_har_arrays),
    "wisdm_windows.npz": (read_wisdm, wisdm_arrays),
}
"""Every reader of npz files, by the name of its file."""


def write_folder(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Files, kind: str = "") -> Path:
    with tarfile.open(path, f"w:{kind}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
