"""Recorded data sets are read exactly, from folders and archives; faults are reported."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ingest.recordings import (
    CMAPSS_SENSORS,
    ENGINE_CHANNELS,
    HAR_CHANNELS,
    HarWindows,
    RecordingError,
    engine_recordings,
    read_cmapss,
    read_uci_har,
    recordings_of,
)
from pipeline.windows.spec import WindowSpec
from tests.fakes.onedevice import OneDevice
from tests.ingest.small_engines import engine_text

NAMES = ("test_FD001.txt", "RUL_FD001.txt", "train_FD001.txt")


@pytest.fixture
def cmapss_files() -> dict[str, str]:
    return dict(zip(NAMES, (engine_text([3, 2]), "112 \n98 \n", engine_text([5])), strict=True))


def as_folder(files: dict[str, str], at: Path) -> Path:
    deep = at / "data" / "CMAPSSData"
    deep.mkdir(parents=True)
    for name, text in files.items():
        (deep / name).write_text(text)
    return at


def as_zip(files: dict[str, str], at: Path) -> Path:
    path = at / "cmapss.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"__MACOSX/._x/{name}", "resource fork")
            archive.writestr(f"CMAPSSData/{name}", text)
    return path


def as_zip_in_zip(files: dict[str, str], at: Path) -> Path:
    inner = as_zip(files, at)
    path = at / "6. Turbofan Engine Degradation Simulation Data Set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "6. Turbofan/CMAPSSData.zip")
    return path


def as_tar(files: dict[str, str], at: Path) -> Path:
    path = at / "cmapss.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"CMAPSSData/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_zip_in_zip, as_tar])
def test_engines_are_read_from_any_packing(
    cmapss_files: dict[str, str], tmp_path: Path, pack: Callable[[dict[str, str], Path], Path]
) -> None:
    path = pack(cmapss_files, tmp_path)
    first, second = read_cmapss(path, "FD001", "test")
    assert (first.engine, second.engine) == (1, 2)
    assert (first.rul_cycles, second.rul_cycles) == (112, 98)
    assert first.cycles.tolist() == [1, 2, 3]
    assert first.sensors.shape == (3, 21)
    assert first.sensors.dtype == np.float32
    assert first.settings.shape == (3, 3)
    assert second.sensors[1, 0] == np.float32(2002.03)
    (whole,) = read_cmapss(str(path), "FD001", "train")
    assert whole.rul_cycles == 0


def test_engines_become_devices(cmapss_files: dict[str, str], tmp_path: Path) -> None:
    histories = read_cmapss(as_zip(cmapss_files, tmp_path), "FD001", "test")
    first, second = engine_recordings(histories, interval_ms=40)
    assert (first.device, second.device, first.stream) == ("FD001-001", "FD001-002", "engine")
    assert first.channels == ENGINE_CHANNELS
    assert first.offsets_ms.tolist() == [0, 40, 80]
    assert first.values[0, ENGINE_CHANNELS.index("W32")] == histories[0].sensors[0, 20]
    everything = engine_recordings(histories, all_channels=True)[0]
    assert everything.channels[3:] == CMAPSS_SENSORS
    assert everything.values.shape == (3, 24)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test_FD001.txt", "1 1 nonsense\n", r"line 1, has 3 values, expected 26: copy"),
        ("test_FD001.txt", "1 1 2 3\n", r"line 1, has 4 values, expected 26: copy"),
        ("test_FD001.txt", engine_text([2, 2]).replace("1 2 ", "1 3 "), "cycles of engine 1"),
        ("test_FD001.txt", engine_text([2, 2]).replace("1 1 ", "7 1 "), "not numbered 1, 2, 3"),
        ("RUL_FD001.txt", "112\n", "1 values for 2 engines"),
        ("RUL_FD001.txt", None, "contains no RUL_FD001.txt: use the path of C-MAPSS"),
    ],
)
def test_faults_of_the_engine_files_are_reported(
    cmapss_files: dict[str, str], tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is None:
        del cmapss_files[name]
    else:
        cmapss_files[name] = text
    with pytest.raises(RecordingError, match=message):
        read_cmapss(as_zip(cmapss_files, tmp_path), "FD001", "test")


def test_wrong_paths_are_reported(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="does not exist"):
        read_cmapss(tmp_path / "none.zip")
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(RecordingError, match=r"x\.zip is neither a zip nor a tar: use the path of"):
        read_cmapss(tmp_path / "x.zip")
    with pytest.raises(RecordingError, match=r"uci_har_test\.npz"):
        read_uci_har(tmp_path)
    (tmp_path / "uci_har_test.npz").write_text("no npz")
    with pytest.raises(RecordingError, match=r"nor a tar: use the path of uci_har_test\.npz"):
        read_uci_har(tmp_path)
    np.savez(tmp_path / "uci_har_test.npz", X=0, y=0, subject=0, channels=np.array(["a"]))
    with pytest.raises(RecordingError, match="channels are a, expected body_acc_x"):
        read_uci_har(tmp_path)
    with pytest.raises(RecordingError, match="not the train split"):
        read_uci_har(tmp_path / "uci_har_test.npz", "train")


def synthetic_windows() -> HarWindows:
    """Two subjects; subject 3 is recorded in two runs, subject 5 twice in the file."""
    rng = np.random.default_rng(0)
    runs = [(3, 4), (3, 2), (5, 3), (8, 1), (5, 2)]
    X, subject = [], []
    for who, count in runs:
        signal = rng.normal(size=(64 * (count + 1), 9)).astype(np.float32)
        X += [signal[64 * i : 64 * i + 128] for i in range(count)]
        subject += [who] * count
    y = np.arange(len(X)) % 6
    return HarWindows(np.stack(X), y, np.array(subject))


def closed_windows(recording: object) -> tuple[np.ndarray, list[int]]:
    """Return the windows that the pipeline's own windower cuts from a recording."""
    spec = WindowSpec(length=128, hop=64, min_readings=128, gap_ms=100)
    windower = OneDevice(spec, len(recording.channels))
    windows = []
    now_ms = int(recording.offsets_ms[-1])
    windows += windower.step(recording.offsets_ms, recording.values, now_ms).windows
    windows += windower.advance(now_ms + 10_000, 0)
    return np.stack([w.values for w in windows]), [w.end_ms - 1 for w in windows]


