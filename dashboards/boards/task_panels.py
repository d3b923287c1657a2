"""The additions of a task to the boards and alerts of a site. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.alerts.alert import Rule
from dashboards.visuals.board import Board
from dashboards.visuals.panels import Panel
from models.tasks.contract import Task

__all__ = ["TaskPanels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPanels:
    """Panels, board and alert rules of one task; everything but the task is optional.

    Attributes:
        task: The task.
        fleet_now: Panels in the row "Now" of the fleet board.
        fleet: Panels of a row of the fleet board under the title of the task.
        device_now: Panels in the row "Now" of the device board.
        device_scores: Panels in the row "Scores" of the device board.
        device_history: Panels in the row of the last thirty days of the device board.
        model_beside: Panels beside the general ones in the row "Behaviour" of the model board.
        model_below: Panels below them.
        board: A board of its own.
        rules: Alert rules.
    """

    task: Task
    fleet_now: Sequence[Panel] = ()
    fleet: Sequence[Panel] = ()
    device_now: Sequence[Panel] = ()
    device_scores: Sequence[Panel] = ()
    device_history: Sequence[Panel] = ()
    model_beside: Sequence[Panel] = ()
    model_below: Sequence[Panel] = ()
    board: Board | None = None
    rules: Sequence[Rule] = ()
