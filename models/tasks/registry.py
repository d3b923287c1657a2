"""The known tasks, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from models.errors import UnknownTask
from models.tasks.activity import ACTIVITY
from models.tasks.contract import Task
from models.tasks.forecast import FORECAST
from models.tasks.rul import RUL

__all__ = ["TASKS", "find_task", "registered", "tasks"]

_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        RUL,
        ACTIVITY,
        FORECAST,
    )
}
TASKS: Mapping[str, Task] = MappingProxyType(_TASKS)
"""The known tasks by name, for code that looks one up for each score."""


def tasks() -> tuple[Task, ...]:
    """All known tasks, in the order of the registry."""
    return tuple(_TASKS.values())


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UnknownTask: There is none; the message names the known tasks.
    """
    task = _TASKS.get(name)
    if task is None:
        msg = f"unknown task {name!r:.80}; known tasks: {', '.join(sorted(_TASKS))}"
        raise UnknownTask(msg)
    return task


@contextmanager
def registered(task: Task) -> Iterator[Task]:
    """Make a task known inside a `with` block: for tests, and to try a task before it is added.

    Not thread-safe: enter it before threads that score or store start.

    Raises:
        ValueError: A task of this name is known already.
    """
    if task.name in _TASKS:
        msg = f"task {task.name!r} is known already: choose another name"
        raise ValueError(msg)
    _TASKS[task.name] = task
    try:
        yield task
    finally:
        del _TASKS[task.name]
