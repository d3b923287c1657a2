"""The upright encoder: turns about the vertical change nothing, and its graph agrees with torch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.features import scale  # noqa: E402
from models.session import Student  # noqa: E402
from training.candidate import train_candidate  # noqa: E402
from training.datasets.contract import fit_scaler  # noqa: E402
from training.datasets.dummy import make_dummy  # noqa: E402
from training.errors import RecipeError  # noqa: E402
from training.export.artifact import score_raw  # noqa: E402
from training.recipes import shipped_recipe  # noqa: E402
from training.stress.stresses import tilted, turned  # noqa: E402
from training.students.upright import UprightEncoder, scaling_of  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = shipped_recipe("har-waist", student="upright", conv_channels=(8, 8, 8))

TRIPLES = ((0, 1, 2), (3, 4, 5), (6, 7, 8))


def standing(count: int) -> np.ndarray:
    """Windows of somebody upright: gravity along y in the last triple."""
    windows = np.random.default_rng(0).normal(0, 0.1, (count, 128, 9)).astype(np.float32)
    windows[:, :, 7] += 1.0
    return windows


def test_a_turn_about_the_vertical_changes_no_feature():
    windows = standing(32)
    scaler = fit_scaler(scaling_of(RECIPE, "zscore"), windows)
    encoder = UprightEncoder(RECIPE, 128, 9)
    scaled = torch.from_numpy(scale(windows, scaler))
    for _ in range(1000):
        encoder(scaled)  # it finds the vertical in training batches
    encoder.eval()
    before = encoder(scaled)
    apart = [
        float((encoder(torch.from_numpy(scale(worn, scaler))) - before).detach().abs().max())
        for worn in (turned(windows, TRIPLES, 120.0), tilted(windows, TRIPLES, 120.0))
    ]
    assert apart[0] < 0.05 * apart[1]
    assert encoder.vertical[1] > 0.999


def test_sway_far_below_the_movements_of_walking_changes_the_features():
    still = torch.zeros(1, 128, 9)
    sway = still + 0.01 * torch.sin(torch.arange(128.0) / 4)[None, :, None]
    encoder = UprightEncoder(RECIPE, 128, 9).eval()
    power = [
        torch.cat(encoder._spectrum(w.reshape(1, 128, 3, 3).permute(0, 2, 3, 1)), dim=1)
        for w in (still, sway)
    ]
    assert float((power[1] - power[0]).max()) > 1.0


def test_triples_are_scaled_by_one_factor_and_without_offset():
    scaler = fit_scaler("triples", standing(50))
    assert scaler.offset == (0.0,) * 9
    factors = np.reshape(scaler.scale, (3, 3))
    np.testing.assert_allclose(factors, factors[:, :1].repeat(3, axis=1))


def test_channels_that_are_no_triples_are_refused():
    with pytest.raises(RecipeError, match="14 channels"):
        UprightEncoder(RECIPE, 30, 14)


def test_onnx_runtime_gives_the_numbers_of_torch(tmp_path):
    recipe = shipped_recipe(
        "har-waist", student="upright", conv_channels=(16, 16, 16), epochs=1, folds=0
    )
    data = make_dummy("activity", groups=4)
    candidate = train_candidate(data, recipe, "har-waist", tmp_path, command="test")
    scored = score_raw(Student(candidate.artifact), candidate.held_out.windows)
    np.testing.assert_allclose(scored, candidate.scored, atol=1e-5, rtol=0)
