"""The features of a student of classes as a second output of its graph."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.manifest import Scaler
from training.methods.knowledge_pruning import normalise
from training.scoring import scale_windows

__all__ = ["Featured", "score_both", "with_features"]

_BATCH = 512


class Featured(nn.Module):
    """A student that also gives its features.

    Args:
        student: Windows to probabilities `[batch, classes]`, in evaluation mode.
        encoders: Its parts that make features; several in a committee.
    """

    def __init__(self, student: nn.Module, encoders: list[nn.Module]) -> None:
        super().__init__()
        self.student = student
        self._encoders = encoders  # a plain list: they are parts of the student already
        self.eval()  # torch.onnx.export would else leave the student in training mode

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Compute probabilities `[batch, classes]` and features `[batch, d]` of length 1.

        The features of a committee are those of its members side by side.
        """
        found: list[Tensor] = []
        hooks = [
            each.register_forward_hook(lambda _part, _inputs, output: found.append(output))
            for each in self._encoders
        ]
        try:
            probabilities: Tensor = self.student(windows)
        finally:
            for hook in hooks:
                hook.remove()
        parts = [normalise(each) for each in found]
        joined = parts[0] if len(parts) == 1 else normalise(torch.cat(parts, dim=1))
        return probabilities, joined


def with_features(student: nn.Module) -> Featured | None:
    """Return the student with its features as a second output; None if it has no encoder."""
    found = (getattr(part, "encoder", None) for part in student.modules())
    encoders = [each for each in found if isinstance(each, nn.Module)]
    return Featured(student, encoders) if encoders else None


def score_both(
    student: Featured, scaler: Scaler, windows: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute probabilities `[n, classes]` and features `[n, d]` of raw windows."""
    with torch.no_grad():
        parts = [
            student(scale_windows(windows[at : at + _BATCH], scaler, None))
            for at in range(0, len(windows), _BATCH)
        ]
    probabilities, features = (
        np.concatenate([one.numpy() for one in each]) for each in zip(*parts, strict=True)
    )
    return probabilities, features
