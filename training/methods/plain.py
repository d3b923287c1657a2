"""No teacher: the same encoder with an ordinary head, the control for every other method."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.recipes import Recipe

__all__ = ["Plain"]

_LINEAR_FROM = 0.1  # of the range


class Plain(nn.Module):
    """Mean squared (or Huber) error on number / largest number, or cross-entropy.

    Args:
        encoder: Windows to features `[batch, d]`.
        recipe: Gives task, d, loss and label smoothing.
        num_answers: Number of classes, or the largest number + 1.
    """

    def __init__(self, encoder: nn.Module, recipe: Recipe, num_answers: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.largest = num_answers - 1 if recipe.answers_number else None
        self.head = nn.Linear(recipe.feature_size, 1 if self.largest else num_answers)
        self.label_smoothing = recipe.label_smoothing
        self.huber = recipe.loss == "huber"

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss; see `Method.loss`."""
        output = self.head(self.encoder(windows))
        if self.largest is not None:
            wanted = labels.to(output.dtype) / self.largest
            if self.huber:
                return functional.huber_loss(output[:, 0], wanted, delta=_LINEAR_FROM)
            return functional.mse_loss(output[:, 0], wanted)
        return functional.cross_entropy(output, labels, label_smoothing=self.label_smoothing)

    def exported(self) -> nn.Module:
        """Build the graph of encoder and head; see `Method.exported`."""
        return _Exported(copy.deepcopy(self.encoder), copy.deepcopy(self.head), self.largest)


class _Exported(nn.Module):
    def __init__(self, encoder: nn.Module, head: nn.Module, largest: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.largest = largest

    def forward(self, windows: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(windows))
        if self.largest is None:
            return torch.softmax(output, dim=1)
        return (output[:, 0] * self.largest).clamp(0, self.largest)
