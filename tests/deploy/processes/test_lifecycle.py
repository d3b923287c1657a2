"""From start to exit code: signals, parts that fail, starts that are interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from deploy.processes.lifecycle import PartFailed, Tasks, until_crashed

PROGRAM = """
import asyncio, sys, time
from deploy.processes.lifecycle import Tasks, run_process

class Process:
    def __init__(self, how):
        self.how, self.tasks = how, Tasks()
    async def start(self):
        if self.how == "never starts":
            print("starting", flush=True)
            await asyncio.sleep(60)
        if self.how == "cannot start":
            raise RuntimeError("no broker")
        async def part():
            if self.how == "fails":
                raise ValueError("disk is full")
            await asyncio.sleep(60)
        self.tasks.spawn(part(), "scoring")
        return "started"
    async def wait(self):
        await self.tasks.wait()
    async def stop(self):
        await self.tasks.cancel()
        if self.how == "never stops":
            print("stopping", flush=True)
            await asyncio.sleep(60)
        return "stopped"

def say(text):
    print(text, flush=True)

def make():
    if sys.argv[1] == "opens files":
        say("opening")
        time.sleep(60)
    return Process(sys.argv[1])

sys.exit(asyncio.run(run_process("worker", make, say)))
"""


def run(how: str, *signals: tuple[str, signal.Signals]) -> tuple[int, str, str]:
    """Run a process; send each signal once its word was printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert process.stdout is not None
    said = ""
    for word, number in signals:
        while word not in said:
            line = process.stdout.readline()
            assert line, process.communicate()
            said += line
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, said + out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    code, out, err = run("works", ("started", number))
    assert (code, out.split(), err) == (0, ["started", "stopped"], "")


def test_a_part_that_fails_ends_it_with_the_reason() -> None:
    code, out, err = run("fails")
    assert code == 1
    assert out.split() == ["started", "stopped"]
    assert err.strip() == "kpstream worker: scoring ended: disk is full"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_files_are_opened_ends_it_at_once(number: signal.Signals) -> None:
    assert run("opens files", ("opening", number)) == (-number, "opening\n", "")


def test_an_endless_start_can_be_stopped() -> None:
    code, out, _ = run("never starts", ("starting", signal.SIGTERM))
    assert (code, out.split()) == (0, ["starting", "stopped"])


def test_an_error_of_start_reaches_the_caller_after_the_stop() -> None:
    code, out, err = run("cannot start")
    assert code == 1
    assert out.split() == ["stopped"]
    assert "RuntimeError: no broker" in err


def test_a_second_signal_ends_the_process_at_once() -> None:
    code, _, _ = run("never stops", ("started", signal.SIGTERM), ("stopping", signal.SIGTERM))
    assert code == 130


async def test_of_several_failed_parts_the_first_spawned_gives_the_reason() -> None:
    async def fails(why: str) -> None:
        raise OSError(why)

    tasks = Tasks()
    tasks.spawn(asyncio.sleep(60), "runs on")
    tasks.spawn(fails("the broker is gone"), "bridge")
    tasks.spawn(fails("the bridge is gone"), "ticks")
    await asyncio.sleep(0)
    with pytest.raises(PartFailed, match="bridge ended: the broker is gone"):
        await tasks.wait()
    await tasks.cancel()


async def test_a_crashed_app_raises_its_reason() -> None:
    class App:
        crashed = False
        crash_reason: Any = ValueError("why")
        ended = asyncio.Event()

        async def wait_until_stopped(self) -> None:
            await self.ended.wait()

    app = App()
    waiting = asyncio.ensure_future(until_crashed(app))
    await asyncio.sleep(0)
    assert not waiting.done()
    app.crashed = True
    app.ended.set()
    with pytest.raises(ValueError, match="why"):
        await waiting


def test_the_age_of_a_process_counts_its_imports():
    code = (
        "import time; began = time.monotonic(); import asyncio, json; time.sleep(0.3); "
        "from deploy.processes.lifecycle import process_age_s; "
        "least = time.monotonic() - began; print(process_age_s() - least)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) >= -0.02  # /proc counts in hundredths of a second
