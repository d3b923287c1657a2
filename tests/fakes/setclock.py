"""A machine's clock that a test sets, for one child process; see `setclock.c`."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


class SetClock:
    """The clock of a child process that is started with `env`; it starts with the right time."""

    def __init__(self, folder: Path, compiler: str) -> None:
        library, file = folder / "setclock.so", folder / "clock"
        command: list[str | Path] = [
            compiler,
            "-shared",
            "-fPIC",
            "-O2",
            "-o",
            library,
            SOURCE,
            "-ldl",
        ]
        subprocess.run(command, check=True, timeout=120)
        file.write_bytes(bytes(8))
        self.env = {"LD_PRELOAD": str(library), "SETCLOCK_FILE": str(file)}
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 8)

    def set(self, ahead_s: float) -> None:
        """Set the clock that many seconds ahead of the right time; negative: behind it."""
        self._page[:8] = struct.pack("=q", round(ahead_s * 1000))
