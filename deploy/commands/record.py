"""``kpstream record``: keeps raw readings and labels as files to train on."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.processes.recording import record_once, record_until_stopped
from deploy.settings.errors import exit_on_invalid_settings
from deploy.settings.recordsettings import RecordSettings
from deploy.settings.secretoutput import start_logging
from deploy.settings.settings import GatewaySettings, SiteSettings
from ingest.errors import IngestError
from pipeline.errors import RecorderError
from pipeline.recording.source import LogRecords

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pipeline.recording.source import Source

__all__ = ["record"]


@click.command()
@click.option("--export", "once", is_flag=True, help="Record what the log has now, and end.")
@click.option("--kafka", is_flag=True, help="Read the Kafka of the site in the settings.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="State folder; default: of the settings."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the recordings; default: of the settings, else `recordings` in the state "
    "folder.",
)
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
def record(
    once: bool, kafka: bool, state_dir: Path | None, folder: Path | None, verbose: bool
) -> None:
    """Keep the raw readings and the labels in the log as Parquet files and labels.jsonl.

    The gateway may be running. A recorder that was stopped or killed goes on where it was: every
    record of the log is in one file. Settings: KPSTREAM_RECORD_*.
    """
    start_logging(logging.INFO if verbose else logging.WARNING)
    with exit_on_invalid_settings():
        settings = RecordSettings()
    opened, place = _opened(kafka, state_dir)
    path = folder or settings.folder_in(place)
    try:
        with opened as source:
            if once:
                click.echo(record_once(source, path, settings))
            else:
                asyncio.run(record_until_stopped(source, path, settings, click.echo))
    except (RecorderError, IngestError) as exc:
        raise click.ClickException(str(exc)) from exc


def _opened(kafka: bool, state_dir: Path | None) -> tuple[AbstractContextManager[Source], Path]:
    """Return the log, and the state folder."""
    if not kafka:
        with exit_on_invalid_settings():
            gateway = (
                GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
            )
        return nullcontext(LogRecords(gateway.log_path)), gateway.state_dir
    from deploy.processes.kafkarecords import KafkaRecords
    from deploy.processes.runtime import kafka_endpoint

    with exit_on_invalid_settings():
        site = SiteSettings()
    source = KafkaRecords(kafka_endpoint(site, "record"), site.partitions)
    return closing(source), state_dir or site.state_dir
