import numpy as np

from training.datasets.missing import Grid, fill_short_gaps, share_rows, to_grid


def make_grid(values):
    column = np.array(values, dtype=np.float64)[:, None]
    return Grid(1000 * np.arange(len(column), dtype=np.int64), column, 1000)


def test_readings_in_any_order_reach_the_nearest_grid_time():
    times = np.array([7400, 5000, 6001, 5600, 9999])
    values = np.array([[7.0], [5.0], [6.0], [8.0], [np.nan]])
    grid = to_grid(times, values, 1000)
    assert grid.times_ms.tolist() == [5000, 6000, 7000, 8000, 9000, 10000]
    np.testing.assert_array_equal(grid.values[:, 0], [5, 7, 7, np.nan, np.nan, np.nan])


def test_a_repeated_time_averages_only_the_values_that_are_there():
    times, values = np.array([0, 0, 1000]), np.array([[1.0, np.nan], [3.0, 5.0], [4.0, 4.0]])
    np.testing.assert_array_equal(to_grid(times, values, 1000).values, [[2, 5], [4, 4]])


def test_short_gaps_are_interpolated_and_longer_ones_cut():
    lacks = np.nan
    grid = make_grid([1, lacks, 3, lacks, lacks, lacks, 7, lacks])
    times, values, ends = fill_short_gaps(grid, 2, (6, 8))
    assert values[:, 0].tolist() == [1, 2, 3, 7]
    assert times.tolist() == [0, 1000, 2000, 6000]
    assert ends == (3, 4)
    assert values.dtype == np.float32


def test_a_row_is_dropped_if_one_channel_stays_missing():
    values = np.array([[1.0, 1.0], [np.nan, 2.0], [np.nan, 3.0], [4.0, 4.0]])
    grid = Grid(1000 * np.arange(4, dtype=np.int64), values, 1000)
    times, kept, _ = fill_short_gaps(grid, 1, (4,))
    assert times.tolist() == [0, 3000]
    assert np.isfinite(kept).all()


def test_a_gap_at_a_border_is_not_filled_with_what_comes_later():
    for after in (5.0, 500.0):
        grid = make_grid([1, 2, 3, np.nan, after, 6, 7])
        for border in (3, 4):
            times, values, ends = fill_short_gaps(grid, 3, (border, 7))
            assert values[: ends[0], 0].tolist() == [1, 2, 3]
            assert 3000 not in times


def test_shares_leave_the_rest_to_validation():
    assert share_rows(7588, 0.7, 0.2) == (5311, 6071, 7588)
    assert share_rows(35064, 0.7, 0.2) == (24544, 28052, 35064)
