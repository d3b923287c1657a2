"""``kpstream site``: install the servers of a site, run everything, look at it, stop it."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from deploy.commands.gateway import make_state_folder

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.settings.settings import SiteSettings
    from deploy.stack.site import Site
    from deploy.stack.sitestate import SiteState

__all__ = ["site"]

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M")
_NOT_RUNNING = 3  # as with systemd
_STATE_DIR = click.option(
    "--state-dir", type=click.Path(path_type=Path), help="Folder of the site; one site each."
)


@click.group()
def site() -> None:
    """Run a whole site on this machine: mosquitto, Kafka, InfluxDB, bridges, workers, stores."""


@site.command(short_help="Get Kafka, and build InfluxDB.")
@click.option(
    "--only",
    type=click.Choice(["kafka", "influxd"]),
    help="One of them; without it, both, and a look at mosquitto.",
)
def install(only: str | None) -> None:
    """Get Kafka (Maven, half a minute) and build InfluxDB (Go, Cargo, about five minutes).

    They go to ~/.cache/kpstream/servers, or where KPSTREAM_SERVERS_DIR says; what is there already
    stays. mosquitto is a package of the system.
    """
    from deploy.stack.install import InstallError, install_influxd, install_kafka
    from ingest.mqtt.broker import mosquitto_program

    signal.signal(signal.SIGTERM, _unwind)
    missing = []
    for name, make in (("kafka", install_kafka), ("influxd", install_influxd)):
        if only in (None, name):
            try:
                make(say=click.echo)
            except InstallError as exc:
                missing.append(name)
                click.echo(f"{name}: {exc}", err=True)
    if only is None:
        program = mosquitto_program()
        click.echo(
            f"mosquitto is {program}" if program else "mosquitto: sudo apt install mosquitto",
            err=program is None,
        )
        missing += [] if program else ["mosquitto"]
    if missing:
        message = f"not installed: {', '.join(missing)}"
        raise click.ClickException(message)


@site.command(short_help="Start the site and keep it running.")
@_STATE_DIR
@click.option("--bridges", type=click.IntRange(1, 16), help="Default 1.")
@click.option("--workers", type=click.IntRange(1, 64), help="Default 2.")
@click.option("--stores", type=click.IntRange(1, 16), help="Default 1.")
@click.option("--detach", is_flag=True, help="Return when everything is ready; it runs on.")
def up(
    state_dir: Path | None,
    bridges: int | None,
    workers: int | None,
    stores: int | None,
    detach: bool,
) -> None:
    """Start the site and keep it running until Ctrl-C, or `kpstream site down`.

    All settings: docs/settings.md (environment KPSTREAM_SITE_*, _INGEST_*, _PIPELINE_*).
    """
    here = _site(state_dir=state_dir, bridges=bridges, workers=workers, stores=stores)
    folder = here.site.state_dir
    make_state_folder(folder)
    from rich.console import Console

    out = Console(soft_wrap=True)
    if here.site.workers > here.site.partitions:
        idle = here.site.workers - here.site.partitions
        click.echo(
            f"{idle} of {here.site.workers} workers will be idle: a partition has one worker"
        )
    if detach:
        _refuse_second(folder)
        _refuse_problems(here)
        sys.exit(_detached(here, out))
    from deploy.stack.sitestate import SiteRuns, hold_lock

    try:
        with hold_lock(folder):
            _refuse_problems(here)
            _run(here, out)
    except SiteRuns as exc:
        raise click.ClickException(str(exc)) from exc


@site.command()
@_STATE_DIR
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show every part of the site.

    Exit code 0: everything is ready; 1: something is not; 3: no site runs.
    """
    from rich.console import Console

    from deploy.stack.sitestate import is_running, read_state

    folder = _settings(state_dir=state_dir).state_dir
    state = read_state(folder)
    running = is_running(folder)
    if as_json:
        page = {"running": running, "healthy": False} | (asdict(state) if state else {})
        page["healthy"] = bool(running and state and state.is_healthy)
        click.echo(json.dumps(page, indent=1))
    elif not running or state is None:
        click.echo(f"no site runs on {folder}; start one with kpstream site up")
    else:
        from deploy.commands.sitetable import status_table

        Console(soft_wrap=True).print(status_table(state, time.time_ns() // 1_000_000))
    if not running or state is None:
        sys.exit(_NOT_RUNNING)
    sys.exit(0 if state.is_healthy else 1)


@site.command(short_help="Stop the site in good order.")
@_STATE_DIR
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds to wait for its end.",
)
def down(state_dir: Path | None, timeout_s: float) -> None:
    """Stop the site: bridges first, then workers, stores, servers. Nothing confirmed is lost."""
    from deploy.stack.sitestate import is_running, left_over, read_state

    folder = _settings(state_dir=state_dir).state_dir
    if not is_running(folder):
        state = read_state(folder)
        for row in left_over(state.rows if state else ()):
            click.echo(f"{row.name} (pid {row.pid}) is left over from a killed site: ending it")
            os.kill(row.pid or 0, signal.SIGKILL)
        click.echo(f"no site runs on {folder}")
        return
    _end_supervisor(folder, timeout_s)


@site.command(short_help="Make topics, buckets and tokens where they are missing.")
@_STATE_DIR
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Seconds to try again for when a server is not there yet.",
)
@click.option(
    "--shorten",
    is_flag=True,
    help="Let a bucket of InfluxDB keep points for less long than now: older ones are deleted.",
)
def setup(state_dir: Path | None, wait_s: float, shorten: bool) -> None:
    """Make topics, buckets, tasks and tokens on servers that run already. Safe to repeat.

    `kpstream site up` does it by itself. Tokens go to the folder `secrets` in the state folder.
    Where InfluxDB was set up before, KPSTREAM_PIPELINE_INFLUX_TOKEN must be its operator token.
    """
    here = _site(state_dir=state_dir)
    make_state_folder(here.site.state_dir)
    deadline = time.monotonic() + wait_s
    for step in here.steps(may_shorten=shorten):
        while True:
            try:
                click.echo(f"{step.name}: {step.take()}")
                break
            except Exception as exc:
                if time.monotonic() >= deadline:
                    message = f"{step.name}: {exc}"
                    raise click.ClickException(message) from exc
                time.sleep(1.0)


