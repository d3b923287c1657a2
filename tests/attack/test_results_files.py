"""The files of the results file under attack, and the bound of every write-ahead file."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.durable import walbound
from ingest.durable.wal import wal_path
from pipeline.errors import LogFull, ResultsGone, SinkError, SinkUnavailable
from pipeline.log.locallog import SqliteLog
from pipeline.log.reader import peek_log
from pipeline.log.state import NewRecord
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile
from tests.attack.account import Attack
from tests.attack.logfiles import flips
from tests.fuzz.limits import MEMORY, within

SEED = 20261129
STEPS = 40
TAGS = (("site", "s"), ("device", "d"), ("stream", "t"), ("model", "m"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def _point(n: int) -> Point:
    return Point("rul", TAGS, (("rul", float(n)),), n * 10**9)


def _copied(path: Path) -> dict[str, bytes]:
    names = (f"{path.name}{end}" for end in ("", "-wal", ".mark"))
    return {name: (path.parent / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files of a results file after a kill, and at an earlier moment."""
    path = tmp_path_factory.mktemp("results") / "results.db"
    with closing(ResultsFile(path)) as results:
        for n in range(STEPS):
            results.write([_point(n)])
            if n == STEPS // 2:
                older = _copied(path)
        return _copied(path), older


def _put(folder: Path, files: dict[str, bytes], **changed: bytes | None) -> Path:
    for end in ("", "-wal", "-shm", ".mark"):
        (folder / f"results.db{end}").unlink(missing_ok=True)
    for name, data in files.items():
        data = changed.get(name.replace(".", "_").replace("-", "_"), data)  # type: ignore[assignment]
        if data is not None:
            (folder / name).write_bytes(data)
    return folder / "results.db"


def _verdict(path: Path) -> str:
    try:
        with closing(ResultsFile(path)) as results:
            rows = results.select("SELECT rul FROM rul ORDER BY time_ns")
    except SinkError as exc:
        return type(exc).__name__
    return "correct" if [row[0] for row in rows] == list(range(STEPS)) else "silent"


@pytest.mark.parametrize("name", ["results.db-wal", "results.db.mark"])
def test_a_flipped_bit_after_a_kill_is_never_silent(
    name: str,
    killed: tuple[dict[str, bytes], dict[str, bytes]],
    folder: Path,
    attack: Attack,
) -> None:
    files, _ = killed
    count, found = attack.size(short=40, long=4000), Counter[str]()
    for changed in flips(files[name], count, random.Random(SEED)):
        path = _put(folder, files, **{name.replace(".", "_").replace("-", "_"): changed})
        with within(20):
            found[_verdict(path)] += 1
    attack.note(", ".join(f"{what} {n}" for what, n in sorted(found.items())))
    attack.report(count, lost=found["silent"], unit=f"bits of {name}")


def test_files_that_are_cut_removed_or_older_are_told(
    killed: tuple[dict[str, bytes], dict[str, bytes]],
    folder: Path,
    attack: Attack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files, older = killed
    wal = files["results.db-wal"]
    cases: list[dict[str, bytes | None]] = [
        {"results_db_wal": None},
        {"results_db_wal": wal[: len(wal) // 2]},
        {"results_db_wal": older["results.db-wal"]},
        {"results_db": older["results.db"], "results_db_wal": older["results.db-wal"]},
        {"results_db_mark": None},
        {"results_db_mark": older["results.db.mark"]},
    ]
    found = [_verdict(_put(folder, files, **case)) for case in cases]
    attack.report(len(cases), lost=found.count("silent"), unit="cases")
    assert found == ["ResultsCorrupted"] * 4 + ["correct"] * 2
    assert "is gone" not in caplog.text
    _verdict(_put(folder, files, results_db=None, results_db_wal=None))
    assert f"is gone, with the points of {STEPS} writes" in caplog.text


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_file_taken_away_while_open_stores_nothing_more(end: str, folder: Path) -> None:
    path = folder / "results.db"
    with closing(ResultsFile(path)) as results:
        results.write([_point(0)])
        (folder / f"results.db{end}").unlink()
        with pytest.raises(ResultsGone, match="deleted or moved away"):
            results.write([_point(1)])


def test_the_file_of_an_older_version_gets_its_mark(folder: Path) -> None:
    path = folder / "results.db"
    with closing(ResultsFile(path)) as results:
        results.write([_point(0)])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE _writes")
        db.commit()
    (folder / "results.db.mark").unlink()
    for n in (1, 2):
        with closing(ResultsFile(path)) as results:
            results.write([_point(n)])
            assert len(results.select("SELECT * FROM rul")) == n + 1


@pytest.fixture
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walbound, "_LEAST_LIMIT_BYTES", 300_000)
    monkeypatch.setattr(walbound, "_RETRY_S", 0.0)


@pytest.mark.usefixtures("_small_bound")
def test_beside_a_long_reader_the_results_file_waits_and_then_goes_on(
    folder: Path, attack: Attack
) -> None:
    path = folder / "results.db"
    with closing(ResultsFile(path, max_bytes=1_000_000)) as results:
        results.write([_point(0)])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM _series").fetchall()
            stored = 1
            with pytest.raises(SinkUnavailable, match=r"has been reading the file for long"):
                for n in range(1, 2000):
                    results.write([_point(n)])
                    stored += 1
            largest = wal_path(path).stat().st_size
            assert 300_000 <= largest < 400_000
            assert results.wal_bytes() == largest
        results.write([_point(stored)])
        rows = results.select("SELECT rul FROM rul ORDER BY time_ns")
        attack.note(f"write-ahead file at most {largest:,} bytes")
        attack.report(stored, lost=stored + 1 - len(rows), unit="points beside a reader")
        assert wal_path(path).stat().st_size < 100_000


@pytest.mark.usefixtures("_small_bound")
def test_beside_a_long_reader_the_log_refuses_and_then_goes_on(
    folder: Path, attack: Attack
) -> None:
    path = folder / "log.db"
    log = SqliteLog(path, partitions=1, linger_ms=0, min_free_bytes=0, max_bytes=1_000_000)
    log.append([NewRecord("t", b"0")]).result()
    confirmed = 1
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM topics").fetchall()
        with pytest.raises(LogFull, match=r"has been reading the file for long"):
            for _ in range(2000):
                log.append([NewRecord("t", b"x" * 100)]).result()
                confirmed += 1
        assert wal_path(path).stat().st_size < 400_000
    log.maintain()
    log.append([NewRecord("t", b"x")]).result()
    end = log.end_offset("t", 0)
    log.close()
    attack.report(confirmed, lost=confirmed + 1 - end, unit="records beside a reader")


def test_listing_records_holds_no_read_transaction(folder: Path) -> None:
    path = folder / "log.db"
    with SqliteLog(path, partitions=1, linger_ms=0, min_free_bytes=0) as log:
        log.append([NewRecord("t", b"%d" % n) for n in range(300)]).result()
        listed = peek_log(path, "t")
        assert next(listed).offset == 0
        log.append([NewRecord("t", b"x")]).result()
        with closing(sqlite3.connect(path, timeout=0)) as db:
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert len(list(listed)) == 300
