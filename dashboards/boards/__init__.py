"""The boards of a site. Pure.

In: tasks, limits, queries and visuals. Out: `Board` objects with uids that never change. Promise: a
new task needs one file and one line here, or nothing: the general boards show every task.

General boards, one file each: `fleet`, `device`, `model`, `rollout`, `pipeline`, `account`. Tasks,
one file each: `rul`, `activity`; a file builds `TaskPanels` (`task_panels`), which hold the panels
that the task adds to the general boards, its own board and its alert rules. `registry` lists the
tasks with panels.
"""

__all__: list[str] = []
