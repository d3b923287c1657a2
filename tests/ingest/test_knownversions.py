"""The memory of MQTT versions: it outlives the process, and a damaged file costs only time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.knownversions import KnownVersions

NAME = "mqtt-versions.json"


def memory(folder: Path, port: int = 1883) -> KnownVersions:
    return KnownVersions(folder / "state" / NAME, "localhost", port)


def test_versions_are_remembered_by_broker(tmp_path: Path) -> None:
    assert memory(tmp_path).read() is None
    memory(tmp_path).write("3.1.1")
    memory(tmp_path, 8883).write("5")
    assert memory(tmp_path).read() == "3.1.1"
    assert memory(tmp_path, 8883).read() == "5"
    assert memory(tmp_path, 1884).read() is None
    memory(tmp_path).write("5")
    assert memory(tmp_path).read() == "5"


def test_the_file_is_bounded(tmp_path: Path) -> None:
    for port in range(1, 41):
        memory(tmp_path, port).write("5")
    assert memory(tmp_path, 1).read() is None
    assert memory(tmp_path, 9).read() == "5"


def test_every_flipped_bit_is_told_or_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory(tmp_path).write("3.1.1")
    path = tmp_path / "state" / NAME
    data = path.read_bytes()
    silent = 0
    for at in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        caplog.clear()
        found = memory(tmp_path).read()
        if "is unusable and ignored" in caplog.text:
            assert found is None
        else:
            silent += 1
            assert found == "3.1.1"
    assert silent <= 8, "only the newline at the end may change"
    memory(tmp_path).write("3.1.1")
    assert memory(tmp_path).read() == "3.1.1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b'{"brokers": 1}',
        b'{"crc32": 1, "brokers": {}}',
        b'{"crc32":106563751,"brokers":{"localhost:1883":"4"}}',
    ],
)
def test_a_file_of_another_kind_is_told_and_ignored(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / NAME).write_bytes(content)
    assert memory(tmp_path).read() is None
    assert "is unusable and ignored" in caplog.text


def test_an_unwritable_file_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_bytes(b"a file where the folder should be")
    found = memory(tmp_path)
    assert found.read() is None
    found.write("5")
    found.write("5")
    assert caplog.text.count("cannot be written") == 1
