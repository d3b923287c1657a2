"""Where the passphrase of the keys comes from: a file, or a command such as a secret store.

It is never an argument or an environment variable, because other processes can read those. What was
read is remembered as a secret, so that no message or traceback shows it.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from deploy.rollout.errors import KeyRefused
from deploy.rollout.keys import read_own_file
from ingest.secrettext import error_text, remember_secret

__all__ = ["passphrase_from_command", "passphrase_from_file"]

_COMMAND_SECONDS = 120
"""A secret store may ask a person."""
_MOST_BYTES = 10_000


def passphrase_from_file(path: Path) -> bytes:
    """Read the first line of a file that only its owner may read.

    Raises:
        KeyRefused: The file cannot be read, is readable by others, or is empty.
    """
    return _first_line(read_own_file(path), str(path))


def passphrase_from_command(command: str) -> bytes:
    """Run a command without a shell, and take the first line of its output.

    Its error output goes to the terminal, because it may ask for something there.

    Raises:
        KeyRefused: The command cannot run, fails, or prints nothing.
    """
    try:
        words = shlex.split(command)
    except ValueError as exc:
        msg = f"the passphrase command is invalid: {error_text(exc)}"
        raise KeyRefused(msg) from exc
    name = words[0] if words else "an empty command"
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            words, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as exc:
        why = "it took too long" if isinstance(exc, subprocess.TimeoutExpired) else error_text(exc)
        msg = f"the passphrase command ({name}) did not run: {why}"
        raise KeyRefused(msg) from None
    if done.returncode:
        msg = f"the passphrase command ({name}) failed with exit code {done.returncode}"
        raise KeyRefused(msg)
    return _first_line(done.stdout[:_MOST_BYTES], f"the passphrase command ({name})")


def _first_line(data: bytes, source: str) -> bytes:
    line = data.partition(b"\n")[0].rstrip(b"\r")
    if not line:
        msg = f"{source} gives no passphrase: its first line is empty"
        raise KeyRefused(msg)
    remember_secret(line.decode("utf-8", "surrogateescape"))
    return line
