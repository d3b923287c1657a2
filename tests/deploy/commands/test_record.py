"""`kpstream record` beside a log: once, and until a signal; what it says when it cannot."""

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
from click.testing import CliRunner, Result

from deploy.cli import main
from ingest.labels import encode_label_record, label_key
from ingest.logwriter import LogRecord
from ingest.messages import encode_envelope
from ingest.payloads import encode_payload
from ingest.topics import LABELS, READINGS
from pipeline.log.locallog import SqliteLog, open_log
from tests.fakes.recordings import T0_MS, label
from tests.fakes.records import encode_bundle


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "log.db", partitions=1)
    log.create_topic(READINGS, 1)
    log.create_topic(LABELS, 1, compacted=True)
    body = encode_payload([T0_MS, T0_MS + 20], {"acc_x": [0.5, 0.25]})
    value = encode_bundle([encode_envelope("plant", "ada", "imu", T0_MS, body)])
    given = label("nobody", "a", "failed", T0_MS)
    records = [
        LogRecord(READINGS, 0, None, value, T0_MS),
        LogRecord(LABELS, 0, label_key(given), encode_label_record(given), T0_MS),
    ]
    log.append(records).result()
    yield log
    log.close()


def record(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["record", *words, "--state-dir", str(folder)])


def values(folder: Path) -> list[float]:
    files = folder.glob("imu/*/part-*.parquet")
    return [
        value
        for file in files
        for value in pq.read_table(file, partitioning=None)["acc_x"].to_pylist()
    ]


def test_export_records_what_the_log_has_and_nothing_twice(tmp_path: Path, log: SqliteLog) -> None:
    done = record(tmp_path, "--export")
    assert done.exit_code == 0, done.output
    assert "recorded 2 readings in 1 files; 1 labels" in done.output
    assert "recorded 0 readings in 0 files; 1 labels" in record(tmp_path, "--export").output
    assert values(tmp_path / "recordings") == [0.5, 0.25]
    done = record(tmp_path, "--export", "--folder", str(tmp_path / "other"))
    assert "recorded 2 readings" in done.output
    assert values(tmp_path / "other") == [0.5, 0.25]


def test_an_export_whose_files_have_no_names_yet_fails(tmp_path: Path, log: SqliteLog) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "imu").write_bytes(b"in the way")
    refused = record(tmp_path, "--export")
    assert refused.exit_code == 1
    assert f"1 files of readings are recorded, but wait in {folder / '.staging'}" in refused.output
    (folder / "imu").unlink()
    done = record(tmp_path, "--export")
    assert done.exit_code == 0, done.output
    assert values(folder) == [0.5, 0.25]


def test_a_signal_writes_what_waits(tmp_path: Path, log: SqliteLog) -> None:
    command = [sys.executable, "-m", "deploy.cli", "record", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("recording into ")
        deadline = time.monotonic() + 60
        while not (tmp_path / "recordings/labels.jsonl").exists():  # with it, readings wait
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)
        assert "recorded 2 readings in 1 files; 1 labels" in process.stdout.read()
    assert process.returncode == 0
    assert values(tmp_path / "recordings") == [0.5, 0.25]


def test_folder_in_use_is_said(tmp_path: Path, log: SqliteLog) -> None:
    command = [sys.executable, "-m", "deploy.cli", "record", "--state-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = record(tmp_path, "--export")
        process.terminate()
    assert done.exit_code == 1
    assert "another process records into" in done.output


def test_without_a_log_nothing_is_made(tmp_path: Path) -> None:
    done = record(tmp_path / "nowhere", "--export")
    assert done.exit_code == 1
    assert "no gateway has used this state folder" in done.output
    assert not (tmp_path / "nowhere").exists()
