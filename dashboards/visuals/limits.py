"""Limits of a site, at which a board turns red and an alert fires. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a site; the defaults suit the starter students and a fleet of hundreds.

    Attributes:
        rul_cycles: A machine is due when the lower end of its interval is below this.
        silent_s: A device is silent when it has sent no reading for this long.
        process_s: A process is down when it has written no account for this long.
        backlog_per_minute: A group falls behind when its backlog grows by more records a minute
            than this, over ten minutes.
        still_s: A partition is stuck when it has had a backlog and no progress for this long.
        dead_letters: Dead letters of one reason in ten minutes that do not cause an alert yet.
        anomaly_windows: An anomaly lasts after this many windows with an alarm in a row.
        anomaly_clear_score: An anomaly that lasts ends after `anomaly_clear_windows` windows in a
            row with a score below this; below the alarm levels of the students.
        anomaly_clear_windows: See `anomaly_clear_score`.
        coverage: Share of readings between p10 and p90 over a day below which the forecasts of a
            device break their promise of 80 %.
        coverage_hours: Hours with forecasts within the day that a device must have for it.
    """

    rul_cycles: float = 20.0
    silent_s: int = 300
    process_s: int = 60
    backlog_per_minute: float = 60.0
    still_s: int = 60
    dead_letters: int = 10
    anomaly_windows: int = 3
    anomaly_clear_score: float = 0.9
    anomaly_clear_windows: int = 6
    coverage: float = 0.65
    coverage_hours: int = 12
