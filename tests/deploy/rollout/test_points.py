"""Reports as points: every field is in the table of measurements, and marks repeat themselves."""

from __future__ import annotations

import pytest

from deploy.rollout.controller import next_move
from deploy.rollout.points import release_point, report_points
from deploy.rollout.report import Evidence, GatewayReport, StudentReport
from pipeline.points.lines import to_line
from pipeline.points.measurements import RELEASE, ROLLOUT, ROLLOUT_EVENTS, ROLLOUT_STATE
from tests.deploy.rollout.fleets import NOW_S, known, release

KINDS = {int: "int", str: "text"}
EVIDENCE = {name: 7 for name in Evidence.model_fields}


def _report(phase: str, **changes: object) -> GatewayReport:
    content = {
        "name": "rul-fd001",
        "stream": "cycle",
        "version": 1,
        "release": 3,
        "phase": phase,
        "candidate": 2,
        "since_s": 1_700_000_000,
        "evidence": EVIDENCE,
        "reason": "12 of 200 scores\nare not finite",
    }
    student = StudentReport.model_validate(content | changes)
    return GatewayReport(gateway="gw-1", group="north", sent_s=1, students=(student,))


@pytest.mark.parametrize("phase", ["champion", "shadow", "probation", "failed", "held", "waiting"])
def test_every_field_is_in_the_table_of_measurements(phase):
    table = {ROLLOUT.name: ROLLOUT, ROLLOUT_STATE.name: ROLLOUT_STATE}
    points = report_points(_report(phase), 1_700_000_500)
    assert points[0].measurement == ROLLOUT_STATE.name
    assert points[0].time_ns == 1_700_000_500_000_000_000
    for point in points:
        measurement = table[point.measurement]
        assert [name for name, _ in point.tags] == list(measurement.tags)
        for name, value in point.fields:
            assert measurement.field(name).kind == KINDS[type(value)], name
        assert {f.name for f in measurement.fields if f.always} <= {
            name for name, _ in point.fields
        }
        assert "\n" not in to_line(point)
    assert {name for name, _ in points[0].fields} == {f.name for f in ROLLOUT_STATE.fields}


def test_what_was_not_measured_is_no_field():
    (state, *_) = report_points(_report("shadow", evidence={"windows": 3}), 1)
    assert dict(state.fields)["windows"] == 3
    assert not {name for name, _ in state.fields} & (EVIDENCE.keys() - {"windows"})


@pytest.mark.parametrize(("phase", "event"), [("probation", "took_over"), ("failed", "fell_back")])
def test_a_takeover_and_a_fall_back_are_marks_at_their_own_time(phase, event):
    assert event in ROLLOUT_EVENTS
    first, again = (report_points(_report(phase), time_s)[1] for time_s in (10, 20))
    assert first == again, "the same mark, however often it is reported"
    assert dict(first.tags)["event"] == event
    assert first.time_ns == 1_700_000_000_000_000_000
    assert "not finite" in str(dict(first.fields)["text"])


@pytest.mark.parametrize("phase", ["champion", "shadow", "held", "waiting"])
def test_other_phases_are_no_marks(phase):
    assert len(report_points(_report(phase), 1)) == 1


def test_the_progress_of_a_release_is_a_point():
    here = release(state="paused", reason="1 gateway failed:\n gw-b", step=1)
    fleet = [known("gw-a"), known("gw-b", "failed"), known("gw-c", age_s=9999)]
    point = release_point(here, next_move(here, fleet, NOW_S), len(fleet), NOW_S)
    fields = dict(point.fields)
    assert set(fields) == {field.name for field in RELEASE.fields}
    for name, value in point.fields:
        assert RELEASE.field(name).kind == KINDS[type(value)], name
    assert (fields["step"], fields["steps"], fields["percent"]) == (2, 3, 50)
    assert (fields["healthy"], fields["failed"], fields["silent"]) == (1, 1, 1)
    assert fields["reason"] == "1 gateway failed: gw-b"
    assert point.tags == (("model", "rul-fd001"),)
