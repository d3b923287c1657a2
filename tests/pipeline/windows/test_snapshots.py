"""Snapshots: compact, exact, and refused when they are anything else."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SnapshotError
from pipeline.windows.series import Series
from pipeline.windows.slab import StreamSlab
from pipeline.windows.snapshots import (
    SavedGrids,
    SavedRows,
    WindowerState,
    decode_state,
    encode_states,
)
from pipeline.windows.spec import WindowSpec
from tests.fakes.onedevice import OneDevice

T0 = 1_700_000_000_000
SPEC = WindowSpec(128, 64, gap_ms=100)


def busy_windower(jitter_ms: int = 0, spec: WindowSpec = SPEC) -> OneDevice:
    rng = np.random.default_rng(3)
    windower = OneDevice(spec, 9)
    for number in range(60):
        ts = T0 + 20 * np.arange(10 * number, 10 * number + 10)
        ts += rng.integers(0, jitter_ms + 1, size=10)
        values = rng.normal(size=(10, 9)).astype(np.float32)
        windower.step(ts, values, int(ts[-1]) + int(rng.integers(5, 90)))
    return windower


@pytest.mark.parametrize(("jitter_ms", "times_bytes"), [(0, 300), (9, 600)])
def test_snapshot_is_hardly_larger_than_the_values_it_holds(
    jitter_ms: int, times_bytes: int
) -> None:
    windower = busy_windower(jitter_ms)
    assert len(windower.snapshot()) < 128 * 9 * 4 + times_bytes


def test_restored_windower_is_the_same_and_has_memory_of_its_own() -> None:
    windower = busy_windower()
    data = windower.snapshot()
    restored = OneDevice.restore(SPEC, 9, data)
    assert restored.snapshot() == data
    assert restored.counters == windower.counters
    windower.step(np.array([T0 + 60_000]), np.ones((1, 9), np.float32), T0 + 60_000)
    assert restored.snapshot() == data


def test_snapshot_of_a_new_device() -> None:
    new = OneDevice(SPEC, 9)
    assert OneDevice.restore(SPEC, 9, new.snapshot()).snapshot() == new.snapshot()


def test_every_truncation_and_every_flipped_byte_is_refused() -> None:
    data = busy_windower().snapshot()
    for stop in range(0, len(data), 13):
        with pytest.raises(SnapshotError):
            OneDevice.restore(SPEC, 9, data[:stop])
    for at in range(0, len(data), 13):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(SnapshotError):
            OneDevice.restore(SPEC, 9, bytes(damaged))
    with pytest.raises(SnapshotError):
        OneDevice.restore(SPEC, 9, data + b"\0")


@settings(deadline=None)
@given(data=st.binary(max_size=200), magic=st.booleans())
def test_foreign_bytes_are_refused(data: bytes, magic: bool) -> None:
    with pytest.raises(SnapshotError):
        OneDevice.restore(SPEC, 9, b"KPW3" + data if magic else data)


def test_snapshot_of_other_windows_is_refused_and_says_which() -> None:
    data = busy_windower().snapshot()
    with pytest.raises(SnapshotError, match=r"length=128 hop=64.* needs length=30 hop=1"):
        OneDevice.restore(WindowSpec(30, 1), 9, data)
    with pytest.raises(SnapshotError, match=r"channels=9, .* channels=6"):
        OneDevice.restore(SPEC, 6, data)


def as_second_format(data: bytes) -> bytes:
    """A snapshot without resampling as the format KPW2 had it: without the last 20 bytes."""
    assert data[-20:] == bytes(20)
    return b"KPW2" + zlib.crc32(data[8:-20]).to_bytes(4, "little") + data[8:-20]


def test_a_snapshot_of_the_second_format_is_read() -> None:
    data = busy_windower().snapshot()
    assert OneDevice.restore(SPEC, 9, as_second_format(data)).snapshot() == data


def test_a_run_of_the_second_format_is_resampled_from_now_on() -> None:
    rated = dataclasses.replace(SPEC, rate_hz=50.0)
    was, always = busy_windower(), busy_windower(spec=rated)
    now = OneDevice.restore(rated, 9, as_second_format(was.snapshot()))
    ts = T0 + 20 * np.arange(600, 900)
    values = np.random.default_rng(4).normal(size=(300, 9)).astype(np.float32)
    steps = [w.step(ts, values, int(ts[-1])).windows for w in (was, always, now)]
    plain = [[(w.start_ms, w.end_ms, w.readings, w.values.tolist()) for w in ws] for ws in steps]
    assert len(plain[0]) == 4
    assert plain[0] == plain[1] == plain[2]


def test_another_rate_begins_a_new_run_and_keeps_the_counters() -> None:
    rated = dataclasses.replace(SPEC, rate_hz=50.0)
    windower = busy_windower(spec=rated)
    for spec in (SPEC, dataclasses.replace(SPEC, rate_hz=25.0)):
        restored = OneDevice.restore(spec, 9, windower.snapshot())
        assert restored.counters == windower.counters
        assert restored.max_event_ms == windower.max_event_ms
        ts = T0 + 20 * np.arange(600, 600 + 300)
        values = np.zeros((300, 9), np.float32)
        windows = restored.step(ts, values, int(ts[-1])).windows
        assert windows[0].start_ms >= T0 + 20 * 590, "readings from before are in no window"


def test_a_damaged_resampler_is_refused() -> None:
    rated = dataclasses.replace(SPEC, rate_hz=50.0)
    data = busy_windower(9, rated).snapshot()
    assert OneDevice.restore(rated, 9, data).snapshot() == data
    for stop in range(0, len(data), 13):
        with pytest.raises(SnapshotError):
            OneDevice.restore(rated, 9, data[:stop])
    state = decode_state(rated, 9, data)
    assert encode_states(rated, 9, as_rows(state)) == [data]
    assert state.grid is not None
    grid = dataclasses.replace(state.grid, resampler=state.grid.resampler[8:])
    (odd,) = encode_states(rated, 9, as_rows(dataclasses.replace(state, grid=grid)))
    with pytest.raises(SnapshotError, match="resampler of 9 channels"):
        OneDevice.restore(rated, 9, odd)


def as_rows(state: WindowerState) -> SavedRows:
    grid = state.grid
    assert grid is not None
    count = np.array([len(grid.ts_ms)])
    return SavedRows(
        numbers=np.array([state.numbers]),
        released=np.array([state.released]),
        times=Series.of(state.ts_ms, np.array([len(state.ts_ms)])),
        recv=Series.of(state.recv_ms, np.array([len(state.recv_ms)])),
        values=state.values,
        versions=[state.versions.tobytes()],
        grid=SavedGrids(
            rate_hz=grid.rate_hz,
            waiting=np.array([grid.waiting]),
            resamplers=np.frombuffer(grid.resampler, dtype=np.int64)[None],
            times=Series.of(grid.ts_ms, count),
            recv=Series.of(grid.recv_ms, count),
            values=grid.values,
        ),
    )


def test_snapshots_of_many_rows_are_those_of_each() -> None:
    rng = np.random.default_rng(5)
    steps = (0, 1, 200, 70_000, 2**33)
    slab = StreamSlab(SPEC, 9)
    rows = np.array([slab.add() for _ in range(40)], dtype=np.int32)
    for row in rows[1:]:
        count = int(rng.integers(1, 300))
        ts = T0 + (20 + rng.integers(0, rng.choice(steps) + 1, size=count)).cumsum()
        values = rng.normal(size=(count, 9)).astype(np.float32)
        slab.step(np.array([row]), np.array([count]), ts, values, ts[-1:])
    found = slab.snapshots(rows)
    for row, data in zip(rows, found, strict=True):
        assert slab.snapshots(rows[row : row + 1]) == [data]
        assert OneDevice.restore(SPEC, 9, data).snapshot() == data
    assert slab.snapshots(rows[:0]) == []


def test_a_snapshot_of_the_first_format_is_read() -> None:
    data = busy_windower().snapshot()
    body = bytearray(data[8:-20])
    spec, numbers = 45, 8 * 12 + 16  # bytes of the head, then 12 numbers and 4 counts
    corrected, versions = spec + 8 * 11, spec + numbers - 4
    assert body[corrected : corrected + 8] == body[versions : versions + 4] * 2 == bytes(8)
    former = bytes(body[:corrected] + body[corrected + 8 : versions] + body[versions + 4 :])
    old = b"KPW1" + zlib.crc32(former).to_bytes(4, "little") + former
    assert OneDevice.restore(SPEC, 9, old).snapshot() == data


def test_limits_may_change_between_snapshot_and_restore() -> None:
    other = dataclasses.replace(SPEC, lateness_ms=0, idle_ms=9, future_ms=1, gap_ms=None)
    restored = OneDevice.restore(other, 9, busy_windower().snapshot())
    assert restored.spec.lateness_ms == 0
