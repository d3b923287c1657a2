"""Open vocabulary: a made-up set on which it must work, and controls on which it must not."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.bench.ledger import read_plan  # noqa: E402
from training.bench.openvocab import (  # noqa: E402
    alarm_measures,
    area_under_curve,
    open_measures,
    score_open,
)
from training.bench.runs import do_run  # noqa: E402
from training.datasets.dummy import FACTS, make_dummy, make_facts  # noqa: E402
from training.methods.open_vocabulary import OpenVocabulary  # noqa: E402
from training.recipes import parse_recipe  # noqa: E402
from training.students.encoders import build_encoder  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = parse_recipe(
    'task = "activity"\nconv_channels = [16, 32]\nkernels = [5, 5]\nstrides = [2, 2]\n'
    'pooling = "mean_max"\nfeature_size = 32\nepochs = 15\nbatch_size = 32\ndropout = 0.0\n'
    "prior_correction = 0.0\nlearning_rate = 3e-3"
)


def found(anchors, unseen):
    known, test = make_facts(0), make_facts(1, groups=3)
    seen = known.where(~np.isin(known.labels, unseen))
    scores = score_open(RECIPE, seen, test.windows, "zscore", anchors.astype("f4"), unseen)
    return {name: open_measures(one, test.labels, unseen) for name, one in scores.items()}


def test_anchors_of_facts_name_activities_without_an_example():
    for unseen in ((4,), (1, 5)):
        measures = found(FACTS / math.sqrt(2), unseen)
        for readout in ("kp", "span"):
            assert measures[readout]["unseen_recall"] > 0.8
            assert measures[readout]["seen_recall"] > 0.9
            assert measures[readout]["auroc"] > 0.95
        assert measures["mix"]["auroc"] > 0.9
    assert measures["kp"]["among_unseen"] > 0.9


def test_random_anchors_do_not_name_activities_without_an_example():
    anchors = np.random.default_rng(0).standard_normal((9, 6))
    anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
    several = [found(anchors, unseen)["kp"] for unseen in ((4,), (0,), (8,), (1, 5))]
    assert np.mean([one["unseen_recall"] for one in several]) < 0.3
    assert abs(np.mean([one["auroc"] for one in several]) - 0.5) < 0.25
    assert np.mean([one["seen_recall"] for one in several]) > 0.8


def test_training_never_touches_an_unseen_anchor():
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    anchors = random.standard_normal((9, 16)).astype("f4")
    other = anchors.copy()
    other[[2, 7]] = random.standard_normal((2, 16))
    counts = np.array([8, 8, 0, 8, 8, 8, 8, 0, 8])
    labels = torch.tensor([0, 1, 1, 3, 8])
    windows = torch.randn(5, 64, 6)
    losses = []
    for table in (anchors, other):
        torch.manual_seed(1)
        method = OpenVocabulary(build_encoder(RECIPE, 64, 6), RECIPE, table, counts, (2, 7))
        losses.append(float(method.loss(windows, labels).detach()))
    assert losses[0] == losses[1]


def test_measures_of_a_small_case_match_manual_results():
    truth = np.array([0, 0, 1, 1, 2, 2])
    scores = np.array(
        [[3, 1, 0], [3, 0, 4], [0, 2, 1], [0, 2, 1], [1, 0, 2], [3, 0, 2]], dtype=np.float32
    )
    measures = open_measures(scores, truth, (2,))
    assert measures["unseen_recall"] == 0.5
    assert measures["seen_recall"] == 0.75  # 0: one of two; 1: both
    assert measures["harmonic"] == pytest.approx(0.6)
    # beyond the nearest seen label: -3, 1, -1, -1 against 1, -1
    assert measures["auroc"] == pytest.approx((3 + 0.5 + 1 + 2 * 0.5) / 8)
    assert open_measures(scores, truth, (1, 2))["among_unseen"] == 1.0


def test_the_margin_is_set_on_windows_with_seen_labels_only():
    held_out = np.array([[1, 0, 0.1 * at] for at in range(10)], dtype=np.float32)
    truth = np.array([2, 2, 0, 1])
    scores = np.array([[1, 0, 0.95], [1, 0, 0.2], [1, 0, 0.95], [0, 1, 0.1]], dtype=np.float32)
    # Margins of the held-out: -1 to -0.1; a tenth of them lies above -0.19, and so do two of these.
    assert alarm_measures(held_out, scores, truth, (2,)) == {
        "alarm_recall": 0.5,
        "false_alarm": 0.5,
    }
    # With no alarm allowed, only what lies beyond all of the held-out.
    calm = alarm_measures(held_out, scores - np.float32([0, 0, 0.1]), truth, (2,), alarm=0.0)
    assert calm == {"alarm_recall": 0.0, "false_alarm": 0.0}


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    scores = random.integers(0, 20, 200).astype("f4")
    is_it = random.random(200) < 0.3
    assert area_under_curve(scores, is_it) == pytest.approx(metrics.roc_auc_score(is_it, scores))
    assert math.isnan(area_under_curve(scores, np.zeros(200, dtype=bool)))


def test_a_run_of_the_ledger_leaves_labels_out_and_is_deterministic(tmp_path):
    path = tmp_path / "bench-open.toml"
    path.write_text(
        'benchmark = "dummy-activity"\nstudent_name = "tiny"\nmethods = ["kp-text"]\n'
        'seeds = [0]\ntopic = "open"\nleave_out = 2\nepochs = 1\npooling = "mean_max"\n'
        "conv_channels = [8]\nkernels = [3]\nstrides = [2]\nfeature_size = 8\n"
    )
    runs = read_plan(path)
    assert len({run.digest for run in runs}) == len(runs) == 15
    data = make_dummy("activity", groups=5)
    first, second = (do_run(runs[3], data, tmp_path) for _ in range(2))
    assert first["unseen"] == [0, 4]
    assert json.dumps(first["open"]) == json.dumps(second["open"])
    assert set(first["open"]) == {"kp", "span", "mix"}
