"""Finished runs in a file, one JSON line each, so that an interrupted benchmark continues."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Journal", "Run", "newest_runs"]


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run.

    Attributes:
        case: What was measured, such as "day" or "flood w1".
        candidate: Who was measured: "now", "baseline" or a peer.
        round: Number of the round; runs of one round are neighbours in time.
        figures: What was found; `holds` says whether every score was right.
    """

    case: str
    candidate: str
    round: int
    figures: dict[str, Any]

    @property
    def holds(self) -> bool:
        return bool(self.figures.get("holds"))


class Journal:
    """The runs of one benchmark in a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def runs(self) -> list[Run]:
        """All finished runs, in their order."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # a line that an interrupted call began
                found.append(Run(**json.loads(line)))
        return found

    def find(self, case: str, candidate: str, round_: int) -> Run | None:
        """A finished run; a failed one is measured again."""
        wanted = (case, candidate, round_)
        found = [run for run in self.runs() if (run.case, run.candidate, run.round) == wanted]
        return next((run for run in reversed(found) if run.holds), None)

    def add(self, run: Run) -> None:
        """Append a run; it is on disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            # The line break in front ends a line that an interrupted call began.
            file.write("\n" + json.dumps(asdict(run)) + "\n")


def newest_runs(runs: Iterable[Run]) -> list[Run]:
    """The last run of each step, because a step that failed is measured again."""
    found = {(run.case, run.candidate, run.round): run for run in runs}
    return list(found.values())
