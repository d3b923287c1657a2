"""The checkout that a bundle is made from: its files as git knows them, its revision, its time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from deploy.bundle.errors import CheckoutInvalid
from ingest.secrettext import error_text

__all__ = ["Checkout"]


class Checkout:
    """A clone of the repository of kpstream."""

    def __init__(self, folder: Path) -> None:
        """Open a checkout.

        Raises:
            CheckoutInvalid: It is no clone with git, or not one of kpstream.
        """
        self.folder = folder.resolve()
        if not (self.folder / "requirements-gateway.txt").is_file():
            msg = f"{self.folder} has no requirements-gateway.txt: name a clone of kpstream"
            raise CheckoutInvalid(msg)
        changed = bool(self._git("status", "--porcelain").strip())
        self.revision = self._git("rev-parse", "HEAD").strip() + ("+changes" if changed else "")
        self.time_s = int(self._git("log", "-1", "--format=%ct").strip())

    def copy_to(self, folder: Path) -> Path:
        """Copy the files that git knows: a build takes nothing that an earlier one left behind.

        Returns:
            The folder.
        """
        for name in filter(None, self._git("ls-files", "-z").split("\0")):
            source, target = self.folder / name, folder / name
            if not source.is_file():  # deleted, and not committed yet
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o644)
        return folder

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 (fixed commands)
                ["git", "-C", str(self.folder), *arguments],  # noqa: S607
                capture_output=True,
                text=True,
                check=True,
            )
        except subprocess.CalledProcessError as exc:
            msg = f"git does not read {self.folder}: {exc.stderr.strip()}"
            raise CheckoutInvalid(msg) from exc
        except OSError as exc:
            msg = f"git does not start ({error_text(exc)}): install git"
            raise CheckoutInvalid(msg) from exc
        return done.stdout