@site.command(short_help="Make hours of scores anew, after a long outage.")
@_STATE_DIR
@click.option(
    "--since",
    required=True,
    type=click.DateTime(_DATES),
    metavar="TIME",
    help="The first hour, UTC, as in 2026-11-21T08:00.",
)
@click.option(
    "--until", type=click.DateTime(_DATES), metavar="TIME", help="The last one; default: now."
)
def hours(state_dir: Path | None, since: datetime, until: datetime | None) -> None:
    """Make the hourly aggregates in InfluxDB anew from the scores.

    InfluxDB does it by itself for the last three days, once a day. What reached it later than that
    is in its hours after this. Made again, an hour overwrites itself.
    """
    from deploy.stack.process import ServerError
    from deploy.stack.sitesetup import influx_layout, influx_operator
    from pipeline.errors import SinkError
    from pipeline.stores.influxsetup import aggregate

    here = _site(state_dir=state_dir)
    start, stop = (at.replace(tzinfo=timezone.utc) for at in (since, until or _utc_now()))
    try:
        with influx_operator(here) as client:
            start_ms, stop_ms = (round(at.timestamp() * 1000) for at in (start, stop))
            aggregate(client, influx_layout(here), start_ms, stop_ms)
    except (SinkError, ServerError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"made the hours from {start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} UTC anew")


@site.command(short_help="Write systemd units and a compose file.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for systemd units, compose file and what belongs to them.",
)
def units(out: Path) -> None:
    """Write systemd units and a compose file with the settings that `kpstream site up` uses."""
    from deploy.stack.units import write_units

    try:
        for path in write_units(out, _site()):
            click.echo(f"wrote {path}")
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        message = f"{exc.strerror}: {exc.filename}"
        raise click.ClickException(message) from exc


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


# ------------------------------------------------------------------------------------- settings


def _settings(**own: object) -> SiteSettings:
    from deploy.settings.settings import SiteSettings

    with _settings_in_words():
        return SiteSettings(**{name: value for name, value in own.items() if value is not None})  # type: ignore[arg-type]


def _site(**own: object) -> Site:
    from deploy.stack.site import Site
    from ingest.settings import IngestSettings
    from pipeline.settings import PipelineSettings

    with _settings_in_words():
        return Site.of(_settings(**own), IngestSettings(), PipelineSettings())


