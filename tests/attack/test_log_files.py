"""Every file of a log x {bit, cut, removed, older, foreign} x {at rest, open}: never silent.

The rule and its table of cases are in `pipeline.log.inspection`.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest.durable.mark import read_mark
from ingest.durable.wal import FRAME, HEADER, read_wal
from pipeline.errors import LogCorrupt, LogError, LogLost
from pipeline.log import inspection
from pipeline.log.locallog import SqliteLog
from pipeline.log.repair import repair_log
from pipeline.log.state import NewRecord
from tests.attack.account import Attack
from tests.attack.logfiles import FILES, OPTIONS, KilledLog, flips, kill_log, records, verdict
from tests.fuzz.limits import within

PAGE = 8192
FRAME_BYTES = FRAME.size + PAGE
SEED = 20261129

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> KilledLog:
    return kill_log(tmp_path_factory.mktemp("foreign"), seed=1)


@pytest.fixture
def another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was started again, so the power may have failed."""
    monkeypatch.setattr(inspection, "boot_id", lambda: "another")


def _argument(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


def _outcomes(
    folder: Path, log: KilledLog, name: str, contents: Iterator[bytes], **options: object
) -> Counter[str]:
    found: Counter[str] = Counter()
    for data in contents:
        path = log.put(folder / "state", **{_argument(name): data})
        with within(20):
            found[verdict(path, log, **options)] += 1
    return found


# -- at rest ---------------------------------------------------------------------------------------


def test_a_killed_log_opens_with_everything(killed: KilledLog, folder: Path) -> None:
    assert verdict(killed.put(folder / "state"), killed) == "correct"


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_after_a_kill_is_never_silent(
    name: str, killed: KilledLog, folder: Path, attack: Attack
) -> None:
    count = attack.size(short=40, long=4000)
    found = _outcomes(folder, killed, name, flips(killed.files[name], count, random.Random(SEED)))
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(found.items())))
    attack.report(count, lost=found["silent"], unit=f"bits of {name}")
    if name == "log.db-wal":
        assert found["LogCorrupt"] > count // 2
    else:
        assert found["correct"] > 0.9 * count, "its pages stand in the write-ahead file too"


@pytest.mark.parametrize("check_bytes", [2**28, 0])
def test_a_flipped_bit_of_a_closed_log_is_never_silent(
    check_bytes: int, closed: KilledLog, folder: Path, attack: Attack
) -> None:
    """With `check_bytes` 0 the pages are checked in the background, the rows at once.

    A reader must not step over a record meanwhile, so what the check finds later does not count.
    Each flip has a folder of its own, because that check may still be at work in the last one.
    """
    data = closed.files["log.db"]
    count = attack.size(short=60, long=5000)
    found: Counter[str] = Counter()
    for number, changed in enumerate(flips(data, count, random.Random(SEED), tender=PAGE)):
        path = closed.put(folder / str(number), log_db=changed)
        with within(20):
            found[verdict(path, closed, check_bytes=check_bytes)] += 1
        shutil.rmtree(folder / str(number), ignore_errors=True)
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(found.items())))
    attack.report(count, lost=found["silent"], unit="bits of log.db")


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_never_silent(
    name: str, killed: KilledLog, folder: Path, attack: Attack
) -> None:
    data, rng = killed.files[name], random.Random(SEED)
    count = attack.size(short=25, long=1500)
    ends = [0, 1, 31, 32, len(data) - 1, *(rng.randrange(len(data)) for _ in range(count - 5))]
    found = _outcomes(folder, killed, name, (data[:end] for end in ends))
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(found.items())))
    attack.report(count, lost=found["silent"], unit=f"cuts of {name}")


