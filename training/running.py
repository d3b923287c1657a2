"""The student that runs now: the rival of a new one, and the name under which that is published.

One student scores a stream. So the rival is the stable student of the stream, whatever its name,
and a new student under another name takes the stream only with `--replace`. The name says what a
student learned from: it is that of the rival if both learned from the same data set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from models.acceptance import publish_stable, rivals
from models.artifact import Artifact, read_artifact
from models.errors import ModelError
from models.registry import Registry
from models.tasks.contract import Task
from models.tasks.registry import find_task
from models.zoo import STARTERS, list_zoo, zoo_path
from training.errors import TrainingError

__all__ = ["choose_name", "find_running", "publish_better", "require_free_stream"]


def find_running(
    registry: Registry,
    task: Task,
    stream: str,
    name: str | None,
    *,
    fits: Callable[[Artifact], bool] = lambda artifact: True,
    warn: Callable[[str], None] = lambda text: None,
) -> Artifact | None:
    """Find the student that a new student of a stream is compared with.

    It is the stable student called `name`, or else the stable student of the stream. If the
    registry has neither, it is the shipped student called `name`, or without a name the starter
    that scores the stream.

    Args:
        registry: The registry.
        task: Task of the new student.
        stream: Stream that the new student scores.
        name: Name that the user chose for it; None for none.
        fits: Whether a shipped student reads the data.
        warn: Called with a sentence for every student of the registry that cannot be read.

    Raises:
        TrainingError: Several students score the stream, or the one called `name` has another task
            or stream.
        ModelError: The student called `name` is damaged.
    """
    stable = list(_stable_students(registry, name, warn))
    own = next((one for one in stable if one.manifest.name == name), None)
    if own is not None:
        if find_task(own.manifest.task) is not task or own.manifest.stream != stream:
            msg = (
                f"{name} in the registry scores the stream {own.manifest.stream!r} "
                f"({own.manifest.task}), not {stream!r} ({task.name}): choose another --name"
            )
            raise TrainingError(msg)
        return own
    found = [
        one
        for one in stable
        if find_task(one.manifest.task) is task and one.manifest.stream == stream
    ]
    if len(found) > 1:
        names = ", ".join(one.manifest.name for one in found)
        msg = (
            f"several students score the stream {stream!r} ({names}): choose one with --name, or "
            "retire the others (kpstream models retire)"
        )
        raise TrainingError(msg)
    if found:
        return found[0]
    return _find_shipped(task, stream, name, fits)


def choose_name(option: str, data_name: str, data_title: str, running: Artifact | None) -> str:
    """Choose the name of a new student: that of the running one if its data set is the same.

    >>> choose_name("rul", "FD001+FD003", "C-MAPSS FD001+FD003", None)
    'rul-fd001-fd003'
    """
    if running is not None and running.manifest.lineage.data.startswith(f"{data_title},"):
        return running.manifest.name
    return re.sub(r"[^a-z0-9._-]+", "-", f"{option}-{data_name}".lower())[:64]


def require_free_stream(registry: Registry, stream: str, name: str, replace: bool) -> None:
    """Refuse before the training what `models.acceptance.publish_stable` would refuse after it.

    Raises:
        TrainingError: A student of another name scores the stream, and nobody said to replace it.
    """
    others = rivals(registry, stream, besides=name)
    if others and not replace:
        msg = (
            f"{' and '.join(others)} scores the stream {stream!r}, and only one student can. To "
            f"publish as {name}, add --replace: it retires the other one, and a running gateway "
            f"has to be restarted. To publish as its next version, which a running gateway takes "
            f"by itself, add --name {others[0]}"
        )
        raise TrainingError(msg)


def publish_better(
    registry: Registry, artifact: Artifact, running: Artifact | None, replace: bool
) -> int:
    """Publish a student that is better, make it stable, and return its version.

    A shipped student of the same name becomes the first version, so the new one has another number.
    """
    name = artifact.manifest.name
    if running is not None and running.manifest.name == name:
        registry.seed(running.path)
    elif name in list_zoo() and not registry.list_versions(name):
        registry.publish(zoo_path(name))
    return publish_stable(registry, artifact.path, replace=replace).pointer.version


def _stable_students(
    registry: Registry, name: str | None, warn: Callable[[str], None]
) -> Iterable[Artifact]:
    for known in registry.names():
        try:
            pointer = registry.read_stable(known)
            if pointer is not None:
                yield registry.read(known, pointer.version, pointer.digest)
        except ModelError as exc:
            if known == name:
                raise
            warn(f"{known} in the registry cannot be read and is left aside: {exc}")


def _find_shipped(
    task: Task, stream: str, name: str | None, fits: Callable[[Artifact], bool]
) -> Artifact | None:
    """A shipped student that is no starter runs nowhere by itself: it is a rival by its name."""
    for known in [one for one in list_zoo() if one == name] if name else STARTERS:
        shipped = read_artifact(zoo_path(known))
        manifest = shipped.manifest
        if find_task(manifest.task) is task and manifest.stream == stream and fits(shipped):
            return shipped
    return None
