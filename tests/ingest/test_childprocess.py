"""Child processes: tied to their parent, stopped in order, killed after the timeout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.childprocess import kill_child, pause_child, stop_child, tied_to_parent

OBEYS = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def child(first: str) -> subprocess.Popen[bytes]:
    script = f"import time\n{first}\nprint('ready', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: prctl")
def test_a_child_whose_parent_died_first_does_not_start() -> None:
    command = tied_to_parent(["echo", "started"])
    command[command.index(str(os.getpid()))] = "1"  # somebody else's
    assert subprocess.run(command, capture_output=True, check=False).stdout == b""
    done = subprocess.run(tied_to_parent(["echo", "started"]), capture_output=True, check=True)
    assert done.stdout == b"started\n"


@pytest.mark.parametrize("paused", [False, True])
def test_a_child_gets_the_time_to_end_by_itself(paused: bool) -> None:
    process = child(OBEYS)
    if paused:
        process.send_signal(signal.SIGSTOP)
    stop_child(process, timeout_s=30.0)
    assert process.returncode == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: /proc")
def test_a_paused_child_stands_still_with_all_its_threads() -> None:
    process = child(
        "import threading\nfor _ in range(8):"
        " threading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    )
    for _ in range(3):
        pause_child(process)
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{process.pid}/task").iterdir()
        ]
        assert set(states) == {"T"}
        pause_child(process)  # a second time changes nothing
        process.send_signal(signal.SIGCONT)
    kill_child(process)
    pause_child(process)
    assert process.returncode == -signal.SIGKILL


def test_a_child_can_be_asked_with_another_signal() -> None:
    # Under nohup, children inherit that SIGHUP is ignored.
    process = child(f"{IGNORES}; signal.signal(signal.SIGHUP, signal.SIG_DFL)")
    stop_child(process, timeout_s=30.0, stop_signal=signal.SIGHUP)
    assert process.returncode == -signal.SIGHUP


def test_a_child_that_does_not_end_is_killed_after_the_timeout() -> None:
    process = child(IGNORES)
    stop_child(process, timeout_s=0.1)
    assert process.returncode == -signal.SIGKILL


def test_stopping_and_killing_are_safe_to_repeat() -> None:
    process = child(OBEYS)
    kill_child(process)
    kill_child(process)
    stop_child(process, timeout_s=0.1)
    assert process.returncode == -signal.SIGKILL
