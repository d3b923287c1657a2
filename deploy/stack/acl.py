"""Who may publish and read what at the broker, as mosquitto's ACL file and listeners.

Two listeners, because two kinds of clients:

* **devices** come with a certificate of the devices' authority. Its common name `SITE/DEVICE`
  becomes their user name *and* their client id: they publish below `sensors/SITE/DEVICE/` only,
  whatever they claim, and cannot take over the session of another device or of the bridge. One
  certificate has one connection at a time.
* **services** (bridge, operator) come with a certificate of the other authority and choose client
  ids of their own: the bridge has one for its session, `kpstream doctor` another.

Held by a test against mosquitto 2.0.11, which puts a user name with a slash into `%u` as it is and
refuses one with `+` or `#`. A refused publication is answered with "not authorised" in MQTT 5; in
3.1.1 the broker can only confirm it and throw it away. A forbidden subscription is granted, and
nothing is delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingest.topics import MQTT_PREFIX, subscription

__all__ = [
    "DEVICES_ACL",
    "DEVICES_PORT",
    "SERVICES_ACL",
    "SERVICES_PORT",
    "devices_acl",
    "mosquitto_tls_config",
    "services_acl",
]

DEVICES_PORT = 8883
SERVICES_PORT = 8884
DEVICES_ACL = "mosquitto-devices.acl"
SERVICES_ACL = "mosquitto-services.acl"

_NODE = ("NBIRTH", "NDATA", "NDEATH")
_BEHIND_NODE = ("DBIRTH", "DDATA", "DDEATH")
_SPARKPLUG = "spBv1.0"


def devices_acl(
    *, prefix: str = MQTT_PREFIX, nodes: Sequence[str] = (), denied: Sequence[str] = ()
) -> str:
    """The ACL file of the devices' listener: everybody publishes as itself and reads nothing.

    Args:
        prefix: First levels of the MQTT topics of readings.
        nodes: Sparkplug edge nodes, `group/node`, which is also the common name. Each may send the
            messages of its node and of the devices behind it, and reads its commands.
        denied: Common names that may do nothing any more: stolen devices. mosquitto takes a
            changed file at SIGHUP, for those that are connected too.

    Raises:
        ValueError: A name would mean something else in an ACL file.
    """
    _check(prefix, *nodes, *denied)
    lines = [_HEAD, f"pattern write {prefix}/%u/+"]
    for name in denied:
        lines += ["", f"user {name}", "topic deny #"]
    for name in nodes:
        if name in denied:
            continue
        lines += ["", f"user {name}", *_node_lines(name)]
    return "\n".join(lines) + "\n"


def services_acl(
    *,
    prefix: str = MQTT_PREFIX,
    bridges: Sequence[str] = ("bridge",),
    operators: Sequence[str] = ("operator",),
) -> str:
    """The ACL file of the services' listener: bridges read, operators publish too, others nothing.

    Args:
        prefix: First levels of the MQTT topics of readings.
        bridges: Common names of the bridges' certificates.
        operators: Common names of who may publish for any device: replay, dead letters, simulation.

    Raises:
        ValueError: A name would mean something else in an ACL file.
    """
    _check(prefix, *bridges, *operators)
    lines = [_HEAD]
    for name in bridges:
        lines += ["", f"user {name}", f"topic read {subscription(prefix)}", *_BRIDGE]
    for name in operators:
        lines += ["", f"user {name}", f"topic readwrite {subscription(prefix)}", _BROKER_STATE]
    return "\n".join(lines) + "\n"


def _check(*names: str) -> None:
    for name in names:
        if not name or set(name) & set("+#%\n\r\0") or name.strip() != name:
            message = f"{name!r} cannot stand in an ACL file: no + # %, no space at its ends"
            raise ValueError(message)


_HEAD = "# Written by kpstream. A user is the common name of a certificate; %u stands for it."
_BROKER_STATE = "topic read $SYS/broker/#"
_BRIDGE = (
    *(f"topic read {_SPARKPLUG}/+/{kind}/+" for kind in _NODE),
    *(f"topic read {_SPARKPLUG}/+/{kind}/+/+" for kind in _BEHIND_NODE),
    f"topic write {_SPARKPLUG}/+/NCMD/+",
    f"topic readwrite {_SPARKPLUG}/STATE/+",
    _BROKER_STATE,
)


def _node_lines(name: str) -> list[str]:
    group, slash, node = name.partition("/")
    if not (group and slash and node) or "/" in node:
        message = f"Sparkplug node {name!r} is not GROUP/NODE"
        raise ValueError(message)
    return [
        *(f"topic write {_SPARKPLUG}/{group}/{kind}/{node}" for kind in _NODE),
        *(f"topic write {_SPARKPLUG}/{group}/{kind}/{node}/+" for kind in _BEHIND_NODE),
        f"topic read {_SPARKPLUG}/{group}/NCMD/{node}",
        f"topic read {_SPARKPLUG}/{group}/DCMD/{node}/+",
        f"topic read {_SPARKPLUG}/STATE/+",
    ]


def mosquitto_tls_config(
    certs: Path,
    acls: Path,
    *,
    devices_host: str = "127.0.0.1",
    devices_port: int = DEVICES_PORT,
    services_host: str = "127.0.0.1",
    services_port: int = SERVICES_PORT,
) -> str:
    """The listeners of `mosquitto.conf`: TLS 1.2 at least, a certificate from everybody.

    To stand after all global settings. Let the bridge take what waits for it before its port is
    changed: to mosquitto a session of a listener that is gone may read nothing.

    Args:
        certs: Folder of `kpstream certs make`, or one laid out like it.
        acls: Folder of the files `DEVICES_ACL` and `SERVICES_ACL`, with the texts from here.
        devices_host: Address for devices; loopback unless told otherwise.
        devices_port: TCP port for devices.
        services_host: Address for bridges and operators.
        services_port: TCP port for bridges and operators.
    """
    where = certs.absolute()
    server = (
        f"certfile {where}/servers/mosquitto.pem\n"
        f"keyfile {where}/servers/mosquitto.key\n"
        "tls_version tlsv1.2\n"
        "require_certificate true\n"
        "use_identity_as_username true\n"
        "allow_anonymous false\n"
    )
    return (
        "per_listener_settings true\n"
        "\n"
        f"listener {devices_port} {devices_host}\n"
        f"cafile {where}/devices-ca.pem\n"
        f"{server}"
        "use_username_as_clientid true\n"
        f"acl_file {acls.absolute() / DEVICES_ACL}\n"
        "\n"
        f"listener {services_port} {services_host}\n"
        f"cafile {where}/ca.pem\n"
        f"{server}"
        f"acl_file {acls.absolute() / SERVICES_ACL}\n"
    )
