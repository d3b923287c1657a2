"""Resampling a stream equals resampling the whole, for any cutting, disorder, kills and rates."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.windows.resample import Resampled, Resampler, resample_series
from pipeline.windows.spec import WindowSpec, slice_windows
from tests.fakes.onedevice import OneDevice
from tests.pipeline.windows.test_windower_properties import (
    BUSY,
    FOREVER_MS,
    T0,
    WIDTH,
    arrivals,
    messages,
    plain,
)

RATES = st.sampled_from([20.0, 25.0, 40.0, 50.0, 103.0, 200.0])


@st.composite
def series(draw: st.DrawFn, rate_hz: float) -> np.ndarray:
    """Event times of a run: regular at some rate, with jitter and drift, or at random."""
    count = draw(st.integers(1, 80))
    sent_hz = rate_hz * draw(st.sampled_from([0.3, 0.5, 0.8, 0.99, 1, 1.01, 1.2, 1.5, 2, 4, 10]))
    jitter = draw(st.sampled_from([0, 0, 0.05, 0.3, 0.8])) / sent_hz * 1000
    seed = draw(st.integers(0, 2**32 - 1))
    moved = np.random.default_rng(seed).uniform(-jitter, jitter, count)
    times = np.arange(count) * 1000 / sent_hz + moved
    if draw(st.booleans()):
        steps = draw(st.lists(st.sampled_from([1, 3, 7, 20, 50]), min_size=count, max_size=count))
        times = np.cumsum(steps)
    return T0 + np.unique(np.rint(times - times.min()).astype(np.int64))


@BUSY
@given(data=st.data(), rate_hz=RATES, cuts=st.lists(st.integers(0, 80), max_size=20))
def test_any_cutting_with_a_restart_at_every_message_gives_the_same_to_the_bit(
    data: st.DataObject, rate_hz: float, cuts: list[int]
) -> None:
    ts = data.draw(series(rate_hz))
    rng = np.random.default_rng(len(ts))
    values = rng.normal(size=(len(ts), 2)).astype(np.float32)
    recv = ts + rng.integers(0, 300, len(ts))
    expected = resample_series(ts, values, rate_hz, recv)
    found = []
    saved = Resampler(rate_hz, 2).snapshot()
    for lo, hi in pairwise(sorted({0, len(ts), *(cut % (len(ts) + 1) for cut in cuts)})):
        resampler = Resampler(rate_hz, 2)
        resampler.restore(saved)
        found.append(resampler.push(ts[lo:hi], values[lo:hi], recv[lo:hi]))
        saved = resampler.snapshot()
    for part, whole in zip(map(np.concatenate, zip(*found, strict=True)), expected, strict=True):
        np.testing.assert_array_equal(part, whole, strict=True)


def literal(ts_ms: list[int], values: list[float], rate_hz: float) -> Resampled:
    """The table of cases, read line by line, with fractions of a cell in plain Python."""
    near = min(max(0.1, rate_hz / 1000), 0.25) + 1e-6
    cells: list[dict] = []
    for ts, value in zip(ts_ms, values, strict=True):
        x = (ts - ts_ms[0]) * rate_hz / 1000
        number = next(k for k in range(int(x), int(x) + 3) if x <= k + near)
        if cells and cells[-1]["ended"] and number <= cells[-1]["number"]:
            number = cells[-1]["number"] + 1
        if not cells or number > cells[-1]["number"]:
            cells.append({"number": number, "x": [], "values": [], "ts": ts})
        cells[-1]["x"].append(x)
        cells[-1]["values"].append(value)
        cells[-1]["ended"] = x >= cells[-1]["number"] - near
    if not cells[-1]["ended"]:
        cells.pop()
    nodes = [(sum(c["x"]) / len(c["x"]), sum(c["values"]) / len(c["values"])) for c in cells]
    whole = {c["number"]: c for c in cells if c["ended"] and len(c["x"]) == 1}
    counts = {c["number"]: len(c["x"]) for c in cells}
    rows, times, real = [], [], []
    for k in range(int(max(*whole, nodes[-1][0])) + 1 if len(cells) > 1 else 1):
        if k in whole:
            rows.append(whole[k]["values"][0])
            times.append(whole[k]["ts"])
        else:
            (x0, v0) = [node for node in nodes if node[0] <= k][-1]
            (x1, v1) = next(node for node in nodes if node[0] >= k)
            rows.append(v0 if x0 == x1 else v0 + (k - x0) / (x1 - x0) * (v1 - v0))
            times.append(round(ts_ms[0] + k * 1000 / rate_hz))
        real.append(counts.get(k, 0))
    return Resampled(
        np.array(times), np.array(rows, dtype=np.float32), np.array(real), np.empty(0, np.int64)
    )


@BUSY
@given(data=st.data(), rate_hz=RATES)
def test_a_series_is_resampled_as_in_the_table(data: st.DataObject, rate_hz: float) -> None:
    ts = data.draw(series(rate_hz))
    values = np.random.default_rng(len(ts)).normal(size=len(ts)).astype(np.float32)
    found = resample_series(ts, values[:, None], rate_hz)
    expected = literal(ts.tolist(), values.tolist(), rate_hz)
    np.testing.assert_array_equal(found.ts_ms, expected.ts_ms)
    np.testing.assert_array_equal(found.real, expected.real)
    np.testing.assert_allclose(found.values[:, 0], expected.values, rtol=1e-6, atol=1e-6)
    assert (np.diff(found.ts_ms) > 0).all()


@st.composite
def rated_specs(draw: st.DrawFn) -> WindowSpec:
    length, hop = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    return WindowSpec(
        length,
        hop,
        draw(st.integers(1, length)),
        rate_hz=draw(RATES),
        lateness_ms=draw(st.sampled_from([0, 1, 40, 200])),
        gap_ms=draw(st.sampled_from([None, 20, 100])),
        future_ms=10_000,
    )


@BUSY
@given(data=st.data(), spec=rated_specs(), cuts=st.lists(st.integers(0, 100), max_size=12))
def test_a_disturbed_stream_killed_at_every_message_gives_the_offline_windows(
    data: st.DataObject, spec: WindowSpec, cuts: list[int]
) -> None:
    sent = messages(data.draw(arrivals(spec)), cuts)
    saved = OneDevice(spec, WIDTH).snapshot()
    windows = []
    for ts, values, recv_ms in sent:
        windower = OneDevice.restore(spec, WIDTH, saved)
        windows += windower.step(ts, values, recv_ms).windows
        assert windower.counters.balances
        saved = windower.snapshot()
        assert OneDevice.restore(spec, WIDTH, saved).snapshot() == saved
    windower = OneDevice.restore(spec, WIDTH, saved)
    windows += windower.advance(FOREVER_MS + max(m[2] for m in sent), 0)

    ts = np.concatenate([m[0] for m in sent])
    values = np.concatenate([m[1] for m in sent])
    recv = np.concatenate([np.full(len(m[0]), m[2]) for m in sent])
    first = np.sort(np.unique(np.column_stack([ts, values[:, 0]]), axis=0, return_index=True)[1])
    offline = slice_windows(ts[first], values[first], spec, recv[first])
    assert [rated(w) for w in windows] == [rated(w) for w in offline]
    counters = windower.counters
    assert (counters.late, counters.dead_lettered) == (0, 0)
    assert counters.windowed == len(np.unique(ts))
    assert counters.windows == len(windows)
    assert all(0 <= w.made_up <= 1 for w in windows)


def rated(window: object) -> tuple:
    return (*plain(window), window.made_up, window.rate_hz, window.run_ms)  # type: ignore[attr-defined, arg-type]
