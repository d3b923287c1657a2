"""Calibrated probabilities inside the graph of a classifier: a temperature and a share of doubt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Tempered"]

_LEAST = 1e-30  # of a probability: its logarithm must stay finite


class Tempered(nn.Module):
    """A classifier whose logits are divided by a temperature, mixed with equal probabilities.

    Args:
        student: Gives probabilities `[batch, classes]`.
        temperature: A temperature above 1 makes the student less certain; see
            `training.uncertainty.calibration.fit_tempering`.
        doubt: Share of equal probabilities in the result.
    """

    def __init__(self, student: nn.Module, temperature: float, doubt: float = 0.0) -> None:
        super().__init__()
        self.student = student
        self.temperature = temperature
        self.doubt = doubt

    def forward(self, windows: Tensor) -> Tensor:
        """Compute probabilities `[batch, classes]`."""
        logits = self.student(windows).clamp_min(_LEAST).log()
        found = torch.softmax(logits / self.temperature, dim=1)
        if not self.doubt:
            return found
        mixed: Tensor = found * (1 - self.doubt) + self.doubt / found.shape[1]
        return mixed
