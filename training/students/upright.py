"""The encoder of activities that is blind to turns of the sensor about the vertical of the body."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.errors import RecipeError
from training.recipes import Recipe
from training.students.convolutions import ConvEncoder, VectorNorm

__all__ = ["UprightEncoder", "scaling_of"]

_BANDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # bounds in cycles per window, last one out
_FLOOR = 3e-6  # of the variance of a triple; below that of a person at rest
_LEAST = 1e-8  # keeps the gradient of square roots finite
_MOMENTUM = 0.01


class UprightEncoder(nn.Module):
    """Convolutions and spectrum of what points along and across the vertical of the body.

    Every triple of channels (x, y, z) becomes two: its part along the vertical, and the length of
    the rest. Both stay as they are when the sensor is turned about the vertical, so the student
    need not learn that from turned windows. The vertical is the usual direction of gravity, the
    longest median of the triples; it is estimated batch by batch while training, as batch
    normalisation estimates means, and is fixed in the exported graph.

    The convolutions see what moves, without its mean: how the sensor is held tells people apart
    rather than activities. Beside their pooled output the feature has the logarithm of the power in
    eleven bands of frequency, along and across; mean, lowest and highest; the mean vector along and
    across, and the length of gravity. The floor of the logarithm lies below the noise of a person
    at rest, because sway tells sitting from standing.

    Args:
        recipe: Gives channels, kernels, strides, feature size and dropout; not pooling.
        length: Readings in a window.
        channels: Channels of a reading: triples, each scaled by one factor (`scaling_of`).
    """

    cosine: Tensor
    sine: Tensor
    bands: Tensor
    vertical: Tensor

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        if channels % 3:
            msg = (
                f"recipe: student upright reads triples (x, y, z), and the data have {channels} "
                "channels: choose student spectral"
            )
            raise RecipeError(msg)
        half = length // 2
        angle = torch.arange(length)[:, None] * torch.arange(1, half) * (2 * math.pi / length)
        taper = torch.hann_window(length, periodic=False)[:, None] / length
        for name, wave in (("cosine", torch.cos(angle)), ("sine", torch.sin(angle))):
            # Without a mean they ignore the rounding of the mean, which gravity makes large.
            self.register_buffer(name, wave * taper - (wave * taper).mean(dim=0))
        self.register_buffer("bands", _band_matrix(half))
        self.register_buffer("vertical", nn.functional.normalize(torch.ones(3), dim=0))
        self.length, self.parts = length, 2 * (channels // 3)
        self.norm_series = nn.BatchNorm1d(self.parts)
        self.convolutions = ConvEncoder(recipe, length, self.parts).convolutions
        known = self.parts * (self.bands.shape[1] + 4) + channels // 3
        self.norm = _ExactNorm(known)
        self.dense = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(known + 2 * recipe.conv_channels[-1], recipe.feature_size),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        triples = windows.reshape(-1, self.length, self.parts // 2, 3).permute(0, 2, 3, 1)
        mean = _mean(triples)  # [batch, triples, 3]
        if self.training:
            self._estimate_vertical(mean.detach())
        series = torch.cat(self._along_and_across(triples), dim=1)
        known = [*self._spectrum(triples - mean[:, :, :, None]), *self._along_and_across(mean)]
        middle = _mean(series)
        known += [series.amax(dim=2), series.amin(dim=2), middle]
        known.append(mean.square().sum(dim=2).clamp_min(_LEAST).sqrt())
        hidden = self.convolutions(self.norm_series(series - middle[:, :, None]))
        pooled = [hidden.mean(dim=2), hidden.amax(dim=2)]
        feature: Tensor = self.dense(torch.cat([self.norm(torch.cat(known, dim=1)), *pooled], 1))
        return feature

    def _along_and_across(self, triples: Tensor) -> list[Tensor]:
        """Split triples `[batch, triples, 3, ...]`: part along the vertical, length of the rest."""
        along, rest = self._split(triples)
        return [along, rest.square().sum(dim=2).clamp_min(_LEAST).sqrt()]

    def _spectrum(self, moving: Tensor) -> list[Tensor]:
        """Logarithm of the power in the bands, along and across: `[batch, triples * bands]`."""
        power = torch.zeros(())
        for waves in (self.cosine, self.sine):
            along, rest = self._split(moving @ waves)
            power = power + torch.stack([along.square(), rest.square().sum(dim=2)])
        logarithms = torch.log(power @ self.bands + _FLOOR).flatten(2)
        return [logarithms[0], logarithms[1]]

    def _split(self, triples: Tensor) -> tuple[Tensor, Tensor]:
        """Part along the vertical, `[batch, triples, ...]`, and the rest as vectors."""
        upright = self.vertical.view((3,) + (1,) * (triples.dim() - 3))
        along = (triples * upright).sum(dim=2, keepdim=True)
        # Subtracting squares instead of vectors would lose half of the digits.
        return along.squeeze(2), triples - along * upright

    @torch.no_grad()
    def _estimate_vertical(self, mean: Tensor) -> None:
        medians = mean.median(dim=0).values
        longest = medians[medians.norm(dim=1).argmax()]
        usual = nn.functional.normalize(longest, dim=0)
        self.vertical.copy_(nn.functional.normalize(self.vertical.lerp(usual, _MOMENTUM), dim=0))


class _ExactNorm(VectorNorm):
    """Normalises by subtracting first.

    A runtime multiplies first, which costs the digits of what varies little, such as gravity.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        if self.training or self.running_mean is None or self.running_var is None:
            normed: Tensor = super().forward(vectors)
            return normed
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        return (vectors - self.running_mean) * factor + self.bias


def scaling_of(recipe: Recipe, scaling: str) -> str:
    """Return the kind of scaler of a student: `triples` where it turns triples of channels.

    Args:
        recipe: Recipe of the student.
        scaling: Kind of the data set (`DataSet.scaling`).
    """
    return "triples" if recipe.student == "upright" else scaling


def _mean(readings: Tensor) -> Tensor:
    """Mean over time, the last dimension, to the precision of what moves.

    Runtimes sum in different orders. Summing what differs from the first reading keeps the rounding
    of gravity out, beside which the differences between sitting and standing are small.
    """
    first = readings[..., :1]
    return first.squeeze(-1) + (readings - first).mean(dim=-1)


def _band_matrix(half: int) -> Tensor:
    """Means over the frequencies of every band, `[half - 1, bands]`; row i is frequency i + 1."""
    ends = [end for end in _BANDS if end < half] + [half]
    columns = []
    for first, end in pairwise(ends):
        column = torch.zeros(half - 1)
        column[first - 1 : end - 1] = 1 / (end - first)
        columns.append(column)
    return torch.stack(columns, dim=1)
