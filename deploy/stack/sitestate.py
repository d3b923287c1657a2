"""What a running site tells about itself: a small file, and a lock that says whether it is true.

The supervisor holds the lock for as long as it lives; a file beside a free lock is history. Pids
are told together with the start time of their process, so that a number that the system has given
to somebody else is never taken for ours.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

__all__ = [
    "Row",
    "SiteRuns",
    "SiteState",
    "State",
    "born",
    "hold_lock",
    "is_running",
    "left_over",
    "read_state",
    "write_state",
]

State = Literal[
    "waiting", "starting", "ready", "not ready", "silent", "restarting", "done", "stopping", "ended"
]
"""Of one part:

- waiting: for those before it.
- starting: runs, and has not been ready yet.
- ready: does its job; for a step of the set-up: done.
- not ready: answers that it does not do its job now, and why.
- silent: runs and does not answer.
- restarting: ended by itself, and waits a little before the next try.
- stopping, ended: on our way down.
"""

_FILE = "site.json"
_LOCK = "site.lock"


class SiteRuns(Exception):
    """Another supervisor runs on this folder."""


@dataclass(frozen=True, slots=True)
class Row:
    """One part of the site.

    Attributes:
        name: `kafka`, `worker-2`, ...
        kind: a server, a process of ours, or a step of the set-up.
        state: see `State`.
        pid: of its process; None while there is none.
        born: start time of that process, see `born`.
        restarts: how often it was started again since the site is up.
        since_ms: since when it is in this state, epoch milliseconds.
        port: where it listens; 0: nowhere.
        words: why it is not ready, or how it ended last.
        log: file of what it prints; empty for a step.
    """

    name: str
    kind: Literal["server", "process", "step"]
    state: State
    pid: int | None
    born: int | None
    restarts: int
    since_ms: int
    port: int
    words: str
    log: str


@dataclass(frozen=True, slots=True)
class SiteState:
    """The whole site at a moment.

    Attributes:
        pid: of the supervisor.
        born: start time of its process.
        started_ms: when the site was started, epoch milliseconds.
        written_ms: when this was written.
        rows: its parts, in the order in which they start.
    """

    pid: int
    born: int | None
    started_ms: int
    written_ms: int
    rows: tuple[Row, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether every part does its job."""
        return bool(self.rows) and all(row.state in {"ready", "done"} for row in self.rows)


def write_state(folder: Path, state: SiteState) -> None:
    """Write it whole: who reads sees the one before or this one."""
    new = folder / f"{_FILE}.new"
    new.write_text(json.dumps(asdict(state), indent=1))
    new.replace(folder / _FILE)


def read_state(folder: Path) -> SiteState | None:
    """What was written last; None when nothing was, or it is of another version."""
    try:
        page = json.loads((folder / _FILE).read_text())
        rows = tuple(Row(**row) for row in page.pop("rows"))
        return SiteState(rows=rows, **page)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Be the supervisor of the folder.

    Raises:
        SiteRuns: Another one is.
    """
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            state = read_state(folder)
            pid = f" (pid {state.pid})" if state else ""
            msg = f"a site runs on {folder} already{pid}; see `kpstream site status`"
            raise SiteRuns(msg) from exc
        yield


def is_running(folder: Path) -> bool:
    """Whether a supervisor runs on the folder now."""
    if not (folder / _LOCK).exists():
        return False
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def born(pid: int) -> int | None:
    """When a process was started, in ticks since the boot; None: there is no such process.

    A dead one that its parent has not looked after yet counts as gone.
    """
    with suppress(OSError, ValueError, IndexError):
        # The name in parentheses may hold anything; what follows it is fixed.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return None


def left_over(rows: Sequence[Row]) -> list[Row]:
    """Those whose very process still runs."""
    return [row for row in rows if row.pid and row.born and born(row.pid) == row.born]


def _lock_file(folder: Path) -> IO[str]:
    # Inherited by nobody: Python opens files so that children do not get them.
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    return os.fdopen(descriptor, "r+")
