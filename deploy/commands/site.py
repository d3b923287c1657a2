"""``kpstream site``: install the servers of a site, run everything, show it, stop it."""

from __future__ import annotations

import json
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

import click

from deploy.commands.sitesettings import load_site, load_site_settings
from deploy.commands.statefolder import make_state_folder
from ingest.clock import now_ms, utc_now

__all__ = ["site"]

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M")
_NOT_RUNNING = 3  # as with systemd
_STATE_DIR = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="State folder of the site; one folder per site.",
)


@click.group()
def site() -> None:
    """Run a whole site on this machine: mosquitto, Kafka, InfluxDB, bridges, workers, stores."""


@site.command(short_help="Download Kafka and build InfluxDB.")
@click.option(
    "--only",
    type=click.Choice(["kafka", "influxd"]),
    help="Install one of them; without it, install both and look for mosquitto.",
)
def install(only: str | None) -> None:
    """Download Kafka (Maven, half a minute) and build InfluxDB (Go, Cargo, about five minutes).

    They are installed in ~/.cache/kpstream/servers or in the folder KPSTREAM_SERVERS_DIR. A server
    that is installed already is kept. mosquitto is a package of the system.
    """
    from deploy.stack.install import InstallError, install_influxd, install_kafka
    from ingest.mqtt.broker import mosquitto_program

    signal.signal(signal.SIGTERM, _exit_on_signal)
    missing = []
    for name, install_server in (("kafka", install_kafka), ("influxd", install_influxd)):
        if only in (None, name):
            try:
                install_server(report=click.echo)
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
@click.option("--bridges", type=click.IntRange(1, 16), help="Number of bridges; default 1.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of workers; default 2.")
@click.option("--stores", type=click.IntRange(1, 16), help="Number of stores; default 1.")
@click.option(
    "--detach", is_flag=True, help="Run in the background; return once every part is ready."
)
def up(
    state_dir: Path | None,
    bridges: int | None,
    workers: int | None,
    stores: int | None,
    detach: bool,
) -> None:
    """Start the site and keep it running until Ctrl-C or `kpstream site down`.

    Environment variables KPSTREAM_SITE_*, _INGEST_* and _PIPELINE_* set everything else;
    docs/settings.md lists them.
    """
    here = load_site(state_dir=state_dir, bridges=bridges, workers=workers, stores=stores)
    folder = here.site.state_dir
    make_state_folder(folder)
    from rich.console import Console

    from deploy.commands.siteup import refuse_problems, refuse_second_site, run_detached, run_site
    from deploy.supervisor.sitestate import SiteRuns, hold_lock

    out = Console(soft_wrap=True)
    if here.site.workers > here.site.partitions:
        idle = here.site.workers - here.site.partitions
        click.echo(
            f"{idle} of {here.site.workers} workers will be idle, because only one worker can read "
            f"a partition and the site has {here.site.partitions}"
        )
    if detach:
        refuse_second_site(folder)
        refuse_problems(here)
        sys.exit(run_detached(here, out))
    try:
        with hold_lock(folder):
            refuse_problems(here)
            run_site(here, out)
    except SiteRuns as exc:
        raise click.ClickException(str(exc)) from exc


