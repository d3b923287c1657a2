"""Scores of a torch student: raw windows scaled as its graph scales them, then the module."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.features import scale
from models.manifest import Scaler

__all__ = ["scale_windows", "score_scaled", "score_torch"]

_BATCH = 512
_SCALED_AT_ONCE = 4096


def scale_windows(
    windows: NDArray[np.float32], scaler: Scaler, preprocessor: nn.Module | None
) -> Tensor:
    """Turn raw windows into the input of the encoder: scaler first, then preprocessor."""
    scaled = torch.from_numpy(scale(windows, scaler))
    if preprocessor is None:
        return scaled
    with torch.no_grad():
        return torch.cat([preprocessor(part) for part in torch.split(scaled, _SCALED_AT_ONCE)])


def score_scaled(student: nn.Module, scaled: Tensor) -> NDArray[np.float32]:
    """Score scaled windows: `[n]` numbers or `[n, classes]` probabilities."""
    with torch.no_grad():
        outputs = [student(batch).numpy() for batch in torch.split(scaled, _BATCH)]
    return np.asarray(np.concatenate(outputs), dtype=np.float32)


def score_torch(
    student: nn.Module, scaler: Scaler, windows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Score raw windows with the torch module: `[n]` numbers or `[n, classes]` probabilities."""
    return score_scaled(student, torch.from_numpy(scale(windows, scaler)))
