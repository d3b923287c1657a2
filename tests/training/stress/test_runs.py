"""Runs: windows come out as they went in, rates keep slow movements, lost readings are few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.windows.spec import WindowSpec
from training.stress.runs import Run, at_rate, cut_runs, join_runs, lost
from training.windows import slice_series


def waves(count: int, rate_hz: float = 50.0) -> np.ndarray:
    """Two channels with movements of 1 and 3 Hz, `[count, 2]`."""
    at = np.arange(count)[:, None] / rate_hz
    return np.sin(2 * np.pi * at * np.array([1.0, 3.0])).astype(np.float32)


@given(
    lengths=st.lists(st.integers(8, 40), min_size=1, max_size=4),
    hop=st.integers(1, 9),
    at_end=st.booleans(),
    resampled=st.booleans(),
)
def test_runs_give_the_windows_back_that_they_were_joined_from(
    lengths: list[int], hop: int, at_end: bool, resampled: bool
) -> None:
    parts = [slice_series(waves(count) + 3 * i, 8, hop) for i, count in enumerate(lengths)]
    windows = np.concatenate(parts)
    groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    truth = np.arange(len(windows))
    runs = join_runs(windows, truth, groups, hop, at_end=at_end)
    spec = WindowSpec(length=8, hop=hop, rate_hz=50.0 if resampled else None)
    cut = cut_runs(runs, spec, 50.0, at_end=at_end)
    np.testing.assert_array_equal(cut.windows, windows)
    if at_end or hop == 4:  # a middle lies between two truths if windows overlap otherwise
        np.testing.assert_array_equal(cut.truth, truth)
    if resampled:
        assert cut.made_up is not None
        assert (cut.made_up == 0).all()


def test_the_same_rate_changes_nothing() -> None:
    run = Run(waves(50), np.arange(50))
    assert at_rate(run, 1.0) is run


@pytest.mark.parametrize("factor", [0.4, 0.8, 2.0, 4.0])
def test_another_rate_reads_the_same_movement_at_other_times(factor: float) -> None:
    run = at_rate(Run(waves(500), np.arange(500)), factor)
    inside = slice(len(run.values) // 10, -len(run.values) // 10)
    wanted = waves(len(run.values), 50.0 * factor)
    np.testing.assert_allclose(run.values[inside], wanted[inside], atol=0.02)
    assert len(run.values) == int(499 * factor) + 1
    assert np.abs(np.arange(len(run.truth)) / factor - run.truth).max() <= 0.5


@given(share=st.floats(0.0, 0.9), burst=st.integers(1, 10), seed=st.integers(0, 9))
def test_the_share_of_lost_readings_is_the_one_asked_for(
    share: float, burst: int, seed: int
) -> None:
    run = lost(Run(waves(500), np.arange(500)), share, burst, seed)
    assert run.kept is not None
    assert run.kept[0] == 0
    assert run.kept[-1] == 499
    assert abs((500 - len(run.kept)) / 500 - share) <= (burst + 2) / 500
    again = lost(Run(waves(500), np.arange(500)), share, burst, seed)
    assert again.kept is not None
    np.testing.assert_array_equal(run.kept, again.kept)


def test_a_gap_that_the_windower_does_not_bridge_costs_windows() -> None:
    run = Run(waves(500), np.zeros(500, np.int64))
    spec = WindowSpec(length=50, hop=25, gap_ms=100, rate_hz=50.0)
    whole = cut_runs([run], spec, 50.0, at_end=False)
    broken = cut_runs([lost(run, 0.2, 10, seed=0)], spec, 50.0, at_end=False)
    sparse = cut_runs([lost(run, 0.2, 1, seed=0)], spec, 50.0, at_end=False)
    assert len(broken) < len(whole)
    assert sparse.made_up is not None
    assert 0 < sparse.made_up.mean() < 0.3


def test_the_last_window_alone_and_every_third_one() -> None:
    run = Run(waves(20), np.arange(20))
    spec = WindowSpec(length=5, hop=1)
    assert cut_runs([run], spec, None, at_end=True, last_only=True).truth.tolist() == [19]
    assert cut_runs([run], spec, None, at_end=True, every=3).truth.tolist() == [
        4,
        7,
        10,
        13,
        16,
        19,
    ]


def test_no_run_gives_no_window() -> None:
    assert (
        join_runs(np.zeros((0, 5, 1), np.float32), np.zeros(0), np.zeros(0), 1, at_end=True) == []
    )
    assert len(cut_runs([], WindowSpec(length=5, hop=1), None, at_end=True)) == 0
