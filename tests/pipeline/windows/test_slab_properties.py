"""A slab gives what one windower for each device gives, for any messages in any calls."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.windows.slab import StreamSlab
from pipeline.windows.slabwindows import SlabWindows
from pipeline.windows.spec import Window, WindowSpec
from pipeline.windows.windower import DeviceWindower

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


def unpacked(found: list[SlabWindows], row: int) -> list[tuple]:
    """The windows of one row; those of different shapes in order of their ends."""
    windows = []
    for part in found:
        assert part.values.dtype == np.float32
        assert part.values.flags.c_contiguous
        assert not part.values.flags.writeable
        for i in np.flatnonzero(part.row == row).tolist():
            times = (part.start_ms, part.end_ms, part.readings, part.gaps, part.recv_ms)
            of = [int(each[i]) for each in times]
            rate = None if part.rate_hz is None else float(part.rate_hz[i])
            run = None if part.run_ms is None else int(part.run_ms[i])
            windows.append((*of, float(part.made_up[i]), rate, run, part.values[i].tolist()))
    return sorted(windows, key=lambda each: each[1]) if len(found) > 1 else windows


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
def test_slab_equals_one_windower_for_each_device(
    spec: WindowSpec, actions: list[tuple], data: st.DataObject
) -> None:
    slab = StreamSlab(spec, WIDTH)
    rows = [slab.add() for _ in range(DEVICES)]
    twins = [DeviceWindower(spec, WIDTH) for _ in range(DEVICES)]
    now_ms = T0
    for kind, what, wait_ms in actions:
        now_ms += wait_ms
        if kind == "step":
            compare_step(slab, rows, twins, what, now_ms)
        elif kind == "tick":
            closed, moved = slab.advance(np.array(rows, dtype=np.int32), now_ms, T0 + 50)
            for row, twin, has_moved in zip(rows, twins, moved, strict=True):
                before = twin.watermark_ms
                assert unpacked(closed, row) == [plain(w) for w in twin.advance(now_ms, T0 + 50)]
                assert has_moved == (twin.watermark_ms != before)
        elif kind == "restart":
            slab, rows = restarted(slab, rows, twins, spec)
        else:
            slab.remove(rows[what])
            rows[what], twins[what] = slab.add(), DeviceWindower(spec, WIDTH)
        compare(slab, rows, twins)


def compare_step(
    slab: StreamSlab, rows: list[int], twins: list[DeviceWindower], call: list, now_ms: int
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
    for row, own_windows in zip(rows, windows, strict=True):
        if len(step.windows) > 1:
            own_windows.sort(key=lambda each: each[1])
        assert unpacked(step.windows, row) == own_windows


def restarted(
    slab: StreamSlab, rows: list[int], twins: list[DeviceWindower], spec: WindowSpec
) -> tuple[StreamSlab, list[int]]:
    """Both from the snapshots of the other one."""
    snapshots = slab.snapshots(np.array(rows, dtype=np.int32))
    other = StreamSlab(spec, WIDTH)
    restored = [other.add(twin.snapshot()) for twin in twins]
    assert len({len(each) for each in snapshots}) > 0
    twins[:] = [DeviceWindower.restore(spec, WIDTH, each) for each in snapshots]
    return other, restored


def compare(slab: StreamSlab, rows: list[int], twins: list[DeviceWindower]) -> None:
    found = np.array(rows, dtype=np.int32)
    waits = slab.pending(found)
    snapshots = slab.snapshots(found)
    for row, twin, waiting, snapshot in zip(rows, twins, waits, snapshots, strict=True):
        assert slab.counters(row) == twin.counters
        assert slab.max_event_ms[row] == twin.max_event_ms
        assert slab.watermark_ms[row] == twin.watermark_ms
        assert slab.gaps[row] == twin.gaps
        assert slab.windows[row] == twin.counters.windows
        assert slab.rate_hz(row) == twin.rate_hz
        assert waiting == twin.pending
        if slab.spec.rate_hz is None:
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
