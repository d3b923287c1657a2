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

from pathlib import Path

from deploy.settings.settings import SiteSettings
from deploy.stack.composefile import compose_files, source_seen_from
from deploy.stack.generated import (
    GENERATED,
    HARDENED,
    RESTARTED,
    anonymous_listener,
    mosquitto_settings,
)
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

__all__ = ["unit_files", "write_units"]

_VENV = "/opt/kpstream/venv"
_SERVERS = "/opt/kpstream/servers"
_STATE = "/var/lib/kpstream"
_SETTINGS = "/etc/kpstream"


_GUIDE = f"""\
# kpstream under systemd

Written by `kpstream site units`; see `docs/operations.md`. The tests do not run these units,
because they have no systemd. Instead `systemd-analyze verify` checks them, and a test compares
their settings with those of `kpstream site up`. Run the commands in
the folder of this file; `CLONE` stands for your clone of kpstream.

    sudo useradd --system --home-dir /var/lib/kpstream --shell /usr/sbin/nologin kpstream
    sudo apt install mosquitto default-jre-headless
    sudo python3 -m venv {_VENV} && sudo {_VENV}/bin/pip install 'CLONE[site]'
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


def write_units(folder: Path, site: Site) -> list[Path]:
    """Write all files below the folder; returns their paths.

    Raises:
        OSError: A file cannot be written.
        ValueError: systemd cannot derive the ports of the processes.
    """
    written = []
    files = unit_files(site) | compose_files(site, folder, source_seen_from(folder))
    for name, text in files.items():
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
        "systemd/mosquitto.conf": GENERATED + mosquitto_settings(anonymous_listener("127.0.0.1")),
        "systemd/kafka.properties": _kafka_properties(),
        "systemd/kpstream-kafka.service": _kafka_unit(site.site),
        "systemd/kpstream-influxdb.service": _influx_unit(),
        "systemd/kpstream-setup.service": _setup_unit(),
        "systemd/kpstream-bridge@.service": _process_unit("bridge", site.site.base_port),
        "systemd/kpstream-worker@.service": _process_unit("worker", site.site.base_port + 40),
        "systemd/kpstream-store@.service": _process_unit("store", site.site.base_port + 20),
        "systemd/kpstream.target": _target(site),
        **compose_files(site),
    }


def _unit(text: str, after: str, service: str, *, wants: str = "", wanted: bool = True) -> str:
    wants = f"Wants={wants}\n" if wants else ""
    install = "\n[Install]\nWantedBy=kpstream.target\n" if wanted else ""
    first = f"network-online.target time-sync.target {after}".strip()
    return (
        f"{GENERATED}[Unit]\nDescription={text}\n"
        f"After={first}\n{wants}PartOf=kpstream.target\n"
        f"StartLimitIntervalSec=0\n\n[Service]\n{service}{HARDENED}{install}"
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
        f"{RESTARTED}"
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
        f"{RESTARTED}"
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
    return GENERATED + "".join(f"{name}={value}\n" for name, value in own.items())


def _influx_unit() -> str:
    folder = f"{_STATE}-influxdb"
    arguments = [
        *("--http-bind-address=127.0.0.1:8086", f"--bolt-path={folder}/influxd.bolt"),
        *(f"--sqlite-path={folder}/influxd.sqlite", f"--engine-path={folder}/engine"),
        *(f"--{name}={value}" for name, value in INFLUX_SETTINGS.items()),
    ]
    service = (
        "User=kpstream\n"
        "# Else influxd may lose what it confirms between a kill and the next one.\n"
        f"ExecStartPre={_VENV}/bin/python -m deploy.stack.influxwal {folder}/engine\n"
        f"ExecStart={_SERVERS}/influxd-{INFLUX_VERSION}/influxd {' '.join(arguments)}\n"
        "# influxd handles SIGINT only; SIGTERM would end it at once.\n"
        "KillSignal=SIGINT\nTimeoutStopSec=60\nLimitNOFILE=65536\n"
        f"{RESTARTED}"
        "StateDirectory=kpstream-influxdb\nStateDirectoryMode=0700\n"
    )
    return _unit("InfluxDB of kpstream", "", service)


def _target(site: Site) -> str:
    names = [name.replace("-", "@") for name, _ in site.process_ports()]
    wants = " ".join(f"kpstream-{name}.service" for name in ("kafka", "influxdb", "setup", *names))
    return (
        f"{GENERATED}[Unit]\nDescription=kpstream site\nWants=mosquitto.service {wants}\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _site_env(site: SiteSettings) -> str:
    return (
        f"{GENERATED.rstrip()}\n"
        "# Settings of all kpstream services on this machine; docs/settings.md lists them all.\n"
        f"KPSTREAM_SITE_STATE_DIR={_STATE}\n"
        "KPSTREAM_SITE_KAFKA=127.0.0.1:9092\n"
        f"KPSTREAM_SITE_PARTITIONS={site.partitions}\n"
        "KPSTREAM_PIPELINE_INFLUX_URL=http://127.0.0.1:8086\n"
        "OMP_NUM_THREADS=1\nPYTHONUNBUFFERED=1\n"
    )
