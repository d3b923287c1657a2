"""A signal ends what a command waits for; the second one ends the process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from ingest.stopping import EXIT_CODE, stop_on_signals, until_stopped

_WAITS = """
import asyncio, signal, sys
from ingest.stopping import stop_on_signals, until_stopped

async def main():
    stop = stop_on_signals()
    print("ready", flush=True)
    done = await until_stopped(asyncio.Event().wait(), stop)
    print("stopped" if not done else "done", flush=True)
    if "stubborn" in sys.argv:
        await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a command in the background
asyncio.run(main())
"""


async def test_work_that_is_done_is_not_stopped() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    async def fail() -> None:
        raise ValueError("of the work")

    assert await until_stopped(work(), asyncio.Event())
    with pytest.raises(ValueError, match="of the work"):
        await until_stopped(fail(), asyncio.Event())


async def test_work_is_cancelled_and_has_ended_before_the_caller_goes_on() -> None:
    stop, steps = asyncio.Event(), []

    async def work() -> None:
        try:
            stop.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    assert not await until_stopped(work(), stop)
    assert steps == ["cleaned up"]


def _started(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_in_the_background_too(number: int) -> None:
    process = _started()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("stopped\n", 0)


def test_the_second_signal_ends_the_process_at_once() -> None:
    process = _started("stubborn")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopped\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == EXIT_CODE
    process.stdout.close()


def test_a_thread_gets_an_event_without_signals() -> None:
    found: list[bool] = []

    async def main() -> None:
        found.append(stop_on_signals().is_set())

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(30)
    assert found == [False]
