"""``kpstream dashboards``: push, compare, fetch and render the boards and alerts of a site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dashboards.errors import DashboardsError
from dashboards.grafana.client import GrafanaClient
from dashboards.grafana.provision import BOARDS_PATH, files_of, write
from dashboards.grafana.sync import Difference, compare, pull, push
from dashboards.settings import GrafanaSettings
from deploy.settings.errors import exit_on_invalid_settings

__all__ = ["dashboards"]

_FOLDER = click.Path(file_okay=False, path_type=Path)
_ERROR_CODE = 2  # `diff` exits with 1 when it has found a difference
_DONE = {"missing": "created", "different": "updated", "same": "unchanged"}


class _DashboardsFailed(click.ClickException):
    """A command failed."""

    exit_code = _ERROR_CODE


@click.group()
def dashboards() -> None:
    """Push boards and alerts to Grafana, compare, fetch, or write them as files."""


@dashboards.command(name="push")
@click.option("--force", is_flag=True, help="Also overwrite boards that were edited in Grafana.")
def push_command(force: bool) -> None:
    """Bring Grafana in line with the code; a second run changes nothing.

    Boards that were edited in Grafana since the last push are overwritten only with --force.
    """
    with _grafana() as (client, settings):
        for item in push(client, settings.site_dashboards(), settings.influx_token, force=force):
            click.echo(f"{_DONE[item.state]:<9} {item.kind} {item.name}")


@dashboards.command(name="diff")
@click.pass_context
def diff_command(ctx: click.Context) -> None:
    """Show how Grafana differs from the code; exit code 1 if it does."""
    with _grafana() as (client, settings):
        found = compare(client, settings.site_dashboards(), settings.influx_token)
    for item in found:
        if item.state != "same":
            _show(item)
    different = sum(item.state != "same" for item in found)
    click.echo(f"{len(found) - different} of {len(found)} match the code", err=True)
    if different:
        ctx.exit(1)


@dashboards.command(name="pull")
@click.argument("folder", type=_FOLDER, default=Path())
def pull_command(folder: Path) -> None:
    """Write Grafana's boards and alerts as normalised JSON below FOLDER.

    The files are for reading and comparing. To keep a change, make it in the code.
    """
    with _grafana() as (client, settings):
        written = pull(client, settings.site_dashboards(), folder)
    for path in written:
        click.echo(path)
    click.echo(f"{len(written)} files are new or changed", err=True)


@dashboards.command(name="render")
@click.argument("folder", type=_FOLDER)
@click.option(
    "--boards-path",
    default=BOARDS_PATH,
    show_default=True,
    help="Path of the folder json on Grafana's server.",
)
def render_command(folder: Path, boards_path: str) -> None:
    """Write boards, alerts and data source below FOLDER as files for Grafana's provisioning."""
    site = _settings().site_dashboards()
    for path in write(files_of(site, boards_path=boards_path), folder):
        click.echo(path)


def _show(item: Difference) -> None:
    click.secho(str(item), bold=True)
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in item.lines:
        click.secho(line, fg=colours.get(line[:1]))


@contextmanager
def _grafana() -> Iterator[tuple[GrafanaClient, GrafanaSettings]]:
    settings = _settings()
    if settings.token is None:
        message = (
            "KPSTREAM_GRAFANA_TOKEN is not set: in Grafana, under Administration > Users and "
            "access > Service accounts, add an account with the role Editor and a token"
        )
        raise _DashboardsFailed(message)
    try:
        client = GrafanaClient(
            settings.url,
            settings.token,
            timeout_s=settings.timeout_s,
            ca_file=settings.ca_file,
        )
        try:
            yield client, settings
        finally:
            client.close()
    except DashboardsError as exc:
        raise _DashboardsFailed(str(exc)) from exc


def _settings() -> GrafanaSettings:
    with exit_on_invalid_settings(_ERROR_CODE):
        return GrafanaSettings()
