"""``kpstream mount``: measure how a motion sensor is worn, and turn its readings accordingly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.commands.gatewaydevice import gateway_settings, only_known, showing_errors

if TYPE_CHECKING:
    from deploy.settings.settings import GatewaySettings

__all__ = ["mount"]

_STILL_S = 2.0
_LOG_BYTES = 2**62


@click.command()
@click.argument("device", required=False)
@click.option("--stream", help="Stream of the device; needed if it has several.")
@click.option("--site", help="Site; needed if several have a device of this name.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=5, max=600),
    default=30.0,
    show_default=True,
    help="Newest seconds of readings to measure from.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be kept.")
@click.option("--remove", is_flag=True, help="Forget the mounting of DEVICE.")
@click.option("--list", "lists", is_flag=True, help="List the mountings of this gateway.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="State folder of the gateway.")
def mount(
    device: str | None,
    stream: str | None,
    site: str | None,
    seconds: float,
    dry_run: bool,
    remove: bool,
    lists: bool,
    state_dir: Path | None,
) -> None:
    """Measure how DEVICE is worn, and score it as if it were worn as in training.

    Stand upright without moving for five seconds, walk for fifteen, then run the command: it reads
    the newest seconds from the log of the gateway, which keeps running. The tilt comes from
    gravity, the turn about the vertical from what its student takes for walking. In force from the
    next window on. This is for one device; a mapping exchanges axes for all devices of a kind.
    """
    settings = gateway_settings(state_dir)
    with showing_errors():
        if lists:
            _list(settings)
        elif device is None:
            message = "name a DEVICE, or use --list"
            raise click.UsageError(message)
        elif remove:
            _remove(settings, device, stream, site)
        else:
            _measure(settings, device, stream, site, seconds, dry_run=dry_run)


def _measure(
    settings: GatewaySettings,
    device: str,
    stream: str | None,
    site: str | None,
    seconds: float,
    *,
    dry_run: bool,
) -> None:
    import numpy as np

    from ingest.clock import now_ms
    from pipeline.errors import MountingError
    from pipeline.explain.logscan import LogFile
    from pipeline.explain.readings import newest_readings
    from pipeline.explain.scores import find_score, find_streams
    from pipeline.explain.students import ExplainingStudents
    from pipeline.scoring.mounting import Mountings, find_mounting
    from pipeline.scoring.students import stream_plan
    from pipeline.settings import PipelineSettings
    from pipeline.stores.resultsfile import ResultsFile
    from pipeline.windows.spec import slice_windows

    pipeline = PipelineSettings()
    path = pipeline.results_path(settings.state_dir)
    if not path.is_file():
        message = f"no results at {path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(message)
    results = ResultsFile(path, read_only=True)
    try:
        streams = find_streams(results, device, site=site, stream=stream)
        if len(streams) != 1:
            names = ", ".join("/".join(each) for each in streams)
            message = f"{device!r} is one of {names}: say --site or --stream"
            raise click.ClickException(message)
        where = streams[0]
        score = find_score(results, where)
    finally:
        results.close()
    student = ExplainingStudents(settings.registry_path).student(score.model, score.version)
    manifest = student.manifest
    rate_hz = manifest.rate_hz
    if rate_hz is None:
        message = f"{manifest.name} has no rate, so its stream is of no motion sensor"
        raise MountingError(message)
    most = round(seconds * 1000)  # a sensor of 1,000 Hz
    found = newest_readings(
        LogFile(settings.log_path), where, manifest.channel_names, most, _LOG_BYTES
    )
    newest = found.ts_ms >= (found.ts_ms[-1] if len(found.ts_ms) else 0) - seconds * 1000
    ts_ms, values = found.ts_ms[newest], found.values[newest]
    measured_hz = 1000 / max(1.0, float(np.median(np.diff(ts_ms)))) if len(ts_ms) > 1 else rate_hz
    cut = slice_windows(ts_ms, values, stream_plan(manifest, pipeline).spec)
    length = manifest.window.length
    windows = np.array([w.values for w in cut if len(w.values) == length], dtype=np.float32)
    mounting = find_mounting(
        values,
        windows.reshape(-1, length, len(manifest.channels)),
        manifest,
        lambda raw: student.score(raw).values,
        now_ms(),
        still=max(2, round(_STILL_S * measured_hz)),
    )
    name = "/".join(where)
    click.echo(
        f"{name}: tilted by {mounting.tilt_deg:g} degrees, turned by {mounting.heading_deg:g} "
        f"about the vertical, against what {manifest.name} v{manifest.version} has learned from"
    )
    if dry_run:
        click.echo("nothing was kept (--dry-run)")
        return
    Mountings(settings.state_dir, lambda _: None).put(
        (where.site, where.device, where.stream), mounting
    )
    click.echo("kept; in force from the next window on")


def _remove(settings: GatewaySettings, device: str, stream: str | None, site: str | None) -> None:
    from pipeline.scoring.mounting import Mountings

    mountings = Mountings(settings.state_dir, lambda _: None)
    where = only_known(mountings.known(), "a mounting", device, site, stream)
    mountings.remove(where)
    click.echo(f"{'/'.join(where)} is scored as it comes, from the next window on")


def _list(settings: GatewaySettings) -> None:
    from pipeline.explain.scores import utc
    from pipeline.scoring.mounting import Mountings

    found = Mountings(settings.state_dir, lambda _: None).known()
    for device, mounting in sorted(found.items()):
        click.echo(
            f"{'/'.join(device)}  tilted by {mounting.tilt_deg:g}, turned by "
            f"{mounting.heading_deg:g} degrees, measured {utc(mounting.at_ms)}"
        )
    if not found:
        click.echo("no device of this gateway has a mounting")
