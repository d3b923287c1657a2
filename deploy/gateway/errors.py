"""Errors of installing; each message says what to do next.

```
InstallError
├── SourceInvalid     the bundle, checkout or wheel is damaged, incomplete, or for another machine
├── FailedBefore      the version did not become ready in an earlier run
├── StepFailed        a command or a file operation of a step failed
└── FellBack          the new version did not become ready, and the former one runs again
```
"""

from __future__ import annotations

__all__ = ["FailedBefore", "FellBack", "InstallError", "SourceInvalid", "StepFailed"]


class InstallError(Exception):
    """An installation cannot go on; the message says why and what to do.

    Attributes:
        exit_code: Exit code of the installer.
    """

    exit_code = 1


class SourceInvalid(InstallError):
    """The bundle, checkout or wheel cannot be installed on this machine."""


class FailedBefore(InstallError):
    """The version did not become ready here in an earlier run."""


class StepFailed(InstallError):
    """A command or a file operation failed."""


class FellBack(InstallError):
    """The new version did not become ready, and the former one runs again."""

    exit_code = 3
