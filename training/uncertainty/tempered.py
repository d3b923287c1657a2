"""A temperature inside the graph of a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Tempered"]

_LEAST = 1e-30  # of a probability: its logarithm must stay finite


class Tempered(nn.Module):
    """A classifier whose logits are divided by a temperature.

    Args:
        student: Gives probabilities `[batch, classes]`.
        temperature: A temperature above 1 makes the student less certain; see
            `training.uncertainty.calibration.fit_temperature`.
    """

    def __init__(self, student: nn.Module, temperature: float) -> None:
        super().__init__()
        self.student = student
        self.temperature = temperature

    def forward(self, windows: Tensor) -> Tensor:
        """Compute probabilities `[batch, classes]`."""
        logits = self.student(windows).clamp_min(_LEAST).log()
        return torch.softmax(logits / self.temperature, dim=1)
