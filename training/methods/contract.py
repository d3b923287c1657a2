"""The contract of a method: one way to train a student."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

__all__ = ["Method"]


class Method(Protocol):
    """Forward pass and loss of one way to train; implemented by torch modules."""

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Compute the scalar loss of a batch.

        Args:
            windows: Scaled windows `[batch, length, channels]` float32.
            labels: Labels `[batch]` int64, whole numbers or class index.
        """

    def exported(self) -> nn.Module:
        """Build the module to export: scaled windows to `[batch]` or `[batch, classes]`.

        It holds its own copies; further training does not change it.
        """
