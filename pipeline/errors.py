"""What can go wrong in the pipeline.

```
PipelineError
├── LogError                the local log cannot do what was asked
│   ├── LogLocked           another process holds the file
│   ├── LogCorrupt          a checksum, a page or the layout is wrong
│   ├── LogFull             the disk cap is reached: wait, then append again
│   ├── LogFailed           a write failed and what is on the disk is unknown: restart
│   └── LogClosed           the log was closed
├── SnapshotError           a state snapshot does not fit the window spec
└── SinkUnavailable         the results store is away: retry later
```

Bad input is never one of these: it is a dead letter.
"""

from __future__ import annotations

__all__ = [
    "LogClosed",
    "LogCorrupt",
    "LogError",
    "LogFailed",
    "LogFull",
    "LogLocked",
    "PipelineError",
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


class SnapshotError(PipelineError):
    """A state snapshot is damaged or belongs to another window spec."""


class SinkUnavailable(PipelineError):
    """The results store cannot be reached or is overloaded: retry later."""
