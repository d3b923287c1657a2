"""The memory of subscriptions: it outlives the process, and a damaged file loses only itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.subscribed import SubscribedFilters

FILTERS = ["sensors/#", "spBv1.0/Plant 7/#"]


def memory(path: Path, client_id: str = "bridge", port: int = 1883) -> SubscribedFilters:
    return SubscribedFilters(path / "state" / "subscriptions.json", "localhost", port, client_id)


def test_filters_are_remembered_by_broker_and_client_id(tmp_path: Path) -> None:
    assert memory(tmp_path).read() == ()
    memory(tmp_path).write(FILTERS, has_session=True)
    memory(tmp_path, "other").write(["x"], has_session=True)
    assert list(memory(tmp_path).read()) == FILTERS
    assert memory(tmp_path, "other").read() == ("x",)
    assert memory(tmp_path, port=8883).read() == ()


def test_a_bridge_that_has_left_leaves_no_file(tmp_path: Path) -> None:
    memory(tmp_path).write(FILTERS, has_session=True)
    memory(tmp_path).write([], has_session=True)
    assert list((tmp_path / "state").iterdir()) == []
    assert memory(tmp_path).read() == ()


def test_a_session_that_nothing_takes_from_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory(tmp_path).write(FILTERS, has_session=True)
    assert memory(tmp_path, "other").read() == ()
    assert "may still keep messages for the session localhost:1883/bridge" in caplog.text


@pytest.mark.parametrize("at", [0, 12, 20, 40, 60])
def test_a_damaged_file_is_told_and_ignored(
    tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    memory(tmp_path).write(FILTERS, has_session=True)
    path = tmp_path / "state" / "subscriptions.json"
    data = bytearray(path.read_bytes())
    data[at] ^= 0x04
    path.write_bytes(data)
    assert memory(tmp_path).read() == ()
    assert "is unusable and ignored" in caplog.text
    memory(tmp_path).write(FILTERS, has_session=True)
    assert list(memory(tmp_path).read()) == FILTERS


def test_an_unwritable_file_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").write_bytes(b"a file where the folder should be")
    found = memory(tmp_path)
    assert found.read() == ()
    found.write(FILTERS, has_session=True)
    assert "cannot be written" in caplog.text


def test_only_a_confirmed_subscription_makes_a_session(tmp_path: Path) -> None:
    assert not memory(tmp_path).has_session()
    found = memory(tmp_path)
    found.write(FILTERS, has_session=False)
    assert not memory(tmp_path).has_session()
    found.write(FILTERS, has_session=True)
    memory(tmp_path, "other").write(["x"], has_session=False)
    assert memory(tmp_path).has_session()
    assert not memory(tmp_path, "other").has_session()
    found.write(FILTERS, has_session=False)
    assert not memory(tmp_path).has_session()
