"""Time limits for code that must not hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("KPSTREAM_FUZZ_TIMES", "1"))
"""Factor on the number of examples, for long manual runs."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Folder for files that need no disk, where a sync costs nothing."""


def examples(number: int) -> settings:
    """Return settings with this number of examples and no limit on the time of one."""
    return settings(
        max_examples=TIMES * number, deadline=None, suppress_health_check=list(HealthCheck)
    )


class Hangs(BaseException):
    """The time limit has passed; a BaseException, so that no `except Exception` hides it."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise `Hangs` in the main thread after so many seconds."""

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
