"""From the log to the folder: every record once, whatever is killed, missing, disordered or bad."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ingest.labels import LabelRecord, decode_label_record, encode_label_record, label_key
from ingest.logwriter import LogRecord
from ingest.messages import Tick, encode_envelope
from ingest.payloads import encode_payload
from ingest.topics import LABELS, READINGS
from pipeline.errors import RecordingUnavailable
from pipeline.log.locallog import SqliteLog, open_log
from pipeline.recording.folder import LABELS_FILE, RecordingFolder
from pipeline.recording.parquetfile import write_part
from pipeline.recording.recorder import Recorder
from pipeline.recording.source import Ends, LogRecords, Place, Record
from tests.fakes.recordings import T0_MS, label
from tests.fakes.records import as_columns, encode_bundle, encode_tick

ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    """Stands for SIGKILL."""


class Clock:
    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


def reading(number: int, device: str = "engine-1") -> bytes:
    body = encode_payload([T0_MS + number], {"T24": [float(number)]})
    return encode_envelope("plant-7", device, "engine", T0_MS + number, body)


def bundle(*numbers: int) -> LogRecord:
    tick = encode_tick(Tick(T0_MS, T0_MS))
    value = encode_bundle([*map(reading, numbers), tick])
    value = as_columns(value) if numbers[0] % 2 else value
    return LogRecord(READINGS, numbers[0] % 2, None, value, T0_MS)


def labelled(record: LabelRecord) -> LogRecord:
    return LogRecord(LABELS, 0, label_key(record), encode_label_record(record), T0_MS)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "log.db", partitions=2)
    log.create_topic(READINGS, 2)
    log.create_topic(LABELS, 2, compacted=True)
    yield log
    log.close()


def recorded(path: Path) -> list[float]:
    """Values of all rows that a reader finds."""
    found: list[float] = []
    for file in path.glob("*/*/part-*.parquet"):
        found += pq.read_table(file, partitioning=None)["T24"].to_pylist()
    return sorted(found)


def labels_in(path: Path) -> dict[str, bool]:
    """Ids, and whether they are revoked."""
    lines = (path / LABELS_FILE).read_bytes().splitlines()
    found = [decode_label_record(line).label for line in lines]
    assert len(found) == len({each.id for each in found})
    return {each.id: each.revoked for each in found}


def folder_in(path: Path, **options) -> RecordingFolder:
    return RecordingFolder(path, write_part, **{"max_bytes": 10**9, **options})


def recorder_of(log: SqliteLog, folder: RecordingFolder, **options) -> Recorder:
    defaults = {"flush_ms": 1000, "buffer_bytes": 10**9, "steady_ms": Clock()}
    return Recorder(LogRecords(log.path), folder, **{**defaults, **options})


def test_readings_wait_for_their_file_and_labels_do_not(tmp_path: Path, log: SqliteLog) -> None:
    clock, path = Clock(), tmp_path / "recordings"
    with folder_in(path) as folder:
        recorder = recorder_of(log, folder, steady_ms=clock)
        log.append(
            [bundle(1), bundle(2), labelled(label("engine-1", "a", "failed", T0_MS))]
        ).result()
        assert recorder.turn() == 3
        assert (recorded(path), labels_in(path)) == ([], {"a": False})
        clock.ms = 1000
        log.append([bundle(3)]).result()
        assert recorder.turn() == 1
        assert recorded(path) == [1.0, 2.0, 3.0]
        assert recorder.turn() == 0
        counters = recorder.counters
        assert (counters.readings, counters.labels, counters.files) == (3, 1, 1)
        assert (counters.missing, counters.unreadable) == (0, 0)


def test_full_buffer_is_written_early(tmp_path: Path, log: SqliteLog) -> None:
    with folder_in(tmp_path / "r") as folder:
        log.append([bundle(number) for number in range(40)]).result()
        recorder = recorder_of(log, folder, buffer_bytes=4000)
        recorder.turn()
        assert recorder.counters.files in range(2, 8)
        recorder.flush()
    assert recorded(tmp_path / "r") == [float(number) for number in range(40)]


def test_recorder_that_stops_goes_on_where_it_was(tmp_path: Path, log: SqliteLog) -> None:
    for number in range(0, 9, 3):
        log.append([bundle(number), bundle(number + 1), bundle(number + 2)]).result()
        with folder_in(tmp_path / "r") as folder:
            recorder = recorder_of(log, folder)
            recorder.turn()
            recorder.flush()
    assert recorded(tmp_path / "r") == [float(number) for number in range(9)]


@pytest.mark.parametrize("steps", range(1, 30))
def test_kill_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, log: SqliteLog, steps: int
) -> None:
    left, killed, path = steps, 0, tmp_path / "r"

    def on_step(_step: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    given = [label("engine-1", name, "failed", T0_MS) for name in "abc"]
    for at in range(4):
        log.append([bundle(10 * at + number) for number in range(4)]).result()
        if at < 3:
            log.append([labelled(given[at])]).result()
        with folder_in(path, on_step=on_step) as folder:
            try:
                recorder = recorder_of(log, folder)
                recorder.turn()
                recorder.flush()
            except Killed:
                killed += 1
        found = recorded(path)
        assert len(found) == len(set(found))
    with folder_in(path) as folder:
        recorder = recorder_of(log, folder)
        recorder.turn()
        recorder.flush()
    assert killed <= 1
    assert recorded(path) == [float(10 * at + number) for at in range(4) for number in range(4)]
    assert labels_in(path) == {"a": False, "b": False, "c": False}


def test_revocation_that_was_first_counts(tmp_path: Path, log: SqliteLog) -> None:
    given = label("engine-1", "a", "failed", T0_MS)
    revoked = label("engine-1", "a", "failed", T0_MS, revoked=True)
    with folder_in(tmp_path / "r") as folder:
        recorder = recorder_of(log, folder)
        for record in (revoked, given, given):
            log.append([labelled(record)]).result()
            recorder.turn()
    assert labels_in(tmp_path / "r") == {"a": True}


def test_damaged_records_are_counted_and_harm_no_other(tmp_path: Path, log: SqliteLog) -> None:
    bad = b"[" + reading(1) + b",\n{broken,\n" + reading(2) + b"]"
    no_label = LogRecord(LABELS, 0, b"x", b'{"id": 7}', T0_MS)
    good = labelled(label("nobody", "a", "failed", T0_MS))
    log.append([LogRecord(READINGS, 0, None, bad, T0_MS), no_label, good]).result()
    with folder_in(tmp_path / "r") as folder:
        recorder = recorder_of(log, folder)
        recorder.turn()
        recorder.flush()
    assert recorded(tmp_path / "r") == [1.0, 2.0]
    assert labels_in(tmp_path / "r") == {"a": False}
    assert recorder.counters.unreadable == 2


class FakeLog:
    """A log whose ends and records the test sets."""

    def __init__(self) -> None:
        self.identity = "one"
        self.first, self.end = 0, 0
        self.fails = False

    def ends(self) -> Ends:
        if self.fails:
            message = "the log is away"
            raise RecordingUnavailable(message)
        return Ends(self.identity, {Place(READINGS, 0): (self.first, self.end)})

    def read(self, place: Place, offset: int, end: int) -> Iterator[Record]:
        for at in range(max(offset, self.first), end):
            yield Record(at, encode_bundle([reading(at)]))


def test_records_that_left_the_log_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = FakeLog()
    with folder_in(tmp_path / "r") as folder:
        recorder = Recorder(source, folder, flush_ms=0, buffer_bytes=10**9)
        source.end = 2
        recorder.turn()
        source.first, source.end = 5, 7
        recorder.turn()
        assert recorder.counters.missing == 3
        assert "3 records of readings/0 had left the log" in caplog.text
    assert recorded(tmp_path / "r") == [0.0, 1.0, 5.0, 6.0]


def test_another_log_is_recorded_from_its_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = FakeLog()
    source.end = 3
    with folder_in(tmp_path / "r") as folder:
        recorder = Recorder(source, folder, flush_ms=10**9, buffer_bytes=10**9)
        recorder.turn()
        source.identity, source.end = "two", 1
        recorder.turn()
        recorder.flush()
        assert "the log is another one" in caplog.text
        assert (folder.source, folder.positions) == ("two", {"readings/0": 1})
    assert recorded(tmp_path / "r") == [0.0, 0.0, 1.0, 2.0]


def test_log_that_lost_its_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = FakeLog()
    with folder_in(tmp_path / "r") as folder:
        recorder = Recorder(source, folder, flush_ms=0, buffer_bytes=10**9)
        for source.end in (5, 3, 4):
            recorder.turn()
    assert "ends at 3, and 5 was recorded" in caplog.text
    assert recorded(tmp_path / "r") == [0.0, 1.0, 2.0, 3.0, 3.0, 4.0]


def test_full_disk_holds_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    source, is_full = FakeLog(), True

    def write(path: Path, rows) -> int:
        if is_full:
            message = "no space left"
            raise RecordingUnavailable(message)
        return write_part(path, rows)

    source.end = 100
    with RecordingFolder(tmp_path / "r", write, max_bytes=10**9) as folder:
        recorder = Recorder(source, folder, flush_ms=0, buffer_bytes=1000)
        for _ in range(5):
            with pytest.raises(RecordingUnavailable, match="no space left"):
                recorder.turn()
        is_full = False
        recorder.turn()
        recorder.flush()
    assert recorded(tmp_path / "r") == [float(number) for number in range(100)]


KILLED = """
import sys, time
from pathlib import Path
from pipeline.recording.folder import RecordingFolder
from pipeline.recording.parquetfile import write_part
from pipeline.recording.recorder import Recorder
from pipeline.recording.source import LogRecords

log, path = map(Path, sys.argv[1:])
with RecordingFolder(path, write_part, max_bytes=10**9) as folder:
    recorder = Recorder(LogRecords(log), folder, flush_ms=0, buffer_bytes=5000)
    print("recording", flush=True)
    while True:
        recorder.turn()
"""


def test_processes_that_are_killed_record_everything_once(tmp_path: Path, log: SqliteLog) -> None:
    path, number = tmp_path / "r", 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(log.path), str(path)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"recording\n"
        before = len(recorded(path))
        deadline = time.monotonic() + 60
        while len(recorded(path)) < before + 30:
            records = [bundle(number + step) for step in range(10)]
            records.append(labelled(label("engine-1", f"label-{number}", "failed", T0_MS)))
            log.append(records).result()
            number += 10
            assert time.monotonic() < deadline
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with folder_in(path) as folder:
        recorder = recorder_of(log, folder)
        recorder.turn()
        recorder.flush()
    assert recorded(path) == [float(each) for each in range(number)]
    assert set(labels_in(path)) == {f"label-{each}" for each in range(0, number, 10)}
