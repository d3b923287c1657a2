"""The anomaly score: what is measured, how it is calibrated, and that it grows with what is odd."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from models.tasks.anomaly import (
    LEVELS,
    STATISTICS,
    AnomalyScorer,
    AnomalyScores,
    AnomalyTable,
    anomaly_statistics,
    fit_anomaly_table,
)

STEPS = 4
SPREAD = np.array([1.0, 10.0], dtype=np.float32)


def score_anomalies(found: NDArray[np.float32], table: AnomalyTable) -> AnomalyScores:
    return AnomalyScorer(table).score(found)


def windows(count: int, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0, 1, (count, 12, 2))
    return (noise * SPREAD).astype(np.float32)


def backtest(count: int) -> NDArray[np.float32]:
    """A forecast of nothing but noise: 0, and 80 % of a normal distribution around it."""
    wide = np.array([-1.2816, 0, 1.2816])
    steps = np.broadcast_to(wide * SPREAD[:, None], (count, STEPS, 2, 3))
    return steps.astype(np.float32)


def statistics(odd: NDArray[np.float32]) -> NDArray[np.float32]:
    return anomaly_statistics(odd, backtest(len(odd)), SPREAD)


@pytest.fixture(scope="module")
def table() -> AnomalyTable:
    return fit_anomaly_table(statistics(windows(2000)), alarm_share=0.01)


def test_statistics_of_a_window_by_literal_loops() -> None:
    window = windows(3)
    found = statistics(window)
    assert found.shape == (3, 2, len(STATISTICS))
    for row in range(3):
        for channel in range(2):
            values = [float(v) for v in window[row, :, channel]]
            half = 1.2816 * SPREAD[channel]
            residuals = [value / half for value in values[-STEPS:]]
            moves = [abs(b - a) for a, b in itertools.pairwise(values)]
            before, newest = moves[:-STEPS], moves[-STEPS:]
            wanted = [
                sum(map(abs, residuals)) / STEPS,
                max(map(abs, residuals)),
                abs(sum(residuals) / STEPS),
                abs(np.log((sum(newest) / STEPS) / (sum(before) / len(before)))),
                1,
            ]
            assert found[row, channel] == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("still", [1, 2, 5, 12])
def test_stuck_counts_the_equal_readings_at_the_end(still: int) -> None:
    odd = windows(2)
    odd[0, -still:, 1] = 7.0
    assert statistics(odd)[:, :, STATISTICS.index("stuck")].tolist() == [[1, still], [1, 1]]


def test_a_share_is_the_place_between_the_knots_by_a_literal_search(table: AnomalyTable) -> None:
    found = statistics(windows(200, seed=3))
    scored = score_anomalies(found, table)
    for row in range(len(found)):
        largest = [
            max(map(_literal_share, channel, found[row, at].tolist()))
            for at, channel in enumerate(table.channels)
        ]
        assert scored.channel[row] == largest.index(max(largest))
        assert scored.score[row] == pytest.approx(_literal_share(table.combined, max(largest)))


def _literal_share(knots: tuple[float, ...], value: float) -> float:
    if value > knots[-1]:
        scale = max(knots[-1] - knots[len(knots) // 2], 1e-3 * abs(knots[-1]), 1e-9)
        beyond = (value - knots[-1]) / scale
        return LEVELS[-1] + (1 - LEVELS[-1]) * beyond / (1 + beyond)
    if value <= knots[0]:
        return LEVELS[0]
    right = next(at for at, knot in enumerate(knots) if value <= knot)
    low, high = knots[right - 1], knots[right]
    # Equal knots have the level of the first of them: the share that is strictly below.
    left, above = (LEVELS[knots.index(knot)] for knot in (low, high))
    return left + (above - left) * (value - low) / (high - low)


def test_ordinary_windows_have_evenly_spread_scores(table: AnomalyTable) -> None:
    score = score_anomalies(statistics(windows(2000, seed=1)), table).score
    for share in (0.5, 0.9, 0.99):
        assert np.mean(score < share) == pytest.approx(share, abs=0.05)
    assert score.min() >= 0
    assert score.max() < 1


@pytest.mark.parametrize("kind", STATISTICS)
def test_what_is_odd_in_one_channel_raises_the_score_and_names_it(
    table: AnomalyTable, kind: str
) -> None:
    odd = windows(50, seed=2)
    newest = odd[:, -STEPS:, 1]
    if kind in ("size", "shift"):
        newest += 8 * SPREAD[1]
    elif kind == "peak":
        newest[:, 1] += 20 * SPREAD[1]
    elif kind == "spread":
        newest *= 20
    else:
        odd[:, -6:, 1] = odd[:, -6:-5, 1]
    found = score_anomalies(statistics(odd), table)
    assert (found.score >= table.alarm).mean() > 0.95
    assert (found.channel == 1).mean() > 0.95


def test_the_score_grows_with_the_fault_beyond_everything_seen(table: AnomalyTable) -> None:
    odd = np.repeat(windows(1), 4, axis=0)
    odd[:, -1, 0] += np.array([10, 100, 1e4, 1e30], dtype=np.float32)
    score = score_anomalies(statistics(odd), table).score
    assert (np.diff(score) >= 0).all()
    assert LEVELS[-1] < score[0] <= score[-1] <= 1


def test_a_statistic_at_its_scale_below_the_last_knot_divides_by_nothing(
    table: AnomalyTable,
) -> None:
    # The scale is the distance from the last knot to the middle one: values of the middle knot.
    middle = [[knots[len(LEVELS) // 2] for knots in channel] for channel in table.channels]
    scores = score_anomalies(np.array([middle], dtype=np.float32), table)
    assert np.isfinite(scores.score).all()


def test_a_channel_that_never_moved_neither_divides_by_zero_nor_hides_the_others() -> None:
    still = windows(500)
    still[:, :, 0] = 3.0
    flat = backtest(500)
    flat[:, :, 0] = 3.0
    spread = np.array([0.0, 10.0], dtype=np.float32)
    table = fit_anomaly_table(anomaly_statistics(still, flat, spread), alarm_share=0.01)
    found = anomaly_statistics(still[:50], flat[:50], spread)
    assert np.isfinite(found).all()
    odd = still[:50].copy()
    odd[:, -STEPS:, 1] += 100
    scored = score_anomalies(anomaly_statistics(odd, flat[:50], spread), table)
    assert (scored.channel == 1).all()
    assert (scored.score >= table.alarm).all()
    moved = still[:50].copy()
    moved[:, -1, 0] = 4.0
    assert (score_anomalies(anomaly_statistics(moved, flat[:50], spread), table).channel == 0).all()


def test_a_table_needs_windows_and_ascending_knots(table: AnomalyTable) -> None:
    with pytest.raises(ValueError, match="at least two calibration windows"):
        fit_anomaly_table(statistics(windows(1)), alarm_share=0.01)
    with pytest.raises(ValueError, match="ascending"):
        AnomalyTable.model_validate(table.model_dump() | {"combined": table.combined[::-1]})
