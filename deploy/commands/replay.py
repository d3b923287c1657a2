"""``kpstream replay``: publish a recorded data set over MQTT to a running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.settings.brokeraddress import device_endpoint
from ingest.clock import now_ms
from ingest.stopping import EXIT_CODE, stop_on_signals

if TYPE_CHECKING:
    from ingest.recordings import Recording
    from ingest.replay import ReplayOptions, ReplayReport

__all__ = ["replay"]

_SHARE = click.FloatRange(0, 1)

_OPTIONS = [
    click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: from the settings."),
    click.option("--site", default="replay", show_default=True, help="Site of the devices."),
    click.option("--devices", type=click.IntRange(1), help="Publish only the first N devices."),
    click.option(
        "--rate",
        default="max",
        show_default=True,
        metavar="HZ|max",
        help="Readings per second and device; max: as fast as the broker confirms.",
    ),
    click.option(
        "--readings-per-message", type=click.IntRange(1, 1000), help="Readings in one message."
    ),
    click.option(
        "--disorder-ms",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Publish out of order, by at most this many milliseconds of event time.",
    ),
    click.option(
        "--duplicates",
        type=_SHARE,
        default=0.0,
        help="Share of readings to publish twice, such as 0.05.",
    ),
    click.option(
        "--gaps",
        type=click.FloatRange(0, 0.5),
        default=0.0,
        help="Share of readings to leave out, ten in a row, such as 0.01.",
    ),
    click.option("--seed", type=int, default=1, show_default=True, help="Random seed."),
    click.option(
        "--start-ms",
        type=click.IntRange(0),
        help="Event time of the first readings, epoch ms; by default the last readings are now.",
    ),
]


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every data set has."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def replay() -> None:
    """Publish a recorded data set over MQTT, one device per engine or person."""


@replay.command()
@click.option("--from", "source", required=True, type=click.Path(path_type=Path), metavar="PATH")
@click.option(
    "--subset",
    type=click.Choice(["FD001", "FD002", "FD003", "FD004"]),
    default="FD001",
    show_default=True,
)
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option(
    "--interval-ms",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Milliseconds of event time between two cycles.",
)
@click.option(
    "--all-channels",
    is_flag=True,
    help="Publish all 21 sensors and the settings instead of 14 sensors.",
)
@_shared
def cmapss(
    source: Path, subset: str, split: Any, interval_ms: int, all_channels: bool, **options: Any
) -> None:
    """Publish NASA C-MAPSS turbofan engines, from the zip or folder with train_FD001.txt etc."""
    from ingest.recordings import engine_recordings, read_cmapss

    def read() -> list[Recording]:
        return engine_recordings(
            read_cmapss(source, subset, split),
            subset,
            interval_ms=interval_ms,
            all_channels=all_channels,
        )

    _run(read, default_readings=1, **options)


@replay.command("uci-har")
@click.option("--from", "source", required=True, type=click.Path(path_type=Path), metavar="PATH")
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@_shared
def uci_har(source: Path, split: Any, **options: Any) -> None:
    """Publish UCI-HAR inertial signals, from the archive, its folder, or uci_har_test.npz."""
    from ingest.recordings import read_uci_har, recordings_of

    _run(lambda: recordings_of(read_uci_har(source, split)), default_readings=10, **options)


def _run(
    read: Callable[[], list[Recording]],
    *,
    default_readings: int,
    mqtt: str | None,
    site: str,
    devices: int | None,
    rate: str,
    readings_per_message: int | None,
    disorder_ms: int,
    duplicates: float,
    gaps: float,
    seed: int,
    start_ms: int | None,
) -> None:
    from ingest.errors import IngestError, RecordingError
    from ingest.replay import ReplayOptions

    endpoint = device_endpoint(mqtt, "replay")
    options = ReplayOptions(
        endpoint=endpoint,
        site=_name(site),
        rate_hz=_rate(rate),
        readings_per_message=readings_per_message or default_readings,
        devices=devices,
        disorder_ms=disorder_ms,
        duplicates=duplicates,
        gaps=gaps,
        seed=seed,
        start_ms=start_ms,
    )
    try:
        report = asyncio.run(_publish(read(), options))
    except RecordingError as exc:
        raise click.BadParameter(str(exc), param_hint="--from") from exc
    except IngestError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(_summary(report, f"{endpoint.host}:{endpoint.port}"))
    if not report.complete:
        raise SystemExit(EXIT_CODE)


async def _publish(recordings: list[Recording], options: ReplayOptions) -> ReplayReport:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from ingest.replay import plan_replay, replay

    plans = plan_replay(recordings, options, now_ms())
    stop = stop_on_signals()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("readings, {task.fields[confirmed]} messages confirmed"),
        TimeRemainingColumn(),
    )
    with bar:
        total = sum(len(plan.order) for plan in plans)
        task = bar.add_task(f"{len(plans)} devices", total=total, confirmed=0)

        def progress(readings: int, confirmed: int) -> None:
            bar.update(task, completed=readings, confirmed=confirmed)

        def wait(text: str) -> None:
            bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

        return await replay(recordings, options, on_progress=progress, on_wait=wait, stop=stop)


def _summary(report: ReplayReport, broker: str) -> str:
    rate = report.messages / max(report.seconds, 1e-9)
    lines = [
        f"{'published' if report.complete else 'stopped early'} to {broker}: "
        f"{report.readings} readings of "
        f"{report.devices} devices in {report.messages} messages, {report.confirmed} confirmed",
        f"{report.duplicates} readings sent twice, {report.left_out} left out as gaps",
        f"{report.seconds:.1f} s, {rate:.0f} messages/s",
    ]
    return "\n".join(lines)


def _rate(rate: str) -> float | None:
    if rate == "max":
        return None
    try:
        value = float(rate)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        msg = f"{rate!r} is neither a number of readings per second nor 'max'"
        raise click.BadParameter(msg, param_hint="--rate")
    return value


def _name(site: str) -> str:
    from ingest.topics import is_name

    if not is_name(site):
        msg = f"{site!r} is not a valid name: use 1 to 64 of A-Z a-z 0-9 . _ -"
        raise click.BadParameter(msg, param_hint="--site")
    return site
