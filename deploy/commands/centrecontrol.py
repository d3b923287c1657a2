"""``kpstream centre control``: takes the gateways' reports, and moves releases step by step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from deploy.commands.centrecontext import CentreContext, now_s, pass_centre

if TYPE_CHECKING:
    from deploy.processes.centrecontrol import CentreControl, Turn, WritePoints
    from deploy.rollout.release import Release
    from pipeline.points.points import Point

__all__ = ["control"]

_NO_BROKER = (
    "KPSTREAM_CENTRE_MQTT_HOST is not set, so no report of a gateway arrives here. Set it to the "
    "broker to which the gateways report, and start this again; signed files are renewed meanwhile."
)


@click.command()
@click.option(
    "--once",
    is_flag=True,
    help="Take the reports that the broker keeps, decide, and end; for a timer.",
)
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
@pass_centre
def control(centre: CentreContext, once: bool, verbose: bool) -> None:
    """Move releases on the reports of their gateways, until Ctrl-C.

    The broker is that of KPSTREAM_CENTRE_MQTT_HOST. Signed files that are about to expire are
    renewed. If KPSTREAM_PIPELINE_INFLUX_URL is set, releases and reports become points in InfluxDB.
    The process may be killed and started anywhere: it keeps nothing that matters.
    """
    from deploy.settings.secretoutput import start_logging
    from ingest.errors import MqttError
    from pipeline.errors import SinkError

    start_logging(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("deploy.processes.centrecontrol").setLevel(logging.INFO)
    if centre.settings.mqtt_host is None:
        click.echo(_NO_BROKER, err=True)
    try:
        if once:
            turn = asyncio.run(_process(centre).run_once())
            click.echo("\n".join(_lines(turn)))
        else:
            asyncio.run(_until_stopped(centre))
    except (MqttError, SinkError) as exc:
        raise click.ClickException(str(exc)) from exc


async def _until_stopped(centre: CentreContext) -> None:
    from ingest.stopping import stop_on_signals

    stopping = stop_on_signals()
    running = asyncio.get_running_loop().create_task(_process(centre).run())
    requested = asyncio.get_running_loop().create_task(stopping.wait())
    await asyncio.wait({running, requested}, return_when=asyncio.FIRST_COMPLETED)
    requested.cancel()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def _process(centre: CentreContext) -> CentreControl:
    from deploy.processes.centrecontrol import CentreControl, ReleaseControl
    from deploy.rollout.inventory import Inventory
    from models.acceptance import require_releasable
    from models.errors import RegistryError

    settings = centre.settings
    inventory = Inventory(
        centre.repository.folder.inventory, now_s, only_signed=settings.signed_reports
    )
    registry = centre.registry()

    def obstacle(release: Release) -> str:
        try:
            require_releasable(registry, release.name, release.version)
        except RegistryError as exc:
            return str(exc)
        return ""

    decisions = ReleaseControl(centre.repository, inventory, now_s, settings.silent_s, obstacle)
    return CentreControl(decisions, settings.own_endpoint("kpstream-centre"), _points_writer())


def _points_writer() -> WritePoints | None:
    """What writes points to the InfluxDB of the settings; None if they name none."""
    from pipeline.settings import PipelineSettings

    settings = PipelineSettings()
    if settings.influx_url is None:
        return None
    from pipeline.stores.influx import InfluxSink, influx_connection

    sink = InfluxSink(influx_connection(settings), settings.influx_bucket)

    def write(points: Sequence[Point]) -> None:
        for refused in sink.write(points):
            logging.getLogger(__name__).error("InfluxDB refuses a point: %s", refused.reason)

    return write


def _lines(turn: Turn) -> list[str]:
    found = []
    for release in turn.index.rollouts:
        move = turn.moves.get(release.name)
        if move is None:
            continue
        step = f"step {release.step + 1} of {len(release.plan.steps)}"
        head = f"release {release.number} of {release.title}"
        text = release.reason or move.reason
        found.append(f"{head}: {release.state}, {step}: {text}")
    return found or ["no release"]
