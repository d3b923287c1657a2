"""systemd units and a compose file of a site, from the settings of `kpstream site up`.

`kpstream site units --out FOLDER` writes them. The files in this folder (`systemd/`,
`compose.yaml`,
`Dockerfile`) are its output with the default settings, and a test compares them. The settings:

| setting | native | systemd | compose |
|---|---|---|---|
| Kafka | `KafkaServer.settings` | `kafka.properties` | `KAFKA_...` of the image |
| InfluxDB | `InfluxServer.command` | arguments | `INFLUXD_...` of the image |
| mosquitto | `mosquitto_config` | `mosquitto.conf` | `mosquitto.conf` |
| topics, buckets, tokens | `setup_steps` | `kpstream site setup` | `kpstream site setup` |
| names and ports of processes | `Site.process_ports` | `%i` | a service each |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboards.grafana.provision import yaml
from deploy.settings.settings import SiteSettings
from deploy.stack.servers import (
    INFLUX_SETTINGS,
    INFLUX_VERSION,
    JAVA_OPTIONS,
    KAFKA_SETTINGS,
    KAFKA_VERSION,
)
from deploy.stack.site import Site
from deploy.stack.sitesetup import GRAFANA_TOKEN_FILE, STORE_ENV_FILE
from ingest.mqtt.broker import mosquitto_config
from ingest.topics import SHARED_GROUP

__all__ = ["compose", "image_variable", "unit_files", "write_units"]

_VENV = "/opt/kpstream/venv"
_SERVERS = "/opt/kpstream/servers"
_STATE = "/var/lib/kpstream"
_SETTINGS = "/etc/kpstream"
_HEAD = "# Written by `kpstream site units`; change deploy/stack/units.py instead.\n"

_GRAFANA_IMAGE = "grafana/grafana:12.2.0"
_MOSQUITTO_IMAGE = "eclipse-mosquitto:2.0.22"
_USER = "10001"
_SECRETS = f"secrets:/state/{GRAFANA_TOKEN_FILE.parent}"


_HARDENED = """\
# Restrict the service to what it needs of the system.
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
CapabilityBoundingSet=
UMask=0077
"""

# With growing pauses if systemd supports them (254 or later), and without a limit.
_RESTARTED = """\
Restart=always
RestartSec=1
RestartSteps=5
RestartMaxDelaySec=30
"""

_GUIDE = f"""\
# kpstream under systemd

Written by `kpstream site units`; see `docs/operations.md`. The tests do not run these units,
because they have no systemd. Instead `systemd-analyze verify` checks them, and a test compares
their settings with those of `kpstream site up`.

    sudo useradd --system --home-dir /var/lib/kpstream --shell /usr/sbin/nologin kpstream
    sudo apt install mosquitto default-jre-headless
    sudo python3 -m venv {_VENV} && sudo {_VENV}/bin/pip install 'kpstream[site]'
    sudo KPSTREAM_SERVERS_DIR={_SERVERS} {_VENV}/bin/kpstream site install
    sudo install -d {_SETTINGS} && sudo install -m 644 kafka.properties {_SETTINGS}/
    sudo install -m 600 site.env {_SETTINGS}/
    sudo install -m 644 mosquitto.conf /etc/mosquitto/conf.d/kpstream.conf
    sudo install -m 644 *.service *.target /etc/systemd/system/
    sudo systemctl daemon-reload && sudo systemctl restart mosquitto
    sudo systemctl enable --now kpstream.target kpstream-kafka kpstream-influxdb kpstream-setup \\
        kpstream-bridge@1 kpstream-worker@1 kpstream-worker@2 kpstream-store@1

To add a worker, run `sudo systemctl enable --now kpstream-worker@3`. The token for Grafana is in
`{_STATE}/{GRAFANA_TOKEN_FILE}`. systemd restarts processes that end, but does not notice one that
makes no progress. Use the alert on a growing backlog, or `kpstream site up`, whose watchdog
restarts it.

