import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact import read_artifact, write_artifact
from models.dummy import _value, dummy_draft, dummy_onnx, encode_field, write_dummy
from models.errors import GraphRefused, ModelError, ScoreFailed, SelfTestFailed
from models.features import pad_front, scale, slice_windows, unscale
from models.manifest import Draft
from models.session import MAX_BATCH, Student
from models.tasks.activity import ActivityScores
from models.tasks.classes import Unknown
from models.tasks.number import BoundedNumber, Interval, NumberAnswer, NumberScores
from models.tasks.outputs import Decode, Outputs, Tolerances
from models.tasks.registry import registered
from models.tasks.rul import RUL, RulScores
from models.zoo import STARTERS, zoo_path
from tests.fakes.scores import rows_of


@pytest.fixture(params=["rul", "activity"])
def student(request, tmp_path) -> Student:
    return Student(write_dummy(tmp_path / "a", request.param))


@pytest.fixture
def rul(tmp_path) -> Student:
    return Student(write_dummy(tmp_path / "rul"))


def windows(student: Student, count: int, seed: int = 0) -> np.ndarray:
    shape = (count, student.manifest.window.length, len(student.manifest.channels))
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def student_windows(student: Student, count: int, seed: int) -> np.ndarray:
    """Windows in the range of a student's training."""
    shape = (count, student.manifest.window.length, len(student.manifest.channels))
    scaled = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    return unscale(scaled, student.manifest.scaler)


def numbers(scores: RulScores | ActivityScores) -> np.ndarray:
    return scores.probabilities if isinstance(scores, ActivityScores) else scores.rul


def with_nodes(draft: Draft, *ops: tuple[str, list[str], str], extra: bytes = b"") -> bytes:
    """The dummy graph with its last output renamed and more nodes behind it."""
    name = draft.decoding.output
    data = dummy_onnx(draft).replace(
        encode_field(2, name) + encode_field(4, "Mul"),
        encode_field(2, "raw") + encode_field(4, "Mul"),
    )
    assert len(name) == len("raw")  # so that no length in front changes
    nodes = b""
    for op_type, inputs, output in ops:
        ins = b"".join(encode_field(1, i) for i in inputs)
        nodes += encode_field(1, ins + encode_field(2, output) + encode_field(4, op_type))
    return add_to_graph(data, nodes + extra)


