"""Errors of the pipeline.

```
PipelineError
├── LogError                the local log is unusable
│   ├── LogLocked           another process holds the file
│   ├── LogCorrupt          a checksum, a page or the layout is wrong
│   ├── LogLost             confirmed records are gone: a file is missing, older or another one
│   ├── LogFull             the disk cap is reached: wait, then append again
│   ├── LogFailed           a write failed and the state of the disk is unknown: restart
│   ├── LogClosed           the log was closed
│   └── LogHole             a record was skipped on its way to a reader: a restart reads it
├── SnapshotError           a state snapshot does not fit the window spec
├── PointError              a score record or a point that no store could keep unchanged
├── SinkError               points cannot be stored
│   ├── SinkUnavailable     the store is unreachable, overloaded or full: retry later
│   │   ├── SinkSlow            it took a request, but failed over it or did not answer in time
│   │   └── SinkMisconfigured   it answers, but the token, organisation or bucket is wrong
│   ├── ResultsGone         the results file was deleted or replaced while open: restart
│   └── ResultsCorrupted    the results file is damaged, or no results file: replace it
├── ExplainError            a score cannot be explained
│   ├── NoScore             there is no such device, or no score of it at that time
│   ├── ReadingsGone        the log no longer holds the readings of the window
│   └── NoStudent           no student can explain it
├── RecorderError          readings cannot be recorded
│   ├── RecordingUnavailable    a file cannot be written, or the log cannot be read: retry later
│   └── RecordingUnusable       the folder of recordings is damaged, or in use by another process
├── LineFull                too much is asked of a thread at low priority: ask again later
└── ConsoleError            the console page cannot be served
```

Bad input is never one of these: it is a dead letter.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ConsoleError",
    "ExamplesError",
    "ExplainError",
    "LineFull",
    "LogClosed",
    "LogCorrupt",
    "LogError",
    "LogFailed",
    "LogFull",
    "LogHole",
    "LogLocked",
    "LogLost",
    "MountingError",
    "NoScore",
    "NoStudent",
    "NotesError",
    "PipelineError",
    "PointError",
    "ReadingsGone",
    "RecorderError",
    "RecordingUnavailable",
    "RecordingUnusable",
    "ResultsCorrupted",
    "ResultsGone",
    "SinkError",
    "SinkMisconfigured",
    "SinkSlow",
    "SinkUnavailable",
    "SnapshotError",
]


class PipelineError(Exception):
    """Root of all errors of the pipeline."""


class LogError(PipelineError):
    """The local log is unusable."""


class LogLocked(LogError):
    """Another process (or another object in this one) holds the log file."""


class LogCorrupt(LogError):
    """The log file is damaged; the message names the place and the remedy."""


class LogLost(LogError):
    """The log ends before confirmed records, or its files were taken away while it was open.

    The message names the file, what is known to be lost, and the two ways on.
    """


class LogFull(LogError):
    """The log refuses to grow; retry with back-off, because retention may free room later."""


class LogFailed(LogError):
    """A write failed and the state of the disk is unknown; reopen the log."""


class LogClosed(LogError):
    """The log was closed before or during the call."""


class LogHole(LogError):
    """A reader skipped a record; nothing was acked past the missing one, so restart."""


class SnapshotError(PipelineError):
    """A state snapshot is damaged or belongs to another window spec."""


class PointError(PipelineError):
    """A score record or a point cannot be stored unchanged; the message names the field."""


class SinkError(PipelineError):
    """Points cannot be stored."""


class SinkUnavailable(SinkError):
    """The results store is unreachable, overloaded or full: retry later.

    `retry_after_ms` is the pause that the store asked for; None when it named none.
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class SinkSlow(SinkUnavailable):
    """The store took a request, but failed over it or did not answer in time: send less."""


class SinkMisconfigured(SinkUnavailable):
    """The store refuses the token, organisation or bucket; retried slowly.

    Nothing is lost, because the scores wait in the log until the setting is corrected.
    """


class ResultsCorrupted(SinkError):
    """The results file is damaged, has another format, or is no results file."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(
            f"results file {path} cannot be used: {detail}. Stop the gateway, move the file and "
            f"its -wal and -shm away (mv {path} {path}.broken), then start again: scores in the "
            f"log are kept, new ones go to a new file. To save what is readable: "
            f"sqlite3 {path}.broken .recover"
        )
        self.path = path
        self.detail = detail


class ResultsGone(SinkError):
    """The results file was deleted or replaced while it was open; later writes are lost."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(
            f"results file {path} was {detail} while the gateway had it open. Put it back if you "
            "still have it, then restart the gateway (systemd does so automatically). Scores that "
            "were not confirmed are still in the log and are stored then; points stored before are "
            "lost with the file"
        )
        self.path = path
        self.detail = detail


class ExplainError(PipelineError):
    """A score cannot be explained; the message says why."""


class NoScore(ExplainError):
    """There is no such device, or no score of it at that time; the message names what there is."""


class ReadingsGone(ExplainError):
    """The log no longer holds all readings of the window."""


class NoStudent(ExplainError):
    """The registry has no student that reads the window."""


class RecorderError(PipelineError):
    """Readings cannot be recorded."""


class RecordingUnavailable(RecorderError):
    """A file cannot be written, or the log cannot be read: try again later; nothing is lost."""


class RecordingUnusable(RecorderError):
    """The folder of recordings is damaged or in use; the message says what to do."""


class LineFull(PipelineError):
    """A `QuietThread` takes a bounded share of the machine, and more was asked of it: try later."""


class ConsoleError(PipelineError):
    """The console page cannot be served; the message says why and what to change."""


class ExamplesError(PipelineError):
    """The examples of activities cannot be read or kept; the message says what to do."""


class MountingError(PipelineError):
    """How a device is mounted cannot be measured, read or kept; the message says what to do."""


class NotesError(PipelineError):
    """The notes on devices cannot be read or changed; the message says what to do."""
