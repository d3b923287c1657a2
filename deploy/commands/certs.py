"""``kpstream certs``: certificates for a trial of TLS on a site, and their expiry."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from ingest.clock import utc_now
from ingest.extras import install_command

if TYPE_CHECKING:
    from deploy.stack.certs import Certificate

__all__ = ["certs"]

_FOLDER = click.Path(path_type=Path, file_okay=False)
_TRIAL = (
    "For trials only: this folder contains the unencrypted keys of the authorities (ca.key, "
    "devices-ca.key). Keep it off the servers: with the keys one can pose as any device or service."
)


@click.group()
def certs() -> None:
    """Make certificates for a trial of TLS on the site, and show when they expire."""


@certs.command()
@click.option(
    "--out", required=True, type=_FOLDER, help="Target folder; valid certificates in it are kept."
)
@click.option(
    "--host", "hosts", multiple=True, help="Name or address of the servers' machine; repeatable."
)
@click.option(
    "--device", "devices", multiple=True, metavar="SITE/DEVICE", help="Device; repeatable."
)
@click.option(
    "--devices",
    "devices_file",
    type=click.File(encoding="utf-8"),
    help="File with one SITE/DEVICE per line; - for standard input.",
)
@click.option(
    "--service", "services", multiple=True, help="Additional service, such as bridge-2; repeatable."
)
@click.option("--days", type=click.IntRange(min=1), help="Days of validity; default 365.")
@click.option("--renew", is_flag=True, help="Replace all certificates except the authorities.")
def make(
    out: Path,
    hosts: tuple[str, ...],
    devices: tuple[str, ...],
    devices_file: Sequence[str] | None,
    services: tuple[str, ...],
    days: int | None,
    renew: bool,
) -> None:
    """Make missing authorities, and missing certificates of servers, services and devices.

    Run it again to add devices or hosts. A certificate valid for another 30 days is kept.
    """
    library = _library()
    listed = tuple(line.strip() for line in devices_file or () if line.strip())
    plan = library.Plan(
        hosts=hosts,
        services=(*library.SERVICES, *services),
        devices=(*devices, *(line for line in listed if not line.startswith("#"))),
        days=library.LEAF_DAYS if days is None else days,
    )
    try:
        written = library.make_certificates(out, plan, now=utc_now(), renew=renew)
    except library.CertError as exc:
        raise click.ClickException(str(exc)) from exc
    for path in written:
        click.echo(f"made {path}")
    click.echo(f"{len(written)} certificates made in {out}.\n{_TRIAL}")


@certs.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--warn-days",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="Warn about certificates that expire within this many days.",
)
def show(folder: Path, warn_days: int) -> None:
    """List the certificates of a folder.

    Exit code 1: a certificate expires soon, or other users can read a key.
    """
    library = _library()
    try:
        found = library.read_certificates(folder)
    except library.CertError as exc:
        raise click.ClickException(str(exc)) from exc
    now = utc_now()
    problems = 0
    for one in found:
        remarks = _remarks(one, now, warn_days)
        problems += len(remarks)
        left = one.days_left(now)
        line = f"{one.role:<9} {one.name:<32} until {one.not_after:%Y-%m-%d} ({left} days)"
        if one.hosts:
            line += f" for {', '.join(one.hosts)}"
        click.echo("  ".join([line, *remarks]))
    if problems:
        renew = f"kpstream certs make --out {shlex.quote(str(folder))} --renew"
        then = "then distribute the files and restart the programs that use them"
        click.echo(f"{problems} problems. To renew: {renew}; {then}.", err=True)
        sys.exit(1)


@certs.command()
@click.argument("folder", type=_FOLDER)
@click.argument("what", metavar="WHAT")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="GROUP/NODE",
    help="For devices-acl: Sparkplug node; repeatable.",
)
@click.option(
    "--deny",
    "denied",
    multiple=True,
    metavar="NAME",
    help="For devices-acl and gateways-acl: stolen SITE/DEVICE or gateway; repeatable.",
)
@click.option(
    "--gateways", is_flag=True, help="For mosquitto: also a listener where gateways report."
)
def config(
    folder: Path,
    what: str,
    host: str,
    nodes: tuple[str, ...],
    denied: tuple[str, ...],
    gateways: bool,
) -> None:
    """Print the TLS settings for the certificates of FOLDER.

    WHAT is mosquitto (its listeners), devices-acl, services-acl or gateways-acl (their access
    lists, to be saved as FOLDER/mosquitto-devices.acl and so on), kafka, influxdb, or the name of a
    service, such as bridge (its environment variables).
    """
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.stack import acl, tlsconfig
    from deploy.stack.mappedrights import mapped_rights
    from ingest.errors import MappingInvalid
    from ingest.settings import IngestSettings

    services = sorted(path.stem for path in (folder / "services").glob("*.pem"))
    lines: list[str]
    if what == "mosquitto":
        text = acl.mosquitto_tls_config(
            folder,
            folder,
            devices_host=host,
            services_host=host,
            gateways_host=host if gateways else None,
        )
        lines = text.splitlines()
    elif what in ("devices-acl", "services-acl", "gateways-acl"):
        with exit_on_invalid_settings():
            ingest = IngestSettings()
        prefix = ingest.mqtt_prefix
        bridges = [name for name in services if name.startswith("bridge")]
        try:
            mapped = mapped_rights(ingest.mappings, folder)
            if what == "devices-acl":
                text = acl.devices_acl(
                    prefix=prefix, nodes=nodes, denied=denied, mapped=mapped.devices
                )
            elif what == "gateways-acl":
                text = acl.gateways_acl(denied=denied)
            else:
                text = acl.services_acl(prefix=prefix, bridges=bridges, mapped=mapped.filters)
        except (ValueError, MappingInvalid) as exc:
            raise click.ClickException(str(exc)) from exc
        lines = text.splitlines()
    elif what == "kafka":
        found = tlsconfig.kafka_tls_properties(
            folder, host=host, port=9092, controller_port=9093, services=services
        )
        lines = [f"{key}={value}" for key, value in found.items()]
    elif what == "influxdb":
        lines = [shlex.join(tlsconfig.influx_tls_args(folder))]
    elif what in services:
        found = tlsconfig.service_settings(folder, what)
        lines = [f"{key}={shlex.quote(value)}" for key, value in found.items()]
    else:
        message = f"{what!r} is not a server, an access list or a service in {folder}: see --help"
        raise click.ClickException(message)
    click.echo("\n".join(lines))


def _library() -> ModuleType:
    try:
        return importlib.import_module("deploy.stack.certs")
    except ModuleNotFoundError as exc:
        message = f"the package {exc.name!r} is missing; run: {install_command('site')}"
        raise click.ClickException(message) from exc


def _remarks(one: Certificate, now: datetime, warn_days: int) -> list[str]:
    remarks = []
    if one.not_after <= now:
        remarks.append("EXPIRED")
    elif one.days_left(now) < warn_days:
        remarks.append("EXPIRES SOON")
    elif one.not_before > now:
        remarks.append("NOT YET VALID: check the clock of this machine")
    if one.key_mode is not None and one.key_mode & 0o077:
        remarks.append(f"KEY IS READABLE BY OTHERS (mode {one.key_mode:o}; chmod 600)")
    return remarks
