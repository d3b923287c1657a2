"""A slab gives what each row gives alone, message after message, for any calls."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.windows.slab import StreamSlab
from pipeline.windows.slabsnapshots import restore_row, row_snapshots
from pipeline.windows.slabstate import SlabState
from pipeline.windows.snapshots import decode_state
from pipeline.windows.spec import Window, WindowSpec
from pipeline.windows.windower import RowStep, RowWindower
from tests.fakes.onedevice import plain_windows

T0 = 1_700_000_000_000
WIDTH = 2
DEVICES = 4
BUSY = settings(
    max_examples=400,
    deadline=None,  # a busy machine is slow, not wrong
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def plain(window: Window) -> tuple:
    resampled = (window.made_up, window.rate_hz, window.run_ms)
    times = (window.start_ms, window.end_ms, window.readings, window.gaps, window.recv_ms)
    return (*times, *resampled, window.values.tolist())


class Alone:
    """A row that takes every message by the rules of `RowWindower`, never as an array."""

    def __init__(self, spec: WindowSpec, snapshot: bytes | None = None) -> None:
        self.state = SlabState(spec, WIDTH)
        self.row = self.state.add()
        if snapshot is not None:
            restore_row(self.state, self.row, snapshot)

    def step(self, ts: np.ndarray, values: np.ndarray, recv_ms: int) -> RowStep:
        row = RowWindower(self.state, self.row)
        step = row.step(ts, values, recv_ms)
        row.store()
        return step

    def advance(self, now_ms: int, since_ms: int) -> tuple[list[Window], bool]:
        row = RowWindower(self.state, self.row)
        before_ms = row.watermark_ms, row.last_recv_ms
        windows = row.advance(now_ms, since_ms)
        row.store()
        return windows, (row.watermark_ms, row.last_recv_ms) != before_ms

    def pending(self) -> bool:
        return RowWindower(self.state, self.row).pending

    def snapshot(self) -> bytes:
        return row_snapshots(self.state, np.array([self.row]))[0]


@st.composite
def specs(draw: st.DrawFn) -> WindowSpec:
    kind = draw(st.sampled_from(["count", "count", "rate", "rate", "time"]))
    common = {
        "lateness_ms": draw(st.sampled_from([0, 1, 40, 200])),
        "gap_ms": draw(st.sampled_from([None, 20, 100])),
        "gap_policy": "reset" if kind == "rate" else draw(st.sampled_from(["reset", "mark"])),
        "future_ms": 10_000,
    }
    if kind == "time":
        length_ms, hop_ms = draw(st.integers(1, 300)), draw(st.integers(1, 300))
        return WindowSpec(kind="time", length_ms=length_ms, hop_ms=hop_ms, min_readings=2, **common)
    length, hop = draw(st.integers(1, 50)), draw(st.integers(1, 20))
    rate_hz = draw(st.sampled_from([50.0, 10.0, 33.3])) if kind == "rate" else None
    return WindowSpec(length, hop, draw(st.integers(1, length)), rate_hz=rate_hz, **common)


@st.composite
def actions(draw: st.DrawFn) -> list[tuple]:
    """Calls: messages of (device, event times, version), ticks, restarts and replacements."""
    newest = [0] * DEVICES
    usual = draw(st.lists(st.sampled_from([1, 20, 20, 20, 7, 30]), min_size=4, max_size=4))
    found: list[tuple] = []
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["step"] * 6 + ["tick", "restart", "replace"]))
        if kind != "step":
            found.append((kind, draw(st.integers(0, DEVICES - 1)), draw(st.integers(0, 3000))))
            continue
        call = []
        for _ in range(draw(st.integers(0, 8))):
            device = draw(st.integers(0, DEVICES - 1))
            count = draw(st.sampled_from([0, 1, 1, 1, 3, 10, 40]))
            mood = draw(st.sampled_from(["in order"] * 5 + ["odd", "gap", "jitter"]))
            if mood == "odd":
                near = st.integers(newest[device] - 300, newest[device] + 300)
                far = st.sampled_from([-9999, 10**6, newest[device] + 5000])
                ts = draw(st.lists(st.one_of(near, near, near, far), max_size=8))
            else:
                step = usual[device]
                first = newest[device] + (draw(st.integers(25, 2500)) if mood == "gap" else step)
                shift = draw(st.integers(0, 3)) if mood == "jitter" else 0
                ts = [first + i * step + (shift if i % 3 else 0) for i in range(count)]
            near = [t for t in ts if t < newest[device] + 8000]
            newest[device] = max([newest[device], *near])
            call.append((device, ts, draw(st.integers(0, 2)), draw(st.integers(0, 30))))
        found.append(("step", call, draw(st.integers(0, 300))))
    return found


@BUSY
@given(spec=specs(), actions=actions(), data=st.data())
def test_slab_equals_each_row_alone(
    spec: WindowSpec, actions: list[tuple], data: st.DataObject
) -> None:
    slab = StreamSlab(spec, WIDTH)
    rows = [slab.add() for _ in range(DEVICES)]
    twins = [Alone(spec) for _ in range(DEVICES)]
    now_ms = T0
    for kind, what, wait_ms in actions:
        now_ms += wait_ms
        if kind == "step":
            compare_step(slab, rows, twins, what, now_ms)
        elif kind == "tick":
            closed, moved = slab.advance(np.array(rows, dtype=np.int32), now_ms, T0 + 50)
            for row, twin, has_moved in zip(rows, twins, moved, strict=True):
                windows, twin_has_moved = twin.advance(now_ms, T0 + 50)
                assert [plain(w) for w in plain_windows(closed, row)] == [plain(w) for w in windows]
                assert has_moved == twin_has_moved
        elif kind == "restart":
            slab, rows = restarted(slab, rows, twins, spec)
        else:
            slab.remove(rows[what])
            rows[what], twins[what] = slab.add(), Alone(spec)
        compare(slab, rows, twins)


@settings(BUSY, max_examples=100)
@given(
    length=st.integers(2, 12),
    hop=st.integers(1, 6),
    lateness_ms=st.sampled_from([0, 40]),
    flaws=st.lists(
        st.tuples(
            st.integers(0, DEVICES - 1),
            st.integers(1, 12),
            st.sampled_from([0] * 6 + [2, 3, 5, 9, 20]),
        ),
        min_size=10,
        max_size=40,
    ),
)
def test_rows_at_the_rate_and_near_it_are_resampled_alike(
    length: int, hop: int, lateness_ms: int, flaws: list[tuple[int, int, int]]
) -> None:
    spec = WindowSpec(length, hop, rate_hz=50.0, lateness_ms=lateness_ms, future_ms=10_000)
    slab, twins = StreamSlab(spec, WIDTH), [Alone(spec) for _ in range(DEVICES)]
    rows = [slab.add() for _ in range(DEVICES)]
    newest = [0] * DEVICES
    for number, (device, count, shift_ms) in enumerate(flaws):
        call = []
        for each in range(DEVICES):
            size = count if each == device else 1
            ts = [newest[each] + 20 * (i + 1) for i in range(size)]
            newest[each] = ts[-1]
            if each == device:
                ts[-1] += shift_ms  # the next one is at its grid time again
            call.append((each, sorted(set(ts)), 0, 500 * (number % 2)))  # clocks go back, too
        compare_step(slab, rows, twins, call, T0 + max(newest))
        newest = [max(t, n) for t, n in zip(newest, (c[1][-1] for c in call), strict=True)]
        newest = [n // 20 * 20 for n in newest]
        snapshots = slab.snapshots(np.array(rows))
        assert snapshots == [twin.snapshot() for twin in twins]  # one message of each: no choice


def compare_step(
    slab: StreamSlab, rows: list[int], twins: list[Alone], call: list, now_ms: int
) -> None:
    messages = []
    for device, offsets, version, later in call:
        ts = np.array([T0 + offset for offset in offsets], dtype=np.int64)
        column = np.array([offset % 997 + 1000 * version for offset in offsets])
        values = np.column_stack([column, -column]).astype(np.float32).reshape(-1, WIDTH)
        messages.append((device, ts, values, now_ms + later))
    step = slab.step(
        np.array([rows[m[0]] for m in messages], dtype=np.int32),
        np.array([len(m[1]) for m in messages], dtype=np.int64),
        np.concatenate([np.empty(0, np.int64), *(m[1] for m in messages)]),
        np.concatenate([np.empty((0, WIDTH), np.float32), *(m[2] for m in messages)]),
        np.array([m[3] for m in messages], dtype=np.int64),
    )
    windows: list[list[tuple]] = [[] for _ in rows]
    late, future, at = [], [], 0
    for i, (device, ts, values, recv_ms) in enumerate(messages):
        own = twins[device].step(ts, values, recv_ms)
        counts = (step.windowed[i], step.duplicate[i], step.corrected[i])
        assert counts == (own.windowed, own.duplicate, own.corrected)
        late += (own.late + at).tolist()
        future += (own.future + at).tolist()
        windows[device] += [plain(w) for w in own.windows]
        at += len(ts)
    assert step.late.tolist() == late
    assert step.future.tolist() == future
    for row, expected in zip(rows, windows, strict=True):
        assert [plain(w) for w in plain_windows(step.windows, row)] == expected


def restarted(
    slab: StreamSlab, rows: list[int], twins: list[Alone], spec: WindowSpec
) -> tuple[StreamSlab, list[int]]:
    """Both from the snapshots of the other one."""
    snapshots = slab.snapshots(np.array(rows, dtype=np.int32))
    other = StreamSlab(spec, WIDTH)
    restored = [other.add(twin.snapshot()) for twin in twins]
    assert len({len(each) for each in snapshots}) > 0
    twins[:] = [Alone(spec, each) for each in snapshots]
    return other, restored


def compare(slab: StreamSlab, rows: list[int], twins: list[Alone]) -> None:
    found = np.array(rows, dtype=np.int32)
    waits = slab.pending(found)
    snapshots = slab.snapshots(found)
    for row, twin, waiting, snapshot in zip(rows, twins, waits, snapshots, strict=True):
        assert waiting == twin.pending()
        found = decode_state(slab.spec, WIDTH, snapshot)
        expected = decode_state(slab.spec, WIDTH, twin.snapshot())
        assert slab.max_event_ms[row] == found.max_event_ms == expected.max_event_ms
        assert slab.watermark_ms[row] == found.watermark_ms == expected.watermark_ms
        assert slab.gaps[row] == found.gaps == expected.gaps
        assert slab.windows[row] == found.windows == expected.windows
        assert slab.counters(row).balances
        assert slab.counters(row).windowed == expected.windowed
        if slab.spec.rate_hz is None:  # else it depends on the calls how many readings wait
            assert snapshot == twin.snapshot()


def test_limits_may_change_with_a_snapshot() -> None:
    spec = WindowSpec(8, 4, gap_ms=100)
    slab = StreamSlab(spec, WIDTH)
    row = slab.add()
    for number in range(20):
        ts = T0 + 20 * np.arange(number * 3, number * 3 + 3)
        slab.step(
            np.array([row], np.int32), np.array([3]), ts, np.ones((3, WIDTH), np.float32), ts[-1:]
        )
    other = StreamSlab(dataclasses.replace(spec, lateness_ms=0, gap_ms=None), WIDTH)
    again = other.add(slab.snapshots(np.array([row], np.int32))[0])
    assert other.counters(again) == slab.counters(row)
