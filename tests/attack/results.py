"""Results that are kept: one file a suite, appended to as each test ends.

A file holds lines of JSON: the run (form, date, revision, machine), then the row of each test, then
an end. An interrupted run therefore loses only the test that it was in, and the suites of a long
run can be run one by one, on different days.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.attack.account import Row

__all__ = ["Kept", "Run", "begin", "end", "kept_rows", "write_row"]


@dataclass(frozen=True, slots=True)
class Run:
    """How the rows that follow were measured.

    Attributes:
        form: `short` or `long`.
        when: Start, UTC, to the minute.
        revision: Of the repository, with a mark if files were changed.
        machine: Processor, cores and versions.
    """

    form: str
    when: str
    revision: str
    machine: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A row and the run that measured it."""

    row: Row
    run: Run


def begin(path: Path, run: Run) -> None:
    """Say how the rows that follow are measured."""
    _append(path, {"run": asdict(run)})


def write_row(path: Path, row: Row) -> None:
    """Append the row of a test that has ended; parallel workers write into the same file."""
    _append(path, {"row": asdict(row)})


def end(path: Path) -> None:
    """Say that every test of the suite has run: a test without a row no longer exists."""
    _append(path, {"end": True})


def kept_rows(paths: Iterable[Path]) -> list[Kept]:
    """Return one row for each test: the newest of the long form, else the newest short one.

    Args:
        paths: Files of the suites; a missing one has no rows.
    """
    found: list[Kept] = []
    for path in paths:
        if path.exists():
            found += _suite_rows(path.read_text(encoding="utf-8"))
    return sorted(found, key=lambda kept: kept.row.test)


def _suite_rows(text: str) -> list[Kept]:
    best: dict[str, Kept] = {}
    seen: set[str] = set()
    run = Run("short", "", "", "")
    for line in text.splitlines():
        item = json.loads(line)
        if "run" in item:
            run, seen = Run(**item["run"]), set()
        elif "row" in item:
            row = Row(**item["row"])
            seen.add(row.test)
            old = best.get(row.test)
            if old is None or run.form == "long" or old.run.form == "short":
                best[row.test] = Kept(row, run)
        else:
            best = {test: kept for test, kept in best.items() if test in seen}
    return list(best.values())


def _append(path: Path, item: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(item) + "\n")
