"""Bodies of the forecasting students, from a linear layer to a mixer of patches.

A body sees one normalised series at a time, `[n, length]`, and returns its forecast `[n, horizon]`
in the same units with features `[n, features]` that describe the series to the band. A network
starts from the ridge: it adds to a layer of low rank that holds the closed-form solution, and its
last layer starts at zero, so the untrained student forecasts exactly as the ridge does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.students.normalise import Forecaster
from training.students.ridge import RidgeFactors

__all__ = [
    "STUDENTS",
    "Committee",
    "ConvForecaster",
    "DLinearForecaster",
    "MlpForecaster",
    "PatchForecaster",
    "RidgeForecaster",
    "build_forecaster",
]


class RidgeForecaster(nn.Module):
    """The closed form alone, or the start of a network; `down` and `up` stay trainable.

    Args:
        factors: Fitted ridge.
    """

    features = 0

    def __init__(self, factors: RidgeFactors) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.from_numpy(factors.down.copy()))
        self.up = nn.Parameter(torch.from_numpy(factors.up.copy()))

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast `[n, length]` -> `[n, horizon]`; there are no features."""
        return series @ self.down @ self.up, series[:, :0]


class DLinearForecaster(nn.Module):
    """Two linear layers, on the moving average and on the rest (DLinear, Zeng et al., AAAI 2023).

    Args:
        length: Readings in the look-back.
        horizon: Readings in the forecast.
        smooth: Readings in the moving average, odd.
        rank: Rank of each layer; 0 for full matrices.
    """

    features = 0

    def __init__(self, length: int, horizon: int, smooth: int = 25, rank: int = 0) -> None:
        super().__init__()
        self.reach = min(smooth, length) // 2
        self.average = nn.AvgPool1d(2 * self.reach + 1, stride=1)
        self.trend = _linear(length, horizon, rank)
        self.season = _linear(length, horizon, rank)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast `[n, length]` -> `[n, horizon]`; there are no features."""
        first, last = series[:, :1], series[:, -1:]
        ends = [first.expand(-1, self.reach), series, last.expand(-1, self.reach)]
        trend = self.average(torch.cat(ends, dim=1)[:, None])[:, 0]
        return self.trend(trend) + self.season(series - trend), series[:, :0]


class MlpForecaster(nn.Module):
    """An MLP beside the ridge: the cheapest of the networks.

    Args:
        length: Readings in the look-back.
        horizon: Readings in the forecast.
        width: Width of both hidden layers.
        rank: Rank of the last layer.
        dropout: Share of hidden numbers dropped in training.
    """

    def __init__(self, length: int, horizon: int, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.features = width
        self.hidden = nn.Sequential(
            nn.Linear(length, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = _zero_head(width, rank, horizon)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast `[n, length]` -> `[n, horizon]`, features `[n, width]`."""
        features = self.hidden(series)
        return self.head(features), features


class PatchForecaster(nn.Module):
    """A mixer of patches beside the ridge (after TSMixer, Ekambaram et al., KDD 2023).

    The series is cut into patches without overlap (readings at the front that fill no patch are
    left out); blocks mix over patches, then over the numbers of each patch.

    Args:
        length: Readings in the look-back.
        horizon: Readings in the forecast.
        patch: Readings in a patch.
        width: Numbers that describe a patch.
        blocks: Number of blocks.
        rank: Rank of the last layer, which reads all patches.
        dropout: Share of hidden numbers dropped in training.
    """

    def __init__(
        self,
        length: int,
        horizon: int,
        patch: int,
        width: int,
        blocks: int,
        rank: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patch = min(patch, length)
        self.count = length // self.patch
        self.features = rank
        self.embed = nn.Linear(self.patch, width)
        self.place = nn.Parameter(torch.zeros(self.count, width))
        self.blocks = nn.Sequential(*(_Mixer(self.count, width, dropout) for _ in range(blocks)))
        self.narrow = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(self.count * width, rank), nn.ReLU()
        )
        self.head = nn.Linear(rank, horizon)
        _start_at_zero(self.head)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast `[n, length]` -> `[n, horizon]`, features `[n, rank]`."""
        newest = series[:, series.shape[1] - self.count * self.patch :]
        patches = newest.reshape(-1, self.count, self.patch)
        features = self.narrow(self.blocks(self.embed(patches) + self.place).flatten(1))
        return self.head(features), features


class ConvForecaster(nn.Module):
    """Three strided convolutions beside the ridge.

    Args:
        length: Readings in the look-back.
        horizon: Readings in the forecast.
        width: Channels of every convolution.
        rank: Rank of the last layer, which reads all time steps.
        dropout: Share of hidden numbers dropped in training.
    """

    def __init__(self, length: int, horizon: int, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        steps, channels = length, 1
        for kernel, stride in ((7, 4), (5, 2), (5, 2)):
            layers += [nn.Conv1d(channels, width, kernel, stride, kernel // 2), nn.ReLU()]
            channels, steps = width, (steps - 1) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.features = rank
        self.narrow = nn.Sequential(nn.Dropout(dropout), nn.Linear(width * steps, rank), nn.ReLU())
        self.head = nn.Linear(rank, horizon)
        _start_at_zero(self.head)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast `[n, length]` -> `[n, horizon]`, features `[n, rank]`."""
        features = self.narrow(self.convolutions(series[:, None]).flatten(1))
        return self.head(features), features


