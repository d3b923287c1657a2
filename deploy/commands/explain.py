"""``kpstream explain``: why a device got a score, from the files of a gateway or a site's Kafka."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from deploy.commands.eventtime import TIME_HELP, epoch_ms

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.explain.explainer import Explained, Explainer
    from pipeline.explain.logscan import LogSource
    from pipeline.explain.report import ChannelReport, Report
    from pipeline.explain.scores import DeviceStream

__all__ = ["explain"]

_BAR = 8
_WHOLE_LOG = 2**62


@click.command()
@click.argument("device")
@click.option("--stream", help="Stream of the device; needed if it has several.")
@click.option("--site", help="Site of the device; needed if several have one of this name.")
@click.option(
    "--at",
    metavar="TIME",
    help=f"Explain the score that was newest then, instead of the newest one: {TIME_HELP}.",
)
@click.option("--kafka", is_flag=True, help="Read the Kafka of the site in the settings.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as the console's API does.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="State folder; default: of the settings."
)
def explain(
    device: str,
    stream: str | None,
    site: str | None,
    at: str | None,
    kafka: bool,
    as_json: bool,
    state_dir: Path | None,
) -> None:
    """Tell which channels, in which part of its window, moved a score of DEVICE.

    The window is cut again from the readings in the log, and the student that scored it scores it
    with the readings of one channel in one span replaced by neutral ones. A gateway or a site may
    be running. With --kafka, DEVICE is SITE/DEVICE, or --site is given.
    """
    from ingest.errors import IngestError
    from pipeline.errors import PipelineError

    at_ms = None if at is None else epoch_ms(at, "--at")
    opened = _open_site() if kafka else _open_gateway(state_dir)
    try:
        with opened as place:
            where = _one(place.streams(device, site, stream))
            _show(place.explainer, where, at_ms, as_json=as_json)
    except (PipelineError, IngestError) as exc:
        raise click.ClickException(str(exc)) from exc


class _Place(NamedTuple):
    """Where scores and readings are."""

    explainer: Explainer
    streams: Callable[[str, str | None, str | None], list[DeviceStream]]


@contextmanager
def _open_gateway(state_dir: Path | None) -> Iterator[_Place]:
    """Open the files of a gateway."""
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import GatewaySettings
    from pipeline.explain.explainer import Explainer
    from pipeline.explain.logscan import LogFile
    from pipeline.explain.scores import find_score, find_streams
    from pipeline.scoring.mounting import Mountings
    from pipeline.settings import PipelineSettings
    from pipeline.stores.resultsfile import ResultsFile

    with exit_on_invalid_settings():
        settings = GatewaySettings() if state_dir is None else GatewaySettings(state_dir=state_dir)
        pipeline = PipelineSettings()
    path = pipeline.results_path(settings.state_dir)
    if not path.is_file():
        msg = f"no results at {path}: no gateway has used this state folder; see --state-dir"
        raise click.ClickException(msg)
    results = ResultsFile(path, read_only=True)
    try:
        log = LogFile(settings.log_path)
        find = partial(find_score, results)
        mountings = Mountings(settings.state_dir, lambda _: None)
        yield _Place(
            Explainer(find, log, settings.registry_path, pipeline, mountings.turn_values),
            lambda device, site, stream: find_streams(results, device, site=site, stream=stream),
        )
    finally:
        results.close()


@contextmanager
def _open_site() -> Iterator[_Place]:
    """Connect to the Kafka of a site."""
    from deploy.processes.runtime import kafka_endpoint
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import SiteSettings
    from ingest.kafkareader import KafkaBackReader
    from pipeline.explain.explainer import Explainer
    from pipeline.explain.logscores import find_logged_score
    from pipeline.settings import PipelineSettings

    with exit_on_invalid_settings():
        settings, pipeline = SiteSettings(), PipelineSettings()
    with KafkaBackReader(kafka_endpoint(settings, "explain"), settings.partitions) as log:
        find = partial(find_logged_score, log)
        yield _Place(
            Explainer(find, log, settings.registry_path, pipeline),
            partial(_logged_streams, log),
        )


def _logged_streams(
    log: LogSource, device: str, site: str | None, stream: str | None
) -> list[DeviceStream]:
    from pipeline.explain.logscores import find_logged_streams
    from pipeline.explain.scores import DeviceStream

    if "/" in device:
        site, _, device = device.partition("/")
    if site is None:
        msg = f"--kafka needs the site of the device: SITE/{device}"
        raise click.ClickException(msg)
    if stream is not None:
        return [DeviceStream(site, device, stream)]
    return find_logged_streams(log, site, device)


def _show(explainer: Explainer, where: DeviceStream, at_ms: int | None, *, as_json: bool) -> None:
    from rich.console import Console

    from pipeline.explain.explainer import explained_json

    explained = explainer.explain(where, at_ms, _WHOLE_LOG)
    if as_json:
        import orjson

        click.echo(orjson.dumps(explained_json(explained), option=orjson.OPT_INDENT_2))
        return
    for line in _head(explained):
        click.echo(line)
    Console().print(_table(explained.report))
    click.echo(explained.report.text)


def _head(explained: Explained) -> list[str]:
    from pipeline.explain.scores import utc

    score, report = explained.score, explained.report
    value = score.fields.get(score.task.answer.headline_field)
    shown = f"{score.task.title} {value}"
    if isinstance(value, float):
        unit = "" if report.unit in ("", "1") else f" {report.unit}"
        shown = f"{report.number[:1].upper()}{report.number[1:]} {value:.4g}{unit}"
    lines = [
        f"{'/'.join(score.where)}: {shown}, by {score.model} v{score.version}",
        f"window of {score.readings} readings, {utc(score.start_ms)} to {utc(score.end_ms - 1)}",
    ]
    if not explained.is_same_student:
        lines.append(
            f"v{score.version} has left the registry; {report.model} v{report.version} explains"
        )
    elif not explained.is_same_score:
        lines.append(
            "warning: the readings in the log give another score than the one stored; were the "
            "settings of the windows changed since, or does the device have examples "
            "(`kpstream examples`)? The student's own answer is explained"
        )
    return lines


def _table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("channel", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("effect", justify="right", no_wrap=True)
    table.add_column("most at", no_wrap=True)
    table.add_column("newest", justify="right", no_wrap=True)
    table.add_column("in training")
    most = max((abs(channel.effect) for channel in report.channels), default=0.0)
    for channel in report.channels:
        share = abs(channel.effect) / most if most else 0.0
        table.add_row(
            channel.name,
            "█" * math.ceil(share * _BAR),
            f"{channel.effect:+.3g}" if channel.effect else "0",
            _span(report.spans[channel.strongest]) if any(channel.spans) else "",
            f"{channel.value:.6g}",
            _range(channel),
        )
    return table


def _span(span_ms: tuple[int, int]) -> str:
    """First and last time of a span, without the date, which the lines above have."""
    first, last = (datetime.fromtimestamp(ms // 1000, timezone.utc) for ms in span_ms)
    if span_ms[1] - span_ms[0] >= 1000:
        return f"{first:%H:%M:%S}-{last:%H:%M:%S}"
    cents = [f".{ms % 1000 // 10:02d}" for ms in span_ms]
    text = f"{first:%H:%M:%S}{cents[0]}"
    return text if span_ms[0] == span_ms[1] else f"{text}-{last:%S}{cents[1]}"


def _range(channel: ChannelReport) -> str:
    seen = channel.seen
    if seen is None:
        return "not known"
    below, above = channel.value < seen["low"], channel.value > seen["high"]
    outside = ", below" if below else ", above" if above else ""
    return f"{seen['low']:.5g}..{seen['high']:.5g}{outside}"


def _one(found: list[DeviceStream]) -> DeviceStream:
    if len(found) > 1:
        names = ", ".join("/".join(where) for where in found)
        msg = f"several streams have scores: {names}; choose one with --site and --stream"
        raise click.ClickException(msg)
    return found[0]
