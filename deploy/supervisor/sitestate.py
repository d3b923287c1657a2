"""The state of a running site: a small file, and a lock that shows whether the file is current.

The supervisor holds the lock as long as it runs; with the lock free, the file describes a site that
has ended. Each pid is stored with the start time of its process, because the system reuses pids.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from ingest.statefile import StateFileUnusable, open_regular, read_object, replace_file

__all__ = [
    "Row",
    "SiteRuns",
    "SiteState",
    "State",
    "hold_lock",
    "is_running",
    "left_over",
    "one_line",
    "process_start_time",
    "read_state",
    "write_state",
]

State = Literal[
    "waiting", "starting", "ready", "not ready", "silent", "restarting", "done", "stopping", "ended"
]
"""State of one part of the site:

- waiting: Parts with a lower rank are not ready yet.
- starting: The part runs and has not been ready yet.
- ready: It can do its work.
- done: A step of the set-up has succeeded.
- not ready: It answers, and reports why it is not ready.
- silent: It runs and does not answer.
- restarting: It ended by itself; the next start follows after a pause.
- stopping, ended: The site is going down, or the watchdog is stopping the part.
"""

_FILE = "site.json"
_LOCK = "site.lock"

# Attribute -> key in site.json and in `kpstream site status --json`, which users rely on.
_JSON_KEYS = {"process_start_time": "born", "detail": "words"}


class SiteRuns(Exception):
    """Another supervisor runs on this folder."""


@dataclass(frozen=True, slots=True)
class Row:
    """One part of the site.

    Attributes:
        name: `kafka`, `worker-2`, ...
        kind: A server, one of our own processes, or a step of the set-up.
        state: See `State`.
        pid: Process id; None while there is no process.
        process_start_time: Start time of that process, see `process_start_time`; `born` in JSON.
        restarts: Restarts since the site was started.
        since_ms: Start of the current state, epoch milliseconds.
        port: Port that it listens on; 0 for none.
        detail: Reason why it is not ready, or its last exit; `words` in JSON.
        log: File with its output; empty for a step.
    """

    name: str
    kind: Literal["server", "process", "step"]
    state: State
    pid: int | None
    process_start_time: int | None
    restarts: int
    since_ms: int
    port: int
    detail: str
    log: str

    @classmethod
    def from_json(cls, page: dict[str, Any]) -> Row:
        """Build a row from the keys of `site.json`."""
        return cls(**_with_attributes(page))


@dataclass(frozen=True, slots=True)
class SiteState:
    """The whole site at one moment.

    Attributes:
        pid: Process id of the supervisor.
        process_start_time: Start time of the supervisor's process; `born` in JSON.
        started_ms: Start of the site, epoch milliseconds.
        written_ms: Time of this state, epoch milliseconds.
        rows: The parts, in the order in which they start.
    """

    pid: int
    process_start_time: int | None
    started_ms: int
    written_ms: int
    rows: tuple[Row, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether every part is ready or done."""
        return bool(self.rows) and all(row.state in {"ready", "done"} for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return the state with the keys of `site.json`."""
        page = _with_json_keys(asdict(self))
        return page | {"rows": [_with_json_keys(row) for row in page["rows"]]}


def write_state(folder: Path, state: SiteState) -> None:
    """Replace the state file; a reader sees either the previous state or this one."""
    replace_file(folder / _FILE, json.dumps(state.as_json(), indent=1).encode())


def read_state(folder: Path) -> SiteState | None:
    """Read the state file; None if there is none, it is damaged, or another version wrote it."""
    try:
        page = read_object(folder / _FILE) or {}
        rows = tuple(Row.from_json(row) for row in page.pop("rows"))
        return SiteState(rows=rows, **_with_attributes(page))
    except (StateFileUnusable, TypeError, KeyError, AttributeError):
        return None


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, as its only supervisor.

    Raises:
        SiteRuns: Another supervisor holds it.
    """
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            state = read_state(folder)
            pid = f" (pid {state.pid})" if state else ""
            msg = f"a site already runs on {folder}{pid}; see `kpstream site status`"
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


def process_start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if there is no process.

    A zombie, which its parent has not waited for yet, counts as gone.
    """
    with suppress(OSError, ValueError, IndexError):
        # The name in parentheses may contain anything; the fields after it are fixed.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return None


def left_over(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose process, and not another one with the same pid, still runs."""
    return [
        row
        for row in rows
        if row.pid
        and row.process_start_time
        and process_start_time(row.pid) == row.process_start_time
    ]


def one_line(text: str) -> str:
    """Shorten a text to one line of at most 300 characters, for `Row.detail`."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."


def _with_json_keys(page: dict[str, Any]) -> dict[str, Any]:
    return {_JSON_KEYS.get(name, name): value for name, value in page.items()}


def _with_attributes(page: dict[str, Any]) -> dict[str, Any]:
    names = {key: name for name, key in _JSON_KEYS.items()}
    return {names.get(key, key): value for key, value in page.items()}


def _lock_file(folder: Path) -> IO[str]:
    # Python opens files as not inheritable, so no child process keeps the lock.
    return os.fdopen(open_regular(folder / _LOCK, os.O_RDWR | os.O_CREAT), "r+")
