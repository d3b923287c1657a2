"""One table of packings and faults, for every reader of recorded data."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from tests.training.datasets.small_files import (
    ARRAY_SETS,
    TEXT_SETS,
    Files,
    TextSet,
    arem_files,
    replaced,
    write_folder,
    write_tar,
    write_zip,
)
from training.datasets.arem import read_arem
from training.datasets.cmapss import read_cmapss
from training.datasets.contract import DataSet
from training.datasets.series import SeriesSet
from training.errors import DataSetError

EVERY_SET = pytest.mark.parametrize("one", TEXT_SETS.values(), ids=TEXT_SETS)


def content_of(data: DataSet | SeriesSet) -> bytes:
    arrays = (
        (data.train.windows, data.train.labels, data.test.windows, data.test.labels)
        if isinstance(data, DataSet)
        else (*data.times_ms, *data.series)
    )
    return b"".join(array.tobytes() for array in arrays)


# -- packings that are read ----------------------------------------------------------------------


def in_upper_case(files: Files) -> Files:
    return {name.upper(): content for name, content in files.items()}


def with_windows_paths(files: Files) -> Files:
    return {name.replace("/", "\\"): content for name, content in files.items()}


def with_resource_forks(files: Files) -> Files:
    forks = {f"__MACOSX/{name}": b"resource fork" for name in files}
    hidden = {str(PurePosixPath(name).with_name("._" + Path(name).name)): b"x" for name in files}
    return files | forks | hidden


def zip_bytes(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


PACKINGS: dict[str, Callable[[Path, Files], Path]] = {
    "folder": write_folder,
    "folder in upper case": lambda at, files: write_folder(at, in_upper_case(files)),
    "zip": lambda at, files: write_zip(at / "a.zip", files),
    "zip in upper case": lambda at, files: write_zip(at / "A.ZIP", in_upper_case(files)),
    "zip without compression": lambda at, files: write_zip(at / "a.zip", files, zipfile.ZIP_STORED),
    "zip by bzip2": lambda at, files: write_zip(at / "a.zip", files, zipfile.ZIP_BZIP2),
    "zip by LZMA": lambda at, files: write_zip(at / "a.zip", files, zipfile.ZIP_LZMA),
    "zip of another name": lambda at, files: write_zip(at / "download", files),
    "zip made by Windows": lambda at, files: write_zip(at / "a.zip", with_windows_paths(files)),
    "zip made by macOS": lambda at, files: write_zip(at / "a.zip", with_resource_forks(files)),
    "zip in a zip": lambda at, files: write_zip(at / "a.zip", {"x/b.zip": zip_bytes(files)}),
    "zip in a tar": lambda at, files: write_tar(at / "a.tgz", {"x/b.ZIP": zip_bytes(files)}, "gz"),
    "zip in a folder": lambda at, files: write_zip(at / "a.zip", files).parent,
    "tar": lambda at, files: write_tar(at / "a.tar", files),
    "tar.gz": lambda at, files: write_tar(at / "a.TAR.GZ", files, "gz"),
    "tar.bz2": lambda at, files: write_tar(at / "a.tar.bz2", files, "bz2"),
    "tar.xz": lambda at, files: write_tar(at / "a.tar.xz", files, "xz"),
    "tar in a folder": lambda at, files: write_tar(at / "a.tar.xz", files, "xz").parent,
    "folder beside its zip": lambda at, files: (
        write_zip(write_folder(at, files) / "a.zip", files).parent
    ),
    "folder beside other files": lambda at, files: write_folder(
        at, files | {"notes.txt": b"my notes", "old.7z": b"7z"}
    ),
}


@EVERY_SET
def test_every_packing_gives_the_same_readings(one: TextSet, tmp_path: Path) -> None:
    found = {}
    for name, pack in PACKINGS.items():
        folder = tmp_path / name
        folder.mkdir()
        found[name] = content_of(one.read(pack(folder, one.files())))
    assert {name for name, content in found.items() if content != found["folder"]} == set()


# -- packings that are refused -------------------------------------------------------------------


def encrypted(at: Path, files: Files) -> Path:
    """Set the flag of encryption in both headers of every file."""
    return patched(at, files, lambda place: place + 6, lambda place: place + 8, b"\x01\x00")


def by_deflate64(at: Path, files: Files) -> Path:
    """Write method 9 into both headers of every file."""
    return patched(at, files, lambda place: place + 8, lambda place: place + 10, b"\x09\x00")


def patched(
    at: Path,
    files: Files,
    local: Callable[[int], int],
    central: Callable[[int], int],
    new: bytes,
) -> Path:
    path = write_zip(at / "a.zip", files)
    content = bytearray(path.read_bytes())
    for magic, place_of in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        place = content.find(magic)
        while place >= 0:
            content[place_of(place) : place_of(place) + 2] = new
            place = content.find(magic, place + 4)
    path.write_bytes(content)
    return path


def cut(path: Path, size: float) -> Path:
    """Keep the beginning: a share, or all but -size bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * size) if 0 < size < 1 else int(size)])
    return path