With TLS (`docs/security.md`), `kpstream certs config FOLDER bridge` prints the content of
`{_SETTINGS}/bridge.env`; use `worker`, `store` and `operator` (the set-up) likewise, and `kafka`,
`influxdb` and `mosquitto` for the settings of the servers. All services here run as one user. The
bridge is exposed to devices; to keep it from the tokens and data of the servers, run them as
separate users.
"""

_COMPOSE_HEAD = f"""\
{_HEAD}# A site in containers. The tests do not run it; they compare its settings with those of
# `kpstream site up`. From the root of the repository:
#
#     docker compose -f deploy/stack/compose.yaml up --build --detach
#
# For Grafana, write a password to deploy/stack/grafana-admin.password and add `--profile grafana`
# after `compose`. Ports are open on loopback only.
"""

_DOCKERFILE = f"""\
{_HEAD}# Image of bridge, worker, store and set-up. Build it from the root of the repository.
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


def write_units(folder: Path, site: Site) -> list[Path]:
    """Write all files below the folder; returns their paths.

    Raises:
        OSError: A file cannot be written.
        ValueError: systemd cannot derive the ports of the processes.
    """
    written = []
    for name, text in unit_files(site).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def unit_files(site: Site) -> dict[str, str]:
    """Return the content of every file, by its path below the folder."""
    return {
        "systemd/README.md": _GUIDE,
        "systemd/site.env": _site_env(site.site),
        "systemd/mosquitto.conf": _HEAD + _mosquitto("listener 1883 127.0.0.1"),
        "systemd/kafka.properties": _kafka_properties(),
        "systemd/kpstream-kafka.service": _kafka_unit(site.site),
        "systemd/kpstream-influxdb.service": _influx_unit(),
        "systemd/kpstream-setup.service": _setup_unit(),
        "systemd/kpstream-bridge@.service": _process_unit("bridge", site.site.base_port),
        "systemd/kpstream-worker@.service": _process_unit("worker", site.site.base_port + 40),
        "systemd/kpstream-store@.service": _process_unit("store", site.site.base_port + 20),
        "systemd/kpstream.target": _target(site),
        "compose.yaml": _COMPOSE_HEAD + yaml(compose(site)),
        "Dockerfile": _DOCKERFILE,
    }


def _mosquitto(listener: str) -> str:
    """Return the configuration of mosquitto, in addition to that of its package or image.

    The package sets the places of queues and log; setting them twice is an error.
    """
    text = mosquitto_config(f"{listener}\nallow_anonymous true\n", Path("/"), 1)
    in_package = ("#", "user ", "persistence ", "persistence_location ", "log_type ")
    lines = [line for line in text.splitlines() if not line.startswith(in_package)]
    return "\n".join(lines) + "\n"


# -------------------------------------------------------------------------------------- systemd


def _unit(text: str, after: str, service: str, *, wants: str = "", wanted: bool = True) -> str:
    wants = f"Wants={wants}\n" if wants else ""
    install = "\n[Install]\nWantedBy=kpstream.target\n" if wanted else ""
    return (
        f"{_HEAD}[Unit]\nDescription={text}\n"
        f"After={f'network-online.target {after}'.strip()}\n{wants}PartOf=kpstream.target\n"
        f"StartLimitIntervalSec=0\n\n[Service]\n{service}{_HARDENED}{install}"
    )


def _process_unit(kind: str, first_port: int) -> str:
    if first_port % 10:
        message = (
            f"systemd cannot count ports from {first_port}: set KPSTREAM_SITE_BASE_PORT to a "
            "multiple of 10"
        )
        raise ValueError(message)
    also = ""
    if kind == "bridge":
        also = (
            "Environment=KPSTREAM_INGEST_MQTT_CLIENT_ID=kpstream-bridge-%i\n"
            "# For several bridges, which share the messages:\n"
            f"# Environment=KPSTREAM_INGEST_MQTT_SHARED_GROUP={SHARED_GROUP}\n"
        )
    if kind == "store":
        also = f"EnvironmentFile={_STATE}/{STORE_ENV_FILE}\n"
    service = (
        "User=kpstream\n"
        f"EnvironmentFile={_SETTINGS}/site.env\n"
        f"# With TLS: the output of `kpstream certs config` for this kind of service.\n"
        f"EnvironmentFile=-{_SETTINGS}/{kind}.env\n"
        f"Environment=KPSTREAM_SITE_NAME={kind}-%i\n"
        f"# The ports that `kpstream site up` assigns; for instances 1 to 9.\n"
        f"Environment=KPSTREAM_SITE_STATUS_PORT={first_port // 10}%i\n"
        f"{also}"
        f"ExecStart={_VENV}/bin/kpstream {kind}\n"
        "TimeoutStopSec=30\n"
        f"{_RESTARTED}"
        "StateDirectory=kpstream\nStateDirectoryMode=0700\n"
    )
    return _unit(
        f"kpstream {kind} %i", "kpstream-setup.service", service, wants="kpstream-setup.service"
    )


