"""Each kind of fault does what the table of `ingest.simulators.faults` says, and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ingest.simulators.faults import FAULT_KINDS, Fault, FaultPlan, draw_faults, inject

DEVIATIONS = np.array([2.0, 0.5])


def series() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 2)) * DEVIATIONS


def changed(fault: Fault) -> np.ndarray:
    """The change of the faulty channel inside the fault; everything else must be untouched."""
    before = series()
    kept = before.copy()
    after = inject(before, [fault], DEVIATIONS, seed=3)
    assert np.array_equal(before, kept)
    same = after == before
    same[fault.start : fault.end, fault.channel] = True
    assert same.all()
    return (after - before)[fault.start : fault.end, fault.channel]


def test_a_spike_moves_one_reading_and_a_step_a_stretch() -> None:
    assert changed(Fault("spike", 0, 50, 51, -4.0)) == pytest.approx([-8.0])
    assert changed(Fault("step", 1, 50, 60, 3.0)) == pytest.approx([1.5] * 10)


def test_a_drift_reaches_its_size_at_the_last_reading() -> None:
    moved = changed(Fault("drift", 0, 50, 60, 4.0))
    assert moved == pytest.approx(np.arange(1, 11) * 0.8)


def test_a_stuck_channel_repeats_the_last_good_reading() -> None:
    moved = changed(Fault("stuck", 1, 50, 60, 0.0))
    assert series()[50:60, 1] + moved == pytest.approx([series()[49, 1]] * 10)


def test_noise_has_its_deviation_and_depends_on_the_seed() -> None:
    fault = Fault("noise", 1, 0, 200, 1.5)
    assert changed(fault).std() == pytest.approx(0.75, rel=0.15)
    other = inject(series(), [fault], DEVIATIONS, seed=4)
    assert not np.array_equal(other, inject(series(), [fault], DEVIATIONS, seed=3))


def test_a_lost_phase_shows_the_readings_of_some_time_ago() -> None:
    moved = changed(Fault("lost_phase", 0, 50, 60, 12.0))
    assert series()[50:60, 0] + moved == pytest.approx(series()[38:48, 0])


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault("step", 2, 5, 6, 1.0), "the series has channels 0 to 1"),
        (Fault("step", 0, 195, 201, 1.0), "must lie inside the 200 readings"),
        (Fault("step", 0, 5, 5, 1.0), "must lie inside"),
        (Fault("stuck", 0, 0, 5, 0.0), "1 readings must precede it"),
        (Fault("lost_phase", 0, 5, 9, 12.0), "12 readings must precede it"),
        (Fault("lost_phase", 0, 50, 90, 1.5), "a whole number of readings"),
        (Fault("melted", 0, 5, 9, 1.0), "its kind is none of spike, step"),  # type: ignore[arg-type]
    ],
)
def test_a_fault_that_does_not_fit_is_refused_by_name(fault: Fault, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        inject(series(), [fault], DEVIATIONS)
    assert repr(fault) in str(refused.value)


def test_drawn_faults_have_all_kinds_fit_the_series_and_leave_gaps() -> None:
    plan = FaultPlan(first=300, gap=20)
    faults = draw_faults(2_000, 7, np.random.default_rng(5), plan)
    assert faults == draw_faults(2_000, 7, np.random.default_rng(5), plan)
    assert {fault.kind for fault in faults[:6]} == set(FAULT_KINDS)
    assert {fault.channel for fault in faults} == set(range(7))
    assert faults[0].start >= 300
    assert all(10 <= b.start - a.end <= 30 for a, b in itertools.pairwise(faults))
    inject(np.zeros((2_000, 7)), faults, np.ones(7))  # none is refused
    assert faults != draw_faults(2_000, 7, np.random.default_rng(6), plan)
