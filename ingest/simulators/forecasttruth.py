"""Judges forecasts and anomaly scores of simulated transformers, from what was stored.

**Forecasts** need no truth beyond the readings that came. Each is compared with the forecast of
seasonal-naive for the same reading: the reading of a day before. Channels have different units, so
the error is a ratio: the mean over devices and channels of MAE divided by the MAE of seasonal-
naive. Readings with a fault, and those a day after a fault, count for neither.

**Faults** are found by alarms. An alarm is raised by `windows` windows in a row at the student's
alarm level, and cleared by as many below it. It finds the fault of its device that has begun and
has not been over for longer than `grace_h`. Until `aftermath_h` it is no false alarm either,
because the return from a fault is a surprise as well. Other alarms are false.

>>> score = {"site": "grid", "device": "transformer-01", "end_ms": 3_600_000, "alarm": 1}
>>> fault = TransformerTruth("grid", "transformer-01", 3_600_000, 7_200_000, "spike", "OT", 4.0)
>>> report = judge_alarms([score], [fault], AlarmRule(windows=1))
>>> report.found["spike"], report.false_alarms
([0], 0)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from ingest.simulators.transformers import STEP_MS
from ingest.simulators.truth import TransformerTruth

__all__ = [
    "AlarmReport",
    "AlarmRule",
    "ForecastReport",
    "LeadError",
    "judge_alarms",
    "judge_forecasts",
]

_DAY_MS: Final = 24 * STEP_MS

_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """When an alarm is raised and cleared.

    Attributes:
        windows: Windows in a row at the alarm level that raise it, and below it that clear it.
        grace_h: Hours after a fault in which an alarm still finds it: those of a backtest.
        aftermath_h: Hours after a fault in which an alarm is not false.
    """

    windows: int = 1
    grace_h: int = 6
    aftermath_h: int = 24


@dataclass(frozen=True, slots=True)
class LeadError:
    """Error of the forecasts of one lead.

    Attributes:
        lead: Hours ahead.
        readings: Forecasts compared.
        ratio: MAE of p50 by the MAE of seasonal-naive, mean over devices and channels.
        covered: Share of the readings between p10 and p90.
    """

    lead: int
    readings: int
    ratio: float
    covered: float


@dataclass(frozen=True, slots=True)
class ForecastReport:
    """Errors by lead, ascending; empty without a forecast to compare."""

    leads: tuple[LeadError, ...]

    def line(self) -> str:
        """Return the report as one line."""
        if not self.leads:
            return "forecast   no forecasts to compare"
        ahead = ", ".join(str(each.lead) for each in self.leads)
        ratios = ", ".join(f"{each.ratio:.2f}" for each in self.leads)
        covered = ", ".join(f"{each.covered:.0%}" for each in self.leads)
        count = sum(each.readings for each in self.leads)
        return (
            f"forecast   {ahead} h ahead: MAE {ratios} of seasonal-naive's, p10 to p90 covers "
            f"{covered}, over {count:,} forecasts"
        )


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """Faults found by alarms.

    Attributes:
        found: Delays in hours of the faults found, by kind of fault.
        missed: Number of the faults not found, by kind.
        false_alarms: Alarms without a fault.
        quiet_days: Days with scores and without a fault or its aftermath, over all devices.
    """

    found: Mapping[str, Sequence[int]]
    missed: Mapping[str, int]
    false_alarms: int
    quiet_days: float

    def line(self) -> str:
        """Return the report as one line."""
        delays = [delay for each in self.found.values() for delay in each]
        total = len(delays) + sum(self.missed.values())
        if not total and not self.quiet_days:
            return "faults     no anomaly scores to compare"
        kinds = ", ".join(
            f"{kind} {len(self.found.get(kind, ()))}/"
            f"{len(self.found.get(kind, ())) + self.missed.get(kind, 0)}"
            for kind in sorted({*self.found, *self.missed})
        )
        delay = f", median delay {median(delays):.0f} h" if delays else ""
        return (
            f"faults     {len(delays)} of {total} found{f' ({kinds})' if kinds else ''}{delay}; "
            f"{self.false_alarms} false alarms in {self.quiet_days:.0f} days without a fault"
        )


def judge_forecasts(
    points: Iterable[Mapping[str, Any]], faults: Sequence[TransformerTruth]
) -> ForecastReport:
    """Compare forecasts with the readings that came.

    Args:
        points: Points of the measurement `forecast`: `site`, `device`, `channel`, `lead` (0 for the
            reading that came), `end_ms` (the time that is forecast) and `value` or `p10` to `p90`.
        faults: Truth of all devices.
    """
    came: dict[tuple[_Place, str], dict[int, float]] = defaultdict(dict)
    made: dict[int, dict[tuple[_Place, str], list[Mapping[str, Any]]]] = {}
    for point in points:
        key, lead = (_place(point), str(point["channel"])), int(point["lead"])
        if lead == 0:
            came[key][int(point["end_ms"])] = float(point["value"])
        else:
            made.setdefault(lead, defaultdict(list))[key].append(point)
    for fault in faults:
        series = came[(fault.site, fault.device), fault.channel]
        for at in [at for at in series if fault.start_ms <= at < fault.end_ms]:
            del series[at]
    errors = [_lead_error(lead, made[lead], came) for lead in sorted(made)]
    return ForecastReport(tuple(each for each in errors if each is not None))


def _lead_error(
    lead: int,
    made: Mapping[tuple[_Place, str], Sequence[Mapping[str, Any]]],
    came: Mapping[tuple[_Place, str], Mapping[int, float]],
) -> LeadError | None:
    ratios, covered, readings = [], 0, 0
    for key, forecasts in made.items():
        own = naive = 0.0
        for point in forecasts:
            at = int(point["end_ms"])
            value, before = came[key].get(at), came[key].get(at - _DAY_MS)
            if value is None or before is None:
                continue
            own += abs(float(point["p50"]) - value)
            naive += abs(before - value)
            covered += float(point["p10"]) <= value <= float(point["p90"])
            readings += 1
        if naive:
            ratios.append(own / naive)
    if not ratios:
        return None
    return LeadError(lead, readings, sum(ratios) / len(ratios), covered / readings)


def judge_alarms(
    scores: Iterable[Mapping[str, Any]],
    faults: Sequence[TransformerTruth],
    rule: AlarmRule | None = None,
) -> AlarmReport:
    """Compare alarms with the faults that were injected.

    Args:
        scores: Points of the measurement `anomaly`: `site`, `device`, `end_ms` (time of the newest
            reading, epoch ms) and `alarm` (1 at the alarm level, otherwise 0).
        faults: Truth of all devices; a fault that began before the first score of its device does
            not count.
        rule: When an alarm is raised.
    """
    rule = rule or AlarmRule()
    by_device: dict[_Place, list[tuple[int, bool]]] = defaultdict(list)
    for score in scores:
        by_device[_place(score)].append((int(score["end_ms"]), bool(score["alarm"])))
    found: dict[str, list[int]] = defaultdict(list)
    missed: dict[str, int] = defaultdict(int)
    false_alarms = quiet = 0
    for place, series in by_device.items():
        series.sort()
        raised = _alarms(series, rule.windows)
        mine = [f for f in faults if (f.site, f.device) == place and f.start_ms >= series[0][0]]
        spans = [(f.start_ms, f.end_ms + rule.aftermath_h * STEP_MS) for f in mine]
        for fault in mine:
            start_ms, end_ms = fault.start_ms, fault.end_ms + rule.grace_h * STEP_MS
            first = next((at for at in raised if start_ms <= at < end_ms), None)
            if first is None:
                missed[fault.kind] += 1
            else:
                found[fault.kind].append(round((first - start_ms) / STEP_MS))
        false_alarms += sum(not any(a <= at < b for a, b in spans) for at in raised)
        quiet += sum(not any(a <= at < b for a, b in spans) for at, _ in series)
    return AlarmReport(dict(found), dict(missed), false_alarms, quiet * STEP_MS / _DAY_MS)


def _alarms(series: Sequence[tuple[int, bool]], windows: int) -> list[int]:
    """Return the times at which alarms are raised."""
    raised: list[int] = []
    active, run = False, 0
    for at, alarm in series:
        run = run + 1 if alarm != active else 0
        if run >= windows:
            active, run = not active, 0
            if active:
                raised.append(at)
    return raised


def _place(point: Mapping[str, Any]) -> _Place:
    return str(point["site"]), str(point["device"])
