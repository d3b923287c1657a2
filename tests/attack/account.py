"""What an attack counted, and the table of all attacks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Attack", "Row", "read_rows", "table", "write_row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        test: Node id of the test below `tests/attack/`.
        count: What was counted, with its unit; "-" if the test did not get as far.
        lost: Of these lost in silence.
        doubled: Of these twice where once was promised.
        verdict: `held`, `BROKEN` or `skipped`.
        note: Measured besides, or why the test was skipped.
        seconds: Duration of the test.
    """

    test: str
    count: str
    lost: str
    doubled: str
    verdict: str
    note: str
    seconds: float


@dataclass
class Attack:
    """The fixture `attack` of one test: its form, and the place where it reports its counts."""

    is_long: bool
    count: str = "-"
    lost: str = "-"
    doubled: str = "-"
    notes: list[str] = field(default_factory=list)

    def size(self, short: int, long: int) -> int:
        """Return the size of the attack in the form that runs: rounds, readings, seconds."""
        return long if self.is_long else short

    def note(self, text: str) -> None:
        """Add a measured value to the row, such as a slope or a longest pause."""
        self.notes.append(text)

    def report(self, count: int, lost: int = 0, doubled: int = 0, unit: str = "readings") -> None:
        """Report what was counted; call it once, before the other assertions.

        Args:
            count: Attacks made, or readings sent under attack; more than zero.
            lost: Of these gone, wrong or refused without a word.
            doubled: Of these twice where once was promised.
            unit: What was counted.

        Raises:
            AssertionError: Nothing was counted, or something was lost or doubled.
        """
        self.count, self.lost, self.doubled = f"{count:,} {unit}", f"{lost:,}", f"{doubled:,}"
        assert count > 0, f"no {unit} were counted: the attack did not happen"
        assert (lost, doubled) == (0, 0), f"of {count:,} {unit}: {lost:,} lost, {doubled:,} doubled"

    def row(self, test: str, outcome: str, reason: str, seconds: float) -> Row:
        """Return the line of the table for a test that has ended.

        Args:
            test: Node id of the test.
            outcome: `passed`, `failed` or `skipped`.
            reason: Why it failed or was skipped.
            seconds: Duration of the test.
        """
        verdict = {"passed": "held", "failed": "BROKEN"}.get(outcome, outcome)
        note = "; ".join([*self.notes, *([reason] if reason else [])])
        return Row(test, self.count, self.lost, self.doubled, verdict, note, seconds)


def write_row(path: Path, row: Row) -> None:
    """Append a line; parallel workers write into the same file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Return the lines of a run, in the order of their tests."""
    if not path.exists():
        return []
    rows = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: row.test)


def table(rows: list[Row], command: str, machine: list[str]) -> str:
    """Return the page of the results as Markdown.

    Args:
        rows: One for each test.
        command: How the page was written.
        machine: Lines about machine, versions, date and revision.
    """
    verdicts = [row.verdict for row in rows]
    held, broken, skipped = map(verdicts.count, ("held", "BROKEN", "skipped"))
    lines = [
        "# Attacks",
        "",
        f"Written by `{command}`. What is promised: [delivery.md](../delivery.md). `lost` counts "
        "what is gone, wrong or refused without a word, `doubled` what is there twice where once "
        "was promised.",
        "",
        *machine,
        "",
        f"{len(rows)} attacks: {held} held, {broken} broken, {skipped} skipped.",
        "",
        "| test | count | lost | doubled | verdict | measured |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row.test, row.count, row.lost, row.doubled, row.verdict, row.note)
        lines.append(
            f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"
        )
    return "\n".join(lines) + "\n"
