"""``kpstream gateway`` runs a gateway; ``kpstream simulate`` publishes a simulated fleet."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click

from deploy.commands.importing import without_collections
from deploy.commands.statefolder import make_state_folder
from deploy.settings.brokeraddress import broker_settings, device_endpoint
from deploy.settings.secretoutput import start_logging

__all__ = ["gateway", "simulate"]


@click.command()
@click.option(
    "--mqtt", "mqtt", metavar="HOST:PORT", help="MQTT broker; default: from the settings."
)
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="Folder of the log and the results."
)
@click.option(
    "--console-port", type=click.IntRange(0, 65535), help="Port of the console page; default 8765."
)
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
def gateway(
    mqtt: str | None, state_dir: Path | None, console_port: int | None, verbose: bool
) -> None:
    """Run the gateway until Ctrl-C.

    Environment variables KPSTREAM_* set everything else; docs/settings.md lists them.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_logging(logging.INFO if verbose else logging.WARNING)
    with without_collections():
        from deploy.processes.gateway import run_gateway
        from deploy.settings.errors import exit_on_invalid_settings
        from deploy.settings.rolloutsettings import RolloutSettings
        from deploy.settings.settings import GatewaySettings
        from ingest.errors import IngestError
        from ingest.settings import IngestSettings
        from models.errors import ModelError
        from pipeline.errors import PipelineError
        from pipeline.settings import PipelineSettings

    own = {"state_dir": state_dir, "console_port": console_port}
    broker = broker_settings(mqtt)
    with exit_on_invalid_settings():
        settings = GatewaySettings(**{k: v for k, v in own.items() if v is not None})  # type: ignore[arg-type]
        ingest, pipeline = IngestSettings(**broker), PipelineSettings()  # type: ignore[arg-type]
        rollout = RolloutSettings()
    make_state_folder(settings.state_dir)
    try:
        code = asyncio.run(run_gateway(settings, ingest, pipeline, click.echo, rollout))
    except (PipelineError, ModelError, IngestError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    sys.exit(code)


@click.command()
@click.option(
    "--mqtt", "mqtt", metavar="HOST:PORT", help="MQTT broker; default: from the settings."
)
@click.option(
    "--engines",
    type=click.IntRange(0, 1000),
    default=6,
    show_default=True,
    help="Number of engines.",
)
@click.option(
    "--people",
    type=click.IntRange(0, 1000),
    default=4,
    show_default=True,
    help="Number of people.",
)
@click.option(
    "--cycles-per-second",
    type=click.FloatRange(min=0, max=100, min_open=True),
    default=1.0,
    show_default=True,
    help="Readings per second of each engine.",
)
@click.option(
    "--transformers",
    type=click.IntRange(0, 200),
    default=0,
    show_default=True,
    help="Number of power transformers whose sensors have faults.",
)
@click.option(
    "--hours-per-second",
    type=click.FloatRange(0, 100, min_open=True),
    default=2.0,
    show_default=True,
    help="Hourly readings per second of each transformer.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Random seed."
)
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Write the true values to this file."
)
def simulate(
    mqtt: str | None,
    engines: int,
    people: int,
    cycles_per_second: float,
    transformers: int,
    hours_per_second: float,
    seed: int,
    truth: Path | None,
) -> None:
    """Publish simulated engines, people and power transformers until Ctrl-C."""
    from ingest.errors import IngestError
    from ingest.simulators.fleet import FleetSettings, run_fleet

    start_logging(logging.INFO, "%(asctime)s %(message)s")

    settings = FleetSettings(
        engines=engines,
        people=people,
        transformers=transformers,
        cycles_per_second=cycles_per_second,
        hours_per_second=hours_per_second,
        seed=seed,
    )
    try:
        asyncio.run(run_fleet(settings, device_endpoint(mqtt, "fleet"), truth))
    except (IngestError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
