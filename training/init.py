"""`train-redistill init`: write a first description and a first recipe for own data.

    train-redistill init --from recordings/pump
    train-redistill init --from pumps.csv --task rul --size small

It reads the columns, writes `dataset.toml` and `recipe.toml`, and lists what it could not know.
It never overwrites a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from training.datasets.enough import require_enough
from training.datasets.own import read_own
from training.datasets.own_guess import guess_description
from training.datasets.own_recipe import SIZES, own_recipe
from training.errors import DataSetError, TrainingError
from training.recipes import format_recipe

__all__ = ["init"]

_FILES = ("dataset.toml", "recipe.toml")


@click.command(context_settings={"show_default": True})
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of recordings, CSV, Parquet or HDF5 file, or an archive.",
)
@click.option(
    "--task", type=click.Choice(["rul", "activity"]), help="Task; by default what the columns say."
)
@click.option(
    "--size", type=click.Choice(list(SIZES)), default="medium", help="Size of the student."
)
@click.option("--name", help="Name of the data set; by default that of the source.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder of the two files.",
)
def init(source: Path, task: str | None, size: str, name: str | None, folder: Path) -> None:
    """Write a first dataset.toml and recipe.toml for own data, and list what it could not know."""
    console = Console()
    try:
        _init(console, source, task, size, name, folder)
    except TrainingError as exc:
        click.echo(f"train-redistill init: {exc}", err=True)
        sys.exit(2)
    except OSError as exc:
        where = exc.filename or folder
        click.echo(
            f"train-redistill init: {where}: {exc.strerror}: choose another --folder", err=True
        )
        sys.exit(2)


def _init(
    console: Console, source: Path, task: str | None, size: str, name: str | None, folder: Path
) -> None:
    description, recipe_file = (folder / one for one in _FILES)
    for one in (description, recipe_file):
        if one.exists():
            msg = f"{one} exists, and nothing is overwritten: move it, or choose another --folder"
            raise DataSetError(msg)
    guess = guess_description(source, folder, task=task, name=name)
    folder.mkdir(parents=True, exist_ok=True)
    _write_new(description, guess.text)
    windows, groups, problem = 10_000, 25, ""
    try:
        data = read_own(description).data
    except TrainingError as exc:
        problem = str(exc)
    else:
        windows, groups = len(data.train), len(np.unique(data.train.groups))
        several = "" if groups == 1 else "s"
        guess.known.append(f"{groups} {data.group_word}{several}, {windows} windows")
    recipe = own_recipe(guess.task, size, windows=windows, groups=groups)
    head = f"# A {size} student of own data, chosen by `train-redistill init`.\n"
    _write_new(recipe_file, head + format_recipe(recipe, changed_only=True))
    if not problem:
        try:
            problem = " ".join(require_enough(data, recipe, publish=False))
        except DataSetError as exc:
            problem = str(exc)
    _print(console, "Found:", guess.known)
    _print(console, "Could not know (CHECK in dataset.toml):", guess.unknown)
    if problem:
        _print(console, "Not ready to train and publish yet:", [problem])
    console.print(
        f"Wrote {description} and {recipe_file}. Look at them, then: train-redistill --data "
        f"{description} --publish",
        soft_wrap=True,
        markup=False,
    )


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def _print(console: Console, title: str, lines: list[str]) -> None:
    if lines:
        body = "\n".join(f"  - {line}" for line in lines)
        console.print(f"{title}\n{body}", soft_wrap=True, markup=False, highlight=False)
