"""The results file: idempotent, durable, bounded, and explicit about damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.console.queries import counts
from pipeline.errors import ResultsCorrupted, ResultsGone, SinkUnavailable
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile

DAY_MS = 86_400_000


def rul(device: str, time_ms: int, value: float = 50.0, version: int = 1) -> Point:
    tags = (("site", "plant"), ("device", device), ("stream", "engine"), ("model", "m"))
    return Point("rul", tags, (("rul", value), ("version", version)), time_ms * 10**6)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultsFile]:
    results = ResultsFile(tmp_path / "deep" / "results.db")
    yield results
    results.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., ResultsFile]]:
    """Opens `r.db` with the arguments of the test, and closes it afterwards."""
    with ExitStack() as stack:

        def make(**arguments: Any) -> ResultsFile:
            results = ResultsFile(tmp_path / "r.db", **arguments)
            stack.callback(results.close)
            return results

        yield make


def rows(results: ResultsFile, sql: str = "SELECT device, time_ns, rul FROM rul") -> list[object]:
    return sorted(results.select(sql))


def test_a_point_written_twice_is_one_and_the_last_fields_win(results: ResultsFile) -> None:
    assert results.write([rul("e1", 5), rul("e2", 5), rul("e1", 5, 49.0)]) == []
    assert results.write([rul("e1", 5, 48.0)]) == []
    assert rows(results) == [("e1", 5_000_000, 48.0), ("e2", 5_000_000, 50.0)]


def test_tags_identify_a_point_in_any_order(results: ResultsFile) -> None:
    point = rul("e1", 5)
    turned = Point("rul", point.tags[::-1], (("gaps", 2),), point.time_ns)
    results.write([point, turned])
    assert rows(results, "SELECT rul, version, gaps FROM rul") == [(50.0, 1, 2)]


def test_fields_become_columns_and_keep_their_type(results: ResultsFile) -> None:
    fields = (("activity", "SITTING"), ("p_A b'\"", 1.0), ("version", 3), ("ok", True))
    results.write([Point("activity", (("device", "anna"),), fields, 1)])
    assert results.fields("activity") == ["activity", "p_A b'\"", "version", "ok"]
    (row,) = results.select("SELECT * FROM activity")
    assert row[-4:] == ("SITTING", 1.0, 3, 1)
    assert isinstance(row[-3], float)


@pytest.mark.parametrize(
    ("measurement", "field", "reason"),
    [
        ("Rul", "x", "lower-case"),
        ("points_rul", "x", "lower-case"),
        ("rul", "time_ns", "reserved"),
        ("rul", "x" * 200, "too long"),
    ],
)
def test_points_that_the_file_cannot_store_are_returned_as_refused_and_the_rest_is_stored(
    results: ResultsFile, measurement: str, field: str, reason: str
) -> None:
    bad = Point(measurement, (("device", "e1"),), ((field, 1.0),), 9)
    (refused,) = results.write([rul("e1", 5), bad, rul("e1", 6)])
    assert refused.point is bad
    assert reason in refused.reason
    assert counts(results) == {"rul": 2}


def test_a_field_in_another_case_is_stored_in_the_column_that_there_is(tmp_path: Path) -> None:
    fields = [
        (("activity", "x"), (name, value)) for name, value in (("p_é b", 0.25), ("p_É B", 0.5))
    ]
    points = [
        Point("activity", (("device", "d"),), some, at) for at, some in enumerate(fields, start=1)
    ]
    with closing(ResultsFile(tmp_path / "results.db")) as results:
        assert results.write(points[:1]) == []
        assert results.write(points[::-1]) == []
    with closing(ResultsFile(tmp_path / "results.db")) as results:  # the same after a restart
        assert results.write(points[1:]) == []
        assert results.fields("activity") == ["activity", "p_é b"]
        assert results.select('SELECT "p_é b" FROM activity ORDER BY time_ns') == [(0.25,), (0.5,)]


def test_too_many_fields_are_refused(results: ResultsFile) -> None:
    wide = Point("rul", (("device", "e"),), tuple((f"f{i}", 1) for i in range(601)), 9)
    (refused,) = results.write([wide])
    assert "more than 600 fields" in refused.reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    batches=st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 99)), max_size=8
        ),
        max_size=6,
    )
)
def test_the_file_equals_a_dictionary_by_identity(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[str, int, int]]]
) -> None:
    results = ResultsFile(tmp_path_factory.mktemp("results") / "r.db")
    model = {}
    for batch in batches:
        results.write([rul(device, time_ms, float(value)) for device, time_ms, value in batch])
        model.update({(device, time_ms): float(value) for device, time_ms, value in batch})
    stored = results.select("SELECT device, time_ns / 1000000, rul FROM rul") if model else []
    assert {(device, time_ms): value for device, time_ms, value in stored} == model
    results.close()


def test_points_survive_kill_9_right_after_write_returned(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    program = f"""
import sys
from pathlib import Path
from pipeline.stores.resultsfile import ResultsFile
from tests.pipeline.stores.test_resultsfile import rul
results = ResultsFile(Path({str(path)!r}))
for i in range(100000):
    results.write([rul("e1", 10 * i + k) for k in range(10)])
    print(i, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if int(line) >= 20:
                break
        process.send_signal(signal.SIGKILL)
        confirmed = max([20, *(int(line) for line in process.stdout if line.endswith("\n"))])
    results = ResultsFile(path)
    stored = counts(results)["rul"]
    assert stored >= 10 * (confirmed + 1)
    assert stored % 10 == 0  # a batch is there or not
    results.write([rul("e1", 10**6)])
    results.close()


def test_readers_see_batches_whole_while_a_writer_writes(results: ResultsFile) -> None:
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(counts(results).get("rul", 0))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(60):
        results.write([rul("e1", 5 * i + k) for k in range(5)])
    done.set()
    reader.join()
    assert all(count % 5 == 0 for count in seen)
    assert len(seen) > 1


def test_another_process_may_read_the_file(results: ResultsFile) -> None:
    results.write([rul("e1", 5)])
    other = ResultsFile(results.path, read_only=True)
    assert counts(other) == {"rul": 1}
    with pytest.raises(SinkUnavailable, match="read-only"):
        other.write([rul("e1", 6)])
    other.close()


def test_old_points_go_by_age_within_their_series_and_replayed_ones_stay(
    opened: Callable[..., ResultsFile],
) -> None:
    now = 1_800_000_000_000
    results = opened(max_age_ms=DAY_MS, now_ms=lambda: now, steady_ms=lambda: now)
    long_ago = 1_200_000_000_000  # a data set recorded years ago, replayed today
    results.write([rul("old", long_ago), rul("old", long_ago + 2 * DAY_MS)])
    results.write([rul("live", now - DAY_MS - 1), rul("live", now)])
    assert results.apply_retention() == 1  # of "live"; the first write dealt with "old"
    assert [row[0] for row in rows(results)] == ["live", "old"]  # type: ignore[index]


def ahead(lead: int, made_ms: int) -> Point:
    tags = (("site", "s"), ("device", "d"), ("stream", "power"), ("model", "m"))
    time_ms = made_ms + lead * DAY_MS
    return Point("forecast", (*tags, ("lead", str(lead))), (("p50", 1.0),), time_ms * 10**6)


def test_a_forecast_far_ahead_stays_until_its_readings_have_come_and_are_old(
    opened: Callable[..., ResultsFile],
) -> None:
    clock = [1_800_000_000_000]
    results = opened(max_age_ms=2 * DAY_MS, now_ms=lambda: clock[0], steady_ms=lambda: clock[0])
    began = clock[0]
    for day in range(6):
        clock[0] = began + day * DAY_MS
        results.write([ahead(lead, clock[0]) for lead in (0, 5)])
        results.apply_retention()
    held = results.select("SELECT lead, time_ns / 1000000 FROM forecast ORDER BY lead, time_ns")
    days = [(lead, (time_ms - began) // DAY_MS) for lead, time_ms in held]
    assert days == [*(("0", day) for day in (3, 4, 5)), *(("5", day) for day in range(5, 11))]


def test_a_series_that_has_ended_does_not_keep_the_others(
    opened: Callable[..., ResultsFile],
) -> None:
    clock = [1_800_000_000_000]
    results = opened(max_age_ms=2 * DAY_MS, now_ms=lambda: clock[0], steady_ms=lambda: clock[0])
    results.write([ahead(5, clock[0] - 5 * DAY_MS)])  # a lead of a model that has been replaced
    for _ in range(5):
        results.write([ahead(0, clock[0])])
        clock[0] += DAY_MS
    results.write([ahead(0, clock[0])])
    results.apply_retention()
    assert len(rows(results, "SELECT time_ns FROM forecast WHERE lead = '0'")) == 3


def test_a_series_without_writes_is_deleted_as_a_whole(opened: Callable[..., ResultsFile]) -> None:
    clock = [1_800_000_000_000]
    results = opened(max_age_ms=DAY_MS, now_ms=lambda: clock[0], steady_ms=lambda: clock[0])
    results.write([rul("gone", clock[0])])
    clock[0] += DAY_MS + 1
    results.write([rul("live", clock[0])])
    results.apply_retention()
    assert [row[0] for row in rows(results)] == ["live"]  # type: ignore[index]
    results.write([rul("gone", clock[0])])  # and may come back
    assert len(rows(results)) == 2


@pytest.mark.parametrize("step_ms", [40 * DAY_MS, -120_000, -40 * DAY_MS])
def test_no_step_of_the_clock_deletes_a_point(
    opened: Callable[..., ResultsFile], step_ms: int
) -> None:
    times = {"now": 1_800_000_000_000, "steady": 0}
    options: dict[str, Any] = {
        "max_age_ms": DAY_MS,
        "now_ms": lambda: times["now"],
        "steady_ms": lambda: times["steady"],
    }
    results = opened(**options)
    results.write([rul("quiet", times["now"]), rul("live", times["now"])])
    for _ in range(20):
        times["now"] += step_ms
        times["steady"] += 60_000
        results.write([rul("live", 1_800_000_000_000 + times["steady"])])
        times["now"] -= step_ms
    times["now"] += 40 * DAY_MS  # a step that lasts, and a restart under it
    results.close()
    results = opened(**options)
    results.write([rul("live", 1_800_000_000_000 + times["steady"] + 1)])
    assert results.apply_retention() == 0
    assert {row[0] for row in rows(results)} == {"live", "quiet"}  # type: ignore[index]
    times["steady"] += DAY_MS + 1  # a day that has really passed
    results.write([rul("live", 1_800_000_000_000 + times["steady"])])
    results.apply_retention()
    assert {row[0] for row in rows(results)} == {"live"}  # type: ignore[index]


def test_series_of_an_older_version_begin_to_age_when_the_file_is_opened(
    opened: Callable[..., ResultsFile],
) -> None:
    clock = [1_800_000_000_000]
    options: dict[str, Any] = {"now_ms": lambda: clock[0], "steady_ms": lambda: clock[0]}
    results = opened(max_age_ms=DAY_MS, **options)
    results.write([rul("old", clock[0])])
    path = results.path
    results.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE _series DROP COLUMN run_ms")
    clock[0] += 40 * DAY_MS
    results = opened(max_age_ms=DAY_MS, **options)
    assert results.apply_retention() == 0
    clock[0] += DAY_MS + 1
    assert results.apply_retention() == 1


def test_the_oldest_points_of_every_series_go_when_the_file_grows_too_large(
    opened: Callable[..., ResultsFile],
) -> None:
    limit = 300_000
    results = opened(max_bytes=limit, now_ms=lambda: 10**12)
    for start in range(0, 8_000, 1_000):
        results.write([rul(d, start + i) for i in range(1_000) for d in ("e1", "e2")])
    assert results.size_bytes() > limit
    assert results.apply_retention() > 0
    assert results.size_bytes() <= limit
    newest = results.select("SELECT device, max(time_ns), min(time_ns) FROM rul GROUP BY device")
    assert [(device, top) for device, top, _ in newest] == [
        ("e1", 7_999 * 10**6),
        ("e2", 7_999 * 10**6),
    ]
    assert all(low > 0 for _, _, low in newest)


def test_a_file_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.write_bytes(b"not a database, but long enough to look like a file" * 50)
    with pytest.raises(ResultsCorrupted, match=r"move the file and its -wal and -shm away"):
        ResultsFile(path)


def test_a_foreign_database_and_a_newer_format_are_refused(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    with pytest.raises(ResultsCorrupted, match="not a results file"):
        ResultsFile(tmp_path / "foreign.db")
    ResultsFile(tmp_path / "new.db").close()
    newer = sqlite3.connect(tmp_path / "new.db")
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(ResultsCorrupted, match="format is 2"):
        ResultsFile(tmp_path / "new.db")


def test_damaged_pages_are_found_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    results = ResultsFile(path)
    for start in range(0, 3000, 500):
        results.write([rul("e1", start + i) for i in range(500)])
    results.close()
    content = bytearray(path.read_bytes())
    for at in range(5 * 4096, len(content) - 4096, 4096):
        content[at : at + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(ResultsCorrupted):
        ResultsFile(path)


def test_a_directory_that_is_not_writable_is_unavailable_not_corrupt(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkUnavailable):
        ResultsFile(tmp_path / "file" / "results.db")


@pytest.mark.parametrize("way", ["deleted", "replaced", "its folder is gone"])
def test_a_deleted_file_stops_the_worker_before_anything_is_confirmed(
    results: ResultsFile, way: str
) -> None:
    results.write([rul("e1", 5)])
    if way == "its folder is gone":
        results.path.parent.rename(results.path.parent.with_name("elsewhere"))
    else:
        for path in results.path.parent.iterdir():
            path.unlink()
    if way == "replaced":
        ResultsFile(results.path).close()
    for _ in range(2):
        with pytest.raises(ResultsGone, match="restart the gateway") as caught:
            results.write([rul("e1", 6)])
        assert not isinstance(caught.value, SinkUnavailable)  # which would be tried again for ever
    results.close()
    ResultsFile(results.path).close()  # what a restart does


def test_a_closed_file_is_unavailable(results: ResultsFile) -> None:
    results.close()
    results.close()
    with pytest.raises(SinkUnavailable):
        results.write([rul("e1", 5)])
    with pytest.raises(SinkUnavailable):
        results.select("SELECT 1")


def test_a_failed_batch_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, opened: Callable[..., ResultsFile]
) -> None:
    results = opened()
    blocker = sqlite3.connect(tmp_path / "r.db", timeout=0)
    blocker.execute(
        "CREATE TRIGGER boom BEFORE INSERT ON _series BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    blocker.commit()
    with pytest.raises((SinkUnavailable, ResultsCorrupted)):
        results.write([rul("e1", 5)])
    blocker.execute("DROP TRIGGER boom")
    blocker.commit()
    blocker.close()
    assert results.write([rul("e1", 5)]) == []
    assert counts(results) == {"rul": 1}


def test_five_hundred_scores_take_a_small_part_of_a_second(results: ResultsFile) -> None:
    results.write([rul(f"e{i}", 0) for i in range(100)])
    start = time.perf_counter()
    for i in range(5):
        results.write([rul(f"e{k % 100}", 1 + i * 5 + k // 100) for k in range(500)])
    seconds_per_batch = (time.perf_counter() - start) / 5
    print(f"{seconds_per_batch * 1000:.1f} ms for 500 points")  # printed, not asserted on
