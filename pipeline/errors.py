"""What can go wrong in the pipeline.

```
PipelineError
├── LogError                the local log cannot do what was asked
│   ├── LogLocked           another process holds the file
│   ├── LogCorrupt          a checksum, a page or the layout is wrong
│   ├── LogFull             the disk cap is reached: wait, then append again
│   ├── LogFailed           a write failed and what is on the disk is unknown: restart
│   ├── LogClosed           the log was closed
│   └── LogHole             a reader was not given every record: restart, and it reads again
├── SnapshotError           a state snapshot does not fit the window spec
├── PointError              a score record or a point that no store could keep as it is
├── SinkError               points cannot be stored
│   ├── SinkUnavailable     the store is away, overloaded or full: retry later
│   │   ├── SinkSlow            it took the request and did not answer in time, or could not
│   │   └── SinkMisconfigured   it answers, but refuses us: token, organisation or bucket is wrong
│   ├── ResultsGone         somebody deleted or replaced the results file while it was open: restart
│   └── ResultsCorrupted    the local results file is damaged or not ours: a person must act
└── ConsoleError            the console page cannot be served
```

Bad input is never one of these: it is a dead letter.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ConsoleError",
    "LogClosed",
    "LogCorrupt",
    "LogError",
    "LogFailed",
    "LogFull",
    "LogHole",
    "LogLocked",
    "PipelineError",
    "PointError",
    "ResultsCorrupted",
    "ResultsGone",
    "SinkError",
    "SinkMisconfigured",
    "SinkSlow",
    "SinkUnavailable",
    "SnapshotError",
]


class PipelineError(Exception):
    """Root of everything that the pipeline raises on purpose."""


class LogError(PipelineError):
    """The local log cannot do what was asked."""


class LogLocked(LogError):
    """Another process (or another object in this one) holds the log file."""


class LogCorrupt(LogError):
    """The log file is damaged; the message names the place and the way out."""


class LogFull(LogError):
    """The log refuses to grow: retention may free room later, so retry with back-off."""


class LogFailed(LogError):
    """A write failed in a way that leaves the disk's state unknown; reopen the log."""


class LogClosed(LogError):
    """The log was closed before or while this was asked."""


class LogHole(LogError):
    """A record was due and the one behind it came: nothing was acked past it; restart."""


class SnapshotError(PipelineError):
    """A state snapshot is damaged or belongs to another window spec."""


class PointError(PipelineError):
    """A score record or a point cannot be stored as it is; the message names the field."""


class SinkError(PipelineError):
    """Points cannot be stored."""


class SinkUnavailable(SinkError):
    """The results store cannot be reached, is overloaded or full: retry later.

    `retry_after_ms` is what the store asked for, None when it named no time.
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class SinkSlow(SinkUnavailable):
    """The store took a request and did not answer in time, or failed over it: ask for less."""


class SinkMisconfigured(SinkUnavailable):
    """The store answers and refuses us (token, organisation, bucket): retried slowly.

    Nothing is lost meanwhile: the scores wait in the log until the setting is corrected.
    """


class ResultsCorrupted(SinkError):
    """The local results file is damaged, of another format, or no results file at all."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(
            f"results file {path} cannot be used: {detail}. Stop the gateway, move the file and "
            f"its -wal and -shm away (mv {path} {path}.broken), start again: scores that are still "
            f"in the log are kept, new ones go to a fresh file. To save what is readable: "
            f"sqlite3 {path}.broken .recover"
        )
        self.path = path
        self.detail = detail


class ResultsGone(SinkError):
    """The results file was deleted or replaced while it was open: what is written there is lost."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(
            f"results file {path} was {detail} while the gateway had it open. Put it back if you "
            "still have it, then restart the gateway (systemd does that by itself): scores that "
            "were not confirmed are still in the log and are stored then; points stored before "
            "went with the file"
        )
        self.path = path
        self.detail = detail


class ConsoleError(PipelineError):
    """The console page cannot be served; the message says why and what to change."""
