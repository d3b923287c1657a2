"""The supervisor with small programs in place of servers: order, restarts, watchdog, stop."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.stack.process import ServerError
from deploy.supervisor.healthcheck import HealthCheck
from deploy.supervisor.program import SECRETS, Program, Step, Watchdog
from deploy.supervisor.sitestate import (
    Row,
    SiteRuns,
    SiteState,
    hold_lock,
    is_running,
    left_over,
    process_start_time,
    read_state,
    write_state,
)
from deploy.supervisor.supervisor import Supervisor
from ingest.backoff import Backoff

QUICK = Backoff(first_ms=50, max_ms=400, reset_after_ms=300)
Script = Generator[Callable[[], object], None, None]

# Records its start and end in one file for all, and its readiness in a file of its own.
BODY = """\
import pathlib, signal, sys, time
folder, name, how = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def note(what):
    with (folder / "events").open("a") as file:
        file.write(f"{what} {name}\\n")
def end(*_):
    note("ends"); (folder / name).unlink(missing_ok=True)
    if how != "stubborn": sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("starts")
if how == "fails":
    print("Traceback ...\\nValueError: the disk is full\\n  at somewhere"); sys.exit(3)
(folder / name).touch()
while True: time.sleep(0.02)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(BODY)
    return tmp_path


def program(folder: Path, name: str, rank: int = 0, how: str = "well") -> Program:
    (folder / name).unlink(missing_ok=True)
    command = [sys.executable, "-S", str(folder / "program.py"), str(folder), name, how]
    return Program(
        name=name,
        kind="process",
        rank=rank,
        command=lambda: command,
        log_path=folder / "logs" / f"{name}.log",
        check=lambda: HealthCheck(True, ready=(folder / name).exists()),
        stop_s=5.0,
    )


def supervisor(folder: Path, *parts: Program | Step) -> Supervisor:
    return Supervisor(parts, folder, backoff=QUICK, check_every_s=0.02)


def play(site: Supervisor, script: Script) -> None:
    """Run the site while each condition of the script comes true in turn."""
    deadline = time.monotonic() + 30
    condition = next(script)

    def should_stop() -> bool:
        nonlocal condition
        assert time.monotonic() < deadline, site.state
        try:
            while condition():
                condition = next(script)
        except StopIteration:
            return True
        return False

    site.run(should_stop)


def row(site: Supervisor, name: str) -> Row:
    return next(row for row in site.state.rows if row.name == name)


def is_ready(site: Supervisor, name: str, restarts: int = 0) -> Callable[[], bool]:
    def now() -> bool:
        here = row(site, name)
        return here.state == "ready" and here.restarts >= restarts

    return now


def events(folder: Path) -> list[str]:
    return (folder / "events").read_text().splitlines()


def test_ranks_start_one_after_the_other_and_each_ends_in_its_turn(folder: Path) -> None:
    def set_up() -> str:
        assert (folder / "kafka").exists(), "the rank before is ready"
        with (folder / "events").open("a") as file:
            file.write("steps\n")
        return "created 5 topics"

    site = supervisor(
        folder,
        program(folder, "bridge", 3),
        replace(program(folder, "worker", 2), stop_order=1),
        replace(program(folder, "kafka", 0), stop_order=2),
        Step("topics", 1, set_up),
    )

    def script() -> Script:
        yield lambda: site.state.is_healthy

    play(site, script())
    assert events(folder) == [
        *("starts kafka", "steps", "starts worker", "starts bridge"),
        *("ends bridge", "ends worker", "ends kafka"),
    ]
    assert [row.state for row in site.state.rows] == ["ended", "done", "ended", "ended"]
    assert site.state.rows[1].detail == "created 5 topics"


