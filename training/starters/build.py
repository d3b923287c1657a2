"""The command that makes the students in models/zoo, measures them, and writes their cards.

    python -m training.starters build --data DATA_FOLDER --only rul-fd003
    python -m training.starters seen --data DATA_FOLDER   # what the manifests tell about the data
    python -m training.starters anchors --data DATA_FOLDER --only har-waist  # for examples
    python -m training.starters stress --data DATA_FOLDER # stress tests, docs/results/stress.json
    python -m training.starters cards                     # the tables of docs/starter-students.md

`build` trains by the recipe `training/configs/NAME.toml`, calibrates, exports, makes the int8
variant, and scores the official test set once, at the end, from the artifact. A card is written
from the manifest alone.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import models.zoo
from models.artifact import Artifact, read_artifact, write_artifact
from models.features import scale
from models.manifest import Draft
from models.session import Student
from models.tasks.classes import ClassesDecoding
from models.tasks.fields import Decoding
from training.datasets.cmapss import LENGTH, read_cmapss
from training.datasets.contract import DataSet
from training.datasets.spsw import read_spsw
from training.datasets.uci_har import read_uci_har
from training.errors import DataSetError, TrainingError, exit_on_errors
from training.export.artifact import score_raw
from training.recipes import Recipe, shipped_recipe
from training.report import RunLog
from training.starters.cards import write_cards
from training.starters.forecasts import FORECASTERS, build_forecaster
from training.starters.latency import measure_latency
from training.starters.learned import describe_again, fit_anchors_again
from training.starters.official import measure_windows
from training.starters.stress import RESULTS, stress_shipped
from training.stress.table import read_stressed, stress_table, write_stressed
from training.uncertainty.anchors import features_again
from training.windows import WindowSet, digest_windows, hold_out_groups

if TYPE_CHECKING:  # it needs torch, which the tables do not
    from training.candidate import Candidate

__all__ = ["STUDENTS", "Spec", "build", "read_data"]

DOCS = Path("docs/starter-students.md")
_RANGES = 2000  # windows that give the ranges of eight-bit activations


@dataclass(frozen=True, slots=True)
class Spec:
    """The data of a starter student; its recipe has the other settings.

    Attributes:
        file: File in the data folder; empty for the folder itself.
        subset: Subset of C-MAPSS, several joined by `+`; empty for activities.
        channels: Number of channels to keep, from the first on; 0 for all.
        float_inputs: Whether layers that read the window keep float32 activations in eight bits.
    """

    file: str
    subset: str = ""
    channels: int = 0
    float_inputs: bool = False


STUDENTS = {
    "har-upright": Spec("", float_inputs=True),
    "har-waist": Spec("", float_inputs=True),
    "har-wrist": Spec("spsw_har.tar.xz", channels=3),
    "rul-engines": Spec("cmapss.zip", "FD001+FD002+FD003+FD004"),
    "rul-fd001": Spec("cmapss.zip", "FD001"),
    "rul-fd001-long": Spec("cmapss.zip", "FD001"),
    "rul-fd003": Spec("cmapss.zip", "FD003"),
    "rul-lifelong": Spec("cmapss.zip", "FD001+FD003"),
}
"""Starter students by name; each has a recipe `training/configs/NAME.toml`."""


def read_data(name: str, folder: Path, *, with_test: bool) -> DataSet:
    """Read the data of a starter student.

    Raises:
        DataSetError: A file is missing, or its content does not match its name.
    """
    spec, recipe = STUDENTS[name], shipped_recipe(name)
    if spec.subset:
        return read_cmapss(
            folder / spec.file,
            spec.subset,
            with_test=with_test,
            length=recipe.length or LENGTH,
            conditions=recipe.conditions,
        )
    if not spec.file:
        return read_uci_har(folder, with_test=with_test)
    return _first_channels(read_spsw(folder / spec.file, with_test=with_test), spec.channels)


def build(name: str, data: Path, zoo: Path, scratch: Path, console: Console) -> list[Artifact]:
    """Make a student and its int8 variant in `zoo`.

    Args:
        name: Key of `STUDENTS`, or one of `FORECASTERS`.
        data: Folder of the data files.
        zoo: Gets the folders NAME and NAME-int8, which are replaced if they exist.
        scratch: Keeps the state of the run; a run that was cut off continues from it.
        console: Console of the progress bar.

    Returns:
        Both artifacts.

    Raises:
        TrainingError: The run failed; the subclass gives the kind. `zoo` is unchanged.
    """
    from training.candidate import train_candidate

    if name in FORECASTERS:
        return build_forecaster(name, data, zoo, scratch, console)
    recipe, known = shipped_recipe(name), read_data(name, data, with_test=False)
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    log = RunLog(folder / "log.jsonl", console, recipe.epochs * recipe.trainings)
    with log:
        candidate = train_candidate(
            known,
            recipe,
            name,
            folder,
            command=f"python -m training.starters build --only {name}",
            on_epoch=log.add,
        )
    if candidate is None:  # impossible without a deadline
        msg = f"the run of {name} stopped before its last pass: run the command again"
        raise TrainingError(msg)
    trained = candidate.artifact
    full = read_data(name, data, with_test=True)
    metrics = _measure_all(Student(trained), full) | _out_of_fold_by_subset(known, candidate)
    whole = _install(trained, zoo / name, trained.onnx_bytes, name=name, metrics=metrics)
    small = _install_small(whole, known, full, zoo, float_inputs=STUDENTS[name].float_inputs)
    return [whole, small]


def _install_small(
    whole: Artifact, known: DataSet, full: DataSet, zoo: Path, *, float_inputs: bool
) -> Artifact:
    from training.export.quantize import quantize

    name = f"{whole.manifest.name}-int8"
    at = np.unique(np.linspace(0, len(known.train) - 1, _RANGES).astype(int))
    some = known.train.windows[at]
    scaled = scale(some, whole.manifest.scaler)
    onnx = quantize(whole.onnx_bytes, scaled, float_inputs=float_inputs)
    with tempfile.TemporaryDirectory() as folder:
        trial = Student(write_artifact(folder, _draft(whole, name=name), onnx))
        trial.self_test()
        decoding = _own_features(trial, known, shipped_recipe(whole.manifest.name))
        metrics = _measure_all(trial, full)
        apart = np.abs(score_raw(trial, some) - score_raw(Student(whole), some))
    metrics["apart_from_float32"] = {
        "mean": float(apart.mean()),
        "largest": float(apart.max()),
        "windows": float(len(some)),
    }
    return _install(whole, zoo / name, onnx, name=name, metrics=metrics, decoding=decoding)


def _own_features(student: Student, known: DataSet, recipe: Recipe) -> Decoding:
    """The decoding with the same known windows as its eight-bit graph sees them."""
    decoding = student.manifest.decoding
    if not isinstance(decoding, ClassesDecoding) or decoding.features is None:
        return decoding
    learned = known_ones = known.train
    if not recipe.folds:
        groups = hold_out_groups(known.train.groups, recipe.hold_out, recipe.split_seed)
        learned, known_ones = learned.without_groups(groups), known_ones.of_groups(groups)
    features = features_again(student, decoding.features, learned, known_ones)
    return decoding.model_copy(update={"features": features})


def _out_of_fold_by_subset(data: DataSet, candidate: Candidate) -> dict[str, dict[str, float]]:
    """Error and coverage of each joined subset, of engines that neither taught nor calibrated."""
    from training.uncertainty.fit import covered, late_share

    windows, found = candidate.held_out, {}
    if not data.sets:
        return {}
    inside, largest = covered(data, windows, candidate.scored), data.num_answers - 1
    for index, name in enumerate(data.sets):
        own = data.sets_of(windows.groups) == index
        error = data.contract.headline.compute(windows.labels[own], candidate.scored[own])
        share = late_share(inside[own], windows.where(own), largest)
        found[f"out_of_fold {name}"] = {
            data.contract.headline.name: float(f"{error:.6g}"),
            "interval_coverage": float(f"{share:.6g}"),
            "windows": float(own.sum()),
        }
    return found


def _measure_all(student: Student, data: DataSet) -> dict[str, dict[str, float]]:
    if data.test is None:
        msg = f"{data.title} was read without its test set: pass with_test=True"
        raise DataSetError(msg)
    found = {"test": measure_windows(student, data.test)}
    for index, name in enumerate(data.sets):
        part = data.test.where(data.sets_of(data.test.groups) == index)
        found[f"test {name}"] = measure_windows(student, part)
    found["latency"] = measure_latency(student, data.test.windows[:100])
    return {
        split: {key: float(f"{value:.6g}") for key, value in measures.items()}
        for split, measures in found.items()
    }


def _draft(artifact: Artifact, **changes: Any) -> Draft:
    content = {field: getattr(artifact.manifest, field) for field in Draft.model_fields}
    return Draft(**content | changes)


def _install(
    artifact: Artifact,
    folder: Path,
    onnx: bytes,
    *,
    name: str,
    metrics: dict[str, dict[str, float]],
    decoding: Decoding | None = None,
) -> Artifact:
    kept = {
        split: measures
        for split, measures in artifact.manifest.metrics.items()
        if split in ("held_out", "out_of_fold", "calibration", "examples")
    }
    changes = {} if decoding is None else {"decoding": decoding}
    draft = _draft(artifact, name=name, metrics=kept | metrics, **changes)
    if folder.exists():
        shutil.rmtree(folder)
    return write_artifact(folder, draft, onnx)


def _first_channels(data: DataSet, count: int) -> DataSet:
    def cut(windows: WindowSet) -> WindowSet:
        values: NDArray[np.float32] = np.ascontiguousarray(windows.windows[:, :, :count])
        return replace(windows, windows=values)

    train = cut(data.train)
    return replace(
        data,
        channels=data.channels[:count],
        train=train,
        test=None if data.test is None else cut(data.test),
        digest=digest_windows(train),
    )


_data_option = click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Data folder."
)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Make the students in models/zoo and their cards."""