def damaged(path: Path) -> Path:
    """Flip all bits of eight bytes at ten places."""
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 20, len(content), len(content) // 10):
        content[at : at + 8] = bytes(byte ^ 0xFF for byte in content[at : at + 8])
    path.write_bytes(content)
    return path


def cut_between_two_files(at: Path, files: Files) -> Path:
    """A tar that ends after its last whole file, without its end mark."""
    path = write_tar(at / "a.tar", dict(sorted(files.items())) | {"zzz": b"the last one"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"zzz")])
    return path


def damaged_tar_header(at: Path, files: Files) -> Path:
    """A tar in which the header behind the last wanted file is damaged."""
    path = write_tar(at / "a.tar", files | {"zzz": b"the last one"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"zzz", b"zzy"))
    return path


def twice(files: Files) -> Files:
    return {f"{folder}/{name}": content for folder in ("a", "b") for name, content in files.items()}


def named_pipe(at: Path, files: Files) -> Path:
    os.mkfifo(at / "a.zip")
    return at / "a.zip"


def write_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


REFUSED: dict[str, tuple[Callable[[Path, Files], Path], str]] = {
    "nothing": (lambda at, files: at / "none.zip", "does not exist: use the path of"),
    "named pipe": (named_pipe, "neither a file nor a folder"),
    "empty folder": (lambda at, files: at, r"contains no .*: use the path of"),
    "empty file": (lambda at, files: write_file(at / "a.zip", b""), "is empty: copy or download"),
    "web page": (
        lambda at, files: write_file(at / "a.zip", b"<!DOCTYPE html><title>404</title>"),
        "neither a zip nor a tar: use the path of",
    ),
    "7z": (
        lambda at, files: write_file(at / "a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100)),
        "unpack it with another program and pass the folder",
    ),
    "7z in a folder": (
        lambda at, files: write_file(at / "a.7z", b"7z\xbc\xaf\x27\x1c").parent,
        r"a\.7z cannot be opened: use the path of .* or unpack it with another program",
    ),
    "web page in a folder": (
        lambda at, files: write_file(at / "a.zip", b"<!DOCTYPE html>").parent,
        r"a\.zip cannot be opened: use the path of",
    ),
    "cut zip": (lambda at, files: cut(write_zip(at / "a.zip", files), 0.6), "damaged or incomple"),
    "zip without its last byte": (
        lambda at, files: cut(write_zip(at / "a.zip", files), -1),
        "damaged or incomplete",
    ),
    "damaged zip": (
        lambda at, files: damaged(write_zip(at / "a.zip", files, zipfile.ZIP_STORED)),
        "damaged or incomplete",
    ),
    "damaged zip in a folder": (
        lambda at, files: damaged(write_zip(at / "a.zip", files)).parent,
        "damaged or incomplete",
    ),
    "encrypted zip": (encrypted, "is encrypted: unpack it with its password"),
    "Deflate64": (by_deflate64, r"Python cannot read \(Deflate64\): unpack it"),
    "cut tar.xz": (
        lambda at, files: cut(write_tar(at / "a.tar.xz", files, "xz"), 0.6),
        "damaged or incomplete",
    ),
    "tar.gz without its checksum": (
        lambda at, files: cut(write_tar(at / "a.tar.gz", files, "gz"), -8),
        "damaged or incomplete",
    ),
    "cut tar.bz2": (
        lambda at, files: cut(write_tar(at / "a.tar.bz2", files, "bz2"), 0.6),
        "damaged or incomplete",
    ),
    "damaged tar.xz": (
        lambda at, files: damaged(write_tar(at / "a.tar.xz", files, "xz")),
        "damaged or incomplete",
    ),
    "tar cut between two files": (cut_between_two_files, "damaged or incomplete"),
    "tar with a damaged header": (damaged_tar_header, "damaged or incomplete"),
    "one name twice in a folder": (
        lambda at, files: write_folder(at, twice(files)),
        "two files are named",
    ),
    "one name twice in a zip": (
        lambda at, files: write_zip(at / "a.zip", twice(files)),
        "two files are named",
    ),
    "one name twice in a tar": (
        lambda at, files: write_tar(at / "a.tar", twice(files)),
        "two files are named",
    ),
    "one name in two cases": (
        lambda at, files: write_folder(at, files | in_upper_case(files)),
        "two files are named",
    ),
    "two archives in a folder": (
        lambda at, files: (
            write_zip(write_zip(at / "a.zip", files).with_name("b.zip"), files).parent
        ),
        r"two files are named .*a\.zip.* and .*b\.zip",
    ),
}


@EVERY_SET
@pytest.mark.parametrize(("pack", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused(
    one: TextSet, pack: Callable[[Path, Files], Path], message: str, tmp_path: Path
) -> None:
    path = pack(tmp_path, one.files())
    with pytest.raises(DataSetError, match=message):
        one.read(path)


# -- what is in the files ------------------------------------------------------------------------

NO_NUMBERS = ("nan", "NaN", "inf", "-Infinity", "1e39", "-4e38", "1_000", "x", "", "0x10", "٣")


@EVERY_SET
def test_each_number_is_finite_and_fits_float32(one: TextSet, tmp_path: Path) -> None:
    one.read(write_folder(tmp_path / "good", one.with_number("1.5")))
    for place, text in enumerate(NO_NUMBERS):
        files = one.with_number(text)
        if files == one.files():
            continue
        with pytest.raises(DataSetError, match=r"copy|download") as caught:
            one.read(write_folder(tmp_path / str(place), files))
        assert Path(one.file).stem.split("_2013")[0][-6:] in str(caught.value)


@EVERY_SET
@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x00\x01\x02", "μ".encode("utf-16"), b"a,b\n1\n"]
)
def test_a_file_with_other_content_is_refused(one: TextSet, content: bytes, tmp_path: Path) -> None:
    files = one.files() | {one.file: content}
    with pytest.raises(DataSetError):
        one.read(write_folder(tmp_path, files))


WHOLE = {
    "RUL 5.9": ("cmapss", "CMAPSSData/RUL_FD001.txt", "98", "5.9"),
    "RUL -1": ("cmapss", "CMAPSSData/RUL_FD001.txt", "98", "-1"),
    "engine 1.5": ("cmapss", "CMAPSSData/train_FD001.txt", "1 1 ", "1.5 1 "),
    "cycle 2.5": ("cmapss", "CMAPSSData/train_FD001.txt", "1 2 ", "1 2.5 "),
    "engine 1 behind engine 2": ("cmapss", "CMAPSSData/train_FD001.txt", "2 35 ", "1 35 "),
    "label 1.7": ("uci_har", "UCI HAR Dataset/train/y_train.txt", "1\n2", "1.7\n2"),
    "label 7": ("uci_har", "UCI HAR Dataset/train/y_train.txt", "1\n2", "7\n2"),
    "subject 1.5": ("uci_har", "UCI HAR Dataset/train/subject_train.txt", "30", "1.5"),
    "label 3.5": ("rfid_har", "S1_Dataset/d1p03M", "920,4", "920,3.5"),
    "label 9": ("rfid_har", "S1_Dataset/d1p03M", "920,4", "920,9"),
    "time backwards": ("rfid_har", "S1_Dataset/d1p03M", "0.5,", "-1,"),
    "unknown label": ("spsw", "DATA/s01/s01_01_sw.csv", "WALKING", "FLYING"),
    "month 13": ("beijing_air", TEXT_SETS["beijing_air"].file, "0,2013,3,", "0,2013,13,"),
    "hour 1.5": ("beijing_air", TEXT_SETS["beijing_air"].file, "1,2013,3,1,1,", "1,2013,3,1,1.5,"),
    "no time": ("ett", "ETT-small/ETTh1.csv", "2016-07-01 00:00:00", "NaT"),
    "empty time": ("ltsf", "illness/national_illness.csv", "2016-07-01 00:00:00", ""),
    "time with an offset": (
        "ett",
        "ETT-small/ETTh1.csv",
        "2016-07-01 00:00:00",
        "2016-07-01 00:00:00+02:00",
    ),
    "time of another form": ("ims", "2nd_test_meanabs.csv", "2004.02.01.00.10.00", "2004-02-01"),
    "rig's time backwards": (
        "ims",
        "2nd_test_meanabs.csv",
        "2004.02.01.00.10.00",
        "2003.02.01.00.10.00",
    ),
    "column twice": ("ett", "ETT-small/ETTh1.csv", "HULL", "HUFL"),
    "line with a cell too many": ("ett", "ETT-small/ETTh1.csv", "7.25", "7.25,1"),
    "line with a cell too few": ("ltsf", "illness/national_illness.csv", "7.25,1.5", "7.25"),
}


@pytest.mark.parametrize(("name", "file", "old", "new"), WHOLE.values(), ids=WHOLE)
def test_nothing_is_cut_to_a_whole_number_or_guessed(
    name: str, file: str, old: str, new: str, tmp_path: Path
) -> None:
    one = TEXT_SETS[name]
    one.read(write_folder(tmp_path / "good", one.files()))
    with pytest.raises(DataSetError):
        one.read(write_folder(tmp_path / "bad", replaced(one.files(), file, old, new)))


def test_a_subset_is_named_once(tmp_path: Path) -> None:
    path = write_folder(tmp_path, TEXT_SETS["cmapss"].files())
    for subset in ("FD009", "FD001+FD001", "FD001+", ""):
        with pytest.raises(DataSetError, match=r"is not one of FD001.* each once"):
            read_cmapss(path, subset)


# -- arrays --------------------------------------------------------------------------------------

EVERY_ARRAY_SET = pytest.mark.parametrize("name", ARRAY_SETS)


def spoiled(array: np.ndarray, value: float) -> np.ndarray:
    other = array.astype(np.float64)
    other.flat[1] = value
    return other


ARRAY_FAULTS: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "NaN": lambda arrays: arrays | {"X": spoiled(arrays["X"], np.nan)},
    "infinity": lambda arrays: arrays | {"X": spoiled(arrays["X"], np.inf)},
    "too large for float32": lambda arrays: arrays | {"X": spoiled(arrays["X"], 1e39)},
    "complex numbers": lambda arrays: arrays | {"X": arrays["X"].astype(complex)},
    "text": lambda arrays: arrays | {"X": arrays["X"].astype(str)},
    "truth values": lambda arrays: arrays | {"y": arrays["y"].astype(bool)},
    "objects": lambda arrays: arrays | {"X": arrays["X"].astype(object)},
    "label 1.7": lambda arrays: arrays | {"y": spoiled(arrays["y"], 1.7)},
    "label NaN": lambda arrays: arrays | {"y": spoiled(arrays["y"], np.nan)},
    "label 60": lambda arrays: arrays | {"y": spoiled(arrays["y"], 60)},
    "label -1": lambda arrays: arrays | {"y": spoiled(arrays["y"], -1)},
    "a label too few": lambda arrays: arrays | {"y": arrays["y"][1:]},
    "labels as a column": lambda arrays: arrays | {"y": arrays["y"][:, None]},
    "a channel too few": lambda arrays: arrays | {"X": arrays["X"][:, :, 1:]},
    "no windows": lambda arrays: {
        key: array[:0] if key not in ("channels", "labels") else array
        for key, array in arrays.items()
    },
    "other names": lambda arrays: {
        key: array[::-1] if key in ("channels", "labels") else array
        for key, array in arrays.items()
    },
    "an array too few": lambda arrays: {"X": arrays["X"], "y": arrays["y"]},
}


@EVERY_ARRAY_SET
@pytest.mark.parametrize("change", ARRAY_FAULTS.values(), ids=ARRAY_FAULTS)
def test_arrays_are_checked(
    name: str,
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    read, arrays = ARRAY_SETS[name]
    np.savez(tmp_path / name, **change(arrays()))
    with pytest.raises(DataSetError):
        read(tmp_path / name)


@EVERY_ARRAY_SET
def test_an_npy_file_and_an_upper_case_npz(name: str, tmp_path: Path) -> None:
    read, arrays = ARRAY_SETS[name]
    np.savez(tmp_path / name, **arrays())
    whole = read(tmp_path / name).digest
    upper = (tmp_path / name).rename(tmp_path / name.upper())
    assert read(upper).digest == whole
    with upper.open("wb") as file:
        np.save(file, arrays()["X"])
    with pytest.raises(DataSetError, match="neither a zip nor a tar"):
        read(upper)


@EVERY_ARRAY_SET
def test_a_damaged_npz_is_refused_or_unchanged(name: str, tmp_path: Path) -> None:
    read, arrays = ARRAY_SETS[name]
    path = tmp_path / name
    np.savez(path, **arrays())
    check_each_damage(path, lambda: read(path).digest, step=211)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_a_damaged_archive_is_refused_or_unchanged(kind: str, tmp_path: Path) -> None:
    files = dict(list(arem_files().items())[:4])
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        write_zip(path, files)
    else:
        write_tar(path, files, kind[4:])
    check_each_damage(path, lambda: read_arem(path).digest, step=3)


def check_each_damage(path: Path, read: Callable[[], str], step: int) -> None:
    """Flip bits at many places and cut at many lengths; no reading may be another one."""
    content, whole = path.read_bytes(), read()
    refused = 0
    for place in range(0, len(content), step):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        for damage in (bytes(flipped), content[:place]):
            path.write_bytes(damage)
            try:
                assert read() == whole, f"other readings, damaged at byte {place}"
            except DataSetError:
                refused += 1
    assert refused > len(content) // step
