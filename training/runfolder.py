"""The folder of a run: opened before the training, kept when somebody stops it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from training.errors import RunFolderError

__all__ = ["INTERRUPTED", "open_run_folder", "tell_how_to_continue"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def open_run_folder(folder: Path, recipe: str) -> None:
    """Make the folder with its parents, and write `recipe.toml` into it.

    Raises:
        RunFolderError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    except OSError as exc:
        msg = (
            f"the run folder {folder} cannot be written ({exc.strerror}): choose another one "
            "with --out"
        )
        raise RunFolderError(msg) from exc


@contextmanager
def tell_how_to_continue(console: Console, folder: Path) -> Iterator[None]:
    """End the process with `INTERRUPTED` after Ctrl-C inside, and say how the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(
            f"Stopped. Finished passes are kept in {folder}: the same command with "
            f"--out {folder} continues.",
            soft_wrap=True,
        )
        raise SystemExit(INTERRUPTED) from None
