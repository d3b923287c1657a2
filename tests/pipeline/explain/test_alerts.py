"""Alert-level scores are explained in the background; a score never waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from models.tasks.rul import CRITICAL_RUL
from pipeline.errors import LineFull, SinkUnavailable
from pipeline.explain.alerts import AlertExplainer
from pipeline.explain.students import ExplainingStudents
from pipeline.points.measurements import EXPLANATION
from pipeline.points.points import Point
from pipeline.scoring.batch import StudentScores
from tests.pipeline.explain.plant import STEP, T0, WHERE, Plant, line


@dataclass
class Line:
    """A line of at most `most`; `work_off` does what waits."""

    most: int = 10
    waiting: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= self.most

    def submit(self, work: Callable[[], None]) -> None:
        if self.is_full:
            raise LineFull
        self.waiting.append(work)

    def work_off(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@pytest.fixture
def scored(plant: Plant) -> Plant:
    """Ten windows; those with an odd last reading are critical."""
    for number in range(14):
        plant.send(line([number]))
    for part in parts(plant):
        odd = (part.windows.end_ms - 1 - T0) // STEP % 2
        part.scores.columns["rul_low"] = np.where(odd == 1, CRITICAL_RUL - 1, CRITICAL_RUL)
    return plant


def parts(plant: Plant) -> list[StudentScores]:
    return [part for _, scored in plant.scored for part in scored.parts]


def explainer(plant: Plant, store: Callable[[Point], None], line: Line) -> AlertExplainer:
    return AlertExplainer(ExplainingStudents(plant.folder / "registry"), store, line)


def look(alerts: AlertExplainer, plant: Plant) -> int:
    for _, scored in plant.scored:
        alerts.look(scored)
    return sum(int((p.scores.columns["rul_low"] < CRITICAL_RUL).sum()) for p in parts(plant))


def test_each_alert_level_score_gets_a_point_with_its_tags_and_its_time(scored: Plant) -> None:
    stored: list[Point] = []
    line = Line()
    alerts = explainer(scored, stored.append, line)
    count = look(alerts, scored)
    assert count >= 4
    assert stored == []  # nothing is done before the line is worked off
    line.work_off()
    assert len(stored) == alerts.explained_total == count
    scored.results.write(stored)
    for point in stored:
        assert dict(point.tags) == {**WHERE._asdict(), "model": "dummy-rul"}
        assert (point.time_ns // 1_000_000 - 1 - T0) // STEP % 2 == 1
        assert [name for name, _ in point.fields] == [f.name for f in EXPLANATION.fields]
        fields = dict(point.fields)
        assert T0 <= fields["from_ms"] <= fields["until_ms"] < point.time_ns // 1_000_000
        assert str(fields["text"]).startswith(f"{fields['channel']} ")


def test_a_full_line_leaves_explanations_out_and_counts_them(scored: Plant) -> None:
    line = Line(most=2)
    alerts = explainer(scored, lambda point: None, line)
    count = look(alerts, scored)
    line.work_off()
    assert (alerts.explained_total, alerts.dropped_total) == (2, count - 2)
    values = {measure.name: measure.value for measure in alerts.measures()}
    assert values == {"explanations_total": 2, "explanations_dropped_total": count - 2}


def test_a_store_that_is_away_costs_an_explanation_and_is_told_once(
    scored: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(point: Point) -> None:
        raise SinkUnavailable("disk full")

    line = Line()
    alerts = explainer(scored, refuse, line)
    count = look(alerts, scored)
    line.work_off()
    assert (alerts.explained_total, alerts.dropped_total) == (0, count)
    assert count > 1
    assert [each.getMessage() for each in caplog.records if "disk full" in each.getMessage()] == [
        f"the alert-level score of {'/'.join(WHERE)} has no explanation: disk full"
    ]


def test_a_stream_that_stays_at_alert_level_waits_in_the_slower_line(scored: Plant) -> None:
    line, again, now_ms = Line(), Line(most=2), [0]
    alerts = AlertExplainer(
        ExplainingStudents(scored.folder / "registry"),
        lambda point: None,
        line,
        again,
        steady_ms=lambda: now_ms[0],
    )
    count = look(alerts, scored)
    assert (len(line.waiting), len(again.waiting)) == (1, 2)
    assert alerts.dropped_total == count - 3
    now_ms[0] = 600_000
    look(alerts, scored)
    assert (len(line.waiting), len(again.waiting)) == (2, 2)