@main.command("build")
@_data_option
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice(sorted([*STUDENTS, *FORECASTERS])),
    help="Starter student to make; may be repeated. All by default.",
)
@click.option(
    "--zoo",
    type=click.Path(path_type=Path),
    default=Path(models.zoo.__file__).parent,
    help="Folder of the students.",
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    default=Path("runs/zoo"),
    help="Folder for the state of the runs.",
)
@exit_on_errors("training.starters")
def build_command(data: Path, names: tuple[str, ...], zoo: Path, scratch: Path) -> None:
    """Train, calibrate, export, quantise and measure all students, or those of --only."""
    console = Console()
    for name in names or sorted([*STUDENTS, *FORECASTERS]):
        for artifact in build(name, data, zoo, scratch, console):
            manifest = artifact.manifest
            test = ", ".join(f"{k} {v:.4g}" for k, v in manifest.metrics["test"].items())
            console.print(f"{manifest.name}: {manifest.onnx.size_bytes} bytes; test {test}")


@main.command("seen")
@_data_option
@exit_on_errors("training.starters")
def seen_command(data: Path) -> None:
    """Write again what the shipped manifests tell about the training data; no graph changes."""
    for name in sorted([*STUDENTS, *FORECASTERS]):
        for artifact in describe_again(name, data, partial(read_data, with_test=False)):
            click.echo(f"{artifact.manifest.name}: {artifact.digest}")


