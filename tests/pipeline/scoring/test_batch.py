import json
from dataclasses import replace

import numpy as np
import pytest

from models.artifact import read_artifact, write_artifact
from models.dummy import _value, dummy_draft, dummy_onnx, encode_field, write_dummy
from models.errors import ScoreFailed
from models.features import pad_front
from models.features import slice_windows as slice_offline
from models.session import Student
from models.tasks.classes import Unknown
from models.tasks.contract import Scores
from models.tasks.familiarity import Familiarity
from models.tasks.rul import RUL
from models.zoo import zoo_path
from pipeline.points.scores import decode_scores, points_of
from pipeline.windows import spec as windowspec
from pipeline.windows.spec import Window
from tests.fakes.onedevice import OneDevice
from tests.fakes.scores import Closed, encode_records, score_closed
from tests.models.tasks.test_familiarity import AT_TOP
from tests.models.test_session import with_nodes


@pytest.fixture
def students(tmp_path) -> dict[str, Student]:
    return {
        "engine": Student(write_dummy(tmp_path / "rul", "rul", version=3)),
        "imu": Student(write_dummy(tmp_path / "har", "activity")),
    }


def closed(stream: str, device: str, seed: int, end_ms: int = 1000) -> Closed:
    length = {"engine": 4, "imu": 8}.get(stream, 4)
    values = np.random.default_rng(seed).normal(0, 1, (length, 3)).astype(np.float32)
    window = Window(end_ms - 100, end_ms, values, length, 0, end_ms + 7)
    return Closed("plant", device, stream, window)


def test_a_rul_record_has_every_field_of_the_contract(students):
    scored = score_closed([closed("engine", "e1", 0)], students.get, scored_ms=2000)
    (record,) = scored.records
    assert not scored.unscored
    rul = float(students["engine"].score(closed("engine", "e1", 0).window.values[None]).rul[0])
    assert record == {
        "task": "rul",
        "site": "plant",
        "device": "e1",
        "stream": "engine",
        "model": "dummy-rul",
        "version": 3,
        "start_ms": 900,
        "end_ms": 1000,
        "readings": 4,
        "gaps": 0,
        "recv_ms": 1007,
        "scored_ms": 2000,
        "rul": rul,
        "rul_low": pytest.approx(max(rul - 20, 0)),
        "rul_high": pytest.approx(min(rul + 15, 125)),
        "quality": "good",
    }


def test_a_window_out_of_the_range_of_training_has_its_score_and_a_flag():
    student = Student(read_artifact(zoo_path("rul-fd001")))
    shape = (student.manifest.window.length, len(student.manifest.channels))
    item = closed("engine", "e1", 0)
    nonsense = replace(item, window=replace(item.window, values=np.full(shape, 20, np.float32)))
    (record,) = score_closed([nonsense], {"engine": student}.get, scored_ms=2000).records
    assert record["rul"] == pytest.approx(float(student.score(nonsense.window.values[None]).rul[0]))
    assert record["quality"].startswith("range: T24, T30")
    assert points_of([record])[0].fields[-1] == ("quality", record["quality"])


def test_an_unfamiliar_window_is_doubtful_with_a_wide_interval_and_raises_no_alarm(tmp_path):
    rule = Familiarity(limit=1.0, whole=1.5, rejects=0.03)
    graph = with_nodes(dummy_draft(), *AT_TOP, extra=encode_field(12, _value("distance", ())))
    decoding = dummy_draft().decoding.model_copy(update={"familiar": rule})
    draft = dummy_draft().model_copy(update={"decoding": decoding})
    student = Student(write_artifact(tmp_path / "a", draft, graph))
    items = [closed("engine", "e1", seed) for seed in range(5)]
    scored = score_closed(items, {"engine": student}.get, scored_ms=2000)
    for record in scored.records:
        assert record["quality"] == "unfamiliar"
        assert (record["rul_low"], record["rul_high"]) == (0, 125)
        assert RUL.is_alarming(record) is None
    assert "distance" not in scored.records[0]


def test_a_batch_has_the_figures_of_its_valid_windows(students):
    items = [closed("engine", "e1", 0), closed("engine", "e2", 1), closed("engine", "e3", 2)]
    items[2].window.values[:] = np.nan
    scored = score_closed([*items, closed("imu", "p1", 1)], students.get, 2000)
    engine, imu = scored.health
    assert (engine.student, engine.windows) == (("dummy-rul", 3), 2)
    assert engine.means["mean"] == pytest.approx(np.mean([r["rul"] for r in scored.records[:2]]))
    assert (imu.student, imu.windows) == (("dummy-activity", 1), 1)
    nothing = score_closed([items[2]], students.get, 2000)
    assert (nothing.health, len(nothing.unscored)) == ([], 1)


def test_an_activity_record_names_class_and_probabilities(students):
    (record,) = score_closed([closed("imu", "p1", 0)], students.get, 2000).records
    assert record["task"] == "activity"
    probabilities = record["probabilities"]
    assert list(probabilities) == ["WALKING", "SITTING", "LAYING"]
    assert record["probability"] == probabilities[record["activity"]] == max(probabilities.values())
    assert "rul" not in record


