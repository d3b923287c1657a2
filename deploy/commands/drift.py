"""``kpstream drift``: which streams read something else than their students learned."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.drift.reasons import Reason

__all__ = ["drift"]

_DAY_MS = 86_400_000


@click.command()
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="State folder; default: of the settings."
)
@click.option("--influx", is_flag=True, help="Read the InfluxDB of KPSTREAM_PIPELINE_INFLUX_*.")
@click.option(
    "--days",
    type=click.FloatRange(min=0.01, max=3650),
    default=1.0,
    show_default=True,
    help="Leave out what was judged last before this many days.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, empty without a drift.")
def drift(state_dir: Path | None, influx: bool, days: float, as_json: bool) -> None:
    """Tell which streams read something else than what their students have learned.

    It reads the results file of a gateway, which may be running, or InfluxDB. The exit code is 0
    with and without a drift, and 1 if nothing could be read.
    """
    from ingest.clock import now_ms

    since_ms = now_ms() - round(days * _DAY_MS)
    found = _from_influx(since_ms) if influx else _from_results(state_dir, since_ms)
    if as_json:
        click.echo(json.dumps([asdict(reason) for reason in found], indent=2))
        return
    for reason in found:
        whole = f"stream {reason.stream}"
        where = whole if reason.is_whole else f"{whole} of {reason.site}/{reason.device}"
        since = datetime.fromtimestamp(reason.since_ms / 1000, timezone.utc)
        click.echo(
            f"{where}: {reason.text} (student version {reason.version}, "
            f"since {since:%Y-%m-%d %H:%M} UTC, seen by {reason.gateway})"
        )
    if not found:
        click.echo("no stream has drifted")


def _from_results(state_dir: Path | None, since_ms: int) -> list[Reason]:
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import GatewaySettings
    from pipeline.drift.reasons import reasons_in_results
    from pipeline.errors import SinkError
    from pipeline.settings import PipelineSettings
    from pipeline.stores.resultsfile import ResultsFile

    with exit_on_invalid_settings():
        settings = GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
        path = PipelineSettings().results_path(settings.state_dir)
    if not path.is_file():
        msg = f"no results at {path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(msg)
    try:
        with closing(ResultsFile(path, read_only=True)) as results:
            return reasons_in_results(results, since_ms)
    except SinkError as exc:
        raise click.ClickException(str(exc)) from exc


def _from_influx(since_ms: int) -> list[Reason]:
    from deploy.settings.errors import exit_on_invalid_settings
    from pipeline.drift.reasons import reasons_in_influx
    from pipeline.errors import SinkError
    from pipeline.settings import PipelineSettings
    from pipeline.stores.influx import influx_connection
    from pipeline.stores.influxclient import InfluxClient

    with exit_on_invalid_settings():
        settings = PipelineSettings()
    if settings.influx_url is None:
        msg = "no InfluxDB is set: set KPSTREAM_PIPELINE_INFLUX_URL and its token"
        raise click.ClickException(msg)
    try:
        with InfluxClient(influx_connection(settings)) as client:
            return reasons_in_influx(client, settings.influx_bucket, since_ms)
    except SinkError as exc:
        raise click.ClickException(str(exc)) from exc
