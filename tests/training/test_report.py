"""The log of a run: continued after a restart, with lines that a kill has cut."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from training.report import RunLog


def open_log(folder: Path) -> tuple[RunLog, io.StringIO]:
    shown = io.StringIO()
    return RunLog(folder / "log.jsonl", Console(file=shown, width=100), 10), shown


def test_a_continued_run_begins_with_the_passes_that_are_done(tmp_path: Path) -> None:
    log, shown = open_log(tmp_path)
    log.add_pass(1, 2.0, 0.5)
    log.add_pass(2, 1.5, 0.4)
    assert shown.getvalue() == ""
    (tmp_path / "last.pt").write_bytes(b"state")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')  # killed while it wrote
    log, shown = open_log(tmp_path)
    assert "Continues after pass 2 of 10." in shown.getvalue()
    with log:
        log.add_pass(3, 1.2, 0.3)
    assert "3/10" in shown.getvalue()
    assert log.validation_curve() == ([2.0, 1.5, 1.2], [0.5, 0.4, 0.3])


def test_lines_of_a_run_that_cannot_continue_are_no_part_of_the_next(tmp_path: Path) -> None:
    log, _ = open_log(tmp_path)
    log.add_pass(7, 2.0, 0.5)
    log, shown = open_log(tmp_path)
    assert shown.getvalue() == ""
    log.add_pass(1, 1.0, 0.9)
    assert log.validation_curve() == ([1.0], [0.9])
