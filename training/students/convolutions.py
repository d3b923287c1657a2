"""The convolutions that most encoders share, and the normalisation of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.recipes import Recipe

__all__ = ["ConvEncoder", "VectorNorm"]


class ConvEncoder(nn.Module):
    """Convolutions over time, then one dense layer.

    Each convolution is followed by batch normalisation (folded into it at export) and ReLU.

    Args:
        recipe: Gives channels, kernels, strides, pooling, feature size and dropout.
        length: Readings in a window.
        channels: Channels of a reading.
    """

    def __init__(self, recipe: Recipe, length: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, steps = channels, length
        for out, kernel, stride in zip(
            recipe.conv_channels, recipe.kernels, recipe.strides, strict=True
        ):
            layers += [
                nn.Conv1d(width, out, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm1d(out),
                nn.ReLU(),
            ]
            width, steps = out, (steps - 1) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.flatten = recipe.pooling == "flatten"
        self.dense = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(width * steps if self.flatten else 2 * width, recipe.feature_size),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Turn scaled windows `[batch, length, channels]` into features `[batch, feature_size]`."""
        hidden: Tensor = self.convolutions(windows.transpose(1, 2))
        if self.flatten:
            hidden = hidden.flatten(1)
        else:
            hidden = torch.cat([hidden.mean(dim=2), hidden.amax(dim=2)], dim=1)
        feature: Tensor = self.dense(hidden)
        return feature


class VectorNorm(nn.BatchNorm1d):
    """Batch normalisation of vectors that accepts a last batch of one window."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Normalise vectors `[batch, size]`."""
        if self.training and len(vectors) == 1:
            return nn.functional.batch_norm(
                vectors, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        normed: Tensor = super().forward(vectors)
        return normed
