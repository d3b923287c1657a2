"""Errors on the way from a data set to a published student.

```
TrainingError
├── DataSetError        a data set does not match its name, or cannot be split as asked
├── RecipeError         a recipe (flat TOML) has an unknown key, a wrong type or an invalid value
├── AnchorCacheError    cached anchors are missing, damaged, or belong to other prompts
├── TeacherError        weights of a teacher, or its products, are missing or not those asked for
├── CheckpointError     the folder belongs to another run, or its state cannot be read
├── RunFolderError      the folder of the run cannot be made or written
├── LeakageError        the running student has seen the held-out groups: no fair comparison exists
├── LedgerError         a plan or the results file of the experiment ledger cannot be used
├── NamingError         an activity cannot be added by its description
│   └── Hopeless        it is too like a known one, or descriptions tell nothing
├── ExportError         the ONNX graph disagrees with the trained student: no artifact is written
└── MissingExtraError   torch (or matplotlib, transformers) is not installed
```

Each of them ends `train-redistill` with exit code 2 and its message; nothing is published.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from ingest.extras import install_command
from ingest.recordings import RecordingError
from models.errors import ModelError

__all__ = [
    "AnchorCacheError",
    "CheckpointError",
    "DataSetError",
    "ExportError",
    "Hopeless",
    "LeakageError",
    "LedgerError",
    "MissingExtraError",
    "NamingError",
    "RecipeError",
    "RunFolderError",
    "TeacherError",
    "TrainingError",
    "exit_on_errors",
    "reading_data",
]


class TrainingError(Exception):
    """Root of all errors that `training` raises on purpose."""


class DataSetError(TrainingError):
    """The data are unreadable, do not match their name, or have too few groups to split."""


class RecipeError(TrainingError):
    """A recipe is invalid; the message names the key, its value and the expected values."""


class AnchorCacheError(TrainingError):
    """Cached anchors are missing or wrong; the message says how to compute them again."""


class TeacherError(TrainingError):
    """The weights of a teacher or its cached products cannot be used; the message says why."""


class CheckpointError(TrainingError):
    """A run cannot continue from its folder: choose another folder or delete it."""


class RunFolderError(TrainingError):
    """The folder of a run cannot be made or written: choose another one."""


class LeakageError(TrainingError):
    """A comparison would be unfair: one student was trained on the groups that judge it."""


class LedgerError(TrainingError):
    """A plan has an unknown name, or a line of the results file is damaged."""


class ExportError(TrainingError):
    """The exported graph does not reproduce the student, or exceeds a limit of artifacts."""


class NamingError(TrainingError):
    """An activity cannot be named from its description; the message says why and what to do."""


class Hopeless(NamingError):
    """An activity is too like a known one, or descriptions tell nothing on these data."""


class MissingExtraError(TrainingError):
    """The `[training]` extra, or a package outside of it (`install` is its command), is missing."""

    def __init__(self, module: str, install: str = "") -> None:
        super().__init__(
            f"training needs the module {module!r}, which is not installed: run "
            f"{install or install_command('training')}"
        )


@contextmanager
def exit_on_errors(command: str) -> Iterator[None]:
    """End a command with one line about what is wrong and the status 2, instead of a traceback.

    It decorates the function of the command.

    Args:
        command: The command, as the user typed it.
    """
    try:
        yield
    except (TrainingError, ModelError) as exc:
        _end(command, str(exc))
    except OSError as exc:
        _end(command, f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))


def _end(command: str, text: str) -> NoReturn:
    print(f"{command}: {text}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def reading_data() -> Iterator[None]:
    """Raise what the readers of `ingest.recordings` refuse as a `DataSetError`.

    It decorates the function that reads a data set.
    """
    try:
        yield
    except RecordingError as exc:
        raise DataSetError(str(exc)) from exc
