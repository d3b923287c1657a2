"""The folder of a run: locked and checked before the training, kept when somebody stops it."""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from models.artifact import write_durably
from training.checkpoints import has_state
from training.errors import CheckpointError, RunFolderError

__all__ = [
    "INTERRUPTED",
    "UNFINISHED",
    "default_folder",
    "open_run_folder",
    "out_of_time",
    "require_room",
    "runs_folder",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

UNFINISHED = 4
"""Exit code of a run whose time was over."""

_RECIPE = "recipe.toml"
_LOCK = ".lock"
_ROOM_BYTES = 4 << 20


def default_folder(option: str, recipe: str, digest: str) -> Path:
    """The folder of a run without --out: one per recipe and data, in any working directory."""
    name = hashlib.sha256(f"{recipe}{digest}".encode()).hexdigest()[:8]
    return runs_folder() / f"{option}-{name}"


def runs_folder() -> Path:
    """Where runs without --out have their folders."""
    return Path.home() / ".local" / "state" / "kpstream" / "runs"


@contextmanager
def open_run_folder(folder: Path, recipe: str, console: Console) -> Iterator[None]:
    """Hold the folder of a run: make it, write `recipe.toml`, and lock it against another run.

    After Ctrl-C inside, the process ends with `INTERRUPTED` and says how the run goes on.

    Raises:
        RunFolderError: It cannot be made or written, or another run works in it.
        CheckpointError: It holds the state of a run with another recipe.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as exc:
        raise _unwritable(folder, exc) from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # closing the file releases it
        except BlockingIOError as exc:
            msg = (
                f"another run works in {folder}: wait for its end, or choose another folder with "
                "--out"
            )
            raise RunFolderError(msg) from exc
        try:
            _write_recipe(folder, recipe.encode("utf-8"))
        except OSError as exc:
            raise _unwritable(folder, exc) from exc
        try:
            yield
        except KeyboardInterrupt:
            console.print(
                f"Stopped. Finished passes are kept in {folder}: the same command with "
                f"--out {folder} continues.",
                soft_wrap=True,
            )
            raise SystemExit(INTERRUPTED) from None


def out_of_time(console: Console, folder: Path, minutes: float | None) -> int:
    """Say how a run goes on whose time was over, and return its exit code."""
    console.print(
        f"Out of time ({minutes} min). The state is kept in {folder}: the same command with "
        f"--out {folder} continues.",
        soft_wrap=True,
    )
    return UNFINISHED


def require_room(folder: Path) -> None:
    """Refuse a folder, such as the registry, that could not be written after the training.

    Nothing is left behind, and a folder that does not exist is not made.

    Raises:
        RunFolderError: A file of some megabytes cannot be written there.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        _require_room(there)
    except OSError as exc:
        msg = (
            f"the registry {folder} cannot be written ({exc.strerror}), so no student could be "
            "published after the training: mend that, choose another one with --registry, or "
            "leave out --publish"
        )
        raise RunFolderError(msg) from exc


def _write_recipe(folder: Path, recipe: bytes) -> None:
    """Write the recipe unless it is there; the folder of another run stays as it is."""
    path = folder / _RECIPE
    _require_room(folder)
    if path.exists() and path.read_bytes() == recipe:
        return
    if has_state(folder):
        msg = (
            f"{folder} holds the state of a run with another recipe: choose another folder with "
            "--out, or delete this one"
        )
        raise CheckpointError(msg)
    write_durably(path, recipe)


def _require_room(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_ROOM_BYTES))
        file.flush()


def _unwritable(folder: Path, exc: OSError) -> RunFolderError:
    return RunFolderError(
        f"the run folder {folder} cannot be written ({exc.strerror}): choose another one with --out"
    )
