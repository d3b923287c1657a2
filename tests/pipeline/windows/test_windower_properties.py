"""Stream equals offline, for any disorder, duplicates, gaps and kills."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.windows.spec import Window, WindowSpec, slice_windows
from tests.fakes.onedevice import OneDevice, OneStep

T0 = 1_700_000_000_000
WIDTH = 2
BUSY = settings(
    max_examples=300,
    deadline=None,  # a busy machine is slow, not wrong
    suppress_health_check=[HealthCheck.too_slow],
)
FOREVER_MS = 10**9


def plain(window: Window) -> tuple:
    times = (window.start_ms, window.end_ms, window.readings, window.gaps, window.recv_ms)
    return (*times, window.values.tolist())


def outcome(step: OneStep) -> tuple:
    counts = (step.windowed, step.duplicate, step.corrected)
    return (
        *counts,
        step.late.tolist(),
        step.future.tolist(),
        step.gaps,
        [plain(window) for window in step.windows],
    )


@st.composite
def specs(draw: st.DrawFn) -> WindowSpec:
    common = {
        "lateness_ms": draw(st.sampled_from([0, 1, 40, 200])),
        "gap_ms": draw(st.sampled_from([None, 20, 100])),
        "gap_policy": draw(st.sampled_from(["reset", "mark"])),
        "future_ms": 10_000,
    }
    if draw(st.booleans()):
        length_ms, hop_ms = draw(st.integers(1, 300)), draw(st.integers(1, 300))
        min_readings = draw(st.integers(1, 3))
        return WindowSpec(
            kind="time", length_ms=length_ms, hop_ms=hop_ms, min_readings=min_readings, **common
        )
    length, hop = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    return WindowSpec(length, hop, draw(st.integers(1, length)), **common)


@st.composite
def arrivals(draw: st.DrawFn, spec: WindowSpec) -> list[tuple[int, int]]:
    """(event time, value) in order of arrival, each delayed by no more than the lateness.

    Some moments come in several versions, each of them before the watermark; some readings come
    again at any time.
    """
    steps = draw(st.lists(st.sampled_from([1, 7, 20, 20, 20, 150, 1000]), max_size=60))
    ts = (T0 + np.cumsum([0, *steps])).tolist()
    delays = draw(st.lists(st.integers(0, spec.lateness_ms), min_size=len(ts), max_size=len(ts)))
    versions = [(i, delays[i]) for i in range(len(ts))]
    if spec.lateness_ms:
        for i in draw(st.lists(st.integers(0, len(ts) - 1), max_size=8)):
            versions[i] = (i, min(delays[i], spec.lateness_ms - 1))
            versions.append((i, draw(st.integers(0, spec.lateness_ms - 1))))
    sent = [(ts[i] + delay, delay, ts[i], n) for n, (i, delay) in enumerate(versions)]
    arrived = [(t, value) for _, _, t, value in sorted(sent)]
    for source in draw(st.lists(st.integers(0, len(arrived) - 1), max_size=8)):
        arrived.insert(draw(st.integers(source + 1, len(arrived))), arrived[source])
    return arrived


def messages(
    arrived: list[tuple[int, int]], cuts: list[int]
) -> list[tuple[np.ndarray, np.ndarray, int]]:
    bounds = sorted({0, len(arrived), *(cut % (len(arrived) + 1) for cut in cuts)})
    made = []
    recv_ms = T0
    for lo, hi in pairwise(bounds):
        ts = np.array([ts for ts, _ in arrived[lo:hi]], dtype=np.int64)
        values = np.array([[v, -v] for _, v in arrived[lo:hi]], dtype=np.float32)
        recv_ms = max(recv_ms, int(ts.max())) + 5
        made.append((ts, values, recv_ms))
    return made


@BUSY
@given(data=st.data(), spec=specs(), cuts=st.lists(st.integers(0, 100), max_size=12))
def test_any_order_within_lateness_with_duplicates_in_any_messages_gives_the_offline_windows(
    data: st.DataObject, spec: WindowSpec, cuts: list[int]
) -> None:
    sent = messages(data.draw(arrivals(spec)), cuts)
    windower = OneDevice(spec, WIDTH)
    windows = []
    for ts, values, recv_ms in sent:
        windows += windower.step(ts, values, recv_ms).windows
        assert windower.counters.balances
        windows += windower.advance(recv_ms, 0)  # not idle: changes nothing
    windows += windower.advance(FOREVER_MS + max(m[2] for m in sent), 0)

    ts = np.concatenate([m[0] for m in sent])
    values = np.concatenate([m[1] for m in sent])
    recv = np.concatenate([np.full(len(m[0]), m[2]) for m in sent])
    first = np.sort(np.unique(np.column_stack([ts, values[:, 0]]), axis=0, return_index=True)[1])
    offline = slice_windows(ts[first], values[first], spec, recv[first])
    assert [plain(w) for w in windows] == [plain(w) for w in offline]
    assert not windower.pending
    counters = windower.counters
    assert (counters.late, counters.dead_lettered) == (0, 0)
    assert counters.windowed == len(np.unique(ts))
    assert counters.corrected == len(first) - counters.windowed
    assert counters.windows == len(windows)


Action = tuple[str, list[int], int]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("step"),
            st.lists(
                st.one_of(
                    st.integers(0, 400), st.integers(0, 5000), st.sampled_from([-9999, 10**6])
                ),
                max_size=8,
            ),
            st.integers(0, 300),
        ),
        st.tuples(st.just("tick"), st.just([]), st.integers(0, 3000)),
    ),
    max_size=25,
)


class Literal:
    """The table of cases, read line by line: lists and sets, no numpy, slow."""

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self.watermark = self.newest = self.heard = -(2**62)
        self.pending: dict[int, tuple[int, int]] = {}
        self.released: list[tuple[int, int, int]] = []
        self.lost: set[tuple[int, int]] = set()
        self.closed: list[tuple] = []

    def remembered(self) -> set[int]:
        times = [ts for ts, _, _ in self.released]
        kept = set(times[-max(self.spec.length, 1024) :])
        return kept | set(self.pending)

    def step(self, ts_ms: list[int], values: list[int], recv_ms: int) -> tuple:
        known, windowed, duplicate, corrected, late, future = self.remembered(), 0, 0, 0, [], []
        for i, (ts, value) in enumerate(zip(ts_ms, values, strict=True)):
            if ts > recv_ms + self.spec.future_ms:
                future.append(i)
            elif ts in known or ts in self.pending:
                found = self.version(ts, value, recv_ms)
                duplicate += found == "duplicate"
                corrected += found == "corrected"
                if found == "late":
                    late.append(i)
            elif ts < self.watermark:
                late.append(i)
            else:
                windowed += 1
                self.pending[ts] = (value, recv_ms)
        if windowed:
            self.heard = max(self.heard, recv_ms)
            self.newest = max(self.newest, *self.pending)
            self.release(self.newest - self.spec.lateness_ms)
        return windowed, duplicate, corrected, late, future

    def version(self, ts: int, value: int, recv_ms: int) -> str:
        times = [released for released, _, _ in self.released]
        at = times.index(ts) if ts in times else None
        if at is not None and at < min(self.needed(), len(times) - 32):
            return "duplicate"
        old, old_recv_ms = self.pending[ts] if at is None else self.released[at][1:]
        if value == old or (ts, value) in self.lost:
            return "duplicate"
        if at is not None and at < self.needed():
            self.lost.add((ts, value))
            return "late"
        if recv_ms < old_recv_ms:
            self.lost.add((ts, value))
        else:
            self.lost.add((ts, old))
            if at is None:
                self.pending[ts] = (value, recv_ms)
            else:
                self.released[at] = (ts, value, recv_ms)
        return "corrected"

    def needed(self) -> int:
        """Index of the first released reading that a coming window needs."""
        times = [ts for ts, _, _ in self.released]
        spec = self.spec
        if spec.kind == "time":
            start = ((self.watermark - spec.length_ms) // spec.hop_ms + 1) * spec.hop_ms
            return sum(ts < start for ts in times)
        begin = 0
        if spec.gap_ms is not None and spec.gap_policy == "reset":
            begin = max(
                (i + 1 for i, (a, b) in enumerate(pairwise(times)) if b - a > spec.gap_ms),
                default=0,
            )
        run = len(times) - begin
        closes = (n for n in range(run + 1, run + spec.length + spec.hop + 1))
        close = next(
            n for n in closes if n >= spec.min_readings and (n - spec.length) % spec.hop == 0
        )
        return min(begin + max(close - spec.length, 0), len(times))

    def advance(self, now_ms: int, since_ms: int) -> None:
        quiet = now_ms - max(self.heard, since_ms)
        if quiet >= self.spec.idle_ms and self.waits():
            more = quiet - self.spec.idle_ms if self.spec.kind == "time" else 0
            self.release(self.newest + more)

    def waits(self) -> bool:
        if self.pending or self.spec.kind == "count":
            return bool(self.pending)
        k = (self.watermark - self.spec.length_ms) // self.spec.hop_ms + 1
        return any(ts >= k * self.spec.hop_ms for ts, _, _ in self.released)

    def release(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)
        for ts in sorted(self.pending):
            if ts <= self.watermark:
                self.released.append((ts, *self.pending.pop(ts)))
        self.closed += self.windows()[len(self.closed) :]

    def windows(self) -> list[tuple]:
        ts = np.array([r[0] for r in self.released], dtype=np.int64)
        values = np.array([[r[1], -r[1]] for r in self.released], dtype=np.float32)
        recv = np.array([r[2] for r in self.released], dtype=np.int64)
        cut = slice_windows(ts, values.reshape(-1, WIDTH), self.spec, recv) if len(ts) else []
        if self.spec.kind == "time":
            cut = [w for w in cut if w.end_ms <= self.watermark]
        return [plain(w) for w in cut]


@BUSY
@given(spec=specs(), actions=ACTIONS, restarts=st.sets(st.integers(0, 25)))
def test_every_reading_is_classified_as_in_the_table(
    spec: WindowSpec, actions: list[Action], restarts: set[int]
) -> None:
    windower, twin, literal = (
        OneDevice(spec, WIDTH),
        OneDevice(spec, WIDTH),
        Literal(spec),
    )
    windows: list[tuple] = []
    now_ms = T0
    for number, (kind, offsets, wait_ms) in enumerate(actions):
        now_ms += wait_ms
        if number in restarts:
            saved = windower.snapshot()
            windower = OneDevice.restore(spec, WIDTH, saved)
            assert windower.snapshot() == saved
        if kind == "tick":
            closed = windower.advance(now_ms, T0 + 50)
            assert [plain(w) for w in closed] == [plain(w) for w in twin.advance(now_ms, T0 + 50)]
            literal.advance(now_ms, T0 + 50)
        else:
            ts = np.array([T0 + offset for offset in offsets], dtype=np.int64)
            versions = [offset % 997 + 1000 * (number % 3) for offset in offsets]
            rows = np.array([[version, -version] for version in versions])
            values = rows.astype(np.float32).reshape(len(ts), WIDTH)
            step = windower.step(ts, values, now_ms)
            assert outcome(step) == outcome(twin.step(ts, values, now_ms))
            expected = literal.step(ts.tolist(), versions, now_ms)
            assert outcome(step)[:5] == expected
            closed = step.windows
        windows += [plain(w) for w in closed]
        assert windows == literal.closed
        assert windower.counters.balances
        assert windower.counters == twin.counters
        assert windower.pending == twin.pending == literal.waits()


@pytest.mark.parametrize("kind", ["count", "time"])
def test_another_device_with_a_wild_clock_changes_nothing(kind: str) -> None:
    spec = WindowSpec(8, 4, gap_ms=100)
    if kind == "time":
        spec = WindowSpec(kind="time", length_ms=160, hop_ms=80)
    rng = np.random.default_rng(7)
    alone, beside, wild = (OneDevice(spec, WIDTH) for _ in range(3))
    for number in range(50):
        ts = T0 + 20 * np.arange(5 * number, 5 * number + 5)
        values = rng.normal(size=(5, WIDTH)).astype(np.float32)
        garbage = rng.integers(-(2**61), 2**61, size=5)
        wild.step(garbage, np.full((5, WIDTH), np.nan, dtype=np.float32), int(ts[-1]))
        beside_step = beside.step(ts, values, int(ts[-1]))
        wild.advance(int(ts[-1]) + 10_000, 0)
        assert outcome(alone.step(ts, values, int(ts[-1]))) == outcome(beside_step)
    assert alone.snapshot() == beside.snapshot()
    assert wild.counters.balances
