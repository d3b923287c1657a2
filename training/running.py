"""The student that runs now: the rival of a new one, and the name under which that is published.

The rival is the student that scores the stream, whatever its name: the one that the gateways of a
centre report, or else the one that a gateway would run from this registry
(`pipeline.scoring.scorers`), which need not be the one that a pointer names. A new student under
another name takes the stream only with `--replace`. The name says what a student learned from: it
is that of the rival if both learned from the same data set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from models.acceptance import publish_stable, rivals
from models.artifact import Artifact, read_artifact
from models.errors import ModelError
from models.registry import Registry
from models.tasks.contract import Task
from models.tasks.registry import find_task
from models.zoo import STARTERS, list_zoo, zoo_path
from pipeline.scoring.scorers import find_scorers
from training.errors import TrainingError

__all__ = [
    "Running",
    "choose_name",
    "find_running",
    "print_running",
    "publish_better",
    "require_free_stream",
    "title_of",
]


@dataclass(frozen=True, slots=True)
class Running:
    """The student that a new one is compared with.

    Attributes:
        artifact: The student.
        why: Why it is this one, as the end of a sentence.
    """

    artifact: Artifact
    why: str

    @property
    def title(self) -> str:
        """Its name and version."""
        return f"{self.artifact.manifest.name} v{self.artifact.manifest.version}"


def find_running(
    registry: Registry,
    task: Task,
    stream: str,
    name: str | None,
    *,
    reported: Mapping[tuple[str, int, str], int] | None = None,
    fits: Callable[[Artifact], bool] = lambda artifact: True,
    warn: Callable[[str], None] = lambda text: None,
) -> Running | None:
    """Find the student that scores a stream now.

    It is the one that most gateways report, or else the one that a gateway would run from the
    registry. If nothing scores the stream, it is the shipped student called `name`, or without a
    name the starter that a gateway would add.

    Args:
        registry: The registry.
        task: Task of the new student.
        stream: Stream that the new student scores.
        name: Name that the user chose for it; None for none.
        reported: What the gateways of a centre run on this stream: name, version and digest, with
            the number of gateways; empty or None for no report.
        fits: Whether a shipped student reads the data.
        warn: Called with a sentence for every student of the registry that is refused.

    Raises:
        TrainingError: The student called `name` has another task or stream, or the registry lacks
            the one that gateways report.
    """
    found = find_scorers(registry)
    for refused in found.refused:
        title = refused.name if refused.version is None else f"{refused.name} v{refused.version}"
        warn(f"{title} in the registry is refused by gateways: {refused.reason}")
    if name is not None:
        _require_same_stream(registry, task, stream, name)
    running = _find_reported(registry, reported) if reported else None
    if running is None and (scorer := found.of(stream)) is not None:
        artifact = registry.read(scorer.name, scorer.version, scorer.digest)
        running = Running(artifact, scorer.why)
    if running is None:
        return _find_shipped(task, stream, name, fits)
    return running if find_task(running.artifact.manifest.task) is task else None


def print_running(console: Console, running: Running | None) -> Artifact | None:
    """Say which student runs and why, and return it."""
    if running is None:
        console.print("Running: no student scores this stream.")
        return None
    console.print(f"Running: {running.title}, because {running.why}.", soft_wrap=True, markup=False)
    return running.artifact


def title_of(running: Artifact) -> str:
    """The running student in tables."""
    return f"running ({running.manifest.name} v{running.manifest.version})"


def choose_name(
    option: str,
    data_name: str,
    data_title: str,
    running: Artifact | None,
    *,
    is_own: bool = False,
) -> str:
    """Choose the name of a new student: that of the running one if its data set is the same.

    >>> choose_name("rul", "FD001+FD003", "C-MAPSS FD001+FD003", None)
    'rul-fd001-fd003'

    Own data that are called like a public set do not make the next version of a shipped student:

    >>> choose_name("rul", "fd001", "our engines", None, is_own=True)
    'rul-fd001-own'
    """
    if running is not None and running.manifest.lineage.data.startswith(f"{data_title},"):
        return running.manifest.name
    name = re.sub(r"[^a-z0-9._-]+", "-", f"{option}-{data_name}".lower())[:64]
    return f"{name[:60]}-own" if is_own and name in list_zoo() else name


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


def _require_same_stream(registry: Registry, task: Task, stream: str, name: str) -> None:
    try:
        pointer = registry.read_stable(name)
        manifest = registry.read(name, pointer.version).manifest if pointer else None
    except ModelError:
        return  # told as refused
    if manifest is None or (find_task(manifest.task) is task and manifest.stream == stream):
        return
    msg = (
        f"{name} in the registry scores the stream {manifest.stream!r} ({manifest.task}), not "
        f"{stream!r} ({task.name}): choose another --name"
    )
    raise TrainingError(msg)


def _find_reported(registry: Registry, reported: Mapping[tuple[str, int, str], int]) -> Running:
    """The student that most gateways report; of equally many, the newest version."""
    name, version, digest = max(reported, key=lambda one: (reported[one], one[1]))
    count, total = reported[name, version, digest], sum(reported.values())
    why = f"{count} of {total} gateways report that it scores"
    others = [
        f"{other} v{number} on {reported[other, number, each]}"
        for other, number, each in sorted(reported)
        if each != digest
    ]
    why += f" (others: {', '.join(others)})" if others else ""
    try:
        return Running(registry.read(name, version, digest), why)
    except ModelError as exc:
        msg = (
            f"{count} of {total} gateways run {name} v{version}, but the registry does not give "
            f"it ({exc}): copy that version into {registry.root}, or choose the registry of the "
            "centre with --registry"
        )
        raise TrainingError(msg) from exc


def _find_shipped(
    task: Task, stream: str, name: str | None, fits: Callable[[Artifact], bool]
) -> Running | None:
    """A shipped student that is no starter runs nowhere by itself: it is a rival by its name."""
    for known in [one for one in list_zoo() if one == name] if name else STARTERS:
        shipped = read_artifact(zoo_path(known))
        manifest = shipped.manifest
        if find_task(manifest.task) is task and manifest.stream == stream and fits(shipped):
            why = "no student of the registry scores the stream, and this one ships for it"
            return Running(shipped, why)
    return None
