"""Encoders: small networks that turn a scaled window into a feature vector.

A method adds the rest of the student: anchors to compare the feature with, or a plain head.
Training and export share this code, so the graph on a gateway is the trained one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.recipes import Recipe
from training.students.convolutions import ConvEncoder, VectorNorm
from training.students.statistics import (
    SPECTRAL,
    TREND,
    TensorWindows,
    count_readings,
    spectrum_matrices,
    tail_matrix,
)
from training.students.upright import UprightEncoder

__all__ = [
    "BiLstmEncoder",
    "PositionEncoder",
    "ResidualEncoder",
    "SpectralEncoder",
    "StatisticsEncoder",
    "build_encoder",
]

_CODE = 16
_NEWEST = 70  # readings that `aged` looks at beside the age


def build_encoder(recipe: Recipe, length: int, channels: int) -> nn.Module:
    """Build the untrained encoder of a recipe (`student`); see `ConvEncoder` for the sizes."""
    kinds = {
        "aged": StatisticsEncoder,
        "bilstm": BiLstmEncoder,
        "conv": ConvEncoder,
        "penet": PositionEncoder,
        "residual": ResidualEncoder,
        "spectral": SpectralEncoder,
        "statistics": StatisticsEncoder,
        "trend": StatisticsEncoder,
        "upright": UprightEncoder,
    }
    return kinds[recipe.student](recipe, length, channels)


class ResidualEncoder(nn.Module):
    """A convolution, residual blocks of growing dilation, attention over time, one dense layer.

    The first entry of `conv_channels`, `kernels` and `strides` is the stem; every further entry is
    a block of two convolutions, the i-th with dilation 2^i. Attention gives every time step a
    weight; the feature is made from the weighted mean, the maximum and the newest step.

    Args:
        recipe: Gives channels, kernels, strides, feature size and dropout.
        length: Readings in a window (any).
        channels: Channels of a reading.
    """

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        width = recipe.conv_channels[0]
        kernel = recipe.kernels[0]
        self.stem = nn.Sequential(
            nn.Conv1d(channels, width, kernel, recipe.strides[0], kernel // 2, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        blocks = []
        for index, (out, kernel, stride) in enumerate(
            zip(recipe.conv_channels[1:], recipe.kernels[1:], recipe.strides[1:], strict=True)
        ):
            blocks.append(_Block(width, out, kernel, stride, 2**index))
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.attention = nn.Conv1d(width, 1, 1)
        self.dense = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(3 * width, recipe.feature_size),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        hidden = self.blocks(self.stem(windows.transpose(1, 2)))
        weights = torch.softmax(self.attention(hidden), dim=2)
        pooled = [(hidden * weights).sum(dim=2), hidden.amax(dim=2), hidden[:, :, -1]]
        feature: Tensor = self.dense(torch.cat(pooled, dim=1))
        return feature


class _Block(nn.Module):
    def __init__(self, width: int, out: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.body = nn.Sequential(
            nn.Conv1d(width, out, kernel, stride, padding, dilation, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(),
            nn.Conv1d(out, out, kernel, 1, padding, dilation, bias=False),
            nn.BatchNorm1d(out),
        )
        same = width == out and stride == 1
        self.short = nn.Identity() if same else nn.Conv1d(width, out, 1, stride)

    def forward(self, hidden: Tensor) -> Tensor:
        total: Tensor = torch.relu(self.body(hidden) + self.short(hidden))
        return total


class SpectralEncoder(nn.Module):
    """Pooled convolutions beside the spectrum and the statistics of the window.

    The graph computes the classical features of activity recognition for every channel: the
    logarithm of the power at the 32 lowest frequencies (two fixed matrices, a windowed Fourier
    transform), mean, power, extremes, and the power of the steps.

    Args:
        recipe: Gives channels, kernels, strides, feature size and dropout; not pooling.
        length: Readings in a window.
        channels: Channels of a reading.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        self.convolutions = ConvEncoder(recipe, length, channels).convolutions
        cosine, sine = spectrum_matrices(length)
        self.register_buffer("cosine", cosine)
        self.register_buffer("sine", sine)
        known = (cosine.shape[1] + len(SPECTRAL)) * channels
        self.norm = VectorNorm(known)
        self.dense = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(known + 2 * recipe.conv_channels[-1], recipe.feature_size),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        series = windows.transpose(1, 2)
        statistics = TensorWindows(series, time=2)
        moving = statistics.centred
        power = (moving @ self.cosine).square() + (moving @ self.sine).square()
        _ = statistics.centred_steps  # traced here, so that exported graphs keep their node order
        known = [torch.log(power + 1e-5).flatten(1), *statistics.columns(SPECTRAL)]
        hidden = self.convolutions(series)
        pooled = [hidden.mean(dim=2), hidden.amax(dim=2)]
        feature: Tensor = self.dense(torch.cat([self.norm(torch.cat(known, dim=1)), *pooled], 1))
        return feature


