"""The newest raw readings of a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.explain.logscan import LogFile, LogScan
from pipeline.explain.readings import newest_readings
from pipeline.explain.scores import DeviceStream
from tests.pipeline.explain.plant import CHANNELS, STEP, T0, WHERE, Plant, line, values_at

MUCH = 10**9


def numbers(plant: Plant, last: int, max_bytes: int = MUCH) -> list[int]:
    found = newest_readings(LogFile(plant.folder / "log.db"), WHERE, CHANNELS, last, max_bytes)
    for at, row in zip(found.ts_ms.tolist(), found.values, strict=True):
        np.testing.assert_array_equal(row, np.float32(values_at((at - T0) // STEP)))
    return [(at - T0) // STEP for at in found.ts_ms.tolist()]


def test_they_are_the_last_ones_in_order_of_event_time_each_once(plant: Plant) -> None:
    plant.send(line([0, 1, 2]), line([7], device="press-2"))
    plant.send(line([4, 3]), line([5]))
    plant.send(line([5]), line([6]))
    assert numbers(plant, 100) == [0, 1, 2, 3, 4, 5, 6]
    assert numbers(plant, 3) == [5, 6]  # one of the last three came twice
    assert numbers(plant, 4) == [3, 4, 5, 6]


def test_another_stream_of_the_device_and_unknown_devices_have_their_own(plant: Plant) -> None:
    plant.send(line([0]))
    log = plant.folder / "log.db"
    other = newest_readings(LogFile(log), DeviceStream("plant", "press-1", "imu"), None, 10, MUCH)
    assert (other.channels, len(other.ts_ms)) == ((), 0)
    own = newest_readings(LogFile(log), WHERE, None, 10, MUCH)
    assert own.channels == CHANNELS
    assert newest_readings(LogFile(log), WHERE, ("T24", "missing"), 10, MUCH).values.shape == (0, 2)


def test_no_more_of_the_log_is_read_than_allowed(plant: Plant) -> None:
    for number in range(50):
        plant.send(line([number]))
    some = numbers(plant, 100, max_bytes=1000)
    assert 2 <= len(some) < 20
    assert some[-1] == 49
    scan = LogScan(LogFile(plant.folder / "log.db"), WHERE, 1000)
    assert len(list(scan)) == len(some)
    assert scan.cut_short
    assert scan.bytes <= 1000


def test_a_log_without_readings_has_none(tmp_path: Path) -> None:
    plant = Plant.make(tmp_path)
    assert numbers(plant, 10) == []
    plant.close()