def test_an_uncertain_window_is_recorded_as_unknown_with_its_probabilities(tmp_path):
    draft = dummy_draft("activity")
    decoding = draft.decoding.model_copy(update={"unknown": Unknown(threshold=0.999, rejects=0.0)})
    draft = draft.model_copy(update={"decoding": decoding})
    student = Student(write_artifact(tmp_path / "har", draft, dummy_onnx(draft)))
    (record,) = score_closed([closed("imu", "p1", 0)], lambda stream: student, 2000).records
    assert record["activity"] == "unknown"
    assert record["probability"] == max(record["probabilities"].values()) < 0.999
    assert list(record["probabilities"]) == ["WALKING", "SITTING", "LAYING"]
    (point,) = points_of([record])
    assert dict(point.fields)["activity"] == "unknown"


def test_a_record_of_a_resampled_window_says_how_it_was_made(students):
    spec = windowspec.WindowSpec(length=8, hop=4, lateness_ms=0, rate_hz=50.0)
    readings = np.random.default_rng(0).normal(0, 1, (40, 3)).astype(np.float32)
    step = OneDevice(spec, 3).step(np.arange(40) * 40 + 10**12, readings, 10**12 + 2000)
    items = [Closed("plant", "p1", "imu", window) for window in step.windows]
    records = score_closed(items, students.get, 10**12 + 2000).records
    assert len(records) == len(items) > 10
    for record in decode_scores(encode_records(records)):
        assert record["rate_hz"] == pytest.approx(25, abs=4)
        assert (record["made_up"], record["run_ms"], record["gaps"]) == (0.5, 10**12, 0)
    plain = score_closed([closed("imu", "p1", 0)], students.get, 2000).records[0]
    assert {"rate_hz", "made_up", "run_ms"}.isdisjoint(plain)


def test_records_are_plain_json(students):
    items = [closed("engine", "e1", 0), closed("imu", "p1", 1)]
    records = score_closed(items, students.get, 2000).records
    assert json.loads(json.dumps(records)) == records


def test_records_pass_through_the_log_and_become_points(students):
    items = [closed("engine", "e1", 0), closed("imu", "p1", 1)]
    records = score_closed(items, students.get, 2000).records
    assert decode_scores(encode_records(records)) == records
    points = points_of(records)
    assert [point.measurement for point in points] == ["rul", "activity"]
    assert points_of(score_closed(items, students.get, 2000).records) == points


def test_windows_of_the_windower_are_scored_and_stored(students):
    spec = windowspec.WindowSpec(length=4, hop=1, lateness_ms=0)
    readings = np.random.default_rng(0).normal(0, 1, (10, 3)).astype(np.float32)
    step = OneDevice(spec, 3).step(np.arange(10) * 1000 + 10**12, readings, 10**12 + 9000)
    items = [Closed("plant", "e1", "engine", window) for window in step.windows]
    records = score_closed(items, students.get, 10**12 + 9001).records
    offline = students["engine"].score(slice_offline(readings, 4, 1)).rul
    np.testing.assert_allclose([record["rul"] for record in records], offline, atol=1e-4)
    assert decode_scores(encode_records(records)) == records


def test_streams_and_devices_are_scored_together_and_kept_apart(students):
    items = [
        closed("engine" if n % 3 else "imu", f"d{n % 5}", n, end_ms=1000 + n) for n in range(40)
    ]
    records = score_closed(items, students.get, 5000).records
    assert len(records) == 40
    for item in items:
        alone = score_closed([item], students.get, 5000).records[0]
        together = next(r for r in records if r["end_ms"] == item.window.end_ms)
        assert {k: v for k, v in together.items() if k not in FLOATS} == {
            k: v for k, v in alone.items() if k not in FLOATS
        }
        for name in FLOATS & alone.keys():
            assert together[name] == pytest.approx(alone[name], abs=1e-4)
    engines = [r["end_ms"] for r in records if r["stream"] == "engine"]
    assert engines == sorted(engines)


FLOATS = {"rul", "rul_low", "rul_high", "probability", "probabilities"}


def test_a_window_that_cannot_be_scored_is_returned_with_its_reason(students):
    broken = closed("engine", "e1", 0)
    broken.window.values[2, 1] = np.inf
    short = closed("imu", "p9", 1)
    items = [broken, closed("engine", "e2", 1), closed("heat", "h1", 2),
             Closed("plant", "p9", "engine", short.window)]  # fmt: skip
    scored = score_closed(items, students.get, 2000)
    assert [r["device"] for r in scored.records] == ["e2"]
    reasons = {(u.device, u.stream): u.reason for u in scored.unscored}
    assert "no finite score" in reasons["e1", "engine"]
    assert "no student scores the stream 'heat'" in reasons["h1", "heat"]
    assert "dummy-rul needs (4, 3)" in reasons["p9", "engine"]
    assert len(scored.records) + len(scored.unscored) == len(items)


