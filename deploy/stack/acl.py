"""Access control of mosquitto: ACL files and TLS listeners.

There are two listeners for two kinds of clients, and a third one where gateways report to a centre:

* **Devices** present a certificate of the devices' authority. Its common name `SITE/DEVICE` becomes
  their user name *and* their client id. They can publish only below `sensors/SITE/DEVICE/`, and
  cannot take over the session of another device or of the bridge. One certificate allows one
  connection at a time.
* **Services** (bridge, operator) present a certificate of the other authority and choose their own
  client ids: the bridge has one for its session, `kpstream doctor` another.
* **Gateways** present a certificate of the services' authority whose common name is the name of the
  gateway, which becomes their user name and client id as well. They write their own report and read
  the centre's note, nothing else.

A test checks this against mosquitto 2.0.11, which inserts a user name with a slash into `%u`
unchanged and refuses one with `+` or `#`. In MQTT 5 a forbidden publication is answered with "not
authorised"; in 3.1.1 the broker can only confirm and discard it. A forbidden subscription is
granted, but nothing is delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest.topics import (
    LABELS_PREFIX,
    MQTT_PREFIX,
    NOTE_TOPIC,
    REPORTS_FILTER,
    probe_address,
    report_topic,
    subscription,
)

__all__ = [
    "DEVICES_ACL",
    "DEVICES_PORT",
    "GATEWAYS_ACL",
    "GATEWAYS_PORT",
    "SERVICES_ACL",
    "SERVICES_PORT",
    "devices_acl",
    "gateways_acl",
    "mosquitto_tls_config",
    "services_acl",
]

DEVICES_PORT = 8883
SERVICES_PORT = 8884
GATEWAYS_PORT = 8885
DEVICES_ACL = "mosquitto-devices.acl"
SERVICES_ACL = "mosquitto-services.acl"
GATEWAYS_ACL = "mosquitto-gateways.acl"

_NODE = ("NBIRTH", "NDATA", "NDEATH")
_BEHIND_NODE = ("DBIRTH", "DDATA", "DDEATH")
_SPARKPLUG = "spBv1.0"

_HEAD = "# Written by kpstream. A user is the common name of a certificate; %u stands for it."
_BROKER_STATE = "topic read $SYS/broker/#"
_SCORES = ("topic readwrite scores/#", "topic readwrite alarms/#")
"""Topics of `deploy.processes.scoresmqtt`."""
_READ_LABELS = f"topic read {subscription(LABELS_PREFIX)}"
_BRIDGE = (
    f"topic read {_SPARKPLUG}/#",
    f"topic write {_SPARKPLUG}/+/NCMD/+",
    f"topic readwrite {_SPARKPLUG}/STATE/+",
    _BROKER_STATE,
)


def devices_acl(
    *,
    prefix: str = MQTT_PREFIX,
    nodes: Sequence[str] = (),
    denied: Sequence[str] = (),
    mapped: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the ACL file of the devices' listener: a device publishes as itself and reads nothing.

    Args:
        prefix: First levels of the MQTT topics of readings.
        nodes: Sparkplug edge nodes as `group/node`, which is also the common name. Each may publish
            the messages of its node and of the devices behind it, and read its commands.
        denied: Common names without any access, for stolen devices. mosquitto reloads the file at
            SIGHUP and applies it to connected clients too.
        mapped: Filters of the topics to which devices publish by mapping files, by common name
            (`ingest.mapping.access`).

    Raises:
        ValueError: A name has a special meaning in an ACL file.
    """
    mapped = mapped or {}
    _check(prefix, *nodes, *denied, *mapped)
    lines = [_HEAD, f"pattern write {prefix}/%u/+"]
    for name in denied:
        lines += ["", f"user {name}", "topic deny #"]
    for name in dict.fromkeys((*nodes, *mapped)):
        if name in denied:
            continue
        rights = [f"topic write {each}" for each in mapped.get(name, ()) if _is_topic(each)]
        if rights or name in nodes:
            own = _node_lines(name) if name in nodes else []
            lines += ["", f"user {name}", *own, *rights]
    return "\n".join(lines) + "\n"


