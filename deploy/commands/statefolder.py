"""The state folder of a gateway or site, made or refused before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import click

from deploy.settings.stateaccess import state_access

__all__ = ["make_state_folder"]


def make_state_folder(folder: Path, *, is_private: bool = True) -> None:
    """Create the folder for its owner only, or check the existing one.

    Warns if others may read an existing folder.

    Args:
        folder: The folder.
        is_private: Whether others should stay out. False for a folder in which a private one is
            made, such as /tmp.

    Raises:
        click.ClickException: It is not a folder, cannot be created or written, or every user may
            write it.
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
            if is_private:
                _check_access(folder)
            return
        reason = "it is not writable by this user"
    message = f"state folder {folder}: {reason}; {advice}"
    raise click.ClickException(message)


def _check_access(folder: Path) -> None:
    access = state_access(folder)
    if access is None:
        return
    if access.is_refused:
        message = f"{access.text}, and so replace the log or a student; run: {access.advice}"
        raise click.ClickException(message)
    click.echo(f"warning: {access.text}; if that is not meant: {access.advice}", err=True)
