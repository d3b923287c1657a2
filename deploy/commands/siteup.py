"""``kpstream site up``: the supervisor of a site, in the foreground or in the background."""

from __future__ import annotations

import logging
import shlex
import signal
import subprocess
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from deploy.commands.sitesettings import load_site_settings
from ingest.clock import now_ms

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.stack.site import Site
    from deploy.supervisor.sitestate import SiteState

__all__ = ["refuse_problems", "refuse_second_site", "run_detached", "run_site"]

_READY_S = 180.0


def refuse_second_site(folder: Path) -> None:
    """Fail if a supervisor runs on the folder.

    Raises:
        click.ClickException: One does.
    """
    from deploy.supervisor.sitestate import is_running

    if is_running(folder):
        message = f"a site already runs on {folder}; see kpstream site status"
        raise click.ClickException(message)


def refuse_problems(site: Site) -> None:
    """Fail if the site cannot start.

    Raises:
        click.ClickException: It cannot; the message lists every reason.
    """
    from deploy.stack.siteproblems import site_problems

    problems = site_problems(site)
    if problems:
        message = "the site can't start:\n  " + "\n  ".join(problems)
        raise click.ClickException(message)


def run_site(site: Site, out: Console) -> None:
    """Run the supervisor in this process until SIGINT, SIGTERM or SIGHUP."""
    from deploy.commands.sitetable import StatusDisplay
    from deploy.stack.siteparts import site_parts
    from deploy.supervisor.supervisor import Supervisor

    folder = site.site.state_dir
    _log_to_file(folder / "logs" / "site.log")
    signals_received = 0
    with StatusDisplay(out, folder) as display:
        supervisor = Supervisor(site_parts(site), folder, on_change=display.show_change)

        def on_signal(number: int, _: FrameType | None) -> None:
            nonlocal signals_received
            signals_received += 1
            if signals_received > 1 and number == signal.SIGINT:  # a second Ctrl-C
                supervisor.kill_remaining()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
                signal.signal(number, on_signal)

        def should_stop() -> bool:
            display.refresh(supervisor.state)
            return signals_received > 0

        supervisor.run(should_stop)
    out.print(f"The site is down. Its data stays in {folder}.")


def run_detached(site: Site, out: Console) -> int:
    """Start the supervisor in the background and wait until every part is ready.

    Returns:
        The exit code: 0 once every part is ready, 1 if that takes too long.

    Raises:
        click.ClickException: The supervisor ended.
    """
    from deploy.commands.sitetable import status_table

    folder = site.site.state_dir
    process = _start_supervisor(site)
    state = _await_ready(process, folder, out)
    healthy = state is not None and state.is_healthy
    if not healthy and state is not None and not out.is_terminal:
        out.print(status_table(state, now_ms()))
    is_default = load_site_settings().state_dir == folder
    option = "" if is_default else f" --state-dir {shlex.quote(str(folder))}"
    out.print(
        f"The site {'is ready' if healthy else 'is not ready yet and keeps trying'}, "
        f"pid {process.pid}. Status: kpstream site status{option}; "
        f"stop: kpstream site down{option}"
    )
    return 0 if healthy else 1


def _start_supervisor(site: Site) -> subprocess.Popen[bytes]:
    settings = site.site
    folder = settings.state_dir
    command = [
        *(sys.executable, "-m", "deploy.cli", "site", "up", "--state-dir", str(folder)),
        *("--bridges", str(settings.bridges), "--workers", str(settings.workers)),
        *("--stores", str(settings.stores)),
    ]
    (folder / "logs").mkdir(mode=0o700, exist_ok=True)
    with (folder / "logs" / "up.log").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 (our own command line)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await_ready(process: subprocess.Popen[bytes], folder: Path, out: Console) -> SiteState | None:
    """Wait until every part is ready, for a limited time; returns the last state."""
    from deploy.commands.sitetable import StatusDisplay
    from deploy.supervisor.sitestate import read_state

    deadline = time.monotonic() + _READY_S
    state = None
    with StatusDisplay(out, folder, hint="Ctrl-C stops waiting, not the site") as display:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                output = (folder / "logs" / "up.log").read_text(errors="replace")
                message = f"the site did not start:\n{output[-2000:]}"
                raise click.ClickException(message)
            found = read_state(folder)
            if found is not None and found.pid == process.pid:
                state = found
                display.refresh(state)
                if state.is_healthy:
                    break
            time.sleep(0.2)
    return state


def _log_to_file(path: Path) -> None:
    """Send log messages to a file, because the terminal shows the table of parts."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