def add_to_graph(model: bytes, fields: bytes) -> bytes:
    head, tail = encode_field(1, 8), encode_field(8, encode_field(1, "") + encode_field(2, 17))
    inner = model[len(head) : -len(tail)]
    size, shift, at = 0, 0, 1
    while True:
        size |= (inner[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if inner[at - 1] < 0x80:
            break
    assert len(inner) == at + size
    return head + encode_field(7, inner[at:] + fields) + tail


def test_rul_is_scored_with_its_interval_inside_the_limits(rul):
    scores = rul.score(windows(rul, 50))
    assert scores.rul.shape == scores.low.shape == scores.high.shape == scores.valid.shape == (50,)
    assert scores.rul.dtype == np.float32
    assert scores.valid.all()
    np.testing.assert_array_equal(scores.low, np.clip(scores.rul - 20, 0, 125))
    np.testing.assert_array_equal(scores.high, np.clip(scores.rul + 15, 0, 125))


def test_without_an_interval_no_record_has_ends(tmp_path):
    draft = Draft.model_validate(dummy_draft().model_dump() | {"interval": None})
    student = Student(write_artifact(tmp_path / "a", draft, dummy_onnx(draft)))
    scores = student.score(windows(student, 3))
    assert not scores.has_interval
    records = rows_of(RUL.answer.columns(scores), 3)
    assert [set(record) for record in records] == [{"rul"}] * 3
    assert set(RUL.answer.health(scores)) == {"mean"}


def test_the_ends_of_a_table_are_looked_up_at_the_score(tmp_path):
    table = {"rul": (20.0, 60.0), "low": (-5.0, -25.0), "high": (4.0, 20.0)}
    interval = {"level": 0.9, "low": -9.0, "high": 9.0, "table": table}
    draft = Draft.model_validate(dummy_draft().model_dump() | {"interval": interval})
    student = Student(write_artifact(tmp_path / "a", draft, dummy_onnx(draft)))
    scores = student.score(windows(student, 200))
    share = np.clip((scores.rul - 20) / 40, 0, 1)
    np.testing.assert_allclose(scores.low, np.clip(scores.rul - 5 - 20 * share, 0, 125), atol=1e-4)
    np.testing.assert_allclose(scores.high, np.clip(scores.rul + 4 + 16 * share, 0, 125), atol=1e-4)
    assert scores.low.dtype == scores.high.dtype == np.float32
    assert np.ptp(scores.high - scores.low) > 1


def test_windows_whose_settings_switch_have_ends_of_their_own(tmp_path):
    ends = {"rul": (20.0, 60.0), "low": (-5.0, -5.0), "high": (4.0, 4.0)}
    wide = {"rul": (20.0, 60.0), "low": (-50.0, -50.0), "high": (40.0, 40.0)}
    there = {"channels": (1,), "spreads": (3.0,), "table": wide}
    interval = {"level": 0.9, "low": -9.0, "high": 9.0, "table": ends, "switching": there}
    draft = Draft.model_validate(dummy_draft().model_dump() | {"interval": interval})
    student = Student(write_artifact(tmp_path / "a", draft, dummy_onnx(draft)))
    batch = windows(student, 40)
    batch[:, :, 1] = 7.0
    batch[::2, 0, 1] += 3.0  # not above the spread
    batch[1::2, -1, 1] -= 3.5
    scores = student.score(batch)
    low = np.where(np.arange(40) % 2 == 1, np.float32(50), np.float32(5))
    np.testing.assert_allclose(scores.low, np.clip(scores.rul - low, 0, 125), atol=1e-4)
    batch[1, 0, 1] = np.nan
    assert not student.score(batch).valid[1]


def test_a_window_below_the_threshold_is_of_no_known_activity(tmp_path):
    draft = dummy_draft("activity")
    unknown = Unknown(threshold=0.6, rejects=0.05)
    decoding = draft.decoding.model_copy(update={"unknown": unknown})
    draft = draft.model_copy(update={"decoding": decoding})
    student = Student(write_artifact(tmp_path / "a", draft, dummy_onnx(draft)))
    scores = student.score(windows(student, 100))
    doubtful = scores.probabilities.max(axis=1) < np.float32(0.6)
    assert 0 < doubtful.sum() < 100
    np.testing.assert_array_equal(scores.known, ~doubtful)
    for row in range(100):
        winner = scores.labels[scores.winners[row]]
        assert scores.activity(row) == ("unknown" if doubtful[row] else winner)
        assert scores.probability(row) == scores.probabilities[row].max()


def test_rul_follows_the_formula(rul):
    raw = windows(rul, 5)
    scaler = rul.manifest.scaler
    scaled = raw * np.float32(scaler.scale) + np.float32(scaler.offset)
    weights = np.random.default_rng(0).normal(0, 0.1, (12,)).astype(np.float32)
    expected = 125 / (1 + np.exp(-scaled.reshape(5, -1) @ weights))
    np.testing.assert_allclose(rul.score(raw).rul, expected, atol=1e-4)


def test_activity_is_the_most_probable_class(tmp_path):
    student = Student(write_dummy(tmp_path / "a", "activity"))
    scores = student.score(windows(student, 20))
    assert scores.labels == ("WALKING", "SITTING", "LAYING")
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1, atol=1e-5)
    for row in range(20):
        assert scores.activity(row) == scores.labels[scores.probabilities[row].argmax()]
        assert scores.probability(row) == pytest.approx(scores.probabilities[row].max())


@pytest.mark.parametrize("count", [0, 1, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH + 5])
def test_a_score_does_not_depend_on_the_batch_around_it(student, count):
    batch = windows(student, count)
    scores = student.score(batch)
    assert len(scores) == count
    singles = [numbers(student.score(window[None]))[0] for window in batch]
    if count:
        np.testing.assert_allclose(numbers(scores), np.array(singles), atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_a_window_that_is_not_finite_harms_no_other(student, bad):
    batch = windows(student, 10)
    clean = numbers(student.score(batch))
    batch[3, 1, 2] = bad
    scores = student.score(batch)
    assert scores.valid.tolist() == [row != 3 for row in range(10)]
    np.testing.assert_array_equal(np.delete(numbers(scores), 3, 0), np.delete(clean, 3, 0))
    assert (numbers(scores)[3] == 0).all()


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3), (2, 4, 4), (2, 4, 3, 1)])
def test_another_shape_is_a_value_error(rul, shape):
    with pytest.raises(ValueError, match="dummy-rul v1 needs"):
        rul.score(np.zeros(shape, np.float32))


def test_the_input_is_left_alone(student):
    batch = windows(student, 3)
    before = batch.copy()
    student.score(batch)
    np.testing.assert_array_equal(batch, before)


def test_good_students_pass_the_self_test(student):
    student.self_test()
    assert student.digest == student.digest
    assert student.manifest.name.startswith("dummy-")