def _setup_unit() -> str:
    service = (
        "Type=oneshot\nRemainAfterExit=yes\nUser=kpstream\n"
        f"EnvironmentFile={_SETTINGS}/site.env\n"
        f"EnvironmentFile=-{_SETTINGS}/operator.env\n"
        f"ExecStart={_VENV}/bin/kpstream site setup --wait 300\n"
        "TimeoutStartSec=360\n"
        "StateDirectory=kpstream\nStateDirectoryMode=0700\n"
    )
    servers = "kpstream-kafka.service kpstream-influxdb.service"
    return _unit("kpstream topics, buckets and tokens", servers, service, wants=servers)


def _kafka_unit(site: SiteSettings) -> str:
    classes = f"{_SERVERS}/kafka-{KAFKA_VERSION}/libs/*"
    java = f"/usr/bin/java -cp '{classes}'"
    tool = f"{java} kafka.tools.StorageTool"
    options = " ".join((f"-Xmx{site.kafka_heap_mb}m", *JAVA_OPTIONS))
    service = (
        "User=kpstream\n"
        "# Format a new data folder. The = is needed for an id that begins with -.\n"
        f'ExecStartPre=/bin/sh -c "test -e {_STATE}-kafka/data/meta.properties || '
        f'{tool} format --cluster-id=$$({tool} random-uuid) -c {_SETTINGS}/kafka.properties"\n'
        f"ExecStart=/usr/bin/java {options} -Dorg.slf4j.simpleLogger.defaultLogLevel=warn "
        f"-cp '{classes}' kafka.Kafka {_SETTINGS}/kafka.properties\n"
        "SuccessExitStatus=143\nTimeoutStopSec=60\nLimitNOFILE=65536\n"
        f"{_RESTARTED}"
        "StateDirectory=kpstream-kafka\nStateDirectoryMode=0700\n"
    )
    return _unit("Kafka of kpstream", "", service)


def _kafka_properties() -> str:
    own = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@127.0.0.1:9093",
        "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": f"{_STATE}-kafka/data",
        **KAFKA_SETTINGS,
    }
    return _HEAD + "".join(f"{name}={value}\n" for name, value in own.items())


def _influx_unit() -> str:
    folder = f"{_STATE}-influxdb"
    arguments = [
        *("--http-bind-address=127.0.0.1:8086", f"--bolt-path={folder}/influxd.bolt"),
        *(f"--sqlite-path={folder}/influxd.sqlite", f"--engine-path={folder}/engine"),
        *(f"--{name}={value}" for name, value in INFLUX_SETTINGS.items()),
    ]
    service = (
        "User=kpstream\n"
        f"ExecStart={_SERVERS}/influxd-{INFLUX_VERSION}/influxd {' '.join(arguments)}\n"
        "# influxd handles SIGINT only; SIGTERM would end it at once.\n"
        "KillSignal=SIGINT\nTimeoutStopSec=60\nLimitNOFILE=65536\n"
        f"{_RESTARTED}"
        "StateDirectory=kpstream-influxdb\nStateDirectoryMode=0700\n"
    )
    return _unit("InfluxDB of kpstream", "", service)


