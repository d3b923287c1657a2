"""The end of a run, for every task: the decision, the publication, the log and the release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from models.acceptance import require_unruled, stable_version
from models.artifact import Artifact
from models.errors import ModelError
from models.registry import Registry
from models.rulings import read_rulings
from training.centre import Centre
from training.decision import Decision, RejectedVersion, decide, format_gain, headline_title
from training.evaluate import Rival
from training.report import RunLog
from training.runfolder import require_room
from training.running import publish_better, require_free_stream
from training.runpage import RunPage

__all__ = ["Orders", "conclude", "find_rejected", "require_publishable"]

_MOST_REJECTED = 5
"""Rejected versions that a new student is compared with, the newest ones."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do with the new student.

    Attributes:
        registry: The registry.
        publish: Publish it if it is better.
        replace: Retire the student of another name that scores the stream.
        centre: The centre that releases it then; None for none.
        min_gain: Smallest gain that matters, in the unit of the headline measure; None for the
            noise of the measurement.
    """

    registry: Registry
    publish: bool
    replace: bool
    centre: Centre | None
    min_gain: float | None


def require_publishable(orders: Orders, stream: str, name: str) -> None:
    """Refuse before the training what would be refused after it; nothing without --publish.

    Raises:
        Held: The name is held or pinned.
        TrainingError: Another student scores the stream, or the registry cannot be written.
    """
    if orders.publish:
        require_unruled(orders.registry, name)
        require_free_stream(orders.registry, stream, name, orders.replace)
        require_room(orders.registry.root)


def find_rejected(
    registry: Registry, name: str, compare: Callable[[Artifact], Rival]
) -> list[RejectedVersion]:
    """The rejected versions of a name, each compared with the new student if that is possible.

    Args:
        registry: The registry.
        name: The name.
        compare: Compares a student with the new one; raises `ModelError` if it cannot.
    """
    found = []
    rejected = read_rulings(registry.folder(name)).rejected
    for version in sorted(rejected)[-_MOST_REJECTED:]:
        try:
            artifact = registry.read(name, version)
        except ModelError:
            continue  # removed or damaged: nothing to compare with
        try:
            rival = compare(artifact)
        except ModelError:
            rival = None
        found.append(RejectedVersion(artifact.manifest, rejected[version], rival))
    return found


def conclude(
    console: Console,
    log: RunLog,
    page: RunPage,
    orders: Orders,
    artifact: Artifact,
    running: Artifact | None,
    rivals: Sequence[Rival],
    rejected: Sequence[RejectedVersion],
    measured: dict[str, Any],
) -> int:
    """Decide about a new student, publish and release it if asked, and write it all down.

    Args:
        console: Where the outcome is told.
        log: Gets the last line of the run.
        page: Gets the same, for its end.
        orders: What the user wants.
        artifact: The new student.
        running: The running one; None for none.
        rivals: Everything that it has to beat, the running student among them.
        rejected: See `find_rejected`.
        measured: What else belongs into the last line of the log.

    Returns:
        Exit code of the run.
    """
    name = artifact.manifest.name
    obstacle = _obstacle(orders.registry, name)
    decision = decide(
        artifact.manifest,
        running.manifest if running is not None else None,
        rivals,
        rejected,
        obstacle=obstacle,
        min_gain=orders.min_gain,
    )
    if rivals:
        amounts = ", ".join(
            f"{format_gain(artifact.manifest, rival.gain)} over {rival.name} (at least "
            f"{format_gain(artifact.manifest, decision.smallest[rival.name])})"
            for rival in rivals
        )
        console.print(
            f"Gain in {headline_title(artifact.manifest)}: {amounts}.", soft_wrap=True, markup=False
        )
    version = None
    if orders.publish and decision.publishes:
        version = publish_better(orders.registry, artifact, running, orders.replace)
    line = {
        **measured,
        "rivals": {rival.name: _numbers(rival, decision) for rival in rivals},
        "better": decision.publishes,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "published_version": version,
        "onnx_bytes": artifact.manifest.onnx.size_bytes,
    }
    page.judge(artifact.manifest, line)
    log.write(line)
    console.print(decision.reason, soft_wrap=True, markup=False)
    console.print(_last_line(artifact, decision, version, orders.registry), soft_wrap=True)
    if version is not None and orders.centre is not None:
        return orders.centre.release(console, orders.registry.root, name, version)
    return decision.exit_code


def _obstacle(registry: Registry, name: str) -> str:
    found = read_rulings(registry.folder(name)).obstacle(None, stable_version(registry, name))
    return f"{name} is {found}" if found else ""


def _numbers(rival: Rival, decision: Decision) -> dict[str, Any]:
    """What is known of a rival; JSON has no NaN."""
    gain = rival.comparison
    known = {key: value for key, value in rival.measures.items() if value == value}
    return known | {
        "gain": [gain.gain, gain.low, gain.high],
        "headline_gain": rival.gain,
        "smallest_gain": decision.smallest[rival.name],
    }


def _last_line(
    artifact: Artifact, decision: Decision, version: int | None, registry: Registry
) -> str:
    where = f"artifact in {artifact.path}"
    if version is not None:
        return f"Published {artifact.manifest.name} v{version} to {registry.root}."
    if not decision.publishes:
        word = {"rejected": "Rejected", "held": "Held"}.get(decision.outcome, "Not better")
        return f"{word}: nothing was published; {where}."
    return f"Not published (add --publish); {where}."
