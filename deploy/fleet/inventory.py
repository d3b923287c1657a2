"""The inventory: which hosts there are, and what each should run.

```toml
[defaults]
user = "pi"
bundles = ["kpstream-0.3.0-aarch64-py311.tar", "kpstream-0.3.0-x86_64-py311.tar"]

[defaults.settings]
KPSTREAM_PIPELINE_INFLUX_URL = "https://influx.plant.example:8086"

[hosts.press-7]
address = "192.0.2.7"
group = "hall-2"

[hosts.press-7.settings]
KPSTREAM_INGEST_MQTT_PORT = "1884"
```

A host takes what it does not say from `defaults`; settings of both are joined. Its name becomes the
name of the gateway, its group the group for releases. Of the bundles it gets the one for its
machine and its Python. Paths are relative to the inventory.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from deploy.fleet.errors import InventoryInvalid
from deploy.gateway.errors import InstallError
from deploy.gateway.settingsfile import parse_setting
from deploy.settings.doc import env_name, settings_classes
from ingest.environment import is_secret

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Host", "Inventory", "read_inventory"]

_MOST_BYTES = 5_000_000

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}$")]
User = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$")]
Group = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")]
Python = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,200}$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Choices(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    user: User | None = None
    port: Port | None = None
    group: Group | None = None
    python: Python | None = None
    bundles: Annotated[tuple[Path, ...], Field(max_length=20)] | None = None
    settings: Annotated[dict[str, str], Field(max_length=200)] = {}


class _Host(_Choices):
    address: Address


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    defaults: _Choices = _Choices()
    hosts: Annotated[dict[Name, _Host], Field(min_length=1, max_length=10_000)]


class Host(BaseModel):
    """One host, with the defaults filled in.

    Attributes:
        name: Name of the gateway.
        address: Name or address for ssh.
        user: User for ssh; None: that of the ssh configuration.
        port: Port for ssh; None: that of the ssh configuration.
        group: Group of the gateway.
        python: Interpreter on the host.
        bundles: Bundles to choose from.
        settings: All settings, with name and group.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    address: str
    user: str | None
    port: int | None
    group: str
    python: str
    bundles: tuple[Path, ...]
    settings: dict[str, str]


class Inventory(BaseModel):
    """All hosts, in the order of the file."""

    model_config = ConfigDict(frozen=True)

    hosts: tuple[Host, ...]

    def limited(self, names: tuple[str, ...], groups: tuple[str, ...]) -> Inventory:
        """Return the hosts of these names and groups; all of them if both are empty.

        Raises:
            InventoryInvalid: A name or a group is not in the inventory.
        """
        if not names and not groups:
            return self
        unknown = set(names) - {host.name for host in self.hosts}
        unknown |= set(groups) - {host.group for host in self.hosts}
        if unknown:
            msg = f"the inventory has no host or group {', '.join(sorted(unknown))}"
            raise InventoryInvalid(msg)
        chosen = [host for host in self.hosts if host.name in names or host.group in groups]
        return Inventory(hosts=tuple(chosen))


def read_inventory(path: Path) -> Inventory:
    """Read and check an inventory.

    Raises:
        InventoryInvalid: It cannot be used; the message lists every fault.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > _MOST_BYTES:
            msg = f"{path} has more than {_MOST_BYTES:,} bytes"
            raise InventoryInvalid(msg)
        data = tomllib.loads(raw.decode())
    except OSError as exc:
        msg = f"{path} cannot be read: {exc.strerror}"
        raise InventoryInvalid(msg) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        msg = f"{path} is no TOML file: {exc}"
        raise InventoryInvalid(msg) from exc
    file = _checked(path, data)
    folder = path.parent
    hosts = tuple(_host(name, host, file.defaults, folder) for name, host in file.hosts.items())
    faults = [fault for host in hosts for fault in _faults(host)]
    faults += _open_secrets(path, hosts)
    if faults:
        msg = f"{path} cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults)
        raise InventoryInvalid(msg)
    return Inventory(hosts=hosts)


def _checked(path: Path, data: dict[str, Any]) -> _File:
    try:
        return _File.model_validate(data)
    except ValidationError as exc:
        lines = [
            f"  {'.'.join(map(str, error['loc']))}: {error['msg']}"
            for error in exc.errors(include_url=False, include_input=False)
        ]
        msg = f"{path} cannot be used:\n" + "\n".join(lines)
        raise InventoryInvalid(msg) from exc


def _host(name: str, host: _Host, defaults: _Choices, folder: Path) -> Host:
    group = host.group or defaults.group or ""
    own = {"KPSTREAM_GATEWAY_NAME": name}
    if group:
        own["KPSTREAM_ROLLOUT_GROUP"] = group
    bundles = host.bundles if host.bundles is not None else defaults.bundles or ()
    return Host(
        name=name,
        address=host.address,
        user=host.user or defaults.user,
        port=host.port or defaults.port,
        group=group,
        python=host.python or defaults.python or "python3",
        bundles=tuple(folder / bundle for bundle in bundles),
        settings={**defaults.settings, **host.settings, **own},
    )


def _faults(host: Host) -> list[str]:
    faults = []
    if not host.bundles:
        faults.append(f"hosts.{host.name}: it has no bundles: name them here or in defaults")
    faults += [
        f"hosts.{host.name}: there is no bundle {bundle}"
        for bundle in host.bundles
        if not bundle.is_file()
    ]
    known = {env_name(cls, field) for cls in settings_classes() for field in cls.model_fields}
    for name, value in host.settings.items():
        try:
            parse_setting(f"{name}={value}")
        except InstallError as exc:
            faults.append(f"hosts.{host.name}.settings: {exc}")
            continue
        if name.startswith("KPSTREAM_") and name not in known:
            faults.append(f"hosts.{host.name}.settings: there is no setting {name}")
    return faults


def _open_secrets(path: Path, hosts: tuple[Host, ...]) -> list[str]:
    """Secrets in an inventory that other users may read."""
    secret = {
        env_name(cls, name)
        for cls in settings_classes()
        for name, field in cls.model_fields.items()
        if is_secret(field)
    }
    held = sorted(secret & {name for host in hosts for name in host.settings})
    if held and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return [f"it holds {held[0]}, and other users may read it: chmod 600 {path}"]
    return []
