"""The state folder of a gateway or site, made or refused before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["make_state_folder"]


def make_state_folder(folder: Path) -> None:
    """Create the folder for its owner only, or check that the existing one is writable.

    Raises:
        click.ClickException: It is not a folder, or cannot be created or written.
    """
    advice = (
        "give it to this user, or choose another folder with --state-dir or "
        "KPSTREAM_GATEWAY_STATE_DIR"
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        reason = "it is a file, not a folder"
    except OSError as exc:
        reason = f"it cannot be created: {exc.strerror}: {exc.filename}"
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "it is not writable by this user"
    message = f"state folder {folder}: {reason}; {advice}"
    raise click.ClickException(message)
