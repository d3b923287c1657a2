"""Augmentation: random disturbances of training windows, set by the recipe."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.recipes import Recipe

__all__ = ["augment"]

_SHORTEST = 30  # readings; C-MAPSS windows are padded from this length on


def augment(windows: Tensor, affine: tuple[Tensor, Tensor], recipe: Recipe) -> Tensor:
    """Disturb raw windows and scale them: `[batch, length, channels]`.

    Rotation, turn and gain act on raw units, because gravity turns with the sensor; offsets and
    noise act on scaled windows. All triples of channels (x, y, z) of a window turn together.

    Args:
        windows: Raw windows `[batch, length, channels]`.
        affine: Factor and offset of every channel, `[channels]` each.
        recipe: Recipe of the run.
    """
    batch, _, channels = windows.shape
    if recipe.rotation_deg:
        turn = _rotations(batch, math.radians(recipe.rotation_deg))
        windows = _turned(windows, turn)
    if recipe.turn_deg:
        means = windows.mean(dim=1).reshape(batch, -1, 3).median(dim=0).values
        longest = means.norm(dim=1).argmax()  # only gravity does not cancel over a window
        vertical = torch.nn.functional.normalize(means[longest], dim=0).expand(batch, 3)
        angle = math.radians(recipe.turn_deg) * (2 * torch.rand(batch, 1, 1) - 1)
        windows = _turned(windows, _rotations_about(vertical, angle))
    if recipe.scale_jitter:
        windows = windows * (1 + recipe.scale_jitter * torch.randn(batch, 1, 1))
    scaled = windows * affine[0] + affine[1]
    if recipe.truncation:
        scaled = _truncate(scaled, recipe.truncation)
    if recipe.offset_jitter:
        scaled = scaled + recipe.offset_jitter * torch.randn(batch, 1, channels)
    if recipe.noise:
        scaled = scaled + recipe.noise * torch.randn_like(scaled)
    return scaled


def _truncate(windows: Tensor, share: float) -> Tensor:
    """Replace the first readings of some windows by the oldest reading that remains."""
    batch, length, channels = windows.shape
    longest = max(length - _SHORTEST, 0) + 1
    first = torch.randint(0, longest, (batch,)) * (torch.rand(batch) < share)
    kept = torch.maximum(torch.arange(length)[None], first[:, None])
    return windows.gather(1, kept[:, :, None].expand(-1, -1, channels))


def _turned(windows: Tensor, turn: Tensor) -> Tensor:
    """Turn all triples of channels of each window by its rotation `[batch, 3, 3]`."""
    batch, _, channels = windows.shape
    triples = windows.reshape(batch, -1, channels // 3, 3)
    return torch.einsum("nlcj,nij->nlci", triples, turn).flatten(2)


def _rotations(count: int, deviation_rad: float) -> Tensor:
    """Draw `[count, 3, 3]` rotations about random axes."""
    axis = torch.nn.functional.normalize(torch.randn(count, 3), dim=1)
    return _rotations_about(axis, deviation_rad * torch.randn(count, 1, 1))


def _rotations_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotations `[count, 3, 3]` about unit axes `[count, 3]` by `[count, 1, 1]` (Rodrigues)."""
    cross = torch.linalg.cross(axis[:, None], torch.eye(3)[None])
    turn: Tensor = (
        torch.eye(3) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)
    )
    return turn