def test_a_killed_program_is_started_again_and_says_how_it_ended(folder: Path) -> None:
    site = supervisor(folder, program(folder, "worker"), program(folder, "store"))
    pids = []

    def script() -> Script:
        yield lambda: site.state.is_healthy
        pids.append(row(site, "worker").pid)
        os.kill(pids[0] or 0, signal.SIGKILL)
        yield lambda: row(site, "worker").state == "restarting"
        assert row(site, "worker").detail == "killed by SIGKILL"
        assert row(site, "worker").pid is None
        (folder / "worker").unlink()
        yield is_ready(site, "worker", restarts=1)
        assert row(site, "worker").detail == "before: killed by SIGKILL"
        pids.append(row(site, "worker").pid)

    play(site, script())
    assert pids[0] != pids[1]
    assert row(site, "worker").restarts == 1
    assert row(site, "store").restarts == 0


def test_a_program_that_ends_at_once_is_restarted_with_growing_pauses_and_its_last_output_is_shown(
    folder: Path,
) -> None:
    site = supervisor(folder, program(folder, "worker", how="fails"))
    starts: list[float] = []
    words: list[str] = []

    def script() -> Script:
        while len(starts) < 6:
            yield lambda: row(site, "worker").restarts > len(starts)
            starts.append(time.monotonic())
        yield lambda: row(site, "worker").state == "restarting"
        words.append(row(site, "worker").detail)

    play(site, script())
    # The pauses before the second to the sixth restart; what comes on top is the start itself.
    assert starts[-1] - starts[0] > 0.1 + 0.2 + 0.4 + 0.4 + 0.4
    assert words[0] == "exit code 3: ValueError: the disk is full"


def test_failures_are_forgotten_once_it_has_been_ready_for_a_while(folder: Path) -> None:
    backoff = Backoff(first_ms=200, max_ms=60_000, reset_after_ms=200)
    site = Supervisor([program(folder, "worker")], folder, backoff=backoff, check_every_s=0.02)

    def script() -> Script:
        for round_ in range(8):  # otherwise the pauses alone are longer than this test may take
            yield is_ready(site, "worker", restarts=round_)
            since_s = time.monotonic()
            yield lambda since_s=since_s: time.monotonic() - since_s > 0.5
            (folder / "worker").unlink()
            os.kill(row(site, "worker").pid or 0, signal.SIGKILL)
            yield lambda: row(site, "worker").state == "restarting"

    play(site, script())
    assert row(site, "worker").restarts >= 7


def test_a_program_that_cannot_be_started_is_reported_and_delays_no_other(folder: Path) -> None:
    def missing() -> Sequence[str]:
        message = "Kafka is not in /x: run `kpstream site install`"
        raise ServerError(message)

    site = supervisor(
        folder, replace(program(folder, "kafka"), command=missing), program(folder, "mosquitto")
    )

    def script() -> Script:
        yield is_ready(site, "mosquitto")
        yield lambda: row(site, "kafka").state == "restarting"

    play(site, script())
    assert "kpstream site install" in row(site, "kafka").detail


def test_a_step_is_tried_until_it_succeeds(folder: Path) -> None:
    tries: list[int] = []

    def set_up() -> str:
        tries.append(1)
        if len(tries) < 3:
            message = "Kafka is not there yet"
            raise OSError(message)
        return "done"

    site = supervisor(folder, Step("topics", 0, set_up), program(folder, "worker", 1))

    def script() -> Script:
        yield lambda: row(site, "topics").detail == "Kafka is not there yet"
        assert row(site, "worker").state == "waiting"
        yield lambda: site.state.is_healthy

    play(site, script())
    assert len(tries) == 3


def test_a_worker_with_a_backlog_and_no_progress_is_restarted(folder: Path) -> None:
    worker = replace(
        program(folder, "worker"),
        check=lambda: HealthCheck(True, ready=True, backlog=5, progress=7),
        watchdog=Watchdog(stall_s=0.3),
    )
    site = supervisor(folder, worker)
    words: list[str] = []

    def script() -> Script:
        yield lambda: row(site, "worker").state in {"stopping", "restarting"}
        words.append(row(site, "worker").detail)
        yield is_ready(site, "worker", restarts=1)

    play(site, script())
    assert words[0].startswith("ended by the watchdog: a backlog and no progress")


