"""What the manifests of the shipped students tell about the data that they learned from.

A manifest that was written before it told so much is completed from the same data: the graph keeps
its bytes, and the range that the manifest has must come out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.artifact import Artifact, read_artifact, write_artifact
from models.describe import describe_seen
from models.manifest import Draft, Manifest
from models.seen import Seen
from models.session import Student
from models.tasks.classes import ClassesDecoding
from models.zoo import zoo_path
from training.datasets.contract import DataSet
from training.datasets.ett import read_ett
from training.errors import DataSetError
from training.recipes import shipped_recipe
from training.starters.forecasts import FORECASTERS, TRANSFORMERS, describe_transformers
from training.uncertainty.anchors import (
    features_again,
    fit_features,
    leave_people_out,
    score_features,
)
from training.windows import hold_out_groups

__all__ = ["describe_again", "fit_anchors_again"]


def describe_again(name: str, data: Path, read: Callable[[str, Path], DataSet]) -> list[Artifact]:
    """Write `seen` of a shipped student and of its int8 variant again.

    Args:
        name: Name of the student.
        data: Folder of the data files.
        read: Reads the data of a starter student, without the test set.

    Raises:
        DataSetError: The data are not those that the student learned from; nothing is written.
    """
    manifest = read_artifact(zoo_path(name)).manifest
    if name in FORECASTERS:
        sets = [read_ett(data / "ett.zip", one) for one in TRANSFORMERS]
        seen = describe_transformers(sets, manifest)
    else:
        seen = _seen_of_windows(name, manifest, read(name, data))
    known = manifest.seen
    if known is None or (known.low, known.middle, known.high) != (seen.low, seen.middle, seen.high):
        msg = (
            f"{name} has learned from other data: its manifest states the range {known}, and the "
            f"data have low {seen.low}, middle {seen.middle}, high {seen.high}"
        )
        raise DataSetError(msg)
    return [_write(zoo_path(one), {"seen": seen}) for one in (name, f"{name}-int8")]


def fit_anchors_again(
    name: str, data: Path, read: Callable[[str, Path], DataSet]
) -> list[Artifact]:
    """Write again what anchors need, of a shipped student and of its int8 variant.

    The graph and all else stay; `models.anchors` and the code that fits its numbers have changed.

    Args:
        name: Name of a student of classes that holds people out.
        data: Folder of the data files.
        read: Reads the data of a starter student, without the test set.

    Raises:
        DataSetError: Its people were in folds, whose students are not kept.
    """
    recipe, known = shipped_recipe(name), read(name, data).train
    student = Student(read_artifact(zoo_path(name)))
    decoding = student.manifest.decoding
    if recipe.folds or not isinstance(decoding, ClassesDecoding) or decoding.features is None:
        msg = f"{name} holds no people out, or has no features: build it again"
        raise DataSetError(msg)
    out = hold_out_groups(known.groups, recipe.hold_out, recipe.split_seed)
    learned, held_out = known.without_groups(out), known.of_groups(out)
    sample = score_features(student, held_out)
    bare = decoding.model_copy(update={"features": None})
    features, measures = fit_features(
        bare, score_features(student, learned), sample, leave_people_out(sample)
    )
    if features is None:
        msg = f"the data of {name} have too few windows"
        raise DataSetError(msg)
    found = []
    for one in (name, f"{name}-int8"):
        artifact = read_artifact(zoo_path(one))
        own = features_again(Student(artifact), features, learned, held_out)
        content: dict[str, Any] = {
            "decoding": decoding.model_copy(update={"features": own}),
            "metrics": artifact.manifest.metrics | {"examples": measures},
        }
        found.append(_write(zoo_path(one), content))
    return found


def _seen_of_windows(name: str, manifest: Manifest, data: DataSet) -> Seen:
    recipe, learned = shipped_recipe(name), data.train
    if not recipe.folds:
        out = hold_out_groups(learned.groups, recipe.hold_out, recipe.split_seed)
        learned = learned.without_groups(out)
    return describe_seen(
        learned.windows, learned.groups, manifest.window.hop, manifest.channel_names
    )


def _write(folder: Path, changes: Mapping[str, Any]) -> Artifact:
    artifact = read_artifact(folder)
    content = {field: getattr(artifact.manifest, field) for field in Draft.model_fields}
    return write_artifact(folder, Draft(**{**content, **changes}), artifact.onnx_bytes)
