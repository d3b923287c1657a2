"""Readings that would be late are named before, and can have windows of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from deploy.commands.backfill import backfilled, find_late
from deploy.commands.deadletters import dead_letters
from deploy.commands.replayed import note_replayed, read_replayed
from deploy.stack.topics import changelog_topic
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.topics import DEAD_LETTERS, LATE, is_name
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from pipeline.windows.rows import COUNTERS, encode_row

T0_MS = 1_700_000_000_000
TOPIC = "sensors/plant/press-1/engine"


def letter(at_ms: int, topic: str = TOPIC, reason: str = "no_model", n: int = 2) -> DeadLetter:
    raw = orjson.dumps({"t0": at_ms, "dt_ms": 10, "values": {"a": [1.0] * n}})
    return DeadLetter(RefusalReason(reason), "", topic, at_ms, raw, "windows")


def row(device: str, newest_ms: int) -> tuple[bytes, bytes]:
    counters = [newest_ms if name == "last_event_ms" else 0 for name in COUNTERS]
    return f"plant/{device}/engine".encode(), encode_row(0, -1, counters, b"")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A stopped gateway: press-1 has gone on sending, press-2 has not."""
    with SqliteLog(tmp_path / "log.db", partitions=2) as log:
        log.create_topic(changelog_topic("kpstream"), 2, compacted=True)
        found = [letter(T0_MS + n) for n in range(0, 100, 20)]
        found += [letter(T0_MS, TOPIC.replace("press-1", "press-2"))]
        rows = [
            NewRecord(DEAD_LETTERS, encode_dead_letter(each), each.id.encode()) for each in found
        ]
        rows += [NewRecord(LATE, encode_dead_letter(letter(T0_MS - 5, reason="late")))]
        for device, newest_ms in (("press-1", T0_MS + 60_000), ("press-2", T0_MS - 60_000)):
            key, value = row(device, newest_ms)
            rows.append(NewRecord(changelog_topic("kpstream"), value, key))
        log.append(rows).result()
    yield tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(dead_letters, arguments, catch_exceptions=False)


def listed(state: Path, *arguments: str) -> list[dict[str, Any]]:
    output = run("list", "--state-dir", str(state), "--json", *arguments).output
    return [orjson.loads(line) for line in output.splitlines()]


def test_only_readings_behind_the_watermark_would_be_late() -> None:
    progress = {("plant", "press-1", "engine"): T0_MS + 500}
    found = find_late([letter(T0_MS), letter(T0_MS + 290, n=3)], progress, 200)
    assert [(each.late, each.readings) for each in found] == [(3, 5)]
    assert find_late([letter(T0_MS + 400)], progress, 200) == []
    assert find_late([letter(T0_MS)], {}, 200) == []  # a device that has no windows


def test_back_filled_readings_have_a_device_of_their_own_and_the_order_of_their_times() -> None:
    other = letter(T0_MS, TOPIC.replace("press-1", "p" * 64))
    broken = DeadLetter(RefusalReason.not_json, "", TOPIC, 0, b"{", "bridge")
    found, left_out = backfilled([letter(T0_MS + 50), other, letter(T0_MS), broken])
    assert left_out == 1
    own = [each for each in found if "/press-1." in each.mqtt_topic]
    assert {each.mqtt_topic for each in own} == {
        "sensors/plant/press-1.backfill-20231114T221320/engine"
    }
    assert [each.recv_ms for each in own] == [T0_MS, T0_MS + 50]
    assert all(is_name(each.mqtt_topic.split("/")[2]) for each in found)
    assert backfilled(list(reversed([letter(T0_MS + 50), letter(T0_MS)])))[0] == own


def test_replay_says_before_what_would_be_late_and_publishes_nothing(state: Path) -> None:
    result = run("replay", "--state-dir", str(state), "--all")
    assert result.exit_code == 2
    assert "plant/press-1/engine: 10 of 10 readings would be late" in result.output
    assert "press-2" not in result.output
    assert "--backfill" in result.output
    assert all(each["replayed_ms"] is None for each in listed(state))


def test_a_dry_run_says_it_too(state: Path) -> None:
    late = run("replay", "--state-dir", str(state), "--all", "--dry-run")
    assert (late.exit_code, "10 of 10 readings would be late" in late.output) == (0, True)
    again = run("replay", "--state-dir", str(state), "--all", "--dry-run", "--backfill")
    assert "6 would be published" in again.output
    assert "late" not in again.output


def test_late_readings_are_listed_and_can_be_chosen(state: Path) -> None:
    assert [each["reason"] for each in listed(state, "--late")] == ["late"]
    result = run("replay", "--state-dir", str(state), "--late", "--all", "--dry-run", "--backfill")
    assert "1 would be published" in result.output


def test_what_was_replayed_says_so_and_can_be_purged(state: Path) -> None:
    first = listed(state)[0]["id"]
    note_replayed(state, [first], "backfill", T0_MS)
    found = {each["id"]: (each["replayed_ms"], each["replayed_as"]) for each in listed(state)}
    assert found.pop(first) == (T0_MS, "backfill")
    assert set(found.values()) == {(None, None)}
    assert "backfill" in run("list", "--state-dir", str(state)).output
    output = run("purge", "--state-dir", str(state), "--replayed").output
    assert output == "1 dead letters deleted (1 records)\n"
    assert first not in {each["id"] for each in listed(state)}


def test_purge_deletes_what_was_chosen_and_nothing_else(state: Path) -> None:
    assert run("purge", "--state-dir", str(state)).exit_code == 2
    output = run("purge", "--state-dir", str(state), "--device", "plant/press-2").output
    assert output == "1 dead letters deleted (1 records)\n"
    assert len(listed(state)) == 5
    assert run("purge", "--state-dir", str(state), "--late", "--all").exit_code == 0
    assert listed(state, "--late") == []
    run("purge", "--state-dir", str(state), "--all")
    assert listed(state) == []
    with SqliteLog(state / "log.db") as log:  # sizes and rows are consistent
        assert log.stats().stored_records == 2
        log.append([NewRecord(DEAD_LETTERS, b"x")]).result()


def test_purge_of_a_running_gateway_says_what_to_do(state: Path) -> None:
    with SqliteLog(state / "log.db"):
        result = run("purge", "--state-dir", str(state), "--all")
    assert result.exit_code == 1
    assert "is in use by process" in result.output


def test_an_unreadable_note_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "dead-letters-replayed.json").write_bytes(b"[1")
    assert read_replayed(tmp_path) == {}
    note_replayed(tmp_path, ["a"], "replay", 5)
    assert read_replayed(tmp_path) == {"a": (5, "replay")}
