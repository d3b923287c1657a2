"""Steps that change the machine: each is told, and a dry run only tells it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from deploy.gateway.errors import StepFailed

__all__ = ["Steps", "sync_folder"]

_SHOWN_LINES = 15


class Steps:
    """Carries out steps, or tells them in a dry run.

    Files are replaced as a whole and are on the disk when a step returns.
    """

    def __init__(self, say: Callable[[str], None], *, dry_run: bool = False) -> None:
        """Prepare.

        Args:
            say: Shows a line to a person.
            dry_run: Change nothing, and show every step.
        """
        self.say = say
        self.dry_run = dry_run

    def run(
        self,
        command: Sequence[str],
        *,
        advice: str,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 900,
    ) -> str:
        """Run a command; returns its output.

        Args:
            command: The command and its arguments; no shell sees them.
            advice: What to do if it fails.
            env: Variables in addition to ours.
            timeout_s: Longest time.

        Raises:
            StepFailed: It cannot be started, fails, or takes too long.
        """
        shown = shlex.join(command)
        if self.dry_run:
            self.say(f"would run: {shown}")
            return ""
        try:
            done = subprocess.run(  # noqa: S603 (no shell)
                command,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except OSError as exc:
            msg = f"cannot run {shown}: {exc.strerror}; {advice}"
            raise StepFailed(msg) from exc
        except subprocess.TimeoutExpired as exc:
            msg = f"{shown} did not end within {timeout_s:.0f} s; {advice}"
            raise StepFailed(msg) from exc
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            last = "\n".join(f"    {line}" for line in said.splitlines()[-_SHOWN_LINES:])
            msg = f"{shown} failed with exit code {done.returncode}:\n{last}\n{advice}"
            raise StepFailed(msg)
        return said

    def write(
        self, path: Path, text: str, *, mode: int = 0o644, owner: tuple[int, int] = (-1, -1)
    ) -> bool:
        """Replace a file if its text or its mode differs; returns whether it did.

        Args:
            path: The file; its folder is made if missing.
            text: Its new content.
            mode: Its mode.
            owner: User and group; -1 for that of this process.
        """
        if not self.dry_run:
            with suppress(FileNotFoundError, NotADirectoryError):
                _beside(path).unlink()  # of a run that was interrupted
        with suppress(OSError, UnicodeDecodeError):
            same_mode = path.lstat().st_mode & 0o7777 == mode
            if same_mode and not path.is_symlink() and path.read_text(encoding="utf-8") == text:
                return False
        if self.dry_run:
            self.say(f"would write: {path} (mode {mode:04o})")
            return True
        self._replace(path, text, mode, owner)
        self.say(f"wrote {path}")
        return True

    def note(self, path: Path, text: str) -> None:
        """Replace a note of the installer's own, of which nobody is told."""
        if not self.dry_run:
            self._replace(path, text, 0o644, (-1, -1))

    def folder(self, path: Path, mode: int = 0o755, *, owner: tuple[int, int] = (-1, -1)) -> None:
        """Make a folder and those above it; an existing one stays as it is."""
        if path.is_dir():
            return
        if self.dry_run:
            self.say(f"would make the folder: {path} (mode {mode:04o})")
            return
        self.folder(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
        os.chown(path, *owner)
        path.chmod(mode)

    def link(self, path: Path, target: str) -> None:
        """Let a link lead to a target, by one rename."""
        if path.is_symlink() and str(path.readlink()) == target:
            return
        if self.dry_run:
            self.say(f"would link: {path} -> {target}")
            return
        beside = _beside(path)
        with suppress(FileNotFoundError):
            beside.unlink()
        beside.symlink_to(target)
        beside.replace(path)
        sync_folder(path.parent)

    def sync(self) -> None:
        """Bring everything that was written to the disk."""
        if not self.dry_run:
            os.sync()

    def remove(self, path: Path) -> None:
        """Remove a file, a link, or a folder with all that is in it."""
        if not path.exists() and not path.is_symlink():
            return
        if self.dry_run:
            self.say(f"would remove: {path}")
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        sync_folder(path.parent)

    def _replace(self, path: Path, text: str, mode: int, owner: tuple[int, int]) -> None:
        self.folder(path.parent)
        beside = _beside(path)
        with suppress(FileNotFoundError):
            beside.unlink()
        # Nobody else sees the content before it has its mode.
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    """Name under which a new content is written before it takes the place of the old one."""
    return path.with_name(f".{path.name}.new")
