"""From a published student to a release at a centre: the command `kpstream centre release`.

The centre belongs to `deploy`, which `training` does not import; so its command runs as a process
of its own, with its settings (`KPSTREAM_CENTRE_*`) and its question for a passphrase.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

__all__ = ["NOT_RELEASED", "Centre"]

NOT_RELEASED = 5
"""Exit code of a run whose student was published, but could not be released."""


@dataclass(frozen=True, slots=True)
class Centre:
    """The centre that releases what a run publishes.

    Attributes:
        folder: Its folder.
        plan: Plan of the release (TOML); None for that of the command.
    """

    folder: Path
    plan: Path | None = None

    def release(self, console: Console, registry: Path, name: str, version: int) -> int:
        """Begin a release of a version of the registry.

        Returns:
            Exit code of the run: 0, or `NOT_RELEASED`.
        """
        words = ["centre", "--dir", str(self.folder), "release", name, str(version)]
        words += ["--registry", str(registry)]
        words += [] if self.plan is None else ["--plan", str(self.plan)]
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "deploy.cli", *words],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            console.print(done.stdout.strip(), soft_wrap=True, markup=False)
            return 0
        console.print(
            f"Published, but not released: mend what the centre says above, then run: "
            f"{shlex.join(['kpstream', *words])}",
            soft_wrap=True,
            markup=False,
        )
        return NOT_RELEASED
