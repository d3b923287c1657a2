"""Topics without a reader: a share of the cap, fair to every sender."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.log.archive import OTHERS, UNREAD_SHARE, fair_level
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from tests.pipeline.log.logs import Clock

CAP = 2_000_000
SHARE = int(UNREAD_SHARE * CAP)


def open_log(path: Path, **options: object) -> SqliteLog:
    settings: dict[str, object] = {
        "max_bytes": CAP,
        "reserve_bytes": 0,
        "min_free_bytes": 0,
        "partitions": 2,
    }
    settings |= {"durability": "normal", "linger_ms": 0, "maintenance_ms": 3_600_000}
    log = SqliteLog(path, sender_of=sender_of, **(settings | options))  # type: ignore[arg-type]
    log.create_topic("readings", 1)
    log.register_group("score", ["readings"]).result()
    return log


def sender_of(_topic: str, value: bytes | None) -> str:
    return (value or b"").split(b"|")[0].decode()


def send(log: SqliteLog, sender: str, count: int, topic: str = "dead-letters") -> None:
    body = [NewRecord(topic, b"%s|%06d|" % (sender.encode(), n) + b"x" * 400) for n in range(count)]
    log.append(body).result()


def kept(log: SqliteLog, topic: str = "dead-letters") -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for partition in range(2):
        part = log._state.partition(topic, partition)
        for record in log._reader.read(part, 0, 100_000, 10**9):
            sender, number, _ = (record.value or b"").split(b"|")
            found.setdefault(sender.decode(), []).append(int(number))
    return {sender: sorted(numbers) for sender, numbers in found.items()}


def test_the_sender_that_holds_most_loses_its_oldest_and_nobody_else_any(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log:
        send(log, "quiet", 20)
        for _ in range(5):
            send(log, "greedy", 400)
            send(log, "modest", 10)
            log.maintain()
        found = kept(log)
        assert len(found["quiet"]) == 20
        assert len(found["modest"]) == 50
        assert 0 < len(found["greedy"]) < 400
        stats = log.archive()
        assert stats.stored_bytes <= stats.max_bytes == SHARE
        assert dict(stats.evicted_by) == {("dead-letters", "greedy"): 2000 - len(found["greedy"])}
        assert stats.evicted == log.stats().deleted == 2000 - len(found["greedy"])
        assert stats.greediest is not None
        assert stats.greediest[:2] == ("dead-letters", "greedy")


def test_the_oldest_go_first_in_every_partition(tmp_path: Path) -> None:
    clock = Clock()
    with open_log(tmp_path / "log.db", clock=clock, steady_ms=clock) as log:
        for _ in range(100):
            send(log, "quiet", 1)
            send(log, "greedy", 20)
            clock.ms += 1000
        log.maintain()
        left = []
        for n in range(2):
            part = log._state.partition("dead-letters", n)
            found = log._reader.read(part, 0, 100_000, 10**9)
            of_greedy = [r.offset for r in found if (r.value or b"").startswith(b"greedy")]
            assert of_greedy == sorted(of_greedy)[-len(of_greedy) :]
            assert of_greedy[-1] >= part.next_offset - 2  # the newest stay
            left.append(len(of_greedy))
        assert abs(left[0] - left[1]) <= 200
        assert len(kept(log)["quiet"]) == 100


def test_a_flood_of_late_readings_leaves_the_dead_letters(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log:
        send(log, "same", 100)
        for _ in range(4):
            send(log, "same", 400, "late")
            log.maintain()
        assert len(kept(log)["same"]) == 100
        assert {topic for topic, _ in log.archive().evicted_by} == {"late"}


def test_readings_are_confirmed_however_much_nobody_reads(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log:
        end = 0
        for _ in range(15):  # almost three times the cap
            send(log, "greedy", 800)
            log.append([NewRecord("readings", b"r" * 1000)]).result()
            end += 1
            log.commit("score", {("readings", 0): end}).result()
            log.maintain()
        assert log.stats().refused == 0


def test_a_log_that_is_full_of_it_comes_up_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with open_log(path, max_bytes=20 * CAP) as log:  # as an older version left it
        send(log, "quiet", 3)
        for _ in range(5):
            send(log, "greedy", 1000)
        assert log.stats().stored_bytes > CAP
    with open_log(path) as log:
        for _ in range(20):
            log.maintain()
        assert log.stats().stored_bytes <= SHARE
        assert len(kept(log)["quiet"]) == 3
        log.append([NewRecord("readings", b"r")]).result()


def test_made_up_names_share_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.log.archive._MOST_SENDERS", 10)
    with open_log(tmp_path / "log.db") as log:
        for n in range(5):
            send(log, f"real-{n}", 40)
        log.maintain()
        send(log, "greedy", 400)
        log.maintain()
        for n in range(1000):
            send(log, f"made-up-{n}", 1)
        for _ in range(5):
            log.maintain()
        found = kept(log)
        assert all(len(found[f"real-{n}"]) == 40 for n in range(5))
        stats = log.archive()
        assert stats.stored_bytes <= SHARE
        assert len(stats.evicted_by) <= 12
        assert stats.evicted_by[("dead-letters", OTHERS)] > 0


def test_what_age_deletes_is_no_longer_counted(tmp_path: Path) -> None:
    clock = Clock()
    with open_log(tmp_path / "log.db", retention_ms=10_000, clock=clock, steady_ms=clock) as log:
        send(log, "first", 500)
        log.maintain()
        clock.ms += 20_000
        send(log, "second", 300)
        log.maintain()  # the first ones are too old
        evicted = log.archive().evicted
        send(log, "first", 100)
        send(log, "second", 100)
        for _ in range(3):
            log.maintain()
        found = kept(log)
        assert log.archive().evicted > evicted
        assert len(found["first"]) == 100  # "second" holds most, although "first" sent most


def test_a_topic_with_a_reader_is_never_cut(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log:
        log.create_topic("scores", 2)
        log.register_group("store", ["scores"]).result()
        send(log, "greedy", 1000, "scores")
        log.maintain()
        assert len(kept(log, "scores")["greedy"]) == 1000
        log.drop_group("store").result()
        log.maintain()
        assert len(kept(log, "scores")["greedy"]) < 1000


def test_before_any_group_has_come_nothing_is_cut(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db", max_bytes=CAP, min_free_bytes=0, partitions=2) as log:
        send(log, "a", 1000, "readings")
        log.maintain()
        assert len(kept(log, "readings")["a"]) == 1000


def test_the_refusal_names_what_fills_the_log(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log:
        send(log, "greedy", 300)
        log.append([NewRecord("readings", b"r" * 1000) for _ in range(1700)]).result()
        refused = log.append([NewRecord("readings", b"r" * 500_000)]).exception()
        text = str(refused)
        assert "readings 93 % (score has 1700 records to read)" in text
        assert "dead-letters 7 % (nobody reads it)" in text


def test_a_sender_is_warned_about_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_log(tmp_path / "log.db") as log:
        for _ in range(4):
            send(log, "plant/press", 500)
            log.maintain()
    found = [r.message for r in caplog.records if "fills the topic" in r.message]
    assert len(found) == 1
    assert found[0].startswith("plant/press fills the topic dead-letters")


@given(st.lists(st.integers(1, 10_000), max_size=50), st.integers(0, 100_000))
def test_a_fair_level_keeps_at_most_the_total_and_cuts_only_the_largest(
    held: list[int], total: int
) -> None:
    level = fair_level(held, total)
    left = [min(each, level) for each in held]
    assert sum(left) <= total
    if sum(held) <= total:
        assert left == held
    else:  # nothing worth mentioning is given away
        assert sum(left) > total - len(held)
