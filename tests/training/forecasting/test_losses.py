"""Losses of forecasting students, against literal formulas."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from training.forecasting.losses import (  # noqa: E402
    HUBER_DELTA,
    band_loss,
    bounded_consistency,
    forecast_loss,
    geometry_loss,
    multi_scale_loss,
)
from training.forecasting.recipe import ForecastRecipe  # noqa: E402

pytestmark = pytest.mark.needs_training

RECIPE = ForecastRecipe(data="dummy")


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_the_huber_loss_is_squared_near_zero_and_absolute_beyond():
    huber = dataclasses.replace(RECIPE, loss="huber")
    small, large = torch.tensor([[0.2]]), torch.tensor([[7.0]])
    zero = torch.zeros(1, 1)

    assert float(forecast_loss(small, zero, huber)) == pytest.approx(0.5 * 0.04 / HUBER_DELTA)
    assert float(forecast_loss(large, zero, huber)) == pytest.approx(7.0 - HUBER_DELTA / 2)


@pytest.mark.parametrize(("loss", "power"), [("squared", 2), ("absolute", 1)])
def test_the_other_losses_are_means_of_powers(loss, power):
    forecast, truth = numbers(4, 6), numbers(4, 6, seed=1)

    found = forecast_loss(forecast, truth, dataclasses.replace(RECIPE, loss=loss))

    assert float(found) == pytest.approx(float(((forecast - truth).abs() ** power).mean()))


def test_consistency_counts_steps_where_the_teacher_is_nearer():
    forecast, truth, teacher = numbers(5, 7), numbers(5, 7, seed=1), numbers(5, 7, seed=2)
    total = 0.0
    for row in range(5):
        for step in range(7):
            own, other, real = (one[row, step] for one in (forecast, teacher, truth))
            if abs(other - real) < abs(own - real):
                total += float(abs(own - other))

    assert float(bounded_consistency(forecast, truth, teacher)) == pytest.approx(total / 35)


def test_scales_average_pairs_of_steps():
    forecast, teacher = numbers(3, 16), numbers(3, 16, seed=1)
    apart, found = (forecast - teacher).numpy(), []
    for _ in range(4):
        found.append(np.square(apart).mean())
        apart = (apart[:, ::2] + apart[:, 1::2]) / 2

    assert float(multi_scale_loss(forecast, teacher)) == pytest.approx(np.mean(found))
    assert float(multi_scale_loss(forecast[:, :1], teacher[:, :1])) == pytest.approx(
        float((forecast - teacher)[:, 0].square().mean())
    )


def test_geometry_ignores_scale_and_rotation_but_not_order():
    features = numbers(20, 6)
    rotation, _ = torch.linalg.qr(numbers(6, 6, seed=1))

    assert float(geometry_loss(features, 7 * features @ rotation)) == pytest.approx(0, abs=1e-6)
    assert float(geometry_loss(features, features[torch.randperm(20)])) > 0.01


def test_the_band_loss_is_least_at_the_quantiles():
    residuals = numbers(20000, 1)

    def loss(below, above):
        widths = torch.tensor([below, above], dtype=torch.float64).reshape(2, 1, 1)
        return float(band_loss(widths.expand(2, 20000, 1), residuals))

    best = loss(1.2816, 1.2816)  # 10 % quantile of the normal distribution
    assert best < min(loss(1.1, 1.2816), loss(1.5, 1.2816), loss(1.2816, 1.1), loss(1.2816, 1.5))
