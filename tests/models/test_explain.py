"""Explanations of students whose truth is known: linear graphs with chosen weights."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from models import dummy
from models.artifact import write_artifact
from models.errors import ScoreFailed
from models.explain import cut_spans, explain
from models.manifest import Draft, Scaler, WindowShape
from models.seen import Seen
from models.session import Student
from models.tasks.activity import ACTIVITY
from models.tasks.classes import Unknown
from models.tasks.registry import find_task

LENGTH, CHANNELS = 20, 3
MIDDLE = (10.0, -5.0, 100.0)
SEEN = Seen(low=(0.0, -10.0, 90.0), middle=MIDDLE, high=(20.0, 0.0, 110.0))


class Weights:
    """In place of random weights: the linear student with exactly these."""

    def __init__(self, weights):
        self.weights = weights

    def normal(self, _mean, _deviation, shape):
        return self.weights.reshape(shape)


def student(folder: Path, weights, task: str = "rul", seen: Seen | None = SEEN) -> Student:
    content = dict(dummy.dummy_draft(task)) | {
        "window": WindowShape(length=LENGTH, hop=1, min_readings=LENGTH, gap_ms=None),
        "scaler": Scaler(kind="affine", scale=(1.0,) * 3, offset=tuple(-m for m in MIDDLE)),
        "seen": seen,
    }
    draft = Draft(**content)
    with patch.object(dummy.np.random, "default_rng", lambda _seed: Weights(weights)):
        onnx = dummy.dummy_onnx(draft)
    return Student(write_artifact(folder, draft, onnx))


def usual() -> np.ndarray:
    return np.tile(np.array(MIDDLE, dtype=np.float32), (LENGTH, 1))


def weights_at(span: slice, channel: int, weight: float = 0.5) -> np.ndarray:
    weights = np.zeros((LENGTH, CHANNELS))
    weights[span, channel] = weight
    return weights


def test_the_channel_and_the_span_with_the_weight_are_found(tmp_path):
    window = usual() + 1  # every reading is one above what is usual
    found = explain(student(tmp_path, weights_at(slice(6, 8), 1)), window)
    assert (found.baseline, len(found.spans)) == ("middle", 10)
    assert found.order[0] == 1
    assert found.strongest_span(1) == 3
    assert found.spans[3] == (6, 8)
    # The logit is 1 as it is and 0 with usual readings; the dummy gives max_rul * sigmoid.
    wanted = 125 / (1 + np.exp(-1)) - 125 / 2
    assert found.effect.spans[3, 1] == pytest.approx(wanted, abs=1e-3)
    assert found.effect.channels[1] == pytest.approx(wanted, abs=1e-3)
    assert found.fields["rul"] == pytest.approx(125 / 2 + wanted, abs=1e-3)
    assert (found.effect.name, found.effect.unit) == ("rul", "cycles")


def test_readings_without_weight_have_no_effect_at_all(tmp_path):
    rng = np.random.default_rng(3)
    window = (usual() + rng.normal(0, 3, (LENGTH, CHANNELS))).astype(np.float32)
    effect = explain(student(tmp_path, weights_at(slice(0, 4), 2)), window).effect
    assert np.count_nonzero(effect.spans) == 2
    assert np.flatnonzero(effect.spans.any(axis=1)).tolist() == [0, 1]
    assert np.flatnonzero(effect.channels).tolist() == [2]


def test_readings_that_lower_the_answer_have_a_negative_effect(tmp_path):
    found = explain(student(tmp_path, weights_at(slice(6, 8), 1, -0.5)), usual() + 1)
    assert found.effect.channels[1] < -20
    assert found.order[0] == 1


def test_usual_readings_explain_nothing(tmp_path):
    effect = explain(student(tmp_path, weights_at(slice(None), 0)), usual()).effect
    assert not effect.spans.any()
    assert not effect.channels.any()


def test_without_a_range_the_mean_of_the_window_is_neutral(tmp_path):
    window = usual()
    window[10:, 0] += 4  # the mean is 2 above the usual
    found = explain(student(tmp_path, weights_at(slice(10, 20), 0, 0.1), seen=None), window)
    assert found.baseline == "mean"
    wanted = 125 / (1 + np.exp(-4.0)) - 125 / (1 + np.exp(-2.0))
    assert found.effect.channels[0] == pytest.approx(wanted, abs=1e-2)


def test_a_class_is_explained_by_the_probability_of_the_winner(tmp_path):
    weights = np.zeros((LENGTH * CHANNELS, 3))
    weights[2 * CHANNELS + 2, 1] = 2.0  # reading 2 of channel 2 speaks for SITTING
    found = explain(student(tmp_path, weights, "activity"), usual() + 1)
    assert found.fields["activity"] == "SITTING"
    assert (found.effect.name, found.effect.unit) == ("probability of SITTING", "1")
    wanted = np.exp(2) / (np.exp(2) + 2) - 1 / 3
    assert found.effect.channels[2] == pytest.approx(wanted, abs=1e-4)
    assert np.count_nonzero(found.effect.channels) == 1
    assert found.order[0] == 2


def test_a_movement_matters_in_its_span_and_a_posture_in_the_channel_as_a_whole(tmp_path):
    weights = np.zeros((LENGTH * CHANNELS, 3))
    weights[2 * CHANNELS + 2, 1] = 2.0
    judge = student(tmp_path, weights, "activity")
    posture = explain(judge, usual() + 1)
    assert (posture.baseline, posture.span_baseline) == ("middle", "line")
    assert not posture.effect.spans.any()
    jolted = usual()
    jolted[2, 2] += 1
    movement = explain(judge, jolted).effect
    assert np.argwhere(movement.spans).tolist() == [[1, 2]]
    assert movement.spans[1, 2] == pytest.approx(posture.effect.channels[2], abs=1e-4)


@pytest.mark.parametrize("at", [0, 9, LENGTH - 1])
def test_a_line_across_a_spike_removes_it_wherever_it_is(tmp_path, at):
    weights = np.zeros((LENGTH * CHANNELS, 3))
    weights[at * CHANNELS, 1] = 0.2
    window = usual() + np.linspace(0, 2, LENGTH, dtype=np.float32)[:, None]
    straight = window.copy()
    window[at, 0] += 9
    judge = student(tmp_path, weights, "activity")
    found = explain(judge, window)
    number = next(n for n, (first, end) in enumerate(found.spans) if first <= at < end)
    gone = judge.score(window[None]).probabilities - judge.score(straight[None]).probabilities
    assert found.fields["activity"] == "SITTING"
    assert found.effect.spans[number, 0] == pytest.approx(gone[0, 1], abs=0.02)


def test_a_window_without_a_score_has_no_explanation(tmp_path):
    window = usual()
    window[0, 0] = np.nan
    with pytest.raises(ScoreFailed, match="no finite score"):
        explain(student(tmp_path, weights_at(slice(0, 1), 0)), window)


def test_spans_cover_a_window_once_and_are_never_empty():
    for length in (1, 4, 30, 128, 513):
        spans = cut_spans(length)
        assert [at for first, end in spans for at in range(first, end)] == list(range(length))
        assert len(spans) == min(length, 10)


def test_a_machine_below_the_limit_needs_attention_and_no_activity_does():
    needs_attention = find_task("rul").needs_attention
    assert needs_attention({"rul": 19.9})
    assert not needs_attention({"rul": 20.0})
    assert ACTIVITY.needs_attention is None


def test_a_doubtful_score_is_neither_at_alert_level_nor_free_of_it():
    rul, odd = find_task("rul"), {"quality": "range: T24"}
    assert rul.is_alarming({"rul": 5.0, "quality": "good"}) is True
    assert rul.is_alarming({"rul": 50.0}) is False
    assert rul.is_alarming({"rul": 5.0} | odd) is None
    assert find_task("forecast").is_alarming({"alarm": 1} | odd) is True
    assert ACTIVITY.is_alarming(odd) is False


def test_a_forecast_is_explained_by_what_was_expected(tmp_path):
    draft = dummy.dummy_draft("forecast")
    judge = Student(write_artifact(tmp_path / "forecast", draft, dummy.dummy_onnx(draft)))
    rng = np.random.default_rng(5)
    window = rng.normal(0, 0.2, (draft.window.length, 3)).astype(np.float32)
    calm = explain(judge, window)
    window[-1, 1] += 9.0  # a spike in the newest reading, which the backtest did not see coming
    found = explain(judge, window)
    assert (found.baseline, found.span_baseline) == ("expected", "expected")
    score, oddness, forecast = found.effects
    assert (score.name, score.unit) == ("anomaly score", "1")
    assert found.effect is score
    assert found.fields["channel"] == "LUFL"
    assert found.fields["score"] > calm.fields["score"] + 0.01
    assert found.order[0] == 1
    assert found.strongest_span(1) == len(found.spans) - 1
    # As expected, the newest readings of the channel are as odd as those of the others at most.
    assert score.channels[1] >= found.fields["score"] - calm.fields["score"] - 1e-3
    assert not score.channels[[0, 2]].any()
    assert oddness.channels[1] > 0
    assert forecast.name.startswith("forecast of LUFL, ")
    assert forecast.spans.any()


def test_where_two_channels_are_odd_each_counts_although_neither_moves_the_score(tmp_path):
    draft = dummy.dummy_draft("forecast")
    judge = Student(write_artifact(tmp_path / "forecast", draft, dummy.dummy_onnx(draft)))
    window = np.random.default_rng(5).normal(0, 0.2, (8, 3)).astype(np.float32)
    window[-1, [0, 1]] += 40.0, 60.0
    found = explain(judge, window)
    score, oddness, _ = found.effects
    assert not score.channels.any()
    assert found.effect is oddness
    assert found.order[0] == 1
    assert min(oddness.channels[[0, 1]]) > 2 * oddness.channels[2]


def test_what_was_expected_stands_in_for_the_newest_readings_only(tmp_path):
    draft = dummy.dummy_draft("forecast")
    judge = Student(write_artifact(tmp_path / "forecast", draft, dummy.dummy_onnx(draft)))
    window = np.arange(24, dtype=np.float32).reshape(8, 3) ** 1.3
    seen = []
    score = judge.score
    with patch.object(Student, "score", lambda _, w: seen.append(w) or score(w)):
        explain(judge, window)
    (batch,) = seen[1:]
    expected = judge.score(window[None]).expected[0]
    assert batch.shape == ((8 + 1) * 3, 8, 3)
    for row, occluded in enumerate(batch):
        span, channel = divmod(row, 3)
        changed = window.copy()
        if span == 8:  # the whole channel
            changed[6:, channel] = expected[:, channel]
        elif span >= 6:
            changed[span, channel] = expected[span - 6, channel]
        else:
            around = [at for at in (span - 1, span + 1) if at >= 0]
            changed[span, channel] = window[around, channel].mean()
        np.testing.assert_allclose(occluded, changed, rtol=1e-6)


def test_the_doubt_of_a_guard_does_not_hide_which_readings_speak_for_a_class():
    plain = dummy.dummy_draft("activity").decoding
    guarded = plain.model_copy(update={"unknown": Unknown(threshold=0.7, rejects=0.05)})
    certain = np.array([[0.9, 0.1, 0.0]], dtype=np.float32)
    far = 0.5 * certain + 0.5 / 3  # the guard's mixture
    other = 0.5 * np.array([[0.2, 0.8, 0.0]]) + 0.5 / 3
    after = np.concatenate([certain, far, other, np.full((1, 3), 1 / 3)]).astype(np.float32)

    def moved(decoding):
        decode = ACTIVITY.answer.decoder(decoding, None)
        parts = [
            decode({"probabilities": p}, np.ones(len(p), dtype=bool), p) for p in (certain, after)
        ]
        return ACTIVITY.answer.moved(*parts, decoding)[0].change

    np.testing.assert_allclose(moved(guarded), [0, 0, 0.7, 0.9 - 1 / 3], atol=1e-6)
    np.testing.assert_allclose(moved(plain), 0.9 - after[:, 0], atol=1e-6)
