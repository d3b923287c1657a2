"""What every method offers, and the choice of one by recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import RecipeError
from training.methods.committee import Committee
from training.methods.ensemble import EnsembleTaught
from training.methods.knowledge_pruning import KnowledgePruning
from training.methods.plain import Plain
from training.recipes import Recipe
from training.students.encoders import build_encoder
from training.teachers.anchors import Anchors, control_anchors, read_anchors
from training.teachers.prompts import PROMPTS

__all__ = ["Method", "anchors_of", "build_method", "teacher_of"]


class Method(Protocol):
    """Forward and loss of one way to train; implemented by torch modules."""

    def loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of a batch.

        Args:
            windows: `[batch, length, channels]` float32, scaled.
            labels: `[batch]` int64, RUL in whole cycles or class index.
        """

    def exported(self) -> nn.Module:
        """The module to export: `[batch, length, channels]` to `[batch]` or `[batch, classes]`.

        It holds its own copies; training on changes nothing in it.
        """


def build_method(
    recipe: Recipe, length: int, channels: int, label_counts: NDArray[np.int64]
) -> KnowledgePruning | Plain | Committee:
    """The untrained method that a recipe names; weights come from torch's global generator.

    Args:
        recipe: the recipe of the run.
        length: readings in a window.
        channels: channels of a reading.
        label_counts: `[num_answers]` how often each label occurs among the training windows.

    Raises:
        AnchorCacheError: the text anchors are missing or damaged.
        RecipeError: there is not one anchor per answer, or a committee is to be taught by others.
    """
    if recipe.members > 1:
        if recipe.method == "ensemble":
            msg = "recipe: a committee has no teacher: set members = 1 or another method"
            raise RecipeError(msg)
        alone = replace(recipe, members=1)
        several = [
            build_method(alone, length, channels, label_counts) for _ in range(recipe.members)
        ]
        return Committee(several)
    encoder = build_encoder(recipe, length, channels)
    if recipe.method == "none":
        return Plain(encoder, recipe, len(label_counts))
    if recipe.method == "ensemble":
        return EnsembleTaught(encoder, recipe, len(label_counts))
    anchors = anchors_of(recipe)
    if len(anchors.vectors) != len(label_counts):
        msg = f"{len(anchors.vectors)} anchors for {len(label_counts)} answers: set prompts"
        raise RecipeError(msg)
    return KnowledgePruning(encoder, recipe, anchors.vectors, label_counts)


def teacher_of(recipe: Recipe) -> str | None:
    """What stands in the lineage as the teacher; None for a student without one."""
    if recipe.method == "none":
        return None
    if recipe.method == "ensemble":
        return "ensemble of larger networks, out of fold (no language model)"
    source = anchors_of(recipe).source
    return source if recipe.anchors == "text" else f"{source} (control)"


def anchors_of(recipe: Recipe) -> Anchors:
    """The anchors that a recipe names, one per answer, in the order of the answers.

    Raises:
        AnchorCacheError: the text anchors are missing or damaged.
        RecipeError: no such set of prompts.
    """
    prompts = recipe.prompts or recipe.task
    if prompts not in PROMPTS:
        msg = f"recipe: prompts is {prompts!r}, expected one of {', '.join(PROMPTS)}"
        raise RecipeError(msg)
    text = read_anchors(prompts)
    if recipe.anchors == "text":
        return text
    return control_anchors(prompts, recipe.anchors, text, recipe.seed)
