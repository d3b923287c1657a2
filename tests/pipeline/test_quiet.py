"""A quiet thread takes a bounded share of a core, and only so much waits for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import pytest

from pipeline.errors import LineFull
from pipeline.quiet import QuietThread


def test_what_is_asked_beyond_the_line_is_refused_until_there_is_room() -> None:
    quiet = QuietThread("test", waiting=2, share=1.0)
    gate = threading.Event()
    first = quiet.submit(gate.wait)
    second = quiet.submit(lambda: "second")
    with pytest.raises(LineFull, match="try again"):
        quiet.submit(lambda: "third")
    gate.set()
    assert second.result(120) == "second"
    assert first.result(120)
    quiet.close()
    with pytest.raises(LineFull):
        quiet.submit(lambda: "closed")


def test_it_rests_in_proportion_to_its_work() -> None:
    now = [0.0]

    def work() -> None:
        now[0] += 0.05

    quiet = QuietThread("test", waiting=10, share=0.25, clock=lambda: now[0])
    started = time.monotonic()
    for future in [quiet.submit(work) for _ in range(3)]:
        future.result(120)
    # Two rests of 0.15 s lie between three pieces of work; the last one is not waited for.
    assert time.monotonic() - started >= 0.3
    quiet.close()


def test_an_error_reaches_the_one_who_asked_and_nobody_else() -> None:
    quiet = QuietThread("test", waiting=5, share=1.0)
    failed = quiet.submit(lambda: 1 // 0)
    fine = quiet.submit(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        failed.result(120)
    assert fine.result(120) == 1
    quiet.close()


def test_closing_ends_the_work_in_progress_and_cancels_what_waits() -> None:
    quiet = QuietThread("test", waiting=5, share=0.001)
    begun = threading.Event()
    first = quiet.submit(begun.set)
    waits = quiet.submit(lambda: "never")
    assert begun.wait(120)
    quiet.close()
    first.result(0)
    with pytest.raises(CancelledError):
        waits.result(0)
