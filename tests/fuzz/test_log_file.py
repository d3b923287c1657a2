"""The log file with any bytes changed: typed errors, no wrong record, no lost neighbour."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import LogCorrupt, LogError
from pipeline.log import repair as logrepair
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_log
from pipeline.log.state import NewRecord
from tests.fuzz.limits import MEMORY, examples, within

PAGE = 8192
Key = tuple[str, int, int]
Change = tuple[int, int, int]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def make_log(path: Path) -> dict[Key, object]:
    """Create a log with two topics, gaps and a group; return its records."""
    with SqliteLog(path, partitions=2) as log:
        log.create_topic("changes", 2, compacted=True)
        for n in range(60):
            value, key = b"<%06d>" % n * 90, b"k%d" % (n % 7)
            log.append(
                [
                    NewRecord("readings", value, key, n % 2, 1000 + n, (("h", b"1"),)),
                    NewRecord("changes", b"[%06d]" % n * 5, key, n % 2),
                ]
            ).result()
        log.register_group("score", ["readings"]).result()
        log.commit("score", {("readings", 0): 5}).result()
    return dict(stored(path))


def stored(path: Path) -> Iterator[tuple[Key, object]]:
    for topic in ("readings", "changes"):
        for record in peek_log(path, topic):
            yield (record.topic, record.partition, record.offset), record


def usable(path: Path, records: dict[Key, object]) -> set[Key]:
    """Open, read everything and append; return the keys read, after checking their values."""
    found: set[Key] = set()
    with SqliteLog(path, partitions=2, cache_bytes=0, maintenance_ms=5) as log:
        for topic, partitions in log.topics().items():
            for partition in range(partitions):
                at, end = log.earliest_offset(topic, partition), log.end_offset(topic, partition)
                while at < end:
                    batch = log.read(topic, partition, at)
                    for record in batch:
                        key = (topic, partition, record.offset)
                        assert records.get(key) == record
                        found.add(key)
                    at = batch[-1].offset + 1 if batch else end
        (offset,) = log.append([NewRecord("readings", b"new", partition=0)]).result(10)
        assert ("readings", 0, offset) not in records
    return found


class Whole:
    """Return the bytes and the records of an undamaged log."""

    def __init__(self, good: bytes, records: dict[Key, object]) -> None:
        self.good = good
        self.records = records

    def __repr__(self) -> str:
        return "Whole()"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    path = tmp_path_factory.mktemp("log") / "log.db"
    records = make_log(path)
    return Whole(path.read_bytes(), records)


# Where: a page, and a place in it. Headers and the cells at the end of a page are the tender parts.
place = st.tuples(
    st.integers(0, 17),
    st.integers(0, 99) | st.integers(0, PAGE - 1) | st.integers(PAGE - 400, PAGE - 1),
    st.integers(0, 255),
)


@examples(80)
@given(
    st.lists(place, min_size=1, max_size=6),
    st.none() | st.integers(0, 17),
    st.none() | st.integers(1, 18 * PAGE),  # an empty file is a new log
)
@example([(1, 7987, 232), (6, 8143, 255)], None, None)  # a page points back: read for ever once
def test_a_log_with_any_bytes_changed(
    whole: Whole, changes: list[Change], wiped: int | None, cut_at: int | None
) -> None:
    good, records = whole.good, whole.records
    damaged = bytearray(good)
    for page, at, value in changes:
        damaged[(page * PAGE + at) % len(good)] = value
    if wiped is not None:
        damaged[wiped * PAGE : (wiped + 1) * PAGE] = bytes([255]) * PAGE
    elif cut_at is not None:
        del damaged[cut_at:]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, within(20):
        path = Path(folder) / "log.db"
        path.write_bytes(damaged[: len(good)])
        with suppress(LogError), closing(peek_log(path, "readings")) as peeked:  # type: ignore[type-var]
            for record in peeked:
                assert records.get(("readings", record.partition, record.offset)) == record
        with suppress(LogError):
            usable(path, records)
            path.write_bytes(damaged[: len(good)])
        try:
            report = logrepair.repair_log(path)
        except LogError:
            return  # the error says so, and the file is unchanged
        found = usable(path, records)
        lost = {(each.topic, each.partition, each.offset) for each in report.damaged}
        assert not found & lost


@examples(20)
@given(st.integers(0, 29), st.integers(0, 719), st.integers(1, 255))
def test_a_damaged_record_affects_no_neighbour(
    whole: Whole, number: int, at: int, flip: int
) -> None:
    good, records = whole.good, whole.records
    damaged = bytearray(good)
    value = b"<%06d>" % (2 * number) * 90
    for found in re.finditer(re.escape(value), good):  # free pages keep older copies
        damaged[found.start() + at] ^= flip
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, within(20):
        path = Path(folder) / "log.db"
        path.write_bytes(damaged)
        victim = ("readings", 0, number)
        with SqliteLog(path, cache_bytes=0) as log:
            if number:
                assert [r.offset for r in log.read("readings", 0, 0)] == list(range(number))
            with pytest.raises(LogCorrupt, match=f"record {number} of"):
                log.read("readings", 0, number)
        report = logrepair.repair_log(path)
        assert [(d.topic, d.partition, d.offset) for d in report.damaged] == [victim]
        assert usable(path, records) == records.keys() - {victim}


WHERE = {
    "slot": "topic = 'readings' AND partition = 0",
    "record": "id = (SELECT slot << 40 | 5 FROM slots WHERE topic = 'readings' AND partition = 0)",
    "far": str(2**39),
}


@pytest.mark.parametrize(
    ("change", "opens", "lost"),
    [
        ("UPDATE slots SET next_offset = 'x' WHERE {slot}", False, "its first and last offset"),
        ("UPDATE slots SET next_offset = 7 WHERE {slot}", False, None),
        ("UPDATE slots SET earliest = 7 WHERE {slot}", False, None),
        ("UPDATE slots SET next_offset = {far} WHERE {slot}", False, None),
        ("UPDATE offsets SET offset = 'x'", False, "the offset of the group 'score'"),
        (
            "UPDATE offsets SET grp = CAST(x'ff' AS TEXT)",
            False,
            "the offset of the group '\ufffd'",
        ),
        ("UPDATE records SET ts_ms = 'x' WHERE {record}", True, "checksum"),
        ("UPDATE records SET value = 3.5 WHERE {record}", True, "checksum"),
        ("UPDATE records SET value = CAST(x'ff' AS TEXT) WHERE {record}", True, "checksum"),
        ("UPDATE records SET stored_ms = 'x' WHERE {record}", True, "checksum"),
        ("ALTER TABLE offsets RENAME COLUMN pins TO pint", False, None),
        ("UPDATE topics SET name = 'readifgs' WHERE name = 'readings'", False, "cannot"),
        ("UPDATE slots SET topic = 'readifgs' WHERE {slot}", False, "cannot"),
        ("UPDATE topics SET compacted = 'x'", False, "cannot"),
    ],
)
def test_an_impossible_row_is_damage_and_is_repaired_where_possible(
    whole: Whole, tmp_path: Path, change: str, opens: bool, lost: str | None
) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(whole.good)
    with closing(sqlite3.connect(path)) as db:
        db.execute(change.format(**WHERE))
        db.commit()
    with within(20):
        if opens:
            SqliteLog(path).close()
        else:
            with pytest.raises(LogCorrupt, match=r"log\.repair"):
                SqliteLog(path)
        if lost == "cannot":
            with pytest.raises(LogCorrupt, match="start with a new one"):
                logrepair.repair_log(path)
            return
        report = logrepair.repair_log(path)
        assert {each.reason for each in report.damaged} == ({lost} if lost else set())
        found = usable(path, whole.records)
    assert len(whole.records.keys() - found) == (lost == "checksum")