def test_the_student_is_looked_up_once_per_call(students):
    looks: list[str] = []

    def student_of(stream: str) -> Student | None:
        looks.append(stream)
        return students.get(stream)

    score_closed([closed("engine", "e1", n) for n in range(9)], student_of, 2000)
    assert looks == ["engine"]


class Failing:
    """A student that raises over every batch with a window whose first reading is `trap`."""

    def __init__(self, student: Student, trap: float = 99.0) -> None:
        self.student, self.trap, self.calls = student, trap, 0
        self.manifest = student.manifest

    def score(self, windows: np.ndarray) -> Scores:
        self.calls += 1
        if (windows[:, 0, 0] == self.trap).any():
            message = "out of memory"
            raise ScoreFailed(message)
        return self.student.score(windows)


def test_a_student_that_raises_loses_only_the_windows_over_which_it_raises(students):
    failing = Failing(students["engine"])
    items = [closed("engine", f"e{n}", n) for n in range(20)]
    for n in (3, 4, 17):
        items[n].window.values[0, 0] = failing.trap
    imu = closed("imu", "p1", 1)
    student_of = {"engine": failing, "imu": students["imu"]}.get
    scored = score_closed([*items, imu], student_of, 2000)
    assert [u.device for u in scored.unscored] == ["e3", "e4", "e17"]
    assert {u.reason for u in scored.unscored} == {
        "dummy-rul v3 failed over it: ScoreFailed: out of memory"
    }
    others = [item for item in items if item.window.values[0, 0] != failing.trap]
    alone = score_closed(others, students.get, 2000)
    found = [r for r in scored.records if r["stream"] == "engine"]
    assert [r["device"] for r in found] == [r["device"] for r in alone.records]
    np.testing.assert_allclose(
        [r["rul"] for r in found], [r["rul"] for r in alone.records], atol=1e-3
    )
    assert [r["device"] for r in scored.records if r["stream"] == "imu"] == ["p1"]
    assert failing.calls < 2 * len(items)


def test_a_student_that_raises_over_everything_stops_no_other_stream(students):
    items = [closed("engine", "e1", 0), closed("imu", "p1", 1)]
    items[0].window.values[0, 0] = 99.0
    student_of = {"engine": Failing(students["engine"]), "imu": students["imu"]}.get
    scored = score_closed(items, student_of, 2000)
    assert [r["stream"] for r in scored.records] == ["imu"]
    assert [u.stream for u in scored.unscored] == ["engine"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_rescued_batch_is_scored_by_the_other_student_as_a_whole(students, tmp_path, broken):
    former = Student(write_dummy(tmp_path / "former", "rul", version=2, seed=5))
    items = [closed("engine", f"e{n}", n) for n in range(6)]
    asked = []

    def rescue(failed, windows, scores, error):
        asked.append((failed.manifest.version, len(windows), scores, error))
        return former, former.score(windows)

    if broken:
        items[2].window.values[0, 0] = 99.0
    student = Failing(students["engine"])
    scored = score_closed(items, lambda _: student, 2000, rescue)
    if not broken:
        assert not asked
        assert {r["version"] for r in scored.records} == {3}
        return
    assert asked == [(3, 6, None, "ScoreFailed: out of memory")]
    assert scored.records == score_closed(items, lambda _: former, 2000).records
    assert (scored.unscored, scored.health[0].student) == ([], ("dummy-rul", 2))


def test_a_window_that_is_not_finite_asks_for_no_rescue(students):
    items = [closed("engine", "e1", 0), closed("engine", "e2", 1)]
    items[0].window.values[1, 1] = np.nan
    rescue = pytest.fail
    scored = score_closed(items, students.get, 2000, rescue)
    assert (len(scored.records), len(scored.unscored)) == (1, 1)


def test_an_empty_batch_has_no_scores(students):
    scored = score_closed([], students.get, 2000)
    assert (scored.records, scored.unscored) == ([], [])


@pytest.mark.parametrize(("length", "hop"), [(4, 1), (4, 3), (3, 5), (1, 1), (20, 1)])
def test_training_cuts_the_windows_that_the_gateway_cuts(length, hop):
    readings = np.random.default_rng(0).normal(0, 1, (17, 2)).astype(np.float32)
    spec = windowspec.WindowSpec(length=length, hop=hop)
    online = windowspec.slice_windows(np.arange(17, dtype=np.int64), readings, spec)
    offline = slice_offline(readings, length, hop)
    assert len(online) == len(offline)
    for window, values in zip(online, offline, strict=True):
        np.testing.assert_array_equal(window.values, values)


def test_training_pads_as_the_gateway_pads():
    readings = np.random.default_rng(0).normal(0, 1, (3, 2)).astype(np.float32)
    np.testing.assert_array_equal(windowspec.front_padded(readings, 5), pad_front(readings, 5))
