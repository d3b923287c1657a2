"""A recording is whole after a kill between any two steps: nothing lost, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ingest.labels import decode_label_record
from pipeline.errors import RecordingUnavailable, RecordingUnusable
from pipeline.recording.folder import LABELS_FILE, RecordingFolder
from pipeline.recording.parquetfile import write_part
from pipeline.recording.rows import PartRows, Rows
from tests.fakes.recordings import DAY_MS, T0_MS, batch, label, sample_recordings


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process runs after it."""


def files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.glob("*/*/part-*.parquet"))


def times(path: Path) -> list[int]:
    """Event times of all rows that a reader finds, in order."""
    found: list[int] = []
    for file in path.glob("*/*/part-*.parquet"):
        found += pq.read_table(file)["ts_ms"].to_pylist()
    return sorted(found)


def label_ids(path: Path) -> list[str]:
    lines = (path / LABELS_FILE).read_bytes().splitlines()
    return sorted(decode_label_record(line).label.id for line in lines)


def rows_of(number: int) -> list[PartRows]:
    """Two readings of two streams; `number` makes them different."""
    rows = Rows()
    ts_ms = T0_MS + 1000 * number
    rows.add(batch("engine", "engine-1", [ts_ms], ts_ms, T24=[640.0]))
    rows.add(batch("imu", "ada", [ts_ms + 1], ts_ms, acc_x=[0.5]))
    return list(rows.parts())


def opened(path: Path, **options) -> RecordingFolder:
    return RecordingFolder(path, write_part, **{"max_bytes": 10**9, **options})


def test_sample_has_a_file_per_stream_and_day(tmp_path: Path) -> None:
    path = sample_recordings(tmp_path / "recordings")
    assert [file.rpartition("/")[0] for file in files(path)] == [
        "engine/2025-11-29",
        "engine/2025-11-30",
        "imu/2025-11-29",
        "imu/2025-11-30",
    ]
    table = pq.read_table(path / files(path)[0], partitioning=None)
    assert table.column_names == ["ts_ms", "recv_ms", "site", "device", "P30", "T24"]
    assert set(table["device"].to_pylist()) == {"engine-0", "engine-1", "engine-2"}
    assert label_ids(path).count("failed-0") == 3


def test_names_that_collide_have_their_own_place(tmp_path: Path) -> None:
    rows = Rows()
    rows.add(batch("labels.jsonl", "d", [T0_MS], T0_MS, ts_ms=[1.0], site=[2.0], device=[3.0]))
    with opened(tmp_path) as folder:
        folder.commit(rows.parts(), [label("d", "a", "failed", T0_MS)], "log", {"readings/0": 1})
    table = pq.read_table(tmp_path / files(tmp_path)[0], partitioning=None)
    assert table.column_names[4:] == [":device", ":site", ":ts_ms"]
    assert label_ids(tmp_path) == ["a"]


@pytest.mark.parametrize("steps", range(1, 19))
def test_kill_between_any_two_steps_loses_and_doubles_nothing(tmp_path: Path, steps: int) -> None:
    """The recorder reads from the positions on, as after a real kill."""
    left = steps
    killed = 0

    def on_step(_step: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    records = {number: rows_of(number) for number in range(3)}
    for _ in range(5):
        folder = opened(tmp_path, on_step=on_step)
        try:
            for number in range(folder.positions.get("readings/0", 0), len(records)):
                given = [label("engine-1", f"label-{number}", "failed", T0_MS)]
                folder.commit(records[number], given, "log", {"readings/0": number + 1})
        except Killed:
            killed += 1
            assert len(times(tmp_path)) == len(set(times(tmp_path)))
        else:
            break
        finally:
            folder.close()
    assert killed == 1
    assert times(tmp_path) == sorted(T0_MS + 1000 * n + at for n in range(3) for at in (0, 1))
    assert label_ids(tmp_path) == ["label-0", "label-1", "label-2"]
    assert not list((tmp_path / ".staging").iterdir())


def test_failed_write_changes_nothing_and_is_tried_again(tmp_path: Path) -> None:
    full = True

    def write(path: Path, rows: PartRows) -> int:
        if full and rows.key.stream == "imu":
            message = "no space left on device"
            raise RecordingUnavailable(message)
        return write_part(path, rows)

    parts = rows_of(0)
    with RecordingFolder(tmp_path, write, max_bytes=10**9) as folder:
        with pytest.raises(RecordingUnavailable, match="no space left"):
            folder.commit(parts, [], "log", {"readings/0": 1})
        assert folder.positions == {}
        assert files(tmp_path) == []
        full = False
        folder.commit(parts, [], "log", {"readings/0": 1})
    assert times(tmp_path) == [T0_MS, T0_MS + 1]


def test_oldest_day_goes_when_the_folder_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, max_bytes=4 * 4096) as folder:
        for day in range(4):
            rows = Rows()
            at_ms = T0_MS + day * DAY_MS
            for stream in ("engine", "imu"):
                rows.add(batch(stream, "d", [at_ms], at_ms, x=[1.0]))
            folder.commit(rows.parts(), [], "log", {"readings/0": day + 1})
    days = {file.split("/")[1] for file in files(tmp_path)}
    assert days == {"2025-12-01", "2025-12-02"}
    assert folder.deleted_files == 4
    assert "the readings of 2025-11-29 are deleted, 2 files" in caplog.text
    assert not (tmp_path / "engine" / "2025-11-29").exists()


def test_a_single_day_loses_its_oldest_files(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=3 * 4096) as folder:
        for number in range(6):
            rows = Rows()
            rows.add(batch("engine", "d", [T0_MS + number], T0_MS, x=[1.0]))
            folder.commit(rows.parts(), [], "log", {"readings/0": number + 1})
    assert times(tmp_path) == [T0_MS + 3, T0_MS + 4, T0_MS + 5]


def test_second_recorder_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(RecordingUnusable, match="another process records into"):
        opened(tmp_path)
    opened(tmp_path).close()


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"source": "log"}', b"\x00" * 100])
def test_recordings_without_good_positions_are_not_added_to(
    tmp_path: Path, content: bytes | None
) -> None:
    with opened(tmp_path) as folder:
        folder.commit(rows_of(0), [], "log", {"readings/0": 1})
    if content is None:
        (tmp_path / ".positions.json").unlink()
    else:
        (tmp_path / ".positions.json").write_bytes(content)
    with pytest.raises(RecordingUnusable, match="move the folder away") as refused:
        opened(tmp_path)
    assert str(refused.value).startswith(str(tmp_path))
    assert "ignored" not in str(refused.value)


def test_damaged_line_of_labels_is_named(tmp_path: Path) -> None:
    (tmp_path / LABELS_FILE).write_bytes(b'{"id": 1}\n')
    with pytest.raises(RecordingUnusable, match="line 1 of"):
        opened(tmp_path)


def test_revocation_counts_in_any_order(tmp_path: Path) -> None:
    given = label("engine-1", "a", "failed", T0_MS)
    revoked = label("engine-1", "a", "failed", T0_MS, revoked=True)
    with opened(tmp_path) as folder:
        folder.commit([], [revoked], "log", {"labels/0": 1})
        folder.commit([], [given], "log", {"labels/0": 2})
    (line,) = (tmp_path / LABELS_FILE).read_bytes().splitlines()
    assert decode_label_record(line).label.revoked
