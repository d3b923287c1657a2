"""Explanations of stored scores: the student that gave them, the window that it saw."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest

from models.dummy import write_dummy
from models.explain import explain
from models.registry import Registry
from pipeline.errors import NoScore, NoStudent, ReadingsGone
from pipeline.explain.explainer import explained_json
from pipeline.explain.scores import DeviceStream
from pipeline.points.points import Point
from tests.fakes.scores import records_of
from tests.pipeline.explain.plant import CHANNELS, STEP, T0, WHERE, Plant, line, tick

MUCH = 10**9


@pytest.fixture
def scored(plant: Plant) -> Plant:
    for number in range(8):
        plant.send(line([number]))
    plant.send(tick(50))
    plant.store()
    return plant


def test_the_newest_score_is_explained_by_the_student_that_gave_it(scored: Plant) -> None:
    found = scored.explainer().explain(WHERE, None, MUCH)
    window = scored.windows()[-1].window
    wanted = explain(scored.student, window.values)
    assert (found.is_same_student, found.is_same_score) == (True, True)
    assert found.score.fields["rul"] == pytest.approx(wanted.fields["rul"])
    assert found.report.number == "remaining useful life"
    assert found.report.baseline == "mean"  # the dummy does not know its range
    by_name = {channel.name: channel for channel in found.report.channels}
    for place, name in enumerate(CHANNELS):
        channel = by_name[name]
        np.testing.assert_allclose(channel.spans, wanted.effect.spans[:, place])
        assert channel.effect == pytest.approx(wanted.effect.channels[place])
        assert channel.value == window.values[-1, place]
        assert channel.seen is None
    assert [channel.name for channel in found.report.channels] == [
        CHANNELS[place] for place in wanted.order
    ]
    assert found.report.spans == tuple((T0 + STEP * n, T0 + STEP * n) for n in range(4, 8))
    first = found.report.channels[0]
    verb = "raises" if first.effect > 0 else "lowers"
    assert found.report.text.startswith(
        f"{first.name} {verb} the remaining useful life by {abs(first.effect):.3g} cycles, "
        "compared with the mean of the window"
    )


def test_an_explanation_is_json(scored: Plant) -> None:
    page = orjson.loads(orjson.dumps(explained_json(scored.explainer().explain(WHERE, None, MUCH))))
    assert (page["device"], page["task"], page["version"]) == ("press-1", "rul", 1)
    assert page["score"]["rul"] == pytest.approx(records_of(scored.scored[-1][1])[-1]["rul"])
    assert len(page["explanation"]["channels"]) == 3
    assert len(page["explanation"]["spans"]) == len(page["explanation"]["channels"][0]["spans"])


def test_a_version_that_is_gone_is_replaced_by_the_stable_one_and_that_is_said(
    scored: Plant, tmp_path: Path
) -> None:
    registry = Registry(scored.folder / "registry")
    registry.publish(write_dummy(tmp_path / "second", seed=5).path, stable=True)
    explainer = scored.explainer()
    assert explainer.explain(WHERE, None, MUCH).report.version == 1
    shutil.rmtree(registry.version_path("dummy-rul", 1))
    found = explainer.explain(WHERE, None, MUCH)
    assert (found.score.version, found.report.version) == (1, 2)
    assert not found.is_same_student
    shutil.rmtree(registry.root / "dummy-rul")
    with pytest.raises(NoStudent, match="the registry has no dummy-rul"):
        explainer.explain(WHERE, None, MUCH)


def test_a_score_that_comes_out_otherwise_is_reported(scored: Plant) -> None:
    score = scored.explainer().explain(WHERE, None, MUCH).score
    tags = (*zip(("site", "device", "stream"), WHERE, strict=True), ("model", "dummy-rul"))
    changed = (("rul", score.fields["rul"] + 1.0),)
    scored.results.write([Point("rul", tags, changed, score.end_ms * 1_000_000)])
    assert not scored.explainer().explain(WHERE, None, MUCH).is_same_score


def test_what_cannot_be_explained_says_why(scored: Plant) -> None:
    explainer = scored.explainer()
    with pytest.raises(NoScore):
        explainer.explain(DeviceStream("plant", "nobody", "engine"), None, MUCH)
    with pytest.raises(NoScore):
        explainer.explain(WHERE, T0 - 10**6, MUCH)
    scored.log.close()
    (scored.folder / "log.db").unlink()
    with pytest.raises(ReadingsGone, match=r"there is no log at .*log\.db"):
        explainer.explain(WHERE, None, MUCH)
    assert explainer.readings(WHERE, 10, MUCH)["readings"] == []


def test_readings_come_with_the_units_of_the_student(scored: Plant) -> None:
    page = scored.explainer().readings(WHERE, 3, MUCH)
    assert [channel["name"] for channel in page["channels"]] == list(CHANNELS)
    assert [channel["unit"] for channel in page["channels"]] == ["R", "R", "rpm"]
    assert [row[0] for row in page["readings"]] == [T0 + STEP * number for number in (5, 6, 7)]
    unknown = scored.explainer().readings(DeviceStream("plant", "nobody", "engine"), 3, MUCH)
    assert unknown == {"channels": [], "readings": []}


def test_an_anomaly_score_is_explained_from_its_own_measurement(tmp_path: Path) -> None:
    plant = Plant.make(tmp_path, task="forecast")
    names = plant.student.manifest.channel_names
    for number in range(0, 120, 10):  # one a second
        plant.send(line([number], stream="power", channels=names))
    plant.send(tick(150))
    plant.store()
    where = DeviceStream("plant", "press-1", "power")
    found = plant.explainer().explain(where, None, MUCH)
    record = records_of(plant.scored[-1][1])[-1]
    assert found.is_same_score
    assert found.score.fields["score"] == pytest.approx(record["score"])
    assert found.report.baseline == "expected"
    numbers = [found.report.number, *(other["number"] for other in found.report.others)]
    assert {"anomaly score", "oddness of all channels"} < set(numbers)
    assert all(set(other["effects"]) == set(names) for other in found.report.others)
    if found.report.number != "anomaly score":
        assert found.report.text.startswith("No channel alone moves the anomaly score. ")
    assert orjson.loads(orjson.dumps(explained_json(found)))["task"] == "forecast"
    plant.close()
