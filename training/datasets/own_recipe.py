"""The recipe of a student of own data, by the size that was chosen and the number of windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task
from training.recipes import Recipe

__all__ = ["SIZES", "own_recipe", "recipe_beside"]

SIZES: dict[str, tuple[tuple[int, ...], int, int]] = {
    "small": ((8, 16, 16), 16, 1),
    "medium": ((16, 32, 32), 32, 2),
    "large": ((16, 32, 32), 32, 4),
}
"""Channels of the convolutions, width of the features, and members, by size."""
_STEPS = {
    True: 1700,
    False: 3000,
}  # numbers: 12 passes over C-MAPSS FD001; classes: 20 over UCI HAR
_EPOCHS = (6, 60)
_MANY_GROUPS = 25  # a fifth of them are the five that a comparison needs


def own_recipe(task: str, size: str = "medium", *, windows: int, groups: int) -> Recipe:
    """Choose a recipe.

    Args:
        task: Name of the task.
        size: Key of `SIZES`.
        windows: Windows to learn from, which set the number of passes.
        groups: Groups to learn from. Few of them are all measured, out of five folds.
    """
    channels, features, members = SIZES[size]
    is_number = isinstance(find_task(task).answer, NumberAnswer)
    batch = 128 if is_number else 64
    epochs = round(_STEPS[is_number] * batch / max(windows, 1))
    folds = 0 if groups >= _MANY_GROUPS else max(min(groups, 5), 2)
    shared: dict[str, Any] = {
        "task": task,
        "method": "boosting" if is_number else "none",
        "conv_channels": channels,
        "strides": (2, 2, 2),
        "feature_size": features,
        "members": members,
        "epochs": min(max(epochs, _EPOCHS[0]), _EPOCHS[1]),
        "batch_size": batch,
        "folds": folds,
    }
    if is_number:
        return Recipe(
            **shared,
            student="trend",
            kernels=(5, 5, 3),
            hidden_size=48,
            dropout=0.0,
        )
    return Recipe(**shared, student="spectral", kernels=(7, 5, 5), dropout=0.3, calibrate=True)


def recipe_beside(description: Path) -> Path | None:
    """Find the `recipe.toml` in the folder of a description; None if there is none."""
    beside = description.parent / "recipe.toml"
    return beside if beside.is_file() else None
