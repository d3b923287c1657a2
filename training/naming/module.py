"""The part that an extended student adds to the graph."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.tasks.classfeatures import FEATURES
from training.naming.names import MOVEMENT, NamedClass
from training.naming.placing import BEYOND, CLAMP, PlacedClass
from training.students.movement import Movement

__all__ = ["NamingHead"]

_STEEPNESS = 150.0  # of the logit, between the usual score of known windows and the margin


class NamingHead(nn.Module):
    """Adds the probability of a new class to those of a student.

    The new probability is p = sigmoid(steepness * (score - margin) + logit(threshold)), and the
    others are multiplied by 1 - p. So the sum stays 1, the order of the known classes stays, and a
    window gets the new name exactly where its score exceeds the margin: p is then above the
    threshold of the unknown and above one half. The guard of the student has shrunk only the known
    probabilities of a window far from all known classes; the new class can still be reached, and a
    far window that isn't like the new class stays unknown.

    Args:
        named: The new class.
        movement: Statistics of the view `movement`.
        threshold: Threshold of the unknown; 0 where the student has none.
    """

    def __init__(self, named: NamedClass, movement: Movement, threshold: float) -> None:
        super().__init__()
        self.movement = movement
        self.places = nn.ModuleDict(
            {
                view: _Place(placed, named.usual[view], named.unit[view])
                for view, placed in named.placed.items()
            }
        )
        least = max(threshold, 0.5)
        self.offset = math.log(least / (1 - least)) + 1e-3  # rounding must not undo a name
        self.steepness = _STEEPNESS / max(named.margin, 0.1)
        self.margin = named.margin

    def forward(
        self, windows: Tensor, probabilities: Tensor, features: Tensor | None = None
    ) -> Tensor:
        """Compute probabilities `[batch, classes + 1]`.

        Args:
            windows: Scaled windows `[batch, length, channels]`.
            probabilities: Of the known classes `[batch, classes]`.
            features: Features of the student `[batch, d]`, if the new class uses them.
        """
        score = self.places[MOVEMENT](self.movement(windows))
        if features is not None:
            score = score + self.places[FEATURES](features)
        new = torch.sigmoid(self.steepness * (score - self.margin) + self.offset)[:, None]
        return torch.cat([probabilities * (1 - new), new], dim=1)


class _Place(nn.Module):
    """`training.naming.placing.score_class` in torch, in units of known windows."""

    middle: Tensor
    whiten: Tensor
    known: Tensor
    new: Tensor
    weights: Tensor

    def __init__(self, placed: PlacedClass, usual: float, unit: float) -> None:
        super().__init__()
        for name in ("middle", "whiten", "known", "new", "weights"):
            values: NDArray[np.float32] = getattr(placed, name).astype(np.float32)
            self.register_buffer(name, torch.from_numpy(values))
        self.reach = min(placed.reach, 1e9)
        self.usual = usual
        self.unit = unit

    def forward(self, values: Tensor) -> Tensor:
        at = ((values - self.middle) @ self.whiten).clamp(-CLAMP, CLAMP)
        known = (at[:, None] - self.known).square().sum(dim=2).amin(dim=1)
        new = ((at - self.new).square() * self.weights).sum(dim=1)
        beyond = BEYOND * (new - self.reach).clamp_min(0)
        return (known - new - beyond - self.usual) / self.unit
