"""No teacher: the same encoder with an ordinary head, the control beside every other method."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.recipes import Recipe

__all__ = ["Plain"]

_LINEAR_FROM = 0.1  # of max_rul


class Plain(nn.Module):
    """Mean squared (or Huber) error on RUL / max_rul, or cross-entropy.

    Args:
        encoder: windows to features `[batch, d]`.
        recipe: task, d, loss and label smoothing.
        num_answers: classes, or `max_rul + 1` for the grid of RUL labels.
    """

    def __init__(self, encoder: nn.Module, recipe: Recipe, num_answers: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.max_rul = num_answers - 1 if recipe.task == "rul" else None
        self.head = nn.Linear(recipe.feature_size, 1 if self.max_rul else num_answers)
        self.label_smoothing = recipe.label_smoothing
        self.huber = recipe.loss == "huber"

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """See `Method.loss`."""
        output = self.head(self.encoder(windows))
        if self.max_rul is not None:
            wanted = labels.to(output.dtype) / self.max_rul
            if self.huber:
                return functional.huber_loss(output[:, 0], wanted, delta=_LINEAR_FROM)
            return functional.mse_loss(output[:, 0], wanted)
        return functional.cross_entropy(output, labels, label_smoothing=self.label_smoothing)

    def exported(self) -> nn.Module:
        """Encoder and head; see `Method.exported`."""
        return _Exported(copy.deepcopy(self.encoder), copy.deepcopy(self.head), self.max_rul)


class _Exported(nn.Module):
    def __init__(self, encoder: nn.Module, head: nn.Module, max_rul: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.max_rul = max_rul

    def forward(self, windows: Tensor) -> Tensor:
        output: Tensor = self.head(self.encoder(windows))
        if self.max_rul is None:
            return torch.softmax(output, dim=1)
        return (output[:, 0] * self.max_rul).clamp(0, self.max_rul)