def broken(tmp_path, *ops: tuple[str, list[str], str], extra: bytes = b"") -> Student:
    draft = dummy_draft()
    return Student(write_artifact(tmp_path / "b", draft, with_nodes(draft, *ops, extra=extra)))


def test_the_self_test_refuses_numbers_that_are_not_finite(tmp_path):
    student = broken(tmp_path, ("Sub", ["raw", "raw"], "zero"), ("Div", ["raw", "zero"], "rul"))
    with pytest.raises(SelfTestFailed, match="inf"):
        student.self_test()


def test_the_self_test_refuses_a_rul_out_of_range(tmp_path):
    student = broken(tmp_path, ("Add", ["raw", "max_rul"], "rul"))
    with pytest.raises(SelfTestFailed, match=r"outside \[0, 125"):
        student.self_test()


def test_the_self_test_refuses_layers_that_mix_windows(tmp_path):
    student = broken(
        tmp_path,
        ("ReduceMean", ["raw"], "mean"),
        ("Min", ["raw", "mean"], "rul"),
    )
    with pytest.raises(SelfTestFailed, match="no layer may mix windows"):
        student.self_test()


def test_the_self_test_refuses_probabilities_that_do_not_sum_to_one(tmp_path):
    draft = dummy_draft("activity")
    data = dummy_onnx(draft).replace(b"Softmax", b"Sigmoid")
    with pytest.raises(SelfTestFailed, match="do not sum to 1"):
        Student(write_artifact(tmp_path / "a", draft, data)).self_test()


class _WithFeatures(NumberAnswer):
    """A number, and beside it an output of another shape; its ends show that output."""

    def outputs(self, decoding: BoundedNumber) -> dict[str, tuple[int, ...]]:
        return {**super().outputs(decoding), "features": (12,)}

    def tolerance(self, decoding: BoundedNumber) -> Tolerances:
        return {**super().tolerance(decoding), "features": 1e-4}

    def decoder(self, decoding: BoundedNumber, interval: Interval | None) -> Decode[NumberScores]:
        decode = super().decoder(decoding, interval)

        def with_features(raw: Outputs, valid: np.ndarray, windows: np.ndarray) -> NumberScores:
            assert list(raw) == ["rul", "features"]
            scores = decode(raw, valid, windows)
            return replace(scores, low=raw["features"][:, 0], high=raw["features"][:, 11])

        return with_features


@pytest.fixture
def two_outputs(tmp_path) -> Iterator[Callable[..., Student]]:
    """Makes a student whose graph has the outputs `rul` [batch] and `features` [batch, 12]."""
    answer = _WithFeatures("rul", "rul_low", "rul_high", scores=RulScores)
    with registered(replace(RUL, name="featured", answer=answer)):

        def make(*ops: tuple[str, list[str], str]) -> Student:
            draft = Draft.model_validate(dummy_draft().model_dump() | {"task": "featured"})
            declared = encode_field(12, _value("features", (12,)))
            graph = with_nodes(dummy_draft(), *ops, extra=declared)
            return Student(write_artifact(tmp_path / "two", draft, graph))

        yield make


@pytest.mark.parametrize("count", [0, 1, 2 * MAX_BATCH + 5])
def test_outputs_of_different_shapes_come_by_name(two_outputs, count):
    student = two_outputs(("Identity", ["raw"], "rul"), ("Identity", ["flat"], "features"))
    student.self_test()
    batch = windows(student, count)
    scores = student.score(batch)
    scaled = scale(batch, student.manifest.scaler)
    assert scores.rul.shape == (count,)
    np.testing.assert_array_equal(scores.low, scaled[:, 0, 0])
    np.testing.assert_array_equal(scores.high, scaled[:, -1, -1])


def test_every_output_of_a_window_has_to_be_finite(two_outputs):
    student = two_outputs(("Identity", ["raw"], "rul"), ("Sqrt", ["flat"], "features"))
    batch = windows(student, 40)
    scaled = scale(batch, student.manifest.scaler)
    scaled[::2] = np.abs(scaled[::2])
    scores = student.score(unscale(scaled, student.manifest.scaler))
    assert scores.valid.tolist() == [row % 2 == 0 for row in range(40)]
    assert (scores.rul[~scores.valid] == 0).all()
    with pytest.raises(SelfTestFailed, match="nan"):
        student.self_test()


def test_no_output_may_mix_windows(two_outputs):
    student = two_outputs(
        ("Identity", ["raw"], "rul"),
        ("ReduceMean", ["raw"], "mean"),
        ("Sub", ["flat", "mean"], "features"),
    )
    with pytest.raises(SelfTestFailed, match="no layer may mix windows"):
        student.self_test()