def test_progress_an_empty_backlog_or_an_absent_server_keep_the_watchdog_quiet(
    folder: Path,
) -> None:
    clock = time.monotonic
    dog = Watchdog(stall_s=1.0)
    moving = replace(
        program(folder, "moving"),
        check=lambda: HealthCheck(True, ready=True, backlog=5, progress=clock()),
        watchdog=dog,
    )
    idle = replace(
        program(folder, "idle"),
        check=lambda: HealthCheck(True, ready=True, backlog=0, progress=7),
        watchdog=dog,
    )

    def script(site: Supervisor) -> Script:
        since_s = clock()
        yield lambda: clock() - since_s > 2.5

    site = supervisor(folder, moving, idle)
    play(site, script(site))
    assert [row.restarts for row in site.state.rows] == [0, 0]

    stuck = replace(moving, check=lambda: HealthCheck(True, ready=True, backlog=5, progress=7))
    away = replace(
        program(folder, "kafka"), kind="server", check=lambda: HealthCheck(True, ready=False)
    )
    site = supervisor(folder, stuck, away)
    play(site, script(site))
    assert [row.restarts for row in site.state.rows] == [0, 0]


def test_a_frozen_program_is_silent_first_and_then_restarted(folder: Path) -> None:
    def check() -> HealthCheck:
        pid = row(site, "worker").pid
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return HealthCheck(False) if state == "T" else HealthCheck(True, ready=True)

    worker = replace(
        program(folder, "worker", how="well"), check=check, watchdog=Watchdog(silent_s=0.5)
    )
    site = supervisor(folder, worker)

    def script() -> Script:
        yield is_ready(site, "worker")
        yield (folder / "events").exists  # the program runs, not only its interpreter
        os.kill(row(site, "worker").pid or 0, signal.SIGSTOP)
        yield lambda: row(site, "worker").state == "silent"
        yield is_ready(site, "worker", restarts=1)

    play(site, script())
    assert events(folder)[:2] == ["starts worker", "ends worker"]  # it was woken, and asked first


def test_a_program_that_ignores_the_stop_signal_is_killed(folder: Path) -> None:
    site = supervisor(folder, replace(program(folder, "worker", how="stubborn"), stop_s=0.2))
    pids = []

    def script() -> Script:
        yield is_ready(site, "worker")
        pids.append(row(site, "worker").pid)

    play(site, script())
    assert events(folder) == ["starts worker", "ends worker"]
    assert process_start_time(pids[0] or 0) is None


def test_the_state_is_on_disk_and_identifies_the_process(folder: Path) -> None:
    site = supervisor(folder, program(folder, "worker"))

    def script() -> Script:
        yield lambda: (state := read_state(folder)) is not None and state.is_healthy
        state = read_state(folder)
        assert state is not None
        assert state.pid == os.getpid()
        assert left_over(state.rows) == list(state.rows)
        somebody_else = replace(
            state.rows[0], process_start_time=(state.rows[0].process_start_time or 0) - 1
        )
        assert left_over([somebody_else]) == []

    play(site, script())
    state = read_state(folder)
    assert state is not None
    assert [row.state for row in state.rows] == ["ended"]
    assert left_over(state.rows) == []


def test_the_keys_of_the_state_file_stay_as_they_are(folder: Path) -> None:
    row = Row("kafka", "server", "ready", 11, 1, 0, 5, 9092, "before: exit code 1", "/l")
    write_state(folder, SiteState(7, 2, 3, 4, (row,)))
    page = json.loads((folder / "site.json").read_text())
    assert list(page) == ["pid", "born", "started_ms", "written_ms", "rows"]
    assert list(page["rows"][0]) == [
        *("name", "kind", "state", "pid", "born"),
        *("restarts", "since_ms", "port", "words", "log"),
    ]
    assert read_state(folder) == SiteState(7, 2, 3, 4, (row,))


def test_a_broken_state_file_is_no_state(folder: Path) -> None:
    for text in ("", "{", "[]", '{"rows": [{}]}', '{"rows": 1}'):
        (folder / "site.json").write_text(text)
        assert read_state(folder) is None