class StatisticsEncoder(nn.Module):
    """Statistics of the window, as gradient boosting uses them, and two dense layers.

    For every channel: mean and slope of the newest 5, 10, 20, 30, 50, 70 and 100 readings (as far
    as the window allows; one fixed matrix), deviation, lowest, highest and newest reading. `trend`
    has convolutions beside them. `aged` computes them from the newest 70 readings and adds the age:
    the number of readings so far, up to the length of the window (an engine that shows its wear at
    a great age wears slowly). The recipe must switch off noise on single readings, because it
    would make deviations and extremes larger in training than in use.

    Args:
        recipe: Gives hidden size, feature size and dropout; for `trend` the convolutions too.
        length: Readings in a window.
        channels: Channels of a reading.
    """

    tails: Tensor

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        self.aged = length if recipe.student == "aged" else 0
        self.newest = length = min(_NEWEST, length) if self.aged else length
        self.register_buffer("tails", tail_matrix(length))
        known = (self.tails.shape[1] + len(TREND)) * channels + 2 * bool(self.aged)
        self.norm = VectorNorm(known)
        self.convolutions: nn.Module | None = None
        if recipe.student == "trend":
            self.convolutions = ConvEncoder(recipe, length, channels).convolutions
            for stride in recipe.strides:
                length = (length - 1) // stride + 1
            known += length * recipe.conv_channels[-1]
        self.dense = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(known, recipe.hidden_size),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.hidden_size, recipe.feature_size),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        series = (windows[:, -self.newest :] if self.aged else windows).transpose(1, 2)
        statistics = TensorWindows(series, time=2)
        known = [(series @ self.tails).flatten(1), *statistics.columns(TREND)]
        if self.aged:
            age = count_readings(windows, self.aged)[:, None] / _NEWEST
            known += [age, torch.log(age)]
        hidden: Tensor = self.norm(torch.cat(known, dim=1))
        if self.convolutions is not None:
            hidden = torch.cat([self.convolutions(series).flatten(1), hidden], dim=1)
        feature: Tensor = self.dense(hidden)
        return feature


class BiLstmEncoder(nn.Module):
    """The Bi-LSTM of the literature (about 18 000 weights): two layers, directions summed.

    Widths 16 and 32, then dense layers of 16 and `feature_size` (8 in the literature) from the
    first time step, which the backward direction reaches last.

    Args:
        recipe: Gives feature size and dropout.
        length: Readings in a window (any).
        channels: Channels of a reading.
    """

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        self.first = nn.LSTM(channels, 16, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(16, 32, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(recipe.dropout)
        self.dense = nn.Sequential(
            nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, recipe.feature_size), nn.ReLU()
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        hidden = self.dropout(_sum_directions(self.first(windows)[0]))
        hidden = self.dropout(_sum_directions(self.second(hidden)[0]))
        feature: Tensor = self.dense(hidden[:, 0])
        return feature


class PositionEncoder(nn.Module):
    """An encoder like PE-Net: adds a code of the position in the window before the convolutions.

    The code is sinusoidal (16 numbers, base 10000). The body is `ConvEncoder`, because PE-Net's
    body (16, 64, 64, 128, 128, 256 channels, 519 000 weights) is too large for a student.

    Args:
        recipe: Gives the body.
        length: Readings in a window.
        channels: Channels of a reading.
    """

    code: Tensor

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        step = torch.arange(length)[:, None]
        angle = step / 10000 ** (torch.arange(0, _CODE, 2) / _CODE)
        code = torch.stack([torch.sin(angle), torch.cos(angle)], dim=2).flatten(1)
        self.register_buffer("code", code.T.contiguous()[None])
        self.sensors = nn.Conv1d(channels, _CODE, 1)
        self.position = nn.Conv1d(_CODE, _CODE, 1, bias=False)
        self.norm = nn.BatchNorm1d(_CODE)
        self.body = ConvEncoder(recipe, length, _CODE)

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        hidden = self.sensors(windows.transpose(1, 2)) + self.position(self.code)
        feature: Tensor = self.body(torch.relu(self.norm(hidden)).transpose(1, 2))
        return feature


def _sum_directions(hidden: Tensor) -> Tensor:
    forward, backward = hidden.chunk(2, dim=2)
    return forward + backward
