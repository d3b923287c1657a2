"""Errors of the centre.

    CentreError
    |-- CentreMissing      the folder holds no centre, or only a part of one
    |-- CentreBusy         another command holds the lock
    |-- ClockRefused       this machine's clock is before the newest signed index
    |-- KeyRefused         a key is missing, readable by others, or does not open
    |-- RepositoryDamaged  a file of the repository is missing, or its signature does not verify
    `-- ReleaseRefused     a release, an artifact or a policy is not possible

Each message says what to do next.
"""

from __future__ import annotations

from pydantic import ValidationError

__all__ = [
    "CentreBusy",
    "CentreError",
    "CentreMissing",
    "ClockRefused",
    "KeyRefused",
    "ReleaseRefused",
    "RepositoryDamaged",
    "first_fault",
]


def first_fault(exc: ValidationError, whole: str = "") -> str:
    """The place and the text of the first fault of a document, without what it holds.

    Args:
        exc: The faults.
        whole: Name of the place of a fault that concerns the whole document.
    """
    first = exc.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


class CentreError(Exception):
    """Root of the errors of the centre."""


class CentreMissing(CentreError):
    """The folder holds no centre, or one whose setup was interrupted."""


class CentreBusy(CentreError):
    """Another command has held the lock of the centre for too long."""


class ClockRefused(CentreError):
    """The clock of this machine is before the newest signed index."""


class KeyRefused(CentreError):
    """A key or its passphrase is missing, or the key file is not safe to use."""


class RepositoryDamaged(CentreError):
    """A file of the repository is missing, damaged, or not signed as it must be."""


class ReleaseRefused(CentreError):
    """A release, an artifact or a policy does not fit what the centre has."""
