"""What an attack counted."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Attack", "Row"]


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
