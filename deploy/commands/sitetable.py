"""The parts of a site on screen: a live table in a terminal, lines in a log file."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.supervisor.sitestate import Row, SiteState
from ingest.clock import now_ms, utc_now

__all__ = ["StatusDisplay", "ago", "status_table"]

_STYLES = {
    "ready": "green",
    "done": "green",
    "starting": "yellow",
    "waiting": "dim",
    "stopping": "yellow",
    "ended": "dim",
}


class StatusDisplay:
    """Shows the state of a site: a live table in a terminal, otherwise one line per change."""

    def __init__(self, out: Console, folder: Path, hint: str = "Ctrl-C stops the site") -> None:
        """Prepare.

        Args:
            out: Console to print to.
            folder: State folder of the site, for the path of its logs.
            hint: Short advice to the user, shown below the table.
        """
        self._out = out
        self._folder = folder
        self._hint = hint
        self._live = Live(console=out, refresh_per_second=4) if out.is_terminal else None
        self._printed: dict[str, tuple[str, str]] = {}
        self._was_healthy = False
        self._drawn_s = 0.0

    def __enter__(self) -> StatusDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show_change(self, state: SiteState) -> None:
        """Show a state that differs from the last one."""
        if self._live is not None:
            self._draw(state)
            return
        for row in state.rows:
            if row.state != "waiting" and self._printed.get(row.name) != (row.state, row.detail):
                self._printed[row.name] = (row.state, row.detail)
                pid = f" (pid {row.pid})" if row.pid and row.state == "starting" else ""
                detail = f": {row.detail}" if row.detail else ""
                clock = f"{utc_now().astimezone():%H:%M:%S}"
                self._out.print(
                    f"{clock}  {row.name:<12} {row.state}{pid}{detail}", highlight=False
                )
        if state.is_healthy and not self._was_healthy:
            self._out.print(f"All parts are ready. Logs: {self._folder / 'logs'}")
        self._was_healthy = state.is_healthy

    def refresh(self, state: SiteState) -> None:
        """Show the current state; may be called as often as convenient."""
        if self._live is None:
            self.show_change(state)
        elif time.monotonic() - self._drawn_s > 0.5:
            self._draw(state)

    def _draw(self, state: SiteState) -> None:
        assert self._live is not None  # noqa: S101 - the callers have checked
        self._drawn_s = time.monotonic()
        table = status_table(state, now_ms())
        table.caption = f"logs: {self._folder / 'logs'}   ({self._hint})"
        table.caption_justify = "left"
        self._live.update(table)


def status_table(state: SiteState, now_ms: int) -> Table:
    """Return a table with one row per part."""
    title = f"site, pid {state.pid}, up for {ago(now_ms - state.started_ms)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("part", "state"):
        table.add_column(name)
    for name in ("since", "pid", "port", "restarts"):
        table.add_column(name, justify="right")
    table.add_column("detail", overflow="fold")
    for row in state.rows:
        table.add_row(*_cells(row, now_ms))
    return table


def ago(duration_ms: int) -> str:
    """Format a duration in at most two units.

    >>> ago(900), ago(61_000), ago(7_260_000), ago(200_000_000)
    ('0 s', '1 min', '2 h 1 min', '2 d 7 h')
    """
    seconds = max(0, duration_ms) // 1000
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours == 0:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days == 0 else f"{days} d {hours % 24} h"


def _cells(row: Row, now_ms: int) -> list[Text | str]:
    is_step = row.kind == "step"
    return [
        row.name,
        Text(row.state, style=_STYLES.get(row.state, "red")),
        "" if row.state == "waiting" else ago(now_ms - row.since_ms),
        str(row.pid or ""),
        str(row.port or ""),
        "" if is_step else str(row.restarts),
        Text(row.detail),
    ]
