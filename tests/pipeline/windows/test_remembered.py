"""Event times behind the newest ones are remembered exactly, whatever their steps."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.windows.spec import WindowSpec
from tests.fakes.onedevice import OneDevice

T0 = 1_700_000_000_000
DAY_MS = 86_400_000


def device_after(ts: np.ndarray, size: int) -> OneDevice:
    device = OneDevice(WindowSpec(4, 1, gap_policy="mark", lateness_ms=0), 1)
    for at in range(0, len(ts), size):
        part = ts[at : at + size]
        device.step(part, part.astype(np.float32)[:, None], int(ts[-1]))
    return device


@pytest.mark.parametrize("size", [1, 7, 500, 3000])
@pytest.mark.parametrize("is_restored", [False, True])
def test_the_last_1024_times_are_known_and_older_ones_are_late(
    size: int, is_restored: bool
) -> None:
    steps = np.where(np.arange(3000) % 100 == 0, 60 * DAY_MS, 1000 + np.arange(3000) % 7)
    ts = T0 + steps.cumsum()
    device = device_after(ts, size)
    if is_restored:
        device = OneDevice.restore(device.spec, 1, device.snapshot())
    again = device.step(ts, ts.astype(np.float32)[:, None], int(ts[-1]))
    assert again.late.tolist() == list(range(3000 - 1024))
    assert again.duplicate == 1024
    assert device.rate_hz == pytest.approx(1, abs=0.01)


def test_a_step_of_49_days_and_more_is_exact_in_a_snapshot() -> None:
    ts = T0 + np.array([1, 2**32 - 2, 2**32 - 1, 2**32, 2**40]).repeat(100).cumsum()
    one, all_at_once = device_after(ts, 1), device_after(ts, 600)
    assert one.snapshot() == all_at_once.snapshot()
    assert OneDevice.restore(one.spec, 1, one.snapshot()).snapshot() == one.snapshot()
    assert one.step(ts, ts.astype(np.float32)[:, None], int(ts[-1])).duplicate == len(ts)