@contextmanager
def _settings_in_words() -> Iterator[None]:
    from deploy.settings.errors import SETTINGS_ADVICE, BadSettings, settings_problems

    try:
        yield
    except BadSettings as exc:
        wrong = "\n  ".join(settings_problems(exc))
        message = f"settings that cannot be ({SETTINGS_ADVICE}):\n  {wrong}"
        raise click.ClickException(message) from exc


def _refuse_second(folder: Path) -> None:
    from deploy.stack.sitestate import is_running

    if is_running(folder):
        message = f"a site runs on {folder} already; see kpstream site status"
        raise click.ClickException(message)


def _refuse_problems(here: Site) -> None:
    problems = here.problems()
    if problems:
        message = "the site can't start:\n  " + "\n  ".join(problems)
        raise click.ClickException(message)


# ------------------------------------------------------------------------------------- up, down


def _run(here: Site, out: Console) -> None:
    """Be the supervisor until told to end."""
    from deploy.commands.sitetable import Shown
    from deploy.stack.supervisor import Supervisor

    folder = here.site.state_dir
    _log_to(folder / "logs" / "site.log")
    ending = [0]
    with Shown(out, folder) as shown:
        supervisor = Supervisor(here.parts(), folder, on_change=shown.change)

        def end(number: int, _: FrameType | None) -> None:
            ending[0] += 1
            if ending[0] > 1 and number == signal.SIGINT:
                supervisor.hurry()  # a second Ctrl-C

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
                signal.signal(number, end)

        def should_stop() -> bool:
            shown.refresh(supervisor.state)
            return bool(ending[0])

        supervisor.run(should_stop)
    out.print(f"The site is down. What it knows stays in {folder}.")


def _detached(here: Site, out: Console) -> int:
    """Start the supervisor in the background, and wait until everything is ready."""
    from deploy.commands.sitetable import Shown, status_table
    from deploy.stack.sitestate import read_state

    own = here.site
    folder = own.state_dir
    command = [
        *(sys.executable, "-m", "deploy.cli", "site", "up", "--state-dir", str(folder)),
        *("--bridges", str(own.bridges), "--workers", str(own.workers)),
        *("--stores", str(own.stores)),
    ]
    (folder / "logs").mkdir(mode=0o700, exist_ok=True)
    with (folder / "logs" / "up.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _READY_S
    state = None
    with Shown(out, folder, hint="Ctrl-C stops waiting, not the site") as shown:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                said = (folder / "logs" / "up.log").read_text(errors="replace")
                message = f"the site did not start:\n{said[-2000:]}"
                raise click.ClickException(message)
            found = read_state(folder)
            if found is not None and found.pid == process.pid:
                state = found
                shown.refresh(state)
                if state.is_healthy:
                    break
            time.sleep(0.2)
    healthy = state is not None and state.is_healthy
    if not healthy and state is not None and not out.is_terminal:
        out.print(status_table(state, time.time_ns() // 1_000_000))
    where = "" if _settings().state_dir == folder else f" --state-dir {shlex.quote(str(folder))}"
    out.print(
        f"The site {'is ready' if healthy else 'is not ready yet, and goes on trying'}, "
        f"pid {process.pid}. See it: kpstream site status{where}; "
        f"stop it: kpstream site down{where}"
    )
    return 0 if healthy else 1


def _end_supervisor(folder: Path, timeout_s: float) -> None:
    from deploy.stack.sitestate import born, is_running, read_state

    state = read_state(folder)
    if state is None or (state.born is not None and born(state.pid) != state.born):
        message = (
            f"a site runs on {folder} but does not say which process it is: {folder}/site.json"
        )
        raise click.ClickException(message)
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    ended: set[str] = set()
    while is_running(folder) or (state.born is not None and born(state.pid) == state.born):
        ended = _tell_ended(read_state(folder), ended)
        if time.monotonic() > deadline:
            message = f"the site (pid {state.pid}) has not ended after {timeout_s:.0f} s"
            raise click.ClickException(message)
        time.sleep(0.1)
    _tell_ended(read_state(folder), ended)
    click.echo("the site is down")


def _tell_ended(state: SiteState | None, told: set[str]) -> set[str]:
    ended = {row.name for row in state.rows if row.state == "ended"} if state else set()
    for name in sorted(ended - told):
        click.echo(f"{name} ended")
    return told | ended


def _log_to(path: Path) -> None:
    """What happens goes to a file: the terminal belongs to the table."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _unwind(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


_READY_S = 180.0
