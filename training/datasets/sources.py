"""The data that `train-redistill` reads for a task, and the starter student it improves.

A data set declares its task here. A task without an entry can be trained too: on dummy data, or
from Python with a `DataSet` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.errors import UnknownTask
from models.tasks.contract import Task
from models.tasks.registry import find_task, tasks
from training.datasets import cmapss
from training.datasets.contract import DataSet
from training.datasets.own_description import is_own, read_own_description
from training.datasets.uci_har import read_uci_har
from training.recipes import Recipe, labelled_tasks

__all__ = ["Source", "find_source", "find_task_by_option", "option_of", "task_options"]


@dataclass(frozen=True, slots=True)
class Source:
    """The data set behind a value of `--task`.

    Attributes:
        option: Value of `--task`.
        task: Name of the task that the data set declares.
        starter: Starter student; its recipe is `training/configs/{starter}.toml`.
        read: Reads the data set from path, subset, recipe and `with_test`.
        has_subsets: Whether `--subset` chooses a part of the data.
    """

    option: str
    task: str
    starter: str
    read: Callable[[Path, str, Recipe | None, bool], DataSet]
    has_subsets: bool = False


def _read_cmapss(path: Path, subset: str, recipe: Recipe | None, with_test: bool) -> DataSet:
    if recipe is None:
        return cmapss.read_cmapss(path, subset, with_test=with_test)
    length = recipe.length or cmapss.LENGTH
    return cmapss.read_cmapss(
        path, subset, with_test=with_test, length=length, conditions=recipe.conditions
    )


def _read_uci_har(path: Path, subset: str, recipe: Recipe | None, with_test: bool) -> DataSet:
    return read_uci_har(path, with_test=with_test)


_SOURCES = (
    Source("rul", "rul", "rul-fd001", _read_cmapss, has_subsets=True),
    Source("har", "activity", "har-waist", _read_uci_har),
)


def find_source(task: str) -> Source | None:
    """Find the source that declares this task; None if there is none."""
    return next((source for source in _SOURCES if source.task == task), None)


def task_options() -> list[str]:
    """List the values of `--task`: the option of the source, or else the name of the task."""
    sources = {source.task: source.option for source in _SOURCES}
    return [sources.get(task.name, task.name) for task in tasks()]


def option_of(description: Path) -> str:
    """Return the value of `--task` that a description file (`.toml`) implies.

    Raises:
        DataSetError: It describes labelled data and is wrong.
    """
    if is_own(description):
        name = read_own_description(description).task
        return {source.task: source.option for source in _SOURCES}.get(name, name)
    return next(task.name for task in tasks() if task not in labelled_tasks())


def find_task_by_option(option: str) -> Task:
    """Find the task that a value of `--task` names.

    Raises:
        UnknownTask: There is none.
    """
    if option not in task_options():
        msg = f"{option!r} is not one of {', '.join(map(repr, task_options()))}"
        raise UnknownTask(msg)
    return find_task({source.option: source.task for source in _SOURCES}.get(option, option))
