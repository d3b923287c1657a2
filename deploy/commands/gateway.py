"""``kpstream gateway`` and ``kpstream simulate``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ingest.mqtt.endpoint import Endpoint

__all__ = ["device_endpoint", "gateway", "make_state_folder", "simulate", "split_address"]


@click.command()
@click.option("--mqtt", "mqtt", metavar="HOST:PORT", help="Broker; default: as the settings say.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Folder of log and results.")
@click.option("--console-port", type=click.IntRange(0, 65535), help="Console page; default 8765.")
@click.option("--verbose", is_flag=True, help="Log what happens, not only what goes wrong.")
def gateway(
    mqtt: str | None, state_dir: Path | None, console_port: int | None, verbose: bool
) -> None:
    """Run the gateway until Ctrl-C. All settings: docs/settings.md (environment KPSTREAM_*)."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    from deploy.processes.gateway import run_gateway
    from deploy.settings.errors import SETTINGS_ADVICE, BadSettings, settings_problems
    from deploy.settings.settings import GatewaySettings
    from ingest.errors import IngestError
    from ingest.settings import IngestSettings
    from models.errors import ModelError
    from pipeline.errors import PipelineError
    from pipeline.settings import PipelineSettings

    own = {"state_dir": state_dir, "console_port": console_port}
    broker = _broker(mqtt)
    try:
        settings = GatewaySettings(**{k: v for k, v in own.items() if v is not None})  # type: ignore[arg-type]
        ingest, pipeline = IngestSettings(**broker), PipelineSettings()  # type: ignore[arg-type]
    except BadSettings as exc:
        wrong = "\n  ".join(settings_problems(exc))
        message = f"settings that cannot be ({SETTINGS_ADVICE}):\n  {wrong}"
        raise click.ClickException(message) from exc
    make_state_folder(settings.state_dir)
    try:
        code = asyncio.run(run_gateway(settings, ingest, pipeline, click.echo))
    except (PipelineError, ModelError, IngestError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    sys.exit(code)


@click.command()
@click.option("--mqtt", "mqtt", metavar="HOST:PORT", help="Broker; default: as the settings say.")
@click.option("--engines", type=click.IntRange(0, 1000), default=6, show_default=True)
@click.option("--people", type=click.IntRange(0, 1000), default=4, show_default=True)
@click.option(
    "--cycles-per-second",
    type=click.FloatRange(min=0, max=100, min_open=True),
    default=1.0,
    show_default=True,
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--truth", type=click.Path(path_type=Path), help="Write the truth to this file.")
def simulate(
    mqtt: str | None,
    engines: int,
    people: int,
    cycles_per_second: float,
    seed: int,
    truth: Path | None,
) -> None:
    """Publish engines that wear out and people who move, until Ctrl-C."""
    from ingest.errors import IngestError
    from ingest.simulators.fleet import FleetSettings, run_fleet

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    settings = FleetSettings(
        engines=engines, people=people, cycles_per_second=cycles_per_second, seed=seed
    )
    try:
        asyncio.run(run_fleet(settings, device_endpoint(mqtt, "fleet"), truth))
    except (IngestError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def make_state_folder(folder: Path) -> None:
    """Make the folder where there is none, for its owner only, and see that it can be used.

    Raises:
        click.ClickException: It is no folder or cannot be written; says what to do.
    """
    advice = (
        "give it to this user, or choose another folder with --state-dir or "
        "KPSTREAM_GATEWAY_STATE_DIR"
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        reason = "it is a file, not a folder"
    except OSError as exc:
        reason = f"it cannot be made: {exc.strerror}: {exc.filename}"
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "it cannot be written by this user"
    message = f"state folder {folder}: {reason}; {advice}"
    raise click.ClickException(message)


def split_address(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; the port may be left out.

    >>> split_address("127.0.0.1:1884"), split_address("broker"), split_address("[::1]:1884")
    (('127.0.0.1', 1884), ('broker', 1883), ('::1', 1884))
    """
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, "1883"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        message = f"{address!r} is not HOST:PORT; an IPv6 address is written [::1]:1883"
        raise click.BadParameter(message)
    if not host.strip() or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        message = f"{address!r} is not HOST:PORT"
        raise click.BadParameter(message)
    return host, int(port)


def device_endpoint(mqtt: str | None, role: str) -> Endpoint:
    """The broker of the settings (``KPSTREAM_INGEST_*``), or the one named by ``--mqtt``.

    Under a client id of our own, never the bridge's: two clients of one id throw each other out.
    """
    from ingest.mqttsettings import endpoint_of
    from ingest.settings import IngestSettings

    settings = IngestSettings(**_broker(mqtt))  # type: ignore[arg-type]
    return endpoint_of(settings, client_id=f"kpstream-{role}-{os.getpid()}")


def _broker(mqtt: str | None) -> dict[str, str | int]:
    if mqtt is None:
        return {}
    host, port = split_address(mqtt)
    return {"mqtt_host": host, "mqtt_port": port}
