"""The compose file and the Dockerfile of a site; `units` writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboards.grafana.provision import yaml
from deploy.settings.settings import SiteSettings
from deploy.stack.generated import GENERATED, anonymous_listener, mosquitto_settings
from deploy.stack.servers import (
    INFLUX_SETTINGS,
    INFLUX_VERSION,
    JAVA_OPTIONS,
    KAFKA_SETTINGS,
    KAFKA_VERSION,
)
from deploy.stack.site import Site
from deploy.stack.sitesetup import GRAFANA_TOKEN_FILE, STORE_ENV_FILE
from ingest.topics import SHARED_GROUP

__all__ = [
    "CONFINED",
    "SECRETS_VOLUME",
    "compose",
    "compose_files",
    "grafana_service",
    "healthcheck",
    "image_variable",
    "influx_service",
    "mosquitto_image_config",
    "mosquitto_service",
    "source_seen_from",
]

_GRAFANA_IMAGE = "grafana/grafana:12.2.0"
_MOSQUITTO_IMAGE = "eclipse-mosquitto:2.0.22"
_USER = "10001"
SECRETS_VOLUME = f"secrets:/state/{GRAFANA_TOKEN_FILE.parent}"
"""The volume of the tokens, where our services expect them."""
CONFINED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": ["/tmp"],  # noqa: S108 (in the container)
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
"""What confines each container of ours."""

_HERE = "deploy/stack"
_ROOT = "../.."
"""The root of the repository, seen from the compose file in it."""

_COMPOSE_HEAD = """\
# A site in containers. The tests do not run it; they compare its settings with those of
# `kpstream site up`. {start}
#
# For Grafana, write a password to grafana-admin.password beside this file and add
# `--profile grafana` after `compose`. Ports are open on loopback only.
"""
_BUILT = """\
{place}:
#
#     docker compose -f {file} up --build --detach"""
_NOT_BUILT = """\
This installation has no source to build the image from: in a
# clone of kpstream, run `docker build -f deploy/stack/Dockerfile -t kpstream .` first. Then:
#
#     docker compose -f {file} up --detach"""

_DOCKERFILE = f"""\
{GENERATED}# Image of bridge, worker, store and set-up. Build it from the root of the repository.
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dashboards dashboards
COPY deploy deploy
COPY ingest ingest
COPY models models
COPY pipeline pipeline
COPY training training
RUN pip install --no-cache-dir --constraint constraints.txt '.[site]' && rm -rf /src
WORKDIR /state
RUN useradd --uid {_USER} --home-dir /state kpstream && mkdir -p /state/secrets /grafana && \\
    chown -R kpstream /state /grafana && chmod 700 /state /state/secrets /grafana
USER kpstream
CMD ["kpstream", "--help"]
"""


def compose_files(
    site: Site, folder: Path = Path(_HERE), source: str | None = _ROOT
) -> dict[str, str]:
    """Return the content of compose file and Dockerfile, by name.

    Args:
        site: The site.
        folder: Where they are written to.
        source: The root of a clone to build the image from, absolute or as seen from `folder`;
            None: the image is built elsewhere.
    """
    file = f"{folder.as_posix()}/compose.yaml"
    place = "From the root of the repository" if folder.as_posix() == _HERE else "Start it"
    start = (_NOT_BUILT if source is None else _BUILT).format(place=place, file=file)
    head = GENERATED + _COMPOSE_HEAD.format(start=start)
    return {"compose.yaml": head + yaml(compose(site, source)), "Dockerfile": _DOCKERFILE}