def check_exact(windows: HarWindows) -> int:
    seen: list[int] = []
    for recording in recordings_of(windows):
        values, ends = closed_windows(recording)
        assert np.array_equal(values, windows.X[recording.windows])
        assert ends == recording.window_offsets_ms.tolist()
        assert np.all(np.diff(recording.offsets_ms) > 0)
        subjects = windows.subject[recording.windows]
        assert {f"subject-{who:02d}" for who in subjects} == {recording.device}
        seen += recording.windows.tolist()
    assert sorted(seen) == list(range(len(windows.X)))
    return len(seen)


def test_recordings_give_back_the_windows_exactly() -> None:
    windows = synthetic_windows()
    assert check_exact(windows) == 12
    three, five, eight = recordings_of(windows)
    assert three.windows.tolist() == [0, 1, 2, 3, 4, 5]
    assert five.windows.tolist() == [6, 7, 8, 10, 11]
    assert len(eight.values) == 128
    assert three.channels == HAR_CHANNELS


def test_har_texts_and_arrays_are_the_same_numbers(tmp_path: Path) -> None:
    windows = synthetic_windows()
    deep = tmp_path / "UCI HAR Dataset" / "test" / "Inertial Signals"
    deep.mkdir(parents=True)
    for at, channel in enumerate(HAR_CHANNELS):
        np.savetxt(deep / f"{channel}_test.txt", windows.X[:, :, at], fmt=" %.9e")
    np.savetxt(deep.parent / "y_test.txt", windows.y + 1, fmt="%d")
    np.savetxt(deep.parent / "subject_test.txt", windows.subject, fmt="%d")
    texts = read_uci_har(tmp_path)
    np.savez(
        tmp_path / "uci_har_test.npz",
        X=windows.X,
        y=(windows.y + 1).astype(np.int8),
        subject=windows.subject.astype(np.int8),
        channels=np.array(HAR_CHANNELS),
    )
    arrays = read_uci_har(tmp_path)
    for found in (texts, arrays):
        assert np.array_equal(found.X, windows.X)
        assert np.array_equal(found.y, windows.y)
        assert np.array_equal(found.subject, windows.subject)


@pytest.mark.needs_data
def test_real_engines_have_their_known_numbers(data_dir: Path) -> None:
    expected = {"FD001": (100, 13096), "FD002": (259, 33991), "FD003": (100, 16596)}
    for subset, counts in expected.items():
        histories = read_cmapss(data_dir / "cmapss.zip", subset, "test")
        assert (len(histories), sum(len(h.cycles) for h in histories)) == counts
    first = read_cmapss(data_dir / "cmapss.zip")[0]
    assert first.rul_cycles == 112
    assert first.sensors[0, CMAPSS_SENSORS.index("T24")] == np.float32(643.02)


@pytest.mark.needs_data
def test_all_real_windows_come_back_exactly(data_dir: Path) -> None:
    windows = read_uci_har(data_dir, "test")
    assert check_exact(windows) == 2947
    assert len(recordings_of(windows)) == 9


@pytest.mark.needs_data
@pytest.mark.slow
def test_real_texts_are_the_same_numbers_as_the_arrays(data_dir: Path) -> None:
    if not (data_dir / "uci_har_inertial.tar.xz").is_file():
        pytest.skip("the folder has no uci_har_inertial.tar.xz")
    texts = read_uci_har(data_dir / "uci_har_inertial.tar.xz", "test")
    arrays = read_uci_har(data_dir, "test")
    assert np.array_equal(texts.X, arrays.X)
    assert np.array_equal(texts.y, arrays.y)
    assert np.array_equal(texts.subject, arrays.subject)
