"""The choice of a method by recipe, and the teacher it names in the lineage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.errors import RecipeError
from training.methods.committee import Committee
from training.methods.ensemble import EnsembleDistillation
from training.methods.knowledge_pruning import KnowledgePruning
from training.methods.plain import Plain
from training.recipes import Recipe
from training.students.encoders import build_encoder
from training.teachers.anchors import anchors_of

__all__ = ["build_method", "describe_teacher"]


def build_method(
    recipe: Recipe, length: int, channels: int, label_counts: NDArray[np.int64]
) -> KnowledgePruning | Plain | Committee:
    """Build the untrained method of a recipe; weights come from torch's global generator.

    Args:
        recipe: Recipe of the run.
        length: Readings in a window.
        channels: Channels of a reading.
        label_counts: Number of training windows with each label, `[num_answers]`.

    Raises:
        AnchorCacheError: The text anchors are missing or damaged.
        RecipeError: The number of anchors differs from the number of answers, or a committee has
            method `ensemble`.
    """
    if recipe.members > 1:
        if recipe.method == "ensemble":
            msg = (
                f"recipe: members is {recipe.members}, but method ensemble trains one student: "
                "set members = 1 or another method"
            )
            raise RecipeError(msg)
        alone = replace(recipe, members=1)
        members = [
            build_method(alone, length, channels, label_counts) for _ in range(recipe.members)
        ]
        return Committee(members)
    encoder = build_encoder(recipe, length, channels)
    if recipe.method == "none":
        return Plain(encoder, recipe, len(label_counts))
    if recipe.method in ("ensemble", "boosting"):
        return EnsembleDistillation(encoder, recipe, len(label_counts))
    anchors = anchors_of(recipe)
    if len(anchors.vectors) != len(label_counts):
        msg = (
            f"recipe: there are {len(anchors.vectors)} anchors for {len(label_counts)} answers: "
            "set prompts to a set with one prompt per answer"
        )
        raise RecipeError(msg)
    return KnowledgePruning(encoder, recipe, anchors.vectors, label_counts)


def describe_teacher(recipe: Recipe) -> str | None:
    """Describe the teacher for the lineage; None for a student without one."""
    if recipe.method == "none":
        return None
    if recipe.method == "ensemble":
        return "ensemble of larger networks, out of fold (no language model)"
    if recipe.method == "boosting":
        return "gradient boosting, out of fold (no language model)"
    source = anchors_of(recipe).source
    return source if recipe.anchors == "text" else f"{source} (control)"
