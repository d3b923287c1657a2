"""A limit of time for what must not hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("KPSTREAM_FUZZ_TIMES", "1"))
"""How many times as many examples as usual: for a long look by hand."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are that need no disk under them: a sync costs nothing there."""


def examples(number: int) -> settings:
    """So many examples, however long one takes on a busy machine."""
    return settings(
        max_examples=TIMES * number, deadline=None, suppress_health_check=list(HealthCheck)
    )


class Hangs(BaseException):
    """It took too long; no `except Exception` swallows it."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise `Hangs` where the main thread is after so many seconds."""

    def stop(_number: int, frame: FrameType | None) -> None:
        place = "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        raise Hangs(f"more than {seconds} s, now at {place}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
