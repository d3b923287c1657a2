"""The repair of a closed log: one flipped bit anywhere costs what the report lists, or nothing.

The repair of a damaged write-ahead file is in `test_log_files.py`.
"""

from __future__ import annotations

import itertools
import random
import shutil
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import LogError
from pipeline.log.locallog import SqliteLog
from pipeline.log.repair import repair_log
from pipeline.log.tables import FORMAT
from tests.attack.account import Attack
from tests.attack.logfiles import GROUP, OPTIONS, KilledLog, flips, records, verdict
from tests.fuzz.limits import within

PAGE = 8192
SEED = 20261129
TABLE_LEAF = 0x0D

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def _repaired(path: Path, log: KilledLog) -> str:
    """Repair the log and use it: "everything", "told", the name of a typed error, or "silent"."""
    try:
        report = repair_log(path)
        with SqliteLog(path, **OPTIONS, cache_bytes=0) as opened:
            found = {(r.topic, r.partition, r.offset): r for r in records(opened)}
            offset = opened.start_offset(GROUP, "readings", 0)
            topics = opened.topics()
    except LogError as exc:
        return type(exc).__name__
    told = {(each.topic, each.partition, each.offset) for each in report.damaged}
    gone = {key for key, record in log.records.items() if found.get(key) != record}
    untold = [key for key in gone - told if (*key[:2], -1) not in told]
    if untold or found.keys() - log.records.keys() or offset > log.committed:
        return "silent"
    if topics != {"changes": 1, "readings": 2}:
        return "silent"
    return "told" if report.damaged or gone else "everything"


def _outcomes(folder: Path, log: KilledLog, contents: Iterator[bytes]) -> Counter[str]:
    found: Counter[str] = Counter()
    for number, data in enumerate(contents):
        path = log.put(folder / str(number), log_db=data)
        with within(60):
            found[_repaired(path, log)] += 1
        shutil.rmtree(path.parent)
    return found


def test_a_flipped_bit_of_the_header_or_the_schema_costs_nothing(
    closed: KilledLog, folder: Path, attack: Attack
) -> None:
    """SQLite finds every table through the first page, and the repair makes it anew.

    A typed error would be no loss in silence, but a total one: the repair must not end with it,
    except that six bits of the format's number make it the one of a newer version.
    """
    data = closed.files["log.db"]
    count = attack.size(short=40, long=3000)
    firsts = list(flips(data[:PAGE], count, random.Random(SEED), 100))
    newer = sum(FORMAT < int.from_bytes(first[60:64], "big") < 100 for first in firsts)
    found = _outcomes(folder, closed, (first + data[PAGE:] for first in firsts))
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(found.items())))
    attack.report(count, lost=count - found["everything"] - newer, unit="bits of the first page")
    assert found["LogError"] == newer


# What the long form found: SQLite trusts the number of pages, and gives up at the schema's format.
@pytest.mark.parametrize("start", [28, 44], ids=["pages", "format-of-the-schema"])
def test_no_bit_of_the_numbers_in_the_header_hides_a_record(
    start: int, closed: KilledLog, folder: Path
) -> None:
    outcomes = set()
    for at, bit in itertools.product(range(start, start + 4), range(8)):
        data = bytearray(closed.files["log.db"])
        data[at] ^= 1 << bit
        path = closed.put(folder / "state", log_db=bytes(data))
        outcomes.add(verdict(path, closed, check_bytes=0))
        path = closed.put(folder / "state", log_db=bytes(data))
        assert _repaired(path, closed) == "everything", (at, bit)
    # Whatever leaves the tables unreadable is told before anything is written.
    assert outcomes <= {"correct", "LogCorrupt"}
    assert "LogCorrupt" in outcomes


# What the first schema attack found: without its alias of the row number, the table seemed empty.
@pytest.mark.parametrize("text", [b"id INTEGER PRIMARY KEY,", b"crc INTEGER NOT NULL,\n    ts_ms"])
def test_a_renamed_column_or_type_hides_no_record(
    text: bytes, closed: KilledLog, folder: Path
) -> None:
    data = bytearray(closed.files["log.db"])
    data[data.index(text) + 4] ^= 1
    assert _repaired(closed.put(folder / "state", log_db=bytes(data)), closed) == "everything"


def test_a_first_page_of_noise_costs_nothing_with_a_write_ahead_file_or_without(
    closed: KilledLog, killed: KilledLog, folder: Path
) -> None:
    for log in (closed, killed):
        noise = random.Random(SEED).randbytes(PAGE) + log.files["log.db"][PAGE:]
        assert _repaired(log.put(folder / "state", log_db=noise), log) == "everything"


@pytest.mark.parametrize("state", ["closed", "killed"])
def test_a_flipped_bit_costs_what_the_report_lists(
    state: str, folder: Path, attack: Attack, request: pytest.FixtureRequest
) -> None:
    log: KilledLog = request.getfixturevalue(state)
    count = attack.size(short=25, long=3000)
    found = _outcomes(folder, log, flips(log.files["log.db"], count, random.Random(SEED)))
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(found.items())))
    attack.report(count, lost=found["silent"], unit="bits of log.db")


def _row_numbers(data: bytes) -> list[tuple[int, int, bool]]:
    """Places of the bytes of row numbers of records: offset, bit mask, whether it is the length."""
    found = []
    for page in range(PAGE, len(data), PAGE):
        if data[page] != TABLE_LEAF:
            continue
        (count,) = struct.unpack_from(">H", data, page + 3)
        for (pointer,) in struct.iter_unpack(">H", data[page + 8 : page + 8 + 2 * count]):
            at = page + pointer
            at += _varint_bytes(data, at)  # the size of the row
            length = _varint_bytes(data, at)
            if length < 6:  # not a record: its number has a slot above 40 bits
                continue
            found += [(at + n, 1 << bit, bit == 7) for n in range(length) for bit in range(8)]
    return found


def _varint_bytes(data: bytes, at: int) -> int:
    return next(n for n in range(1, 10) if data[at + n - 1] < 0x80)


def test_a_flipped_bit_of_a_row_number_hides_no_record_and_costs_none(
    closed: KilledLog, folder: Path, attack: Attack
) -> None:
    """The order of the rows is broken, so a search misses those behind; the pages have them all.

    The top bit of each byte says whether the number goes on. If it flips, this one record is
    unreadable, and told.
    """
    data = closed.files["log.db"]
    places = _row_numbers(data)
    assert len(places) >= 8 * 6 * 50
    random.Random(SEED).shuffle(places)
    places = places[: attack.size(short=40, long=800)]
    seen: Counter[str] = Counter()
    for number, (at, mask, is_length) in enumerate(places):
        changed = bytearray(data)
        changed[at] ^= mask
        path = closed.put(folder / f"{number}-read", log_db=bytes(changed))
        with within(20):
            seen[f"read {verdict(path, closed, check_bytes=0)}"] += 1
        path = closed.put(folder / f"{number}-repair", log_db=bytes(changed))
        with within(60):
            outcome = _repaired(path, closed)
        seen[f"repair {outcome}"] += 1
        assert outcome == "everything" or (is_length and outcome == "told"), (at, mask)
        for form in ("read", "repair"):
            shutil.rmtree(folder / f"{number}-{form}")
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(seen.items())))
    attack.report(
        len(places), lost=seen["read silent"] + seen["repair silent"], unit="bits of row numbers"
    )
    assert seen["read LogCorrupt"] == len(places)
