"""Augmentation: permitted and excluded changes of a window."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.augment import augment  # noqa: E402
from training.recipes import parse_recipe, shipped_recipe  # noqa: E402

pytestmark = pytest.mark.needs_training


def test_augmentation_turns_triples_without_stretching_them():
    windows = torch.randn(20, 10, 9)
    affine = torch.full((9,), 2.0), torch.full((9,), 1.0)
    recipe = shipped_recipe("har-waist", rotation_deg=30.0, scale_jitter=0.0)
    turned = (augment(windows, affine, recipe) - 1) / 2
    before, after = (w.reshape(20, 10, 3, 3).norm(dim=3) for w in (windows, turned))
    torch.testing.assert_close(before, after)
    assert not torch.allclose(windows, turned)
    # One turn per window: the angle between two triples of a window stays.
    products = [(w[:, :, :3] * w[:, :, 6:]).sum(dim=2) for w in (windows, turned)]
    torch.testing.assert_close(products[0], products[1], atol=1e-4, rtol=1e-4)


def test_a_turn_about_the_vertical_keeps_gravity_where_it_is():
    windows = 0.1 * torch.randn(300, 10, 9)
    windows[:, :, 7] += 1.0  # gravity, in the last triple
    affine = torch.ones(9), torch.zeros(9)
    recipe = parse_recipe("task = 'activity'\nturn_deg = 180")
    turned = augment(windows, affine, recipe)
    before, after = (w.mean(dim=1)[:, 7] for w in (windows, turned))
    torch.testing.assert_close(before, after, atol=0.02, rtol=0)
    # Every direction comes: the first triple is turned by angles of the whole circle.
    first, second = (w[:, 0, [0, 2]] for w in (windows, turned))
    cosine = torch.nn.functional.cosine_similarity(first, second)
    assert cosine.min() < -0.9
    assert cosine.max() > 0.9


def test_without_augmentation_the_windows_are_only_scaled():
    windows = torch.randn(5, 10, 9)
    affine = torch.full((9,), 2.0), torch.full((9,), 1.0)
    recipe = shipped_recipe("har-waist", rotation_deg=0.0, turn_deg=0.0, scale_jitter=0.0)
    assert torch.equal(augment(windows, affine, recipe), windows * 2 + 1)


def test_truncated_windows_equal_those_of_a_stream_that_started_late():
    windows = torch.arange(70.0)[None, :, None].repeat(200, 1, 2)
    affine = torch.ones(2), torch.zeros(2)
    recipe = parse_recipe("task = 'rul'\ntruncation = 0.5")
    cut = augment(windows, affine, recipe)
    starts = cut[:, 0, 0]
    assert torch.equal(cut[:, -30:], windows[:, -30:])
    assert torch.equal(cut[:, :, 0], torch.maximum(windows[:, :, 0], starts[:, None]))
    assert 60 < int((starts > 0).sum()) < 140
    assert starts.max() <= 40