def _target(site: Site) -> str:
    names = [name.replace("-", "@") for name, _ in site.process_ports()]
    wants = " ".join(f"kpstream-{name}.service" for name in ("kafka", "influxdb", "setup", *names))
    return (
        f"{_HEAD}[Unit]\nDescription=kpstream site\nWants=mosquitto.service {wants}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _site_env(site: SiteSettings) -> str:
    return (
        f"{_HEAD.rstrip()}\n"
        "# Settings of all kpstream services on this machine; docs/settings.md lists them all.\n"
        f"KPSTREAM_SITE_STATE_DIR={_STATE}\n"
        "KPSTREAM_SITE_KAFKA=127.0.0.1:9092\n"
        f"KPSTREAM_SITE_PARTITIONS={site.partitions}\n"
        "KPSTREAM_PIPELINE_INFLUX_URL=http://127.0.0.1:8086\n"
        "OMP_NUM_THREADS=1\nPYTHONUNBUFFERED=1\n"
    )


# -------------------------------------------------------------------------------------- compose


def image_variable(prefix: str, name: str) -> str:
    """Return the environment variable of a setting in an official image.

    >>> image_variable("KAFKA", "log.segment.bytes"), image_variable("INFLUXD", "log-level")
    ('KAFKA_LOG_SEGMENT_BYTES', 'INFLUXD_LOG_LEVEL')
    """
    return f"{prefix}_{name}".upper().replace(".", "_").replace("-", "_")


def compose(site: Site) -> dict[str, Any]:
    """Return the compose file as data."""
    services: dict[str, Any] = {
        "mosquitto": _mosquitto_service(),
        "kafka": _kafka_service(site.site),
        "influxdb": _influx_service(),
        "setup": _setup_service(site.site),
    }
    for name, port in site.process_ports():
        services[name] = _process_service(site.site, name, port)
    services["grafana"] = _grafana_service()
    volumes = ("mosquitto", "kafka", "influxdb", "state", "secrets", "grafana-token", "grafana")
    return {
        "name": "kpstream",
        "services": services,
        "configs": {"mosquitto": {"content": _mosquitto_image_config()}},
        "secrets": {"grafana-admin": {"file": "./grafana-admin.password"}},
        "volumes": {name: {} for name in volumes},
    }


def _mosquitto_image_config() -> str:
    folder = "persistence true\npersistence_location /mosquitto/data/\n"
    return folder + _mosquitto("listener 1883 0.0.0.0")


def _mosquitto_service() -> dict[str, Any]:
    return {
        "image": _MOSQUITTO_IMAGE,
        "restart": "unless-stopped",
        "configs": [{"source": "mosquitto", "target": "/mosquitto/config/mosquitto.conf"}],
        "volumes": ["mosquitto:/mosquitto/data"],
        "ports": ["127.0.0.1:1883:1883"],
        "healthcheck": _healthcheck(
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
        "healthcheck": _healthcheck("bash", "-c", "exec 3<>/dev/tcp/localhost/9092"),
    }


def _influx_service() -> dict[str, Any]:
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
        "healthcheck": _healthcheck("influx", "ping"),
    }


def _our_service(site: SiteSettings, more: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": "kpstream",
        "build": {"context": "../..", "dockerfile": "deploy/stack/Dockerfile"},
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
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 (in the container)
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _setup_service(site: SiteSettings) -> dict[str, Any]:
    return {
        **_our_service(site, {}),
        # Each service sees only its own secrets: Grafana its token, the store the folder.
        "volumes": ["state:/state", _SECRETS, "grafana-token:/grafana"],
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
    ours = _our_service(site, more)
    if kind == "store":
        ours["volumes"] = [*ours["volumes"], f"{_SECRETS}:ro"]
    return {
        **ours,
        "command": command,
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "depends_on": {"setup": {"condition": "service_completed_successfully"}},
        "healthcheck": _healthcheck("python", "-c", check),
    }


def _grafana_service() -> dict[str, Any]:
    export = "export KPSTREAM_GRAFANA_INFLUX_TOKEN=$$(cat /grafana-token/token)"
    return {
        "image": _GRAFANA_IMAGE,
        "profiles": ["grafana"],
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


def _healthcheck(*command: str) -> dict[str, Any]:
    return {"test": ["CMD", *command], "interval": "10s", "timeout": "5s", "start_period": "60s"}