def test_an_output_of_another_shape_than_declared_is_a_failed_score(tmp_path):
    draft = dummy_draft()
    student = Student(
        write_artifact(
            tmp_path / "a",
            draft,
            with_nodes(
                draft,
                ("Unsqueeze", ["raw", "axes"], "rul"),
                extra=encode_field(
                    5,
                    encode_field(1, 1)
                    + encode_field(2, 7)
                    + encode_field(8, "axes")
                    + encode_field(9, bytes(8)),
                ),
            ),
        )
    )
    with pytest.raises(SelfTestFailed):
        student.self_test()
    with pytest.raises(ScoreFailed):
        student.score(windows(student, 2))


@pytest.mark.parametrize("name", STARTERS)
def test_threads_that_score_at_once_get_what_one_alone_gets(name):
    student = Student(read_artifact(zoo_path(name)))
    batches = [student_windows(student, count, seed=count) for count in (1, 2, 7, 30, 64, 90)]
    alone = [student.score(batch).values for batch in batches]
    start = threading.Barrier(4)

    def score_all(_number: int) -> list[np.ndarray]:
        start.wait()
        return [student.score(batch).values for _ in range(5) for batch in batches]

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(score_all, range(4)):
            for values, wanted in zip(found, alone * 5, strict=True):
                np.testing.assert_array_equal(values, wanted)


def test_a_graph_that_onnx_runtime_does_not_know_is_refused_without_noise(tmp_path, capfd):
    draft = dummy_draft()
    data = dummy_onnx(draft).replace(b"Sigmoid", b"Sigmoyd")
    with pytest.raises(GraphRefused, match="dummy-rul v1"):
        Student(write_artifact(tmp_path / "a", draft, data))
    assert capfd.readouterr() == ("", "")


def test_bit_flips_with_a_matching_digest_are_scored_or_refused_in_an_orderly_way(tmp_path):
    draft = dummy_draft()
    whole = dummy_onnx(draft)
    outcomes = set()
    for at in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        try:
            student = Student(write_artifact(tmp_path / "a", draft, bytes(damaged)))
            student.self_test()
            outcomes.add("scored")
        except ModelError as exc:
            outcomes.add(type(exc).__name__)
    assert "scored" in outcomes  # a flipped bit of a weight is another student
    assert "GraphRefused" in outcomes


def test_a_reading_of_the_artifact_again_gives_the_same_scores(tmp_path):
    first = Student(write_dummy(tmp_path / "a"))
    second = Student(read_artifact(tmp_path / "a"))
    batch = windows(first, 9)
    np.testing.assert_array_equal(first.score(batch).rul, second.score(batch).rul)


def test_scaling_can_be_undone():
    scaler = dummy_draft().scaler
    raw = np.random.default_rng(0).normal(0, 9, (5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(unscale(scale(raw, scaler), scaler), raw, rtol=1e-5, atol=1e-5)
    assert scale(raw, scaler).dtype == np.float32


def test_slices_are_the_windows_of_a_run():
    readings = np.arange(20, dtype=np.float32).reshape(10, 2)
    cut = slice_windows(readings, 4, 3)
    assert cut.shape == (3, 4, 2)
    for number in range(3):
        np.testing.assert_array_equal(cut[number], readings[number * 3 : number * 3 + 4])
    assert slice_windows(readings[:3], 4, 1).shape == (0, 4, 2)


def test_padding_refuses_what_it_cannot_pad():
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"cannot pad {count} readings to 4"):
            pad_front(np.zeros((count, 2), np.float32), 4)


def test_a_student_scales_bit_for_bit_as_training_does(student, monkeypatch):
    seen, infer = [], student._infer
    monkeypatch.setattr(
        student,
        "_infer",
        lambda scaled, outputs: seen.append(scaled.copy()) or infer(scaled, outputs),
    )
    batch = windows(student, 5)
    student.score(batch)
    np.testing.assert_array_equal(seen[0], scale(batch, student.manifest.scaler))


def test_onnx_runtime_reports_nothing_to_its_makers(tmp_path) -> None:
    write_dummy(tmp_path / "student")
    run = (
        "import sys; from models.artifact import read_artifact as read\n"
        "from models.session import Student; Student(read(sys.argv[1])).self_test()"
    )
    hiding = ("CI", "XDG_", "ORT_", "GITHUB_")  # ONNX Runtime is silent where it sees tests
    env = {name: value for name, value in os.environ.items() if not name.startswith(hiding)}
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", run, str(tmp_path / "student")],
        env=env | {"HOME": str(home)},
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=60,
    )
    assert list(home.iterdir()) == []
