"""A window rebuilt from the log is the window that was scored, in any order of arrival."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import numpy as np
import pytest

from pipeline.errors import ReadingsGone
from pipeline.explain.logscan import LogFile
from pipeline.explain.rebuild import rebuild_window
from pipeline.explain.scores import DeviceStream, find_score
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings
from tests.pipeline.explain.plant import CHANNELS, STEP, T0, WHERE, Plant, line, tick

MUCH = 10**9


def rebuilt(plant: Plant, end_ms: int, max_bytes: int = MUCH) -> np.ndarray:
    spec = stream_plan(plant.student.manifest, PipelineSettings()).spec
    score = find_score(plant.results, WHERE, end_ms - 1)
    assert score.end_ms == end_ms
    found = rebuild_window(LogFile(plant.folder / "log.db"), score, spec, CHANNELS, max_bytes)
    assert found.ts_ms[-1] == end_ms - 1
    assert found.ts_ms[0] == score.start_ms
    assert (np.diff(found.ts_ms) >= 0).all()
    return found.values


@pytest.mark.parametrize("seed", range(3))
def test_every_window_of_a_disturbed_stream_is_rebuilt(plant: Plant, seed: int) -> None:
    # Late readings (behind the lateness of two steps), duplicates, gaps, silence, another device.
    random = Random(seed)
    numbers = [n for n in range(80) if random.random() > 0.1]
    order = sorted(numbers, key=lambda n: n + random.choice((*[0] * 8, 1.5, 6)))
    latest, sent = 0, [0]
    while order:
        count = random.choice((1, 1, 2, 5))
        message, order = order[:count], order[count:]
        sent += message
        message = message + random.choices(sent[-8:], k=random.choice((0, 0, 1)))
        latest = max(latest, *message)
        other = line([latest], device=f"press-{random.randrange(2, 9)}")
        plant.send(line(message, recv=latest), other)
        if random.random() < 0.2:
            plant.send(tick(latest + random.choice((1, 30))))
    plant.send(tick(latest + 100))
    plant.store()
    windows = [item for item in plant.windows() if item.device == WHERE.device]
    assert len(windows) > 30
    accounts = {account.device: account for account in plant.devices.accounts()}
    assert accounts[WHERE.device].late > 0
    assert accounts[WHERE.device].duplicate > 0
    for item in windows:
        np.testing.assert_array_equal(
            rebuilt(plant, item.window.end_ms), item.window.values, strict=True
        )


def test_every_resampled_window_of_a_disturbed_stream_is_rebuilt(tmp_path: Path) -> None:
    # The student wants 50 Hz and gets 10 Hz, in two runs, with duplicates and disorder.
    plant = Plant.make(tmp_path, task="activity")
    names = plant.student.manifest.channel_names
    random = Random(1)
    order = sorted([*range(200), *range(500, 800)], key=lambda n: n + random.choice((0, 0, 1.5)))
    latest = 0
    while order:
        message, order = order[:3], order[3:]
        latest = max(latest, *message)
        plant.send(line([*message, message[0]], recv=latest, stream="imu", channels=names))
    plant.send(tick(latest + 100))
    plant.store()
    spec = stream_plan(plant.student.manifest, PipelineSettings()).spec
    windows = [item.window for item in plant.windows()]
    assert len(windows) > 500
    assert {window.run_ms for window in windows} == {T0, T0 + 500 * STEP}
    where = DeviceStream("plant", "press-1", "imu")
    for window in windows[::23]:
        score = find_score(plant.results, where, window.end_ms - 1)
        assert (score.end_ms, score.run_ms) == (window.end_ms, window.run_ms)
        found = rebuild_window(LogFile(tmp_path / "log.db"), score, spec, names, MUCH)
        np.testing.assert_array_equal(found.values, window.values, strict=True)
        assert found.ts_ms.tolist() == list(range(window.start_ms, window.end_ms, 20))
    explained = plant.explainer().explain(where, None, MUCH)
    assert explained.is_same_score
    plant.close()


def test_a_window_whose_first_reading_has_left_the_log_is_refused(plant: Plant) -> None:
    for number in range(8):
        plant.send(line([number]))
    plant.send(tick(50))
    plant.store()
    first = plant.windows()[0].window
    rebuilt(plant, first.end_ms)
    with closing(sqlite3.connect(plant.folder / "log.db")) as db:  # as retention does
        db.execute("DELETE FROM records WHERE id = (SELECT min(id) FROM records)")
        db.commit()
    with pytest.raises(ReadingsGone, match="no longer holds all readings of plant/press-1/engine"):
        rebuilt(plant, first.end_ms)
    rebuilt(plant, plant.windows()[-1].window.end_ms)


def test_the_search_ends_at_its_limit(plant: Plant) -> None:
    for number in range(0, 400, 10):
        plant.send(line(range(number, number + 10)))
    plant.send(tick(450))
    plant.store()
    windows = [item.window for item in plant.windows()]
    for window in windows[-1], windows[200]:  # the second needs more than was read for the first
        np.testing.assert_array_equal(rebuilt(plant, window.end_ms), window.values)
    rebuilt(plant, windows[-1].end_ms, max_bytes=3000)
    with pytest.raises(ReadingsGone, match="behind the last 0 MB"):
        rebuilt(plant, windows[0].end_ms, max_bytes=3000)


def test_readings_far_in_the_future_decide_nothing(plant: Plant) -> None:
    for number in range(10):
        plant.send(line([number]))
        plant.send(line([10**6], recv=number))  # a wrong clock, refused by the stream
    plant.send(tick(50))
    plant.store()
    for item in plant.windows():
        np.testing.assert_array_equal(rebuilt(plant, item.window.end_ms), item.window.values)
    assert plant.windows()[-1].window.end_ms == T0 + 9 * STEP + 1


def test_another_log_has_no_window(plant: Plant, tmp_path: Path) -> None:
    for number in range(6):
        plant.send(line([number]))
    plant.store()
    score = find_score(plant.results, WHERE)
    spec = stream_plan(plant.student.manifest, PipelineSettings()).spec
    other = Plant.make(tmp_path / "other")
    with pytest.raises(ReadingsGone, match="KPSTREAM_GATEWAY_LOG_HOURS"):
        rebuild_window(LogFile(tmp_path / "other" / "log.db"), score, spec, CHANNELS, MUCH)
    other.close()
