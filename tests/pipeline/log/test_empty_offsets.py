"""A reader stops at a missing record, so it must pass every offset that is empty for a good reason.

Logs get their empty offsets here in every way there is, one after the other and across restarts:
retention, soft groups, eviction of greedy senders, purge, compaction, tombstones, and repair.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.log.locallog import SqliteLog
from pipeline.log.purge import purge
from pipeline.log.repair import repair_log
from pipeline.log.state import NewRecord, record_id

_READ, _UNREAD, _COMPACTED = "readings", "late", "changes"
_PARTITIONS = 2
_NEVER_MS = 1 << 40


def use(path: Path, dice: random.Random) -> None:
    """One life of a gateway with limits of its own: appends, commits, rounds of retention."""
    with SqliteLog(
        path,
        partitions=_PARTITIONS,
        durability="normal",
        linger_ms=0,
        max_bytes=dice.choice([60_000, 10**9]),
        reserve_bytes=10**9,
        min_free_bytes=0,
        retention_ms=dice.choice([0, _NEVER_MS]),
        retention_bytes=dice.choice([5_000, 10**9]),
        tombstone_ms=dice.choice([0, _NEVER_MS]),
        maintenance_ms=_NEVER_MS,
        soft_groups=["store"],
        sender_of=lambda _topic, value: (value or b"").decode()[:1],
    ) as log:
        log.create_topic(_COMPACTED, _PARTITIONS, compacted=True)
        for topic in (_READ, _UNREAD):
            log.create_topic(topic, _PARTITIONS)
        for group in ("score", "store"):
            log.register_group(group, [_READ]).result()
        for _ in range(3):
            log.append([record(dice) for _ in range(dice.randrange(100))], reserve=True).result()
            for partition in range(_PARTITIONS):
                read = dice.randrange(log.end_offset(_READ, partition) + 1)
                log.commit(dice.choice(["score", "store"]), {(_READ, partition): read}).result()
            log.maintain()
            log.flush().result()


def record(dice: random.Random) -> NewRecord:
    topic = dice.choice([_READ, _UNREAD, _COMPACTED])
    value: bytes | None = dice.choice([b"a", b"b", b"c"]) * dice.randrange(1, 400)
    if topic == _COMPACTED and dice.random() < 0.3:
        value = None
    return NewRecord(topic, value, b"key %d" % dice.randrange(8))


def damage(path: Path, dice: random.Random) -> None:
    """Damage one record and hide another one, as a bad page does, then repair the log."""
    with closing(sqlite3.connect(path)) as db:
        ids = [row[0] for row in db.execute("SELECT id FROM records")]
        if ids:
            db.execute("UPDATE records SET crc = crc + 1 WHERE id = ?", (dice.choice(ids),))
            db.execute("DELETE FROM records WHERE id = ?", (dice.choice(ids),))
        db.commit()
    repair_log(path)


def stored(path: Path) -> dict[tuple[str, int], list[int]]:
    """Offsets of every partition, as they are in the file."""
    with closing(sqlite3.connect(path)) as db:
        slots = db.execute("SELECT slot, topic, partition FROM slots").fetchall()
        ids = [row[0] for row in db.execute("SELECT id FROM records ORDER BY id")]
    return {
        (topic, partition): [
            each - record_id(slot, 0)
            for each in ids
            if record_id(slot, 0) <= each < record_id(slot + 1, 0)
        ]
        for slot, topic, partition in slots
    }


def read_on(log: SqliteLog, topic: str, partition: int, start: int, most: int) -> list[int]:
    """Offsets that a reader meets from `start` to the end, at most `most` in one read."""
    offsets: list[int] = []
    at = start
    while found := log.read(topic, partition, at, most):
        offsets += [each.offset for each in found]
        at = offsets[-1] + 1
    return offsets


@pytest.mark.parametrize("seed", range(6))
def test_no_reader_stops_at_an_offset_that_is_empty_for_a_good_reason(
    seed: int, tmp_path: Path
) -> None:
    dice, path, empty = random.Random(seed), tmp_path / "log.db", 0
    for life in range(4):
        use(path, dice)
        if life % 2:
            damage(path, dice)
        else:
            purge(path, _UNREAD, lambda value: value.startswith(b"b"))
        expected = stored(path)
        with SqliteLog(path, cache_bytes=0, maintenance_ms=_NEVER_MS) as log:
            for (topic, partition), offsets in expected.items():
                end = log.end_offset(topic, partition)
                empty += end - log.earliest_offset(topic, partition) - len(offsets)
                for start in (0, dice.randrange(end + 1), end):
                    wanted = [each for each in offsets if each >= start]
                    found = read_on(log, topic, partition, start, dice.choice([1, 7, 500]))
                    assert found == wanted, (topic, partition, start)
    assert empty > 0, "no log had empty offsets between its records"