@main.command("anchors")
@_data_option
@click.option(
    "--only", "name", type=click.Choice(sorted(STUDENTS)), required=True, help="The student."
)
@exit_on_errors("training.starters")
def anchors_command(data: Path, name: str) -> None:
    """Fit again what examples need, from people held out; no graph changes."""
    for artifact in fit_anchors_again(name, data, partial(read_data, with_test=False)):
        click.echo(f"{artifact.manifest.name}: {artifact.digest}")


@main.command("stress")
@_data_option
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice(sorted([*STUDENTS, *FORECASTERS])),
    help="Student to test; may be repeated. All by default.",
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="File to update.")
@exit_on_errors("training.starters")
def stress_command(data: Path, names: tuple[str, ...], results: Path) -> None:
    """Test shipped students under stress, in float32 and in eight bits; some three minutes."""
    for name in names or sorted([*STUDENTS, *FORECASTERS]):
        found = stress_shipped(name, data, partial(read_data, with_test=True))
        write_stressed(read_stressed(results) | {name: found}, results)
        click.echo(f"{name}\n\n{stress_table(found)}")


@main.command("cards")
@click.option(
    "--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, help="Page to update."
)
@click.option(
    "--stress", type=click.Path(path_type=Path), default=RESULTS, help="Results of `stress`."
)
def cards_command(docs: Path, stress: Path) -> None:
    """Write the cards of the shipped students into the page about them."""
    found = [read_artifact(models.zoo.zoo_path(name)) for name in models.zoo.list_zoo()]
    write_cards([artifact.manifest for artifact in found], docs, read_stressed(stress))
