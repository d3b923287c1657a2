"""What a recorder still needs stays in the log, for as long as there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes.recordinghold import RecordingHold
from ingest.logwriter import LogRecord
from ingest.topics import READINGS
from pipeline.errors import RecorderError
from pipeline.log.locallog import SqliteLog, open_log
from pipeline.log.reader import peek_ends
from pipeline.recording.positions import RecordedPositions, write_positions

GROUP = "kpstream-record"
DAY_MS = 86_400_000


class Clock:
    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "log.db", partitions=2, retention_ms=1, maintenance_ms=10**6)
    log.create_topic(READINGS, 2)
    log.append([LogRecord(READINGS, at % 2, None, b"x", 0) for at in range(20)]).result()
    yield log
    log.close()


def write(folder: Path, log: SqliteLog, *offsets: int, source: str | None = None) -> None:
    folder.mkdir(exist_ok=True)
    identity = peek_ends(log.path, READINGS)[0] if source is None else source
    positions = {f"{READINGS}/{partition}": at for partition, at in enumerate(offsets)}
    write_positions(folder, RecordedPositions(identity, positions))


def committed(log: SqliteLog) -> list[int | None]:
    return [at.committed for at in log.group_offsets(GROUP)]


def test_positions_of_a_recorder_are_those_of_its_group(tmp_path: Path, log: SqliteLog) -> None:
    folder = tmp_path / "recordings"
    hold = RecordingHold(log, GROUP, folder)
    hold.update()
    assert (log.groups(), hold.status()) == ([], {"recorder": "none"})
    write(folder, log, 3, 5)
    hold.update()
    assert committed(log) == [3, 5]
    assert hold.status() == {"recorder": str(folder), "backlog": 12}
    write(folder, log, 10, 99)  # the log has lost its end
    hold.update()
    assert committed(log) == [10, 10]


@pytest.mark.parametrize("case", ["gone", "another log"])
def test_group_ends_with_its_recorder(tmp_path: Path, log: SqliteLog, case: str) -> None:
    folder = tmp_path / "recordings"
    write(folder, log, 3, 5)
    RecordingHold(log, GROUP, folder).update()
    hold = RecordingHold(log, GROUP, folder)  # after a restart
    if case == "gone":
        (folder / ".positions.json").unlink()
    else:
        write(folder, log, 3, 5, source="another")
    hold.update()
    assert log.groups() == []


def test_recorder_that_is_away_for_a_day_is_not_waited_for(
    tmp_path: Path, log: SqliteLog, caplog: pytest.LogCaptureFixture
) -> None:
    folder, clock = tmp_path / "recordings", Clock()
    hold = RecordingHold(log, GROUP, folder, clock)
    write(folder, log, 3, 5)
    hold.update()
    clock.ms = DAY_MS
    hold.update()
    assert log.groups() == [GROUP]
    clock.ms = DAY_MS + 1
    hold.update()
    hold.update()
    assert log.groups() == []
    assert caplog.text.count("has recorded nothing for a day") == 1
    write(folder, log, 4, 5)
    hold.update()
    assert committed(log) == [4, 5]


def test_damaged_positions_are_said(tmp_path: Path, log: SqliteLog) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / ".positions.json").write_bytes(b"{}")
    with pytest.raises(RecorderError, match="move the folder away"):
        RecordingHold(log, GROUP, folder).update()
