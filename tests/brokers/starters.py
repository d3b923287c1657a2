"""The brokers of the matrix, each with its own way to name users, rights and folders."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from ingest.mqtt.broker import mosquitto_config, mosquitto_program
from tests.brokers.broker import PASSWORD, STORE_PASSWORD, USERS, Broker, brokers_dir
from tests.fakes.ports import free_port

__all__ = [
    "AEDES_VERSION",
    "ARTEMIS_VERSION",
    "BROKERS",
    "HIVEMQ_VERSION",
    "MOCHI_VERSION",
    "MOQUETTE_VERSION",
    "NATS_VERSION",
    "Aedes",
    "Amqtt",
    "Artemis",
    "HiveMq",
    "Mochi",
    "Moquette",
    "Mosquitto",
    "Nats",
    "RabbitMq",
]

HIVEMQ_VERSION = "2025.5"
ARTEMIS_VERSION = "2.42.0"
MOQUETTE_VERSION = "0.17"
AEDES_VERSION = "1.2.0"
MOCHI_VERSION = "2.7.9"
NATS_VERSION = "2.15.3"
_PROGRAMS = Path(__file__).parent / "programs"
_INSTALL = "make brokers"


class Mosquitto(Broker):
    """The settings that `kpstream` itself gives mosquitto, with a password and an access list."""

    name = "mosquitto"
    has_tls = shares = True
    settings = "max_queued_messages 0, max_inflight_messages 0, autosave_interval 1"
    saves_s = 4.0

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        if mosquitto_program() is None or shutil.which("mosquitto_passwd") is None:
            return "apt-get install mosquitto"
        return None

    @property
    def title(self) -> str:  # type: ignore[override]
        """Name and version."""
        done = subprocess.run([str(mosquitto_program()), "-h"], capture_output=True, text=True)
        return done.stdout.partition("\n")[0].replace(" version", "").strip() or "mosquitto"

    def prepare(self) -> None:
        """Write configuration, passwords and access list."""
        super().prepare()
        passwords = self.folder / "passwords"
        passwords.write_text("".join(f"{user}:{PASSWORD}\n" for user in USERS))
        passwords.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
        acl = "topic readwrite #\ntopic read $SYS/#\n"
        (self.folder / "acl").write_text(
            f"user kpstream\n{acl}\n"
            f"user noread\n{acl}topic deny sensors/#\n\nuser nowrite\ntopic read #\n"
            "topic read $SYS/#\n"
        )
        listeners = (
            f"listener {self.port} {self.host}\nallow_anonymous false\n"
            f"password_file {passwords}\nacl_file {self.folder / 'acl'}\n"
            f"listener {self.tls_port} {self.host}\nrequire_certificate true\n"
            f"cafile {self.certs / 'ca.pem'}\n"
            f"certfile {self.certs / 'servers/mosquitto.pem'}\n"
            f"keyfile {self.certs / 'servers/mosquitto.key'}\n"
        )
        (self.folder / "mosquitto.conf").write_text(mosquitto_config(listeners, self.folder, 1))

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(mosquitto_program()), "-c", str(self.folder / "mosquitto.conf")]


class RabbitMq(Broker):
    """Debian's RabbitMQ with its MQTT plugin, unpacked below `brokers_dir()`."""

    name = "rabbitmq"
    title = "RabbitMQ 3.10.8"
    protocols = ("3.1.1",)
    settings = "plugin rabbitmq_mqtt, rights per topic"
    home = "rabbitmq"
    has_tls = True

    def __init__(self, folder: Path, **ports: int) -> None:
        super().__init__(folder, **ports)
        self._node_port, self._amqp_port, self._epmd_port = free_port(), free_port(), free_port()

    @classmethod
    def _root(cls) -> Path:
        return brokers_dir() / cls.home / "usr" / "lib"

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        return None if (cls._root() / "erlang/bin/erl").exists() else f"{_INSTALL} (needs apt-get)"

    def prepare(self) -> None:
        """Write configuration, plugins, users and rights."""
        super().prepare()
        (self.folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        # 0600, or Erlang refuses it.
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._amqp_port}\n"
            f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "mqtt.allow_anonymous = false\n"
            f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.certs / 'ca.pem'}\n"
            f"ssl_options.certfile = {self.certs / 'servers/mosquitto.pem'}\n"
            f"ssl_options.keyfile = {self.certs / 'servers/mosquitto.key'}\n"
            "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
            f"load_definitions = {self.folder / 'definitions.json'}\n"
        )
        (self.folder / "definitions.json").write_text(json.dumps(self.definitions()))

    @staticmethod
    def definitions() -> dict[str, object]:
        """Return users and rights in the form of `rabbitmqctl import_definitions`."""

        def hashed() -> str:
            salt = secrets.token_bytes(4)
            return b64encode(salt + hashlib.sha256(salt + PASSWORD.encode()).digest()).decode()

        read = {"kpstream": ".*", "noread": "^(?!sensors).*", "nowrite": ".*"}
        write = {"kpstream": ".*", "noread": ".*", "nowrite": "^(?!sensors).*"}
        return {
            "vhosts": [{"name": "/"}],
            "users": [
                {
                    "name": user,
                    "password_hash": hashed(),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "",
                }
                for user in USERS
            ],
            "permissions": [
                {"user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
                for user in USERS
            ],
            "topic_permissions": [
                {
                    "user": user,
                    "vhost": "/",
                    "exchange": "amq.topic",
                    "write": write[user],
                    "read": read[user],
                }
                for user in USERS
            ],
        }

    def command(self) -> list[str]:
        """Return the command line, with Erlang's folders and a node of its own."""
        root = self._root()
        server = next((root / "rabbitmq/lib").glob("rabbitmq_server-*"))
        variables = {
            "HOME": self.folder,
            "PATH": f"{root}/erlang/bin:{os.environ['PATH']}",
            "ERL_ROOTDIR": root / "erlang",
            "ERL_EPMD_PORT": self._epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "matrix@localhost",
            "RABBITMQ_DIST_PORT": self._node_port,
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
            "RABBITMQ_MNESIA_BASE": self.folder / "mnesia",
            "RABBITMQ_LOG_BASE": self.folder / "logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -noinput",
            "RABBITMQ_ALLOW_INPUT": "true",  # so that the script becomes the node
        }
        settings = [f"{name}={value}" for name, value in variables.items()]
        program = server / "sbin/rabbitmq-server"
        # Started here, the port mapper ends with the node; the node itself would detach it.
        run = f"setpriv --pdeathsig KILL epmd & exec {program}"
        return ["env", *settings, "sh", "-c", run]

    def kill(self) -> None:
        """Kill the node and its port mapper."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        super().kill()


class _Java(Broker):
    """A broker of Maven, started by a small program of ours."""

    main: ClassVar[str]

    @classmethod
    def home(cls) -> Path:
        """Return the folder of its jars."""
        return brokers_dir() / cls.name

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        if not (cls.home() / "classes" / f"{cls.main}.class").exists():
            return f"{_INSTALL} (needs Maven and a JDK)"
        return None if shutil.which("java") else "apt-get install default-jre-headless"

    def _java(self, *args: str) -> list[str]:
        paths = f"{self.home() / 'classes'}:{self.home() / 'libs'}/*"
        options = (
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
        )
        opens = [
            option
            for package in ("java.lang", "java.nio", "sun.nio.ch")
            for option in ("--add-opens", f"java.base/{package}=ALL-UNNAMED")
        ]
        return ["java", *options, *opens, "-cp", paths, self.main, *args]


class HiveMq(_Java):
    """HiveMQ Community Edition with its defaults."""

    name = "hivemq"
    title = f"HiveMQ CE {HIVEMQ_VERSION}"
    main = "HiveMqBroker"
    has_tls = shares = caps_sessions = True
    settings = "defaults; users by an extension"

    def prepare(self) -> None:
        """Write config.xml."""
        super().prepare()
        longest = f"<session-expiry><max-interval>{self.session_s}</max-interval></session-expiry>"
        (self.folder / "config.xml").write_text(
            "<hivemq><listeners><tcp-listener>"
            f"<port>{self.port}</port><bind-address>127.0.0.1</bind-address>"
            f"</tcp-listener>{self._tls_listener()}</listeners>"
            f"{f'<mqtt>{longest}</mqtt>' if self.session_s else ''}"
            "<anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>"
            "</hivemq>"
        )

    def _tls_listener(self) -> str:
        return (
            f"<tls-tcp-listener><port>{self.tls_port}</port><bind-address>127.0.0.1</bind-address>"
            "<tls><client-authentication-mode>REQUIRED</client-authentication-mode>"
            f"<keystore><path>{self.certs / 'keys.p12'}</path><password>{STORE_PASSWORD}</password>"
            f"<private-key-password>{STORE_PASSWORD}</private-key-password></keystore>"
            f"<truststore><path>{self.certs / 'trust.p12'}</path>"
            f"<password>{STORE_PASSWORD}</password></truststore></tls></tls-tcp-listener>"
        )

    def command(self) -> list[str]:
        """Return the command line."""
        return self._java(str(self.folder))


class Artemis(_Java):
    """ActiveMQ Artemis with persistence."""

    name = "artemis"
    title = f"ActiveMQ Artemis {ARTEMIS_VERSION}"
    main = "ArtemisBroker"
    has_tls = shares = True
    settings = "persistence on, rights per address"

    def command(self) -> list[str]:
        """Return the command line."""
        tls = {
            "protocols": "MQTT",
            "sslEnabled": "true",
            "needClientAuth": "true",
            "keyStoreType": "PKCS12",
            "keyStorePath": self.certs / "keys.p12",
            "keyStorePassword": STORE_PASSWORD,
            "trustStoreType": "PKCS12",
            "trustStorePath": self.certs / "trust.p12",
            "trustStorePassword": STORE_PASSWORD,
        }
        options = ";".join(f"{name}={value}" for name, value in tls.items())
        return self._java(
            str(self.folder),
            f"tcp://127.0.0.1:{self.port}?protocols=MQTT",
            f"tcp://127.0.0.1:{self.tls_port}?{options}",
        )


class Moquette(_Java):
    """Moquette with its H2 store."""

    name = "moquette"
    title = f"Moquette {MOQUETTE_VERSION}"
    main = "MoquetteBroker"
    protocols = ("3.1.1",)
    settings = "persistence_enabled true"

    def command(self) -> list[str]:
        """Return the command line."""
        return self._java(str(self.folder), str(self.port))


class Aedes(Broker):
    """Aedes with LevelDB."""

    name = "aedes"
    title = f"Aedes {AEDES_VERSION}"
    protocols = ("3.1.1",)
    settings = "aedes-persistence-level"

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        if not (brokers_dir() / cls.name / "node_modules/aedes").exists():
            return f"{_INSTALL} (needs npm)"
        return None if shutil.which("node") else "apt-get install nodejs"

    def command(self) -> list[str]:
        """Return the command line."""
        program = ["node", str(_PROGRAMS / "aedes.mjs"), str(self.folder), str(self.port)]
        return ["env", f"KPSTREAM_AEDES={brokers_dir() / self.name}", *program]


class Mochi(Broker):
    """mochi-mqtt with its bbolt store and a hook for the users."""

    name = "mochi"
    title = f"mochi-mqtt {MOCHI_VERSION}"
    settings = "bolt hook without a sync for each message"
    shares = True

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        return None if (brokers_dir() / cls.name / "mochi").exists() else f"{_INSTALL} (needs Go)"

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(brokers_dir() / self.name / "mochi"), str(self.folder), str(self.port)]


class Amqtt(Broker):
    """amqtt with its password and access list plugins; it keeps nothing on disk."""

    name = "amqtt"
    title = "amqtt 0.12.1"
    protocols = ("3.1.1",)
    settings = "defaults; nothing on disk"

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        return None if find_spec("amqtt") else "pip install amqtt"

    def prepare(self) -> None:
        """Write configuration and passwords."""
        super().prepare()
        (self.folder / "amqtt.json").write_text(json.dumps({"port": self.port}))

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, str(_PROGRAMS / "amqtt_broker.py"), str(self.port)]


class Nats(Broker):
    """NATS with JetStream, which keeps its MQTT sessions on disk."""

    name = "nats"
    title = f"NATS server {NATS_VERSION}"
    protocols = ("3.1.1",)
    settings = "JetStream on"

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        program = brokers_dir() / cls.name / "nats-server"
        return None if program.exists() else f"{_INSTALL} (needs Go)"

    def prepare(self) -> None:
        """Write the configuration."""
        super().prepare()
        refused = {
            "kpstream": "",
            "noread": 'permissions: {subscribe: {deny: ["sensors", "sensors.>"]}}',
            "nowrite": 'permissions: {publish: {deny: ["sensors.>"]}}',
        }
        users = "\n".join(
            f'    {{user: {user}, password: "{PASSWORD}", {refused[user]}}}' for user in USERS
        )
        (self.folder / "nats.conf").write_text(
            f'server_name: matrix\nlisten: "127.0.0.1:{free_port()}"\n'
            f'jetstream {{store_dir: "{self.folder}"}}\n'
            f'mqtt {{listen: "127.0.0.1:{self.port}"}}\n'
            f"authorization {{\n  users: [\n{users}\n  ]\n}}\n"
        )

    def command(self) -> list[str]:
        """Return the command line."""
        program = brokers_dir() / self.name / "nats-server"
        return [str(program), "-c", str(self.folder / "nats.conf")]


BROKERS: dict[str, type[Broker]] = {
    broker.name: broker
    for broker in (
        Mosquitto,
        RabbitMq,
        HiveMq,
        Artemis,
        Mochi,
        Aedes,
        Moquette,
        Nats,
        Amqtt,
    )
}
"""All brokers of the matrix by name, in the order of the page."""