_Network = MlpForecaster | PatchForecaster | ConvForecaster


class Committee(nn.Module):
    """The ridge plus the mean of several networks, as one body.

    Args:
        start: Ridge that the networks add to.
        members: Networks, each with a last layer that starts at zero.
    """

    def __init__(self, start: RidgeForecaster, members: list[_Network]) -> None:
        super().__init__()
        self.start = start
        self.members = nn.ModuleList(members)
        self.features = sum(member.features for member in members)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast `[n, length]` -> `[n, horizon]`, features of all members `[n, features]`."""
        total, _ = self.start(series)
        features = []
        for member in self.members:
            forecast, own = member(series)
            total = total + forecast / len(self.members)
            features.append(own)
        return total, torch.cat(features, dim=1)


STUDENTS = ("ridge", "dlinear", "mlp", "patch", "conv")
"""Students by the name that a recipe gives; `ridge` needs no training."""


def build_forecaster(
    student: str,
    factors: RidgeFactors,
    *,
    width: int,
    rank: int,
    patch: int,
    blocks: int,
    members: int,
    dropout: float,
    power: float = 1.0,
) -> Forecaster:
    """Build the untrained student of a name.

    Args:
        student: One of `STUDENTS`.
        factors: Fitted ridge; it gives length and horizon, and is the start of the networks.
        width: Width of hidden layers.
        rank: Rank of the last layer; for `dlinear` the rank of its layers (0: full).
        patch: Readings in a patch.
        blocks: Blocks of the mixer.
        members: Networks in the committee.
        dropout: Share of hidden numbers dropped in training.
        power: Power of the window's deviation in the width of the band.
    """
    length, horizon = len(factors.down), factors.up.shape[1]
    start = RidgeForecaster(factors)
    if student == "ridge":
        return Forecaster(start, length, horizon, power)
    if student == "dlinear":
        return Forecaster(DLinearForecaster(length, horizon, rank=rank), length, horizon, power)
    kinds: dict[str, Callable[[], _Network]] = {
        "mlp": lambda: MlpForecaster(length, horizon, width, rank, dropout),
        "patch": lambda: PatchForecaster(length, horizon, patch, width, blocks, rank, dropout),
        "conv": lambda: ConvForecaster(length, horizon, width, rank, dropout),
    }
    body = Committee(start, [kinds[student]() for _ in range(members)])
    return Forecaster(body, length, horizon, power)


class _Mixer(nn.Module):
    """Mixes over patches, then over the numbers of each patch; `[n, patches, width]` stays."""

    def __init__(self, patches: int, width: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.over_patches = _two_layers(patches, 2 * patches, dropout)
        self.between = nn.LayerNorm(width)
        self.over_numbers = _two_layers(width, 2 * width, dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.over_patches(self.before(hidden).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = hidden + self.over_numbers(self.between(hidden))
        return mixed


def _two_layers(size: int, inner: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Linear(size, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, size)
    )


def _linear(length: int, horizon: int, rank: int) -> nn.Module:
    """A linear layer of a rank (0: full) that starts as the mean of its inputs does: at zero."""
    if not rank:
        full = nn.Linear(length, horizon)
        _start_at_zero(full)
        return full
    return _zero_head(length, rank, horizon)


def _zero_head(width: int, rank: int, horizon: int) -> nn.Module:
    """Two linear layers, the second of which starts at zero."""
    last = nn.Linear(rank, horizon)
    _start_at_zero(last)
    return nn.Sequential(nn.Linear(width, rank, bias=False), last)


def _start_at_zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
