"""The broker beside the gateway: mosquitto's configuration, certificates and access lists.

Without TLS mosquitto listens on loopback only. With it, devices connect from the network with
certificates of their own (`docs/security.md`); the gateway uses a port on loopback. What people may
have edited, such as an access list with a device shut out, is never written again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.gateway.errors import InstallError
from deploy.gateway.places import USER, Places
from deploy.gateway.steps import Steps
from deploy.gateway.users import owner
from deploy.gateway.versions import Versions

__all__ = ["Tls", "set_up_broker", "tls_settings"]

_SERVICES_PORT = "8884"
_FOR_BROKER = ("ca.pem", "devices-ca.pem", "servers/mosquitto.pem", "servers/mosquitto.key")
_FOR_GATEWAY = ("ca.pem", "services/bridge.pem", "services/bridge.key")
_LISTS = ("mosquitto-devices.acl", "mosquitto-services.acl")


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates to make.

    Attributes:
        hosts: Names and addresses by which devices know this machine.
        devices: Devices as `SITE/DEVICE`.
        listen: Address of this machine for devices.
    """

    hosts: Sequence[str]
    devices: Sequence[str]
    listen: str


def set_up_broker(
    places: Places,
    steps: Steps,
    versions: Versions,
    version: str,
    tls: Tls | None,
) -> bool:
    """Configure mosquitto; returns whether something has changed, so that it must start anew.

    Args:
        places: Where everything lies.
        steps: Carries out the steps.
        versions: The versions.
        version: Version whose files are used.
        tls: Certificates to make; None keeps an existing configuration, or makes one without TLS.

    Raises:
        InstallError: mosquitto is not installed.
        StepFailed: A step failed.
    """
    if places.is_live and shutil.which("mosquitto", path=_program_path()) is None:
        msg = (
            "mosquitto is not installed: run `sudo apt-get install mosquitto`, or name another "
            "broker with --broker HOST:PORT"
        )
        raise InstallError(msg)
    if tls is not None:
        return _set_up_tls(places, steps, versions, version, tls)
    if places.broker_file.exists():
        return False
    return steps.write(places.broker_file, versions.file(version, "mosquitto.conf"))


def tls_settings(places: Places) -> dict[str, str]:
    """Return the settings with which the gateway reaches mosquitto over TLS."""
    where = places.inside(places.certificates)
    return {
        "KPSTREAM_INGEST_MQTT_PORT": _SERVICES_PORT,
        "KPSTREAM_INGEST_MQTT_TLS": "true",
        "KPSTREAM_INGEST_MQTT_CA_FILE": f"{where}/ca.pem",
        "KPSTREAM_INGEST_MQTT_CERT_FILE": f"{where}/services/bridge.pem",
        "KPSTREAM_INGEST_MQTT_KEY_FILE": f"{where}/services/bridge.key",
    }


def _program_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _set_up_tls(places: Places, steps: Steps, versions: Versions, version: str, tls: Tls) -> bool:
    if not tls.hosts:
        msg = "--tls needs the names by which devices know this machine: add --host NAME"
        raise InstallError(msg)
    python = str(versions.python(version))
    steps.folder(places.settings)
    words = [word for host in tls.hosts for word in ("--host", host)]
    words += [word for device in tls.devices for word in ("--device", device)]
    made = steps.run(
        [python, "-I", "-m", "deploy.cli", "certs", "make", "--out", str(places.authority), *words],
        advice="correct the names of hosts and devices",
    )
    for line in made.splitlines():
        steps.say(f"  {line}")
    changed = _copy(
        places.authority, places.broker_certificates, _FOR_BROKER, places, steps, "mosquitto"
    )
    changed |= _copy(places.authority, places.certificates, _FOR_GATEWAY, places, steps, USER)
    with tempfile.TemporaryDirectory() as folder:
        inside = places.inside(places.broker_certificates)
        steps.run(
            [python, "-I", "-m", "deploy.gateway.files", folder, "--tls", inside,
             "--listen", tls.listen],
            advice="correct the settings in gateway.env",
        )  # fmt: skip
        if steps.dry_run:
            return True
        for name in _LISTS:
            target = places.broker_certificates / name
            if not target.exists():
                text = (Path(folder) / name).read_text(encoding="utf-8")
                changed |= steps.write(target, text, mode=0o600, owner=owner(places, "mosquitto"))
        text = (Path(folder) / "mosquitto.conf").read_text(encoding="utf-8")
        return steps.write(places.broker_file, text) or changed


def _copy(
    source: Path, target: Path, names: Sequence[str], places: Places, steps: Steps, user: str
) -> bool:
    """Copy certificates and keys for one user; returns whether one is new."""
    whose = owner(places, user)
    steps.folder(target, 0o700, owner=whose)
    changed = False
    for name in names:
        if steps.dry_run:
            steps.say(f"would copy: {source / name} to {target / name}")
            continue
        steps.folder((target / name).parent, 0o700, owner=whose)
        text = (source / name).read_text(encoding="ascii")
        changed |= steps.write(target / name, text, mode=0o600, owner=whose)
    return changed
