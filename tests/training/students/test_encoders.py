"""Encoders: shapes, sizes, and independence of the windows of a batch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.session import Student  # noqa: E402
from training.bench.ledger import METHODS, read_plan, shipped_plans  # noqa: E402
from training.candidate import train_candidate  # noqa: E402
from training.datasets.dummy import make_dummy  # noqa: E402
from training.export.artifact import score_raw  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402
from training.students.encoders import SpectralEncoder, build_encoder  # noqa: E402

pytestmark = pytest.mark.needs_training

KINDS = ["aged", "bilstm", "conv", "penet", "residual", "spectral", "statistics", "trend"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_feature_of_a_window_is_independent_of_the_batch(kind):
    recipe = shipped_recipe("har-waist", student=kind)
    encoder = build_encoder(recipe, 128, 9).eval()
    windows = torch.randn(6, 128, 9)
    features = encoder(windows)
    assert features.shape == (6, recipe.feature_size)
    torch.testing.assert_close(features[2:3], encoder(windows[2:3]), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_training_accepts_a_last_batch_of_one_window(kind):
    encoder = build_encoder(shipped_recipe("har-waist", student=kind), 128, 9).train()
    encoder(torch.randn(1, 128, 9)).sum().backward()


@pytest.mark.parametrize("task", ["rul", "activity"])
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_gives_the_numbers_of_torch_to_1e_5_of_the_range(kind, task, tmp_path):
    name = "rul-fd001" if task == "rul" else "har-waist"
    small = {"student": kind, "conv_channels": (16, 16, 16), "epochs": 1, "method": "none"}
    recipe = shipped_recipe(name, calibration_folds=0, **small)
    candidate = train_candidate(make_dummy(task, groups=4), recipe, name, tmp_path, command="test")
    scored = score_raw(Student(candidate.artifact), candidate.held_out.windows)
    limit = 125e-5 if task == "rul" else 1e-5
    np.testing.assert_allclose(scored, candidate.scored, atol=limit, rtol=0)


def test_the_bilstm_has_the_size_of_the_literature():
    encoder = build_encoder(shipped_recipe("rul-fd001", student="bilstm", feature_size=8), 30, 14)
    assert sum(weights.numel() for weights in encoder.parameters()) == 17_560


def test_the_spectral_student_finds_the_frequency_of_a_sine():
    encoder = SpectralEncoder(shipped_recipe("har-waist"), 128, 1)
    sine = torch.sin(2 * torch.pi * 7 * torch.arange(128) / 128)
    power = (sine @ encoder.cosine) ** 2 + (sine @ encoder.sine) ** 2
    assert int(power.argmax()) == 7 - 1


def test_the_statistics_student_computes_means_and_slopes_of_the_newest_readings():
    encoder = build_encoder(shipped_recipe("rul-fd001", student="statistics"), 30, 1)
    line = torch.arange(30.0) * 2 + 1
    known = line @ encoder.tails  # mean and slope of 5, 10, 20, 30 readings
    means, slopes = known[0::2], known[1::2]
    torch.testing.assert_close(means, torch.stack([line[-n:].mean() for n in (5, 10, 20, 30)]))
    # Slopes are per half a tail: a line of 2 per reading rises by n - 1 over half of n readings.
    torch.testing.assert_close(slopes, torch.tensor([4.0, 9.0, 19.0, 29.0]), atol=1e-4, rtol=1e-5)


def test_the_aged_student_sees_of_all_but_the_newest_70_readings_only_how_many_there_are():
    recipe = shipped_recipe("rul-fd003", student="aged")
    encoder = build_encoder(recipe, 250, 14).eval()
    whole = torch.randn(1, 250, 14)
    other = torch.cat([torch.randn(1, 180, 14), whole[:, -70:]], dim=1)
    younger = torch.cat([whole[:, 100:101].expand(-1, 100, -1), whole[:, 100:]], dim=1)
    torch.testing.assert_close(encoder(other), encoder(whole))
    assert (encoder(younger) - encoder(whole)).abs().max() > 1e-4


def test_students_of_the_ledger_stay_below_100000_parameters():
    for run in {run.benchmark: run for path in shipped_plans() for run in read_plan(path)}.values():
        if run.method in METHODS:
            shape = (128, 9) if run.recipe.task == "activity" else (run.recipe.length, 14)
            encoder = build_encoder(run.recipe, *shape)
            assert sum(weights.numel() for weights in encoder.parameters()) < 95_000
