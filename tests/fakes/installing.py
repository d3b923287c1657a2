"""Steps without pip, steps that are cut off, and a service that is ready when a test says so."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.gateway import files
from deploy.gateway.places import Places
from deploy.gateway.service import Service
from deploy.gateway.steps import Steps

__all__ = ["Cut", "QuickSteps", "ToldService"]


class Cut(BaseException):
    """The power is gone."""


class QuickSteps(Steps):
    """Carries out steps on files; commands of Python only leave what the installer looks at.

    Attributes:
        told: What was said.
        count: Steps that changed something.
        cut_at: Number of the step before which the power goes; 0 for never.
    """

    def __init__(self, cut_at: int = 0) -> None:
        self.told: list[str] = []
        super().__init__(self.told.append)
        self.count = 0
        self.cut_at = cut_at

    def run(
        self,
        command: Sequence[str],
        *,
        advice: str,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 900,
    ) -> str:
        self._step()
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True, exist_ok=True)
            (Path(command[-1]) / "bin/pip").write_text("#!/not/here\n")
        elif "deploy.gateway.files" in command:
            files.main(command[4:])
        elif "deploy.cli" in command:  # the command itself, from here
            return super().run([sys.executable, *command[2:]], advice=advice, env=env)
        return ""

    def write(
        self, path: Path, text: str, *, mode: int = 0o644, owner: tuple[int, int] = (-1, -1)
    ) -> bool:
        is_last = self.count + 1 == self.cut_at
        if is_last and path.parent.is_dir() and not (path.exists() and path.read_text() == text):
            path.with_name(f".{path.name}.new").write_text(text[: len(text) // 2])
        self._step()
        return super().write(path, text, mode=mode, owner=owner)

    def note(self, path: Path, text: str) -> None:
        if self.count + 1 == self.cut_at and path.parent.is_dir():
            path.with_name(f".{path.name}.new").write_text(text[: len(text) // 2])
        self._step()
        super().note(path, text)

    def folder(self, path: Path, mode: int = 0o755, *, owner: tuple[int, int] = (-1, -1)) -> None:
        self._step()
        super().folder(path, mode, owner=owner)

    def link(self, path: Path, target: str) -> None:
        self._step()
        super().link(path, target)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def sync(self) -> None:
        self._step()

    def _step(self) -> None:
        self.count += 1
        if self.count == self.cut_at:
            raise Cut


class ToldService(Service):
    """Ready is which version `current` leads to, if a test names it as healthy.

    Attributes:
        healthy: Versions that become ready.
        calls: Every call of systemctl.
    """

    def __init__(self, places: Places, steps: Steps, healthy: set[str]) -> None:
        clock = itertools.count()
        super().__init__(
            places, steps, hold_s=2, now_s=lambda: float(next(clock)), sleep=lambda _: None
        )
        self.is_managed = True
        self.places = places
        self.healthy = healthy
        self.calls: list[str] = []

    def problem(self) -> str | None:
        version = self.places.current.readlink().name
        return None if version in self.healthy else f"{version} is sick"

    def _call(self, *arguments: str) -> None:
        self.calls.append(" ".join(arguments))
