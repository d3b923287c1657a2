"""The familiarity of students of numbers: rule, widened interval, and graphs that break it."""

import numpy as np
import pytest
from pydantic import ValidationError

from models.artifact import write_artifact
from models.dummy import dummy_draft, encode_field
from models.errors import SelfTestFailed, ShapeMismatch
from models.manifest import Draft
from models.session import Student
from models.tasks.familiarity import MAX_DISTANCE, Familiarity, widen
from models.tasks.rul import RUL, RulDecoding, RulScores
from tests.models.test_session import _value, windows, with_nodes

RULE = Familiarity(limit=8.0, whole=12.0, rejects=0.03)
AT_TOP = (("Identity", ["raw"], "rul"), ("Sqrt", ["raw"], "distance"))


def familiar_draft() -> Draft:
    decoding = dummy_draft().decoding.model_copy(update={"familiar": RULE})
    return dummy_draft().model_copy(update={"decoding": decoding})


def student(tmp_path, *ops: tuple[str, list[str], str]) -> Student:
    graph = with_nodes(dummy_draft(), *ops, extra=encode_field(12, _value("distance", ())))
    return Student(write_artifact(tmp_path / "a", familiar_draft(), graph))


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_never_narrows_as_the_distance_grows(seed):
    random = np.random.default_rng(seed)
    ends = np.sort(random.uniform(0, 125, 2)).astype(np.float32)
    limit = random.uniform(0.1, 50)
    rule = Familiarity(limit=limit, whole=random.uniform(limit + 1e-3, MAX_DISTANCE), rejects=0.0)
    distances = np.linspace(0, MAX_DISTANCE, 1000, dtype=np.float32)
    low, high = widen(*(np.full(1000, end) for end in ends), distances, rule, (0, 125))
    assert (np.diff(low) <= 0).all()
    assert (np.diff(high) >= 0).all()
    near, far = distances <= limit, distances >= rule.whole + 1e-3
    assert set(low[near]) <= {ends[0]}
    assert set(high[near]) <= {ends[1]}
    np.testing.assert_allclose(low[far], 0, atol=1e-4)
    np.testing.assert_allclose(high[far], 125, atol=1e-4)


def test_an_end_at_its_bound_stays_there():
    ends = np.zeros(500, np.float32), np.full(500, 125, np.float32)
    low, high = widen(*ends, np.linspace(0, 20, 500, dtype=np.float32), RULE, (0, 125))
    assert set(low) == {0}
    assert set(high) == {125}


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 0.0},
        {"limit": 12.0},
        {"whole": 7.0},
        {"whole": 101.0},
        {"rejects": 1.1},
        {"limit": float("nan")},
        {"output": "features"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        Familiarity.model_validate(RULE.model_dump() | change)


def test_a_manifest_without_a_familiarity_is_what_it_was():
    content = dummy_draft().decoding.model_dump()
    assert "familiar" not in content
    assert RUL.answer.outputs(RulDecoding.model_validate(content)) == {"rul": ()}
    restored = Draft.model_validate_json(familiar_draft().model_dump_json())
    assert restored == familiar_draft()


def test_a_student_tells_which_windows_are_unfamiliar_and_widens_their_interval(tmp_path):
    familiar = student(tmp_path, *AT_TOP)
    familiar.self_test()
    batch = windows(familiar, 200)
    scores = familiar.score(batch)
    plain = Student(
        write_artifact(tmp_path / "b", dummy_draft(), with_nodes(dummy_draft(), AT_TOP[0]))
    )
    usual = plain.score(batch)
    assert isinstance(scores, RulScores)
    np.testing.assert_array_equal(scores.rul, usual.rul)
    np.testing.assert_allclose(scores.distances, np.sqrt(scores.rul), rtol=1e-6)
    np.testing.assert_array_equal(scores.unfamiliar, scores.distances > 8)
    assert 0 < scores.unfamiliar.sum() < 200
    known = ~scores.unfamiliar
    np.testing.assert_array_equal(scores.low[known], usual.low[known])
    np.testing.assert_array_equal(scores.high[known], usual.high[known])
    assert (scores.low[~known] <= usual.low[~known]).all()
    assert (scores.high[~known] >= usual.high[~known]).all()
    assert np.array_equal(RUL.answer.unfamiliar(scores), scores.unfamiliar)
    assert RUL.answer.unfamiliar(usual) is None
    share = RUL.answer.health(scores)["unfamiliar_share"]
    assert share == pytest.approx(scores.unfamiliar.mean())
    assert "unfamiliar_share" not in RUL.answer.health(usual)


def test_without_an_interval_the_flag_is_all_that_a_distance_gives(tmp_path):
    draft = familiar_draft().model_copy(update={"interval": None})
    graph = with_nodes(dummy_draft(), *AT_TOP, extra=encode_field(12, _value("distance", ())))
    found = Student(write_artifact(tmp_path / "a", draft, graph))
    scores = found.score(windows(found, 50))
    assert not scores.has_interval
    np.testing.assert_array_equal(scores.unfamiliar, scores.distances > 8)


@pytest.mark.parametrize(
    ("ops", "fault"),
    [
        ([("Neg", ["raw"], "distance")], "distance from .* is outside"),
        ([("Mul", ["raw", "max_rul"], "distance")], "distance from .* is outside"),
        ([("Neg", ["raw"], "minus"), ("Log", ["minus"], "distance")], "nan"),
    ],
)
def test_the_self_test_refuses_a_distance_that_is_none(tmp_path, ops, fault):
    with pytest.raises(SelfTestFailed, match=fault):
        student(tmp_path, AT_TOP[0], *ops).self_test()


@pytest.mark.parametrize("op", ["Neg", "Log"])
def test_a_window_without_a_distance_has_no_score(tmp_path, op):
    ops = [("Neg", ["raw"], "minus"), (op, ["raw" if op == "Neg" else "minus"], "distance")]
    scores = student(tmp_path, AT_TOP[0], *ops).score(np.zeros((3, 4, 3), np.float32))
    assert not scores.valid.any()
    assert not scores.unfamiliar.any()
    assert set(scores.rul) == set(scores.distances) == {0}


def test_a_graph_without_the_distance_that_its_manifest_names_is_refused(tmp_path):
    with pytest.raises(ShapeMismatch, match="distance"):
        write_artifact(tmp_path / "a", familiar_draft(), with_nodes(dummy_draft(), AT_TOP[0]))


def test_a_manifest_without_familiarity_refuses_a_graph_with_a_distance(tmp_path):
    graph = with_nodes(dummy_draft(), *AT_TOP, extra=encode_field(12, _value("distance", ())))
    with pytest.raises(ShapeMismatch, match="distance"):
        write_artifact(tmp_path / "a", dummy_draft(), graph)
