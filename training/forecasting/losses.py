"""Losses of a forecasting student: from the readings, from a teacher, and of the band.

A teacher is read from its products (`training.teachers.products`), so no language model is loaded.
The distance to the teacher's forecast is the output consistency of LLaTA (arXiv 2403.07300),
counted only where the teacher is nearer to the truth than the student is. The four resolutions are
those of TimeDistill (arXiv 2502.15016). The geometry of features is relational distillation (Park
et al., CVPR 2019), which needs no projection that could collapse.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.forecasting.recipe import ForecastRecipe
from training.students.normalise import QUANTILES

__all__ = [
    "HUBER_DELTA",
    "band_loss",
    "bounded_consistency",
    "forecast_loss",
    "geometry_loss",
    "multi_scale_loss",
]

HUBER_DELTA = 0.5
"""Errors above it count linearly, in standard deviations of the training part."""
_HALVINGS = 3
_COMPARED = 128  # series of a batch whose distances are compared


def forecast_loss(forecast: Tensor, truth: Tensor, recipe: ForecastRecipe) -> Tensor:
    """Compute the loss of p50 `[n, horizon]` against the readings."""
    if recipe.loss == "squared":
        return functional.mse_loss(forecast, truth)
    if recipe.loss == "absolute":
        return functional.l1_loss(forecast, truth)
    # Divided by delta, so that large errors count as they do in the absolute loss.
    return functional.huber_loss(forecast, truth, delta=HUBER_DELTA) / HUBER_DELTA


def bounded_consistency(forecast: Tensor, truth: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute distance to the teacher where the teacher is nearer to the truth, else 0.

    Args:
        forecast: p50 `[n, horizon]`.
        truth: Readings `[n, horizon]`.
        teacher: The teacher's forecasts `[n, horizon]`.
    """
    helps = (teacher - truth).abs() < (forecast.detach() - truth).abs()
    return ((forecast - teacher).abs() * helps).mean()


def multi_scale_loss(forecast: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance to the teacher, averaged over four resolutions of time.

    Each resolution halves the one before by averaging pairs of steps; a horizon below 8 has fewer.
    """
    apart = (forecast - teacher)[:, None]
    losses = [apart.square().mean()]
    for _ in range(_HALVINGS):
        if apart.shape[2] < 2:
            break
        apart = functional.avg_pool1d(apart, 2)
        losses.append(apart.square().mean())
    return torch.stack(losses).mean()


def geometry_loss(features: Tensor, teacher: Tensor) -> Tensor:
    """Compare the pairwise distances of two sets of features, each divided by its mean distance.

    Args:
        features: The student's `[n, features]`.
        teacher: The teacher's `[n, width]`; rows as in `features`.
    """
    some = slice(0, _COMPARED)
    own, other = _distances(features[some]), _distances(teacher[some])
    return functional.smooth_l1_loss(own, other)


def band_loss(widths: Tensor, residuals: Tensor) -> Tensor:
    """Compute the pinball loss of p10 and p90 at the knots, in units of its scale.

    Args:
        widths: Widths below and above p50 `[2, n, knots]`.
        residuals: Reading minus p50 at the knots `[n, knots]`, detached.
    """
    low, _, high = QUANTILES
    under, over = residuals + widths[0], residuals - widths[1]
    return (
        torch.maximum(low * under, (low - 1) * under)
        + torch.maximum(high * over, (high - 1) * over)
    ).mean()


def _distances(features: Tensor) -> Tensor:
    squares = features.square().sum(dim=1)
    apart = squares[:, None] + squares[None] - 2 * features @ features.T
    distances = (apart.clamp_min(0) + 1e-12).sqrt()  # the root has no gradient at zero
    return distances / distances.mean()
