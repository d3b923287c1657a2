"""Which versions of a student that came from the centre are deleted, so that the disk is bounded.

Kept are: the newest three that came, the ten that ran last, and every version that the pointer or a
release names. What a person published is never deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from deploy.updates.memory import RolloutMemory
from deploy.updates.progress import Progress
from ingest.secrettext import error_text
from models.errors import ModelError
from models.pointer import Move
from models.registry import Registry

__all__ = ["prunable", "prune"]

log = logging.getLogger(__name__)

KEPT_NEWEST = 3
KEPT_THAT_RAN = 10


def prunable(
    added: Sequence[int], moves: Sequence[Move], needed: Collection[int] = ()
) -> list[int]:
    """The versions that may be deleted, oldest first.

    Args:
        added: Versions that came from the centre, oldest first.
        moves: History of the pointer, oldest first.
        needed: Versions that are kept in any case.
    """
    ran = list(dict.fromkeys(move.version for move in reversed(moves)))[:KEPT_THAT_RAN]
    kept = {*added[-KEPT_NEWEST:], *ran, *needed}
    return [version for version in added if version not in kept]


def prune(
    registry: Registry,
    memory: RolloutMemory,
    name: str,
    progress: Progress,
    moves: Sequence[Move],
) -> None:
    """Delete what is prunable of one student; a failure is told, and not tried again.

    Raises:
        OSError: The memory cannot be written.
    """
    added = memory.added(name)
    if len(added) <= KEPT_NEWEST:
        return
    former = () if progress.former is None else (progress.former.version,)
    old = prunable(added, moves, (progress.version, *former))
    if not old:
        return
    for version in old:
        try:
            registry.remove(name, version)
            log.info("%s v%d from an old release was deleted", name, version)
        except (ModelError, OSError) as exc:
            log.warning("%s v%d cannot be deleted: %s", name, version, error_text(exc))
    memory.save_added(name, [version for version in added if version not in old])
