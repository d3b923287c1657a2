"""The fleet in small form: two bad students, and a good one while processes die."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra [training]; make test installs it")
pytest.importorskip("tuf", reason="needs the extra [centre]")
from deploy.rollout.release import Plan, Step
from pipeline.scoring.thresholds import Thresholds
from tests.rollout.cases import BAD, Trouble, run_bad, run_good
from tests.rollout.fleet import Fleet


def _plan(windows: int) -> Plan:
    """A canary of two gateways of six; a student has to score `windows` in it."""
    return Plan(
        steps=(
            Step(percent=34, seconds=3, windows=windows),
            Step(percent=100, seconds=3, windows=100),
        ),
        shadow_seconds=1,
        shadow_windows=60,
        probation_seconds=3600,
        thresholds=Thresholds(windows=60),
    )


@pytest.mark.slow
@pytest.mark.needs_mosquitto
@pytest.mark.needs_training
@pytest.mark.timeout(3000)
def test_bad_students_stay_in_their_step_and_a_good_one_reaches_all(
    tmp_path: Path, mosquitto_program: str
) -> None:
    del mosquitto_program
    nan, crash = BAD[0], replace(BAD[-1], trap="100")
    with Fleet(tmp_path, 6) as fleet:
        fleet.until(lambda: len(fleet.known()) == 6, "all gateways report")
        for version, case in ((2, nan), (3, crash)):
            outcome = run_bad(fleet, case, version, _plan(2000))
            assert len(outcome.members) == 2
            assert outcome.failed
        good = run_good(fleet, 4, _plan(100), Trouble(controls=2, gateways=1))
        assert good.champions == fleet.names
        assert good.shares == [2, 6]
        assert good.controls_killed == 2
        assert len(good.troubled) == 3