def services_acl(
    *,
    prefix: str = MQTT_PREFIX,
    bridges: Sequence[str] = ("bridge",),
    operators: Sequence[str] = ("operator",),
    centres: Sequence[str] = ("centre",),
    mapped: Sequence[str] = (),
) -> str:
    """Return the ACL file of the services' listener: bridges read, operators read and publish.

    A bridge may also publish what `kpstream doctor` publishes, of which nothing is kept, and the
    scores and alarms of a gateway, which operators may read. The centre
    of a rollout reads the reports of gateways and publishes its note.

    Args:
        prefix: First levels of the MQTT topics of readings.
        bridges: Common names of the bridges' certificates.
        operators: Common names of clients that may publish for any device, to replay data sets or
            dead letters, to simulate, or to give labels.
        centres: Common names of clients that run `kpstream centre control`.
        mapped: Filters of the mapping files: bridges read them, operators also publish there.

    Raises:
        ValueError: A name has a special meaning in an ACL file.
    """
    _check(prefix, *bridges, *operators, *centres)
    lines, probe = [_HEAD], probe_address("+").mqtt_topic(prefix)
    for name in bridges:
        own = (f"topic read {subscription(prefix)}", f"topic write {probe}", _READ_LABELS, *_SCORES)
        lines += ["", f"user {name}", *own, *_BRIDGE]
        lines += [f"topic read {each}" for each in mapped if _is_topic(each)]
    for name in operators:
        lines += ["", f"user {name}", f"topic readwrite {subscription(prefix)}", _BROKER_STATE]
        lines += [_READ_LABELS.replace("read", "readwrite")]
        lines += [line.replace("readwrite", "read") for line in _SCORES]
        lines += [f"topic readwrite {each}" for each in mapped if _is_topic(each)]
    for name in centres:
        lines += [
            "",
            f"user {name}",
            f"topic read {REPORTS_FILTER}",
            f"topic readwrite {NOTE_TOPIC}",
        ]
    return "\n".join(lines) + "\n"


def gateways_acl(*, denied: Sequence[str] = ()) -> str:
    """Return the ACL file of the gateways' listener: a gateway writes its report, reads the note.

    Args:
        denied: Common names without any access, for stolen gateways; see `devices_acl`.

    Raises:
        ValueError: A name has a special meaning in an ACL file.
    """
    _check(*denied)
    lines = [_HEAD, f"pattern write {report_topic('%u')}", f"pattern read {NOTE_TOPIC}"]
    for name in denied:
        lines += ["", f"user {name}", "topic deny #"]
    return "\n".join(lines) + "\n"


def _check(*names: str) -> None:
    for name in names:
        if not name or set(name) & set("+#%\n\r\0") or name.strip() != name:
            message = f"{name!r} is not allowed in an ACL file: remove + # % and spaces at the ends"
            raise ValueError(message)


def _is_topic(mqtt_filter: str) -> bool:
    """Whether a filter can be written into an ACL file: its lines end at a line break."""
    return mqtt_filter.isprintable() and mqtt_filter.strip() == mqtt_filter


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
    gateways_host: str | None = None,
    gateways_port: int = GATEWAYS_PORT,
) -> str:
    """Return the listeners of `mosquitto.conf`: TLS 1.2 or later, and client certificates.

    Append them after all global settings. Before changing the bridge's port, let the bridge take
    its waiting messages, because mosquitto lets a session of a removed listener read nothing.

    Args:
        certs: Folder of `kpstream certs make`, or one with the same layout.
        acls: Folder of the files `DEVICES_ACL`, `SERVICES_ACL` and `GATEWAYS_ACL`.
        devices_host: Address for devices; loopback by default.
        devices_port: TCP port for devices.
        services_host: Address for bridges and operators.
        services_port: TCP port for bridges and operators.
        gateways_host: Address for gateways that follow a centre; None: without this listener.
        gateways_port: TCP port for gateways.
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
    gateways = (
        "\n"
        f"listener {gateways_port} {gateways_host}\n"
        f"cafile {where}/ca.pem\n"
        f"{server}"
        "use_username_as_clientid true\n"
        f"acl_file {acls.absolute() / GATEWAYS_ACL}\n"
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
        f"acl_file {acls.absolute() / SERVICES_ACL}\n" + ("" if gateways_host is None else gateways)
    )
