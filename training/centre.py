"""A centre: what its gateways run, and the release of a published student to them.

The centre belongs to `deploy`, which `training` does not import; so its commands run as processes
of their own, with their settings (`KPSTREAM_CENTRE_*`) and their question for a passphrase.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from training.errors import TrainingError

__all__ = ["NOT_RELEASED", "Centre"]

NOT_RELEASED = 5
"""Exit code of a run whose student was published, but could not be released."""


@dataclass(frozen=True, slots=True)
class Centre:
    """The centre that knows what runs, and releases what a run publishes.

    Attributes:
        folder: Its folder.
        plan: Plan of the release (TOML); None for that of the command.
    """

    folder: Path
    plan: Path | None = None

    def running(self, stream: str) -> dict[tuple[str, int, str], int]:
        """What its gateways run on a stream: name, version and digest, with their number.

        A gateway that has not reported for long does not count.

        Raises:
            TrainingError: The centre does not answer.
        """
        words = ["centre", "--dir", str(self.folder), "gateways", "--json"]
        done = _kpstream(words)
        try:
            rows = json.loads(done.stdout) if done.returncode == 0 else None
        except ValueError:
            rows = None
        if rows is None:
            msg = (
                f"the centre {self.folder} does not tell what its gateways run: mend what it says "
                f"above; to see it again: {shlex.join(['kpstream', *words])}"
            )
            raise TrainingError(msg)
        return dict(
            Counter(
                (row["student"], row["version"], row["digest"])
                for row in rows
                if row["stream"] == stream and row["version"] is not None and not row["silent"]
            )
        )

    def release(self, console: Console, registry: Path, name: str, version: int) -> int:
        """Begin a release of a version of the registry.

        Returns:
            Exit code of the run: 0, or `NOT_RELEASED`.
        """
        words = ["centre", "--dir", str(self.folder), "release", name, str(version)]
        words += ["--registry", str(registry)]
        words += [] if self.plan is None else ["--plan", str(self.plan)]
        done = _kpstream(words)
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


def _kpstream(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of kpstream; its errors and questions go to the terminal."""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "deploy.cli", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