@site.command()
@_STATE_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show every part of the site.

    Exit code 0: every part is ready; 1: a part is not ready; 3: no site runs.
    """
    from rich.console import Console

    from deploy.supervisor.sitestate import is_running, read_state

    folder = load_site_settings(state_dir=state_dir).state_dir
    state = read_state(folder)
    running = is_running(folder)
    if as_json:
        page = {"running": running, "healthy": False} | (state.as_json() if state else {})
        page["healthy"] = bool(running and state and state.is_healthy)
        click.echo(json.dumps(page, indent=1))
    elif not running or state is None:
        click.echo(f"no site runs on {folder}; start one with kpstream site up")
    else:
        from deploy.commands.sitetable import status_table

        Console(soft_wrap=True).print(status_table(state, now_ms()))
    if not running or state is None:
        sys.exit(_NOT_RUNNING)
    sys.exit(0 if state.is_healthy else 1)


@site.command(short_help="Stop the site in order, without losing data.")
@_STATE_DIR
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds to wait until it has ended.",
)
def down(state_dir: Path | None, timeout_s: float) -> None:
    """Stop bridges first, then workers, stores and servers. No confirmed record is lost."""
    from deploy.commands.sitedown import end_left_over, end_supervisor
    from deploy.supervisor.sitestate import is_running

    folder = load_site_settings(state_dir=state_dir).state_dir
    if is_running(folder):
        end_supervisor(folder, timeout_s)
    else:
        end_left_over(folder)
        click.echo(f"no site runs on {folder}")


@site.command(short_help="Create missing topics, buckets and tokens.")
@_STATE_DIR
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Seconds to keep retrying while a server is not available.",
)
@click.option(
    "--shorten",
    is_flag=True,
    help="Allow a shorter retention of a bucket; InfluxDB then deletes older points.",
)
@click.option(
    "--influx-only", is_flag=True, help="Set up InfluxDB only, as for a gateway that has one."
)
def setup(state_dir: Path | None, wait_s: float, shorten: bool, influx_only: bool) -> None:
    """Create missing topics, buckets, tasks and tokens on running servers. Safe to repeat.

    `kpstream site up` does this by itself. Tokens are written to the folder `secrets` in the state
    folder. If InfluxDB was not set up by kpstream, KPSTREAM_PIPELINE_INFLUX_TOKEN must be its
    operator token.
    """
    from deploy.stack.sitesetup import GRAFANA_TOKEN_FILE, setup_steps

    here = load_site(state_dir=state_dir)
    make_state_folder(here.site.state_dir)
    deadline = time.monotonic() + wait_s
    for step in setup_steps(here, may_shorten=shorten, influx_only=influx_only):
        while True:
            try:
                click.echo(f"{step.name}: {step.run()}")
                break
            except Exception as exc:
                if time.monotonic() >= deadline:
                    message = f"{step.name}: {exc}"
                    raise click.ClickException(message) from exc
                time.sleep(1.0)
    click.echo(f"the tokens are in {here.site.state_dir / GRAFANA_TOKEN_FILE.parent}")


@site.command(short_help="Recompute hourly scores after a long outage.")
@_STATE_DIR
@click.option(
    "--since",
    required=True,
    type=click.DateTime(_DATES),
    metavar="TIME",
    help="First hour, UTC, for example 2026-11-21T08:00.",
)
@click.option(
    "--until", type=click.DateTime(_DATES), metavar="TIME", help="Last hour, UTC; default: now."
)
def hours(state_dir: Path | None, since: datetime, until: datetime | None) -> None:
    """Recompute the hourly aggregates in InfluxDB from the scores.

    InfluxDB recomputes the last three days by itself, once a day. Scores that arrived later need
    this command. A recomputed hour overwrites the old one.
    """
    from deploy.stack.process import ServerError
    from deploy.stack.sitesetup import influx_layout, influx_operator
    from pipeline.errors import SinkError
    from pipeline.stores.influxsetup import aggregate

    here = load_site(state_dir=state_dir)
    start = since.replace(tzinfo=timezone.utc)
    stop = (until or utc_now()).replace(tzinfo=timezone.utc)
    try:
        with influx_operator(here) as client:
            start_ms, stop_ms = (round(at.timestamp() * 1000) for at in (start, stop))
            aggregate(client, influx_layout(here), start_ms, stop_ms)
    except (SinkError, ServerError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"recomputed the hours from {start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} UTC")


@site.command(short_help="Write systemd units and a compose file.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the systemd units, the compose file and their configuration files.",
)
def units(out: Path) -> None:
    """Write systemd units and a compose file with the settings that `kpstream site up` uses."""
    from deploy.stack.units import write_units

    try:
        for path in write_units(out, load_site()):
            click.echo(f"wrote {path}")
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        message = f"{exc.strerror}: {exc.filename}"
        raise click.ClickException(message) from exc


def _exit_on_signal(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
