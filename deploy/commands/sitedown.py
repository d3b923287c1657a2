"""``kpstream site down``: end the supervisor of a site, or its orphaned processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.supervisor.sitestate import is_running, left_over, process_start_time, read_state

if TYPE_CHECKING:
    from deploy.supervisor.sitestate import SiteState

__all__ = ["end_left_over", "end_supervisor"]


def end_left_over(folder: Path) -> None:
    """Kill processes that outlived a killed supervisor, frozen ones for example."""
    state = read_state(folder)
    for row in left_over(state.rows if state else ()):
        click.echo(f"{row.name} (pid {row.pid}) is left over from a killed site: ending it")
        os.kill(row.pid or 0, signal.SIGKILL)


def end_supervisor(folder: Path, timeout_s: float) -> None:
    """Ask the supervisor to stop, and wait until it has; prints each part that ends.

    Raises:
        click.ClickException: It did not end in time, or its process is unknown.
    """
    state = read_state(folder)
    if state is None or (state.process_start_time is not None and not _is_alive(state)):
        message = f"a site runs on {folder}, but {folder}/site.json does not name its process"
        raise click.ClickException(message)
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    printed: set[str] = set()
    while is_running(folder) or (state.process_start_time is not None and _is_alive(state)):
        printed = _print_ended(read_state(folder), printed)
        if time.monotonic() > deadline:
            message = f"the site (pid {state.pid}) has not ended after {timeout_s:.0f} s"
            raise click.ClickException(message)
        time.sleep(0.1)
    _print_ended(read_state(folder), printed)
    click.echo("the site is down")


def _is_alive(state: SiteState) -> bool:
    return process_start_time(state.pid) == state.process_start_time


def _print_ended(state: SiteState | None, printed: set[str]) -> set[str]:
    ended = {row.name for row in state.rows if row.state == "ended"} if state else set()
    for name in sorted(ended - printed):
        click.echo(f"{name} ended")
    return printed | ended
