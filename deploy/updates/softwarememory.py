"""What the updater of the software remembers; the gateway's report shows it."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.rollout.report import SoftwareReport
from ingest.secrettext import error_text
from ingest.statefile import StateFileUnusable, read_object

__all__ = ["UPDATE_FILE", "UpdateMemory", "read_memory", "read_update"]

log = logging.getLogger(__name__)

UPDATE_FILE = "update.json"


class UpdateMemory(BaseModel):
    """What is remembered of the newest release.

    Attributes:
        report: What the gateway reports.
        former: The version that ran before it; "" for none.
        trials: How often it was begun to be installed.
    """

    model_config = ConfigDict(frozen=True)

    report: SoftwareReport
    former: str = ""
    trials: int = 0


def read_memory(folder: Path) -> UpdateMemory | None:
    """What is remembered in the folder of the updater; None for nothing, or if it is unusable."""
    path = folder / UPDATE_FILE
    try:
        found = read_object(path)
        return None if found is None else UpdateMemory.model_validate(found)
    except (StateFileUnusable, ValidationError) as exc:
        log.warning("%s is unusable and ignored: %s", path, error_text(exc))
        return None


def read_update(folder: Path) -> SoftwareReport | None:
    """What the updater of this machine has made of the newest release; None without one."""
    memory = read_memory(folder)
    return None if memory is None else memory.report
