"""The shell of every forecasting student: reversible instance normalisation, and the band.

The shell is part of the exported graph. It makes each channel of a window a series of mean 0 and
deviation 1, has the body forecast it, and undoes the normalisation (Kim et al., ICLR 2022, without
learned weights). All channels share the body.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["KNOTS", "QUANTILES", "Forecaster", "knot_leads"]

QUANTILES = (0.1, 0.5, 0.9)
"""The forecast quantiles, in the order of the last dimension of a forecast."""
KNOTS = 8
"""The width of the band is learned at so many leads; between them it is linear."""
_EPSILON = 1e-5  # added to the variance: a constant channel has deviation 0
_THINNEST = 0.01  # of the window's deviation: the least learned width of half a band


def knot_leads(horizon: int) -> list[int]:
    """List the steps ahead, from 0, at which the width of the band is learned.

    >>> knot_leads(96)
    [0, 13, 27, 40, 54, 67, 81, 95]
    >>> knot_leads(3)
    [0, 1, 2]
    """
    count = min(KNOTS, horizon)
    if count == 1:
        return [0]
    return [place * (horizon - 1) // (count - 1) for place in range(count)]


class Forecaster(nn.Module):
    """A body inside reversible instance normalisation, with a band around its forecast.

    The body maps normalised series `[n, length]` to forecasts `[n, horizon]` and features
    `[n, features]`. The forecast is p50. p10 and p90 stand off by a width: a power of the window's
    deviation, times a factor for each channel and step (`training.forecasting.quantiles` sets it),
    times a learned width if the body has features. The loss of the width doesn't reach the body.

    Args:
        body: Module as above, with the attribute `features` (0: no learned width).
        length: Readings in the look-back.
        horizon: Readings in the forecast.
        power: Power of the window's deviation in the width of the band.
    """

    below: Tensor
    above: Tensor
    between: Tensor

    def __init__(self, body: nn.Module, length: int, horizon: int, power: float = 1.0) -> None:
        super().__init__()
        self.body = body
        self.length, self.horizon, self.power = length, horizon, power
        self.knots = knot_leads(horizon)
        self.width: nn.Linear | None = None
        if features := int(body.features):  # type: ignore[arg-type]  # a plain number
            self.width = nn.Linear(features, 2 * len(self.knots))
            nn.init.zeros_(self.width.weight)
            nn.init.constant_(self.width.bias, 0.5)
            self.register_buffer("between", _interpolation(self.knots, horizon))
        self.register_buffer("below", torch.ones(1, horizon))
        self.register_buffer("above", torch.ones(1, horizon))

    def forward(self, windows: Tensor) -> Tensor:
        """Forecast standardised windows `[batch, length, channels]`.

        Returns:
            p10, p50, p90 `[batch, horizon, channels, 3]`, standardised, p10 <= p50 <= p90.
        """
        _, length, channels = windows.shape
        series = windows.transpose(1, 2).reshape(-1, length)
        middle, deviation, features = self.forecast(series)
        lower, upper = (
            width.reshape(-1, channels, width.shape[1])
            for width in self.widths(deviation, features)
        )
        middle = middle.reshape(-1, channels, self.horizon)
        bands = [middle - lower * self.below, middle, middle + upper * self.above]
        return torch.stack(bands, dim=3).transpose(1, 2)

    def forecast(self, series: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Forecast single series `[n, length]`.

        Returns:
            p50 `[n, horizon]`, the deviation of each series `[n, 1]`, and features `[n, features]`.
        """
        mean = series.mean(dim=1, keepdim=True)
        centred = series - mean
        deviation = (centred.square().mean(dim=1, keepdim=True) + _EPSILON).sqrt()
        normalised, features = self.body(centred / deviation)
        return mean + deviation * normalised, deviation, features

    def scale(self, deviation: Tensor) -> Tensor:
        """Return the unit of the widths, a power of the window's deviation."""
        return deviation if self.power == 1 else deviation.pow(self.power)

    def widths(self, deviation: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the widths below and above p50 before the factors, `[n, horizon]` or `[n, 1]`."""
        scale = self.scale(deviation)
        if self.width is None:
            return scale, scale
        learned = self.knot_widths(features) @ self.between
        return scale * learned[0], scale * learned[1]

    def knot_widths(self, features: Tensor) -> Tensor:
        """Return the learned widths below and above p50 at the knots, `[2, n, knots]`.

        They are in units of `scale`, before the factors.
        """
        if self.width is None:
            return torch.ones(2, len(features), len(self.knots))
        raw = nn.functional.softplus(self.width(features.detach())) + _THINNEST
        below, above = raw.chunk(2, dim=1)
        return torch.stack([below, above])


def _interpolation(knots: list[int], horizon: int) -> Tensor:
    """Matrix `[knots, horizon]` of linear interpolation between the knots."""
    leads = torch.arange(horizon, dtype=torch.float32)
    matrix = torch.zeros(len(knots), horizon)
    matrix[0] = 1.0
    for place in range(1, len(knots)):
        left, right = knots[place - 1], knots[place]
        share = ((leads - left) / (right - left)).clamp(0, 1)
        inside = leads >= left
        matrix[place - 1, inside] = 1 - share[inside]
        matrix[place, inside] = share[inside]
        matrix[: place - 1, inside] = 0.0
    return matrix