CASES: dict[str, tuple[Callable[[KilledLog, KilledLog], dict[str, bytes | None]], set[str]]] = {
    "log removed": (lambda *_: {"log_db": None, "log_db_wal": None}, {"LogLost"}),
    "log.db removed": (lambda *_: {"log_db": None}, {"LogLost"}),
    "log.db-wal removed": (lambda *_: {"log_db_wal": None}, {"LogLost", "LogCorrupt"}),
    "mark removed": (lambda *_: {"log_db_mark": None}, {"correct"}),
    "log older": (
        lambda log, _: {"log_db": log.older["log.db"], "log_db_wal": log.older["log.db-wal"]},
        {"LogLost"},
    ),
    "log.db-wal older": (
        lambda log, _: {"log_db_wal": log.older["log.db-wal"]},
        {"LogLost", "LogCorrupt"},
    ),
    "mark older": (lambda log, _: {"log_db_mark": log.older["log.db.mark"]}, {"correct"}),
    "log foreign": (
        lambda _, other: {"log_db": other.files["log.db"], "log_db_wal": other.files["log.db-wal"]},
        {"LogLost"},
    ),
    "log.db foreign": (
        lambda _, other: {"log_db": other.files["log.db"]},
        {"correct", "LogLost", "LogCorrupt"},  # the write-ahead file may have every page
    ),
    "log.db-wal foreign": (
        lambda _, other: {"log_db_wal": other.files["log.db-wal"]},
        {"LogLost", "LogCorrupt"},
    ),
    "mark foreign": (lambda _, other: {"log_db_mark": other.files["log.db.mark"]}, {"LogLost"}),
    "log.db noise": (lambda *_: {"log_db": b"\x5a" * 40_000}, {"LogCorrupt", "LogLost"}),
    "log.db-wal noise": (lambda *_: {"log_db_wal": b"\x5a" * 40_000}, {"LogCorrupt", "LogLost"}),
    "mark noise": (lambda *_: {"log_db_mark": b"\x5a" * 40_000}, {"correct"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_is_removed_older_or_foreign_is_told(
    case: str, killed: KilledLog, foreign: KilledLog, folder: Path, attack: Attack
) -> None:
    change, allowed = CASES[case]
    path = killed.put(folder / "state", **change(killed, foreign))
    found = verdict(path, killed)
    attack.report(1, lost=found == "silent", unit=case)
    assert found in allowed


def test_a_restored_folder_is_the_log_of_its_moment(killed: KilledLog, folder: Path) -> None:
    older = {_argument(name): data for name, data in killed.older.items()}
    with SqliteLog(killed.put(folder / "state", **older), **OPTIONS) as log:
        assert 0 < log.end_offset("readings", 0) < 25


def test_an_error_changes_no_file_and_names_range_and_ways_on(
    killed: KilledLog, folder: Path
) -> None:
    path = killed.put(
        folder / "state", log_db=killed.older["log.db"], log_db_wal=killed.older["log.db-wal"]
    )
    before = {name: (folder / "state" / name).read_bytes() for name in FILES}
    for _ in range(2):
        with pytest.raises(LogLost, match=r"readings\[0\] 19 to 25.*right file back") as caught:
            SqliteLog(path, **OPTIONS)
        assert f"kpstream log accept-loss {path}" in str(caught.value)
    assert {name: (folder / "state" / name).read_bytes() for name in FILES} == before


# -- after a loss of power -------------------------------------------------------------------------


def _last_transaction(wal: bytes) -> int:
    """Number of the first frame of the last transaction."""
    frames = range(HEADER.size, len(wal), FRAME_BYTES)
    commits = [n for n, at in enumerate(frames) if struct.unpack_from(">I", wal, at + 4)[0]]
    return commits[-2] + 1


@pytest.mark.usefixtures("another_boot")
def test_a_torn_last_transaction_is_no_damage_if_it_was_not_confirmed(
    killed: KilledLog, folder: Path, attack: Attack
) -> None:
    """The disk may hold any part of a transaction whose sync did not return, in any order."""
    wal, rng = killed.files["log.db-wal"], random.Random(SEED)
    first = _last_transaction(wal)
    begin = HEADER.size + first * FRAME_BYTES
    with SqliteLog(killed.put(folder / "before"), **OPTIONS) as log:
        end = log.end_offset("readings", 0)
    whole, tail = len(wal), (len(wal) - begin) // FRAME_BYTES
    assert tail > 1
    count, silent = attack.size(short=12, long=400), 0
    for _ in range(count):
        torn = bytearray(wal)
        for frame in rng.sample(range(tail), rng.randint(1, tail)):
            at = begin + frame * FRAME_BYTES
            start = at + 512 * rng.randrange(FRAME_BYTES // 512)
            torn[start : min(start + 512 * rng.randint(1, 16), whole)] = b""
            torn = torn.ljust(whole, b"\0")
        mark = killed.older["log.db.mark"]  # the mark lags: it was not synced since
        path = killed.put(folder / "state", log_db_wal=bytes(torn), log_db_mark=mark)
        with SqliteLog(path, **OPTIONS) as log:
            silent += log.end_offset("readings", 0) not in (end, end - 1)
    attack.report(count, lost=silent, unit="torn tails")


@pytest.mark.usefixtures("another_boot")
def test_damage_before_the_last_transaction_is_told_without_a_mark(
    killed: KilledLog, folder: Path, attack: Attack
) -> None:
    wal = killed.files["log.db-wal"]
    # The last commit before it is undecidable if its salts or its commit size are damaged.
    sound = wal[: HEADER.size + (_last_transaction(wal) - 1) * FRAME_BYTES]
    count = attack.size(short=20, long=1000)
    found: Counter[str] = Counter()
    for changed in flips(sound, count, random.Random(SEED)):
        path = killed.put(
            folder / "state", log_db_wal=changed + wal[len(sound) :], log_db_mark=None
        )
        found[verdict(path, killed)] += 1
    attack.report(count, lost=found["silent"], unit="bits of log.db-wal")


def test_normal_durability_may_lose_its_end_to_the_power_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "made").mkdir()
    log = kill_log(folder / "made", durability="normal")
    monkeypatch.setattr(inspection, "boot_id", lambda: "another")
    path = log.put(folder / "state", log_db_wal=log.older["log.db-wal"])
    with SqliteLog(path, **OPTIONS, durability="normal") as opened:
        assert opened.end_offset("readings", 0) == 18 + 1
    assert "lost 26 records to a loss of power" in caplog.text


# -- the ways on -----------------------------------------------------------------------------------


def test_the_repair_restores_what_a_damaged_write_ahead_file_has(
    killed: KilledLog, folder: Path, attack: Attack
) -> None:
    count = attack.size(short=15, long=1500)
    found: Counter[str] = Counter()
    for changed in flips(killed.files["log.db-wal"], count, random.Random(SEED)):
        path = killed.put(folder / "state", log_db_wal=changed)
        try:
            report = repair_log(path)
        except LogError:
            found["told"] += 1
            continue
        assert report.missing == {}
        lost = {(each.topic, each.partition, each.offset) for each in report.damaged}
        with SqliteLog(path, **OPTIONS) as log:
            gone = killed.records.keys() - {(r.topic, r.partition, r.offset) for r in records(log)}
        found["everything" if not gone else "told" if gone <= lost else "silent"] += 1
    attack.note(f"everything restored by {found['everything']}")
    attack.report(count, lost=found["silent"], unit="repairs")
    assert found["everything"] > count // 2


def test_a_frame_that_is_damaged_in_several_places_costs_its_records_only(
    killed: KilledLog, folder: Path
) -> None:
    wal = bytearray(killed.files["log.db-wal"])
    value = killed.records["readings", 1, 20].value
    assert value is not None
    at = wal.index(value)
    wal[at : at + 40] = bytes(40)
    path = killed.put(folder / "state", log_db_wal=bytes(wal))
    with pytest.raises(LogCorrupt, match="write-ahead file"):
        SqliteLog(path, **OPTIONS)
    report = repair_log(path)
    # Later frames have the same page again, intact: even these records are there.
    assert len(report.damaged) <= 1
    with SqliteLog(path, **OPTIONS) as log:
        assert log.end_offset("readings", 1) == 24


@pytest.mark.parametrize("case", ["log older", "log removed", "log foreign", "log.db-wal removed"])
def test_an_accepted_loss_is_counted_and_its_offsets_are_not_used_again(
    case: str, killed: KilledLog, foreign: KilledLog, folder: Path
) -> None:
    path = killed.put(folder / "state", **CASES[case][0](killed, foreign))
    with pytest.raises(LogError):
        repair_log(path)
    report = repair_log(path, accept_loss=True)
    lost = sum(map(len, report.missing.values()))
    assert lost > 0
    mark = read_mark(folder / "state" / "log.db.mark")
    assert mark is not None
    assert mark.accepted_lost == lost
    with SqliteLog(path, **OPTIONS) as log:
        assert log.stats().accepted_lost == lost
        if case != "log removed":
            assert log.append([NewRecord("readings", b"", partition=0)]).result() == [26]
    with SqliteLog(path, **OPTIONS) as log:
        assert log.stats().accepted_lost == lost


# -- while open ------------------------------------------------------------------------------------


def _removed(path: Path) -> None:
    path.unlink()


def _replaced(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    "name", ["log.db", "log.db-wal", "log.db-shm", "log.db.lock", "log.db.mark"]
)
@pytest.mark.parametrize("change", [_removed, _replaced, _cut])
@pytest.mark.parametrize("is_busy", [True, False])
def test_a_file_taken_away_while_open_stops_confirmations(
    name: str, change: Callable[[Path], None], is_busy: bool, folder: Path, attack: Attack
) -> None:
    if change is _cut and name in ("log.db-shm", "log.db.lock"):
        pytest.skip("SQLite maps the one into memory, and the other has no content of ours")
    log = SqliteLog(folder / "log.db", **OPTIONS, maintenance_ms=20 if not is_busy else 60_000)
    confirmed = 0
    for n in range(20):
        log.append([NewRecord("readings", b"%d" % n * 400, partition=0)]).result()
        confirmed += 1
    change(folder / name)
    if not is_busy:
        while name != "log.db.mark" and log.stats().failure is None:
            log._writer._thread.join(0.01)
    elif name in ("log.db-shm", "log.db.lock"):
        with suppress(LogError):
            log.maintain()
    for n in range(5):
        future = log.append([NewRecord("readings", b"%d" % n, partition=0)])
        if future.exception(30) is None:
            confirmed += 1
    if name == "log.db.mark":
        assert confirmed == 25
    else:
        assert confirmed == 20
        assert "while" in (log.stats().failure or "")
    log.close()
    silent = 0
    try:
        with SqliteLog(folder / "log.db", **OPTIONS) as again:
            found = again.read("readings", 0, 0, 100)
            silent = max(0, confirmed - len(found))
    except LogError:
        pass
    attack.report(confirmed, lost=silent, unit=f"records, {name} {change.__name__[1:]}")


def test_the_write_ahead_file_is_read_as_sqlite_reads_it(killed: KilledLog, folder: Path) -> None:
    state = read_wal(killed.put(folder / "state"))
    assert state.size_bytes == len(killed.files["log.db-wal"])
    assert state.valid_frames == (state.size_bytes - HEADER.size) // FRAME_BYTES
    assert not state.is_damaged(after_power_loss=False)
