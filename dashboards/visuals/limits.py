"""From when on a number is a worry: one table for the colours of boards and the alerts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a site; the defaults suit the shipped students and a fleet of hundreds.

    Attributes:
        rul_cycles: a device is due when the lower end of its interval is below this.
        silent_s: a device is silent when no reading has come for so long.
        process_s: a process is down when it has said nothing for so long.
        backlog_per_minute: a group falls behind when its backlog grows by so many records a
            minute, over ten minutes.
        still_s: a partition is stuck when it has not moved for so long in spite of a backlog.
        dead_letters: so many letters of one reason in ten minutes are too many.
    """

    rul_cycles: float = 20.0
    silent_s: int = 300
    process_s: int = 60
    backlog_per_minute: float = 60.0
    still_s: int = 60
    dead_letters: int = 10