def source_seen_from(folder: Path) -> str | None:
    """Return the clone that this code runs from, as a compose file in `folder` names it.

    Returns:
        A relative path if the folder is in the clone, else an absolute one; None if this code was
        installed without its source.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        return None
    here = folder.resolve()
    return os.path.relpath(root, here) if here.is_relative_to(root) else str(root)


def image_variable(prefix: str, name: str) -> str:
    """Return the environment variable of a setting in an official image.

    >>> image_variable("KAFKA", "log.segment.bytes"), image_variable("INFLUXD", "log-level")
    ('KAFKA_LOG_SEGMENT_BYTES', 'INFLUXD_LOG_LEVEL')
    """
    return f"{prefix}_{name}".upper().replace(".", "_").replace("-", "_")


def compose(site: Site, source: str | None = _ROOT) -> dict[str, Any]:
    """Return the compose file as data; `source` as in `compose_files`."""
    services: dict[str, Any] = {
        "mosquitto": mosquitto_service(),
        "kafka": _kafka_service(site.site),
        "influxdb": influx_service(),
        "setup": _setup_service(site.site),
    }
    for name, port in site.process_ports():
        services[name] = _process_service(site.site, name, port)
    services["grafana"] = grafana_service("grafana")
    for service in services.values():
        if "build" in service:
            if source is None:
                del service["build"]
            else:
                service["build"]["context"] = source
    volumes = ("mosquitto", "kafka", "influxdb", "state", "secrets", "grafana-token", "grafana")
    return {
        "name": "kpstream",
        "services": services,
        "configs": {"mosquitto": {"content": mosquitto_image_config()}},
        "secrets": {"grafana-admin": {"file": "./grafana-admin.password"}},
        "volumes": {name: {} for name in volumes},
    }


def mosquitto_image_config() -> str:
    """Return the configuration of mosquitto in its image."""
    folder = "persistence true\npersistence_location /mosquitto/data/\n"
    listener = anonymous_listener("0.0.0.0")  # noqa: S104 (in the container)
    return folder + mosquitto_settings(listener)


def mosquitto_service() -> dict[str, Any]:
    """Return the broker, open on loopback only."""
    return {
        "image": _MOSQUITTO_IMAGE,
        "restart": "unless-stopped",
        "configs": [{"source": "mosquitto", "target": "/mosquitto/config/mosquitto.conf"}],
        "volumes": ["mosquitto:/mosquitto/data"],
        "ports": ["127.0.0.1:1883:1883"],
        "healthcheck": healthcheck(
            "mosquitto_sub", "-t", "$$SYS/broker/uptime", "-C", "1", "-W", "3"
        ),
    }


def _kafka_service(site: SiteSettings) -> dict[str, Any]:
    own = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://localhost:9093",
        "advertised.listeners": "PLAINTEXT://kafka:9092",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "/var/lib/kafka/data",
        **KAFKA_SETTINGS,
    }
    return {
        "image": f"apache/kafka:{KAFKA_VERSION}",
        "restart": "unless-stopped",
        "stop_grace_period": "60s",
        "environment": {
            "KAFKA_HEAP_OPTS": f"-Xmx{site.kafka_heap_mb}m",
            "KAFKA_JVM_PERFORMANCE_OPTS": " ".join(JAVA_OPTIONS),
            **{image_variable("KAFKA", name): value for name, value in own.items()},
        },
        "volumes": ["kafka:/var/lib/kafka/data"],
        "healthcheck": healthcheck("bash", "-c", "exec 3<>/dev/tcp/localhost/9092"),
    }


def influx_service() -> dict[str, Any]:
    """Return InfluxDB, open on loopback only."""
    return {
        "image": f"influxdb:{INFLUX_VERSION}",
        "restart": "unless-stopped",
        "stop_signal": "SIGINT",
        "stop_grace_period": "60s",
        "environment": {
            image_variable("INFLUXD", name): value for name, value in INFLUX_SETTINGS.items()
        },
        "volumes": ["influxdb:/var/lib/influxdb2"],
        "ports": ["127.0.0.1:8086:8086"],
        "healthcheck": healthcheck("influx", "ping"),
    }


def _our_service(site: SiteSettings, more: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": "kpstream",
        "build": {"context": _ROOT, "dockerfile": "deploy/stack/Dockerfile"},
        "environment": {
            "KPSTREAM_SITE_STATE_DIR": "/state",
            "KPSTREAM_SITE_KAFKA": "kafka:9092",
            "KPSTREAM_SITE_PARTITIONS": str(site.partitions),
            "KPSTREAM_INGEST_MQTT_HOST": "mosquitto",
            "KPSTREAM_PIPELINE_INFLUX_URL": "http://influxdb:8086",
            "OMP_NUM_THREADS": "1",
            **more,
        },
        "volumes": ["state:/state"],
        **CONFINED,
    }


def _setup_service(site: SiteSettings) -> dict[str, Any]:
    return {
        **_our_service(site, {}),
        # Each service sees only its own secrets: Grafana its token, the store the folder.
        "volumes": ["state:/state", SECRETS_VOLUME, "grafana-token:/grafana"],
        "command": [
            *("sh", "-c"),
            "kpstream site setup --wait 300"
            f" && install -m 600 /state/{GRAFANA_TOKEN_FILE} /grafana/token",
        ],
        "depends_on": ["kafka", "influxdb"],
    }


def _process_service(site: SiteSettings, name: str, port: int) -> dict[str, Any]:
    kind, _, number = name.partition("-")
    more = {"KPSTREAM_SITE_NAME": name, "KPSTREAM_SITE_STATUS_PORT": str(port)}
    command = ["kpstream", kind]
    if kind == "bridge":
        more["KPSTREAM_INGEST_MQTT_CLIENT_ID"] = f"kpstream-bridge-{number}"
        if site.bridges > 1:
            more["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] = SHARED_GROUP
    if kind == "store":
        read = f". /state/{STORE_ENV_FILE} && export KPSTREAM_PIPELINE_INFLUX_TOKEN"
        command = ["sh", "-c", f"{read} && exec kpstream store"]
    check = (
        f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/ready', timeout=3)"
    )
    own_service = _our_service(site, more)
    if kind == "store":
        own_service["volumes"] = [*own_service["volumes"], f"{SECRETS_VOLUME}:ro"]
    return {
        **own_service,
        "command": command,
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        "healthcheck": healthcheck("python", "-c", check),
    }


def grafana_service(*profiles: str) -> dict[str, Any]:
    """Return Grafana with data source, boards and alerts provisioned by files.

    Args:
        profiles: Profiles of compose that start it; none: it always starts.
    """
    export = "export KPSTREAM_GRAFANA_INFLUX_TOKEN=$$(cat /grafana-token/token)"
    return {
        "image": _GRAFANA_IMAGE,
        **({"profiles": list(profiles)} if profiles else {}),
        "restart": "unless-stopped",
        "user": f"{_USER}:0",  # this user may read the token
        "entrypoint": ["sh", "-c", f"{export} && exec /run.sh"],
        "environment": {
            "KPSTREAM_GRAFANA_INFLUX_URL": "http://influxdb:8086",
            "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana-admin",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
        },
        "secrets": ["grafana-admin"],
        "volumes": [
            "grafana:/var/lib/grafana",
            "grafana-token:/grafana-token:ro",
            "../../dashboards/provisioning:/etc/grafana/provisioning:ro",
            "../../dashboards/json:/var/lib/grafana/dashboards/kpstream:ro",
        ],
        "ports": ["127.0.0.1:3000:3000"],
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
    }


def healthcheck(*command: str) -> dict[str, Any]:
    """Return how compose asks a container whether it works."""
    return {"test": ["CMD", *command], "interval": "10s", "timeout": "5s", "start_period": "60s"}