def test_a_program_inherits_no_secret_that_it_was_not_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "ours")
    given = min(SECRETS)
    monkeypatch.setenv("KPSTREAM_SITE_WORKERS", "3")
    body = f"import os; open({str(folder / 'env')!r}, 'w').write(repr(dict(os.environ)))"
    one = replace(
        program(folder, "one"),
        command=lambda: [sys.executable, "-S", "-c", f"{body}; import time; time.sleep(60)"],
        check=lambda: HealthCheck(True, ready=(folder / "env").exists()),
        env=lambda: {given: "value"},
    )
    site = supervisor(folder, one)
    play(site, iter([is_ready(site, "one")]))
    found = ast.literal_eval((folder / "env").read_text())
    assert found["KPSTREAM_SITE_WORKERS"] == "3"
    assert {name: found[name] for name in SECRETS & set(found)} == {given: "value"}


def test_a_second_supervisor_of_a_folder_is_refused(folder: Path) -> None:
    assert not is_running(folder)
    with hold_lock(folder):
        assert is_running(folder)
        with pytest.raises(SiteRuns, match="kpstream site status"), hold_lock(folder):
            pytest.fail("both have it")
    assert not is_running(folder)


def test_a_long_log_is_cut_and_its_end_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.runningprogram._LOG_BYTES", 1000)
    monkeypatch.setattr("deploy.supervisor.runningprogram._LOG_EVERY_S", 0.05)
    talks = "while true; do echo 0123456789; sleep 0.001; done"
    worker = replace(
        program(folder, "worker"),
        command=lambda: ["sh", "-c", talks],
        check=lambda: HealthCheck(True),
    )
    site = supervisor(folder, worker)
    log_path = worker.log_path

    def script() -> Script:
        yield lambda: log_path.with_name("worker.log.1").exists()
        yield lambda: 0 < log_path.stat().st_size < 1000

    play(site, script())
    assert log_path.read_text().startswith("0123456789\n")  # nothing but text, no hole of zeros


SUPERVISED = """\
import sys, time
from pathlib import Path
from deploy.supervisor.supervisor import Supervisor
from ingest.backoff import Backoff
from tests.deploy.supervisor.test_supervisor import program
folder = Path(sys.argv[1])
Supervisor([program(folder, "worker"), program(folder, "store")], folder).run(lambda: False)
"""


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SUPERVISED, str(folder)])
    yield process
    process.kill()
    process.wait()


def test_children_do_not_outlive_a_killed_supervisor(
    folder: Path, other: subprocess.Popen[bytes]
) -> None:
    _await(lambda: (state := read_state(folder)) is not None and state.is_healthy)
    state = read_state(folder)
    assert state is not None
    assert len(left_over(state.rows)) == 2
    other.kill()
    other.wait()
    _await(lambda: not left_over(state.rows))


HANGING = """\
import sys, time
from pathlib import Path
from deploy.supervisor.program import Step
from deploy.supervisor.supervisor import Supervisor
from ingest.backoff import Backoff
began = time.monotonic()
site = Supervisor([Step("topics", 0, lambda: time.sleep(600) or "")], Path(sys.argv[1]))
site.run(lambda: time.monotonic() - began > 0.5)
"""


def test_a_step_that_hangs_does_not_hold_up_the_end(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HANGING, str(folder)], timeout=60)
    assert done.returncode == 0
    state = read_state(folder)
    assert state is not None
    assert [row.state for row in state.rows] == ["starting"]


def _await(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pipe_in_place_of_state_or_lock_is_told_and_never_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "site.json")
    assert read_state(folder) is None
    write_state(folder, SiteState(7, 2, 3, 4, ()))
    assert read_state(folder) == SiteState(7, 2, 3, 4, ())
    os.mkfifo(folder / "site.lock")
    with pytest.raises(OSError, match=r"site\.lock is a named pipe"), hold_lock(folder):
        pass
