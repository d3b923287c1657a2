"""A whole site as parts for the supervisor, built from the settings.

```
rank 0  mosquitto, kafka, influxdb              those that shall run on this machine
rank 1  topics, buckets                         made where they are missing
rank 2  stores, workers, bridges                what one leaves for the next lies in Kafka
        bridge-2 leaves                         where there were more bridges the last time
```

They end from the beginning of the line to its end, bridges first and servers last, so that each can
still save what it has taken.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from deploy.settings.settings import SiteSettings
from deploy.stack.acl import SERVICES_PORT
from deploy.stack.look import look_at
from deploy.stack.mosquitto import MosquittoServer
from deploy.stack.parts import Look, Program, Step, Watchdog, inherited
from deploy.stack.process import ServerProcess
from deploy.stack.servers import FoundServers, InfluxServer, KafkaServer, find_servers
from deploy.stack.sitesetup import STORE_TOKEN_FILE, make_buckets, make_topics
from deploy.stack.tlsconfig import service_settings
from ingest.childprocess import tied_to_parent
from ingest.mqtt.broker import mosquitto_program
from ingest.settings import IngestSettings
from ingest.topics import SHARED_GROUP
from pipeline.settings import PipelineSettings

__all__ = ["Site"]

_SERVER_WATCH = Watchdog(start_s=600.0, silent_s=120.0)


@dataclass(frozen=True)
class Site:
    """The settings of a site, and what follows from them.

    Attributes:
        site: of the site.
        ingest: of its bridges; where the broker is.
        pipeline: of its workers and stores; where InfluxDB is.
        servers: the installed servers.
    """

    site: SiteSettings
    ingest: IngestSettings
    pipeline: PipelineSettings
    servers: FoundServers

    @classmethod
    def of(cls, site: SiteSettings, ingest: IngestSettings, pipeline: PipelineSettings) -> Site:
        """With the servers that are installed here."""
        return cls(site, ingest, pipeline, find_servers())

    # -- where things are ---------------------------------------------------------------------

    @property
    def mqtt_port(self) -> int:
        """Where bridges find the broker; with certificates it is another one unless it was set."""
        if self.site.certs_dir is not None and "mqtt_port" not in self.ingest.model_fields_set:
            return SERVICES_PORT
        return self.ingest.mqtt_port

    @property
    def influx_url(self) -> str:
        """Where InfluxDB is."""
        scheme = "http" if self.site.certs_dir is None else "https"
        return self.pipeline.influx_url or f"{scheme}://127.0.0.1:8086"

    def server_list(self) -> list[ServerProcess]:
        """The servers that shall run here, not started."""
        folder, certs = self.site.state_dir, self.site.certs_dir
        found: list[ServerProcess] = []
        if "mosquitto" in self.site.native:
            found.append(
                MosquittoServer(
                    folder / "mosquitto",
                    host=self.ingest.mqtt_host,
                    port=self.mqtt_port,
                    certs=certs,
                    prefix=self.ingest.mqtt_prefix,
                    nodes=self._nodes(),
                )
            )
        if "kafka" in self.site.native:
            host, port = _split(self.site.kafka, 9092)
            found.append(
                KafkaServer(
                    folder / "kafka",
                    host=host,
                    port=port,
                    controller_port=port + 1,
                    heap_mb=self.site.kafka_heap_mb,
                    certs=certs,
                    servers=self.servers,
                )
            )
        if "influxdb" in self.site.native:
            host, port = _split(urlsplit(self.influx_url).netloc, 8086)
            found.append(
                InfluxServer(
                    folder / "influxdb", host=host, port=port, certs=certs, servers=self.servers
                )
            )
        return found

    def _nodes(self) -> list[str]:
        """Who may speak Sparkplug: every device with a certificate, as itself."""
        certs = self.site.certs_dir
        if certs is None or self.ingest.sparkplug is None:
            return []
        folder = certs / "devices"
        return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.pem"))

    def problems(self) -> list[str]:
        """What keeps the site from starting, a line each; nothing is started or changed."""
        found = []
        if "mosquitto" in self.site.native and mosquitto_program() is None:
            found.append("mosquitto is not installed: sudo apt install mosquitto")
        missing = []
        if "kafka" in self.site.native:
            if self.servers.kafka_libs is None:
                missing.append("Kafka")
            if self.servers.java is None:
                found.append("Java is not installed: sudo apt install default-jre-headless")
        if "influxdb" in self.site.native and self.servers.influxd is None:
            missing.append("InfluxDB")
        if missing:
            names = " and ".join(missing)
            found.append(f"{names} not found in {self.servers.folder}: run kpstream site install")
        for server in self.server_list():
            found += _unusable(server.name, server.host, server.port)
        for name, port in self.process_ports():
            found += _unusable(name, "127.0.0.1", port, "KPSTREAM_SITE_BASE_PORT")
        found += self._certificate_problems()
        if "influxdb" not in self.site.native and self.pipeline.influx_token is None:
            found.append(
                "InfluxDB is somewhere else, so its token is needed: set "
                "KPSTREAM_PIPELINE_INFLUX_URL and KPSTREAM_PIPELINE_INFLUX_TOKEN"
            )
        return found

    def _certificate_problems(self) -> list[str]:
        certs = self.site.certs_dir
        if certs is None:
            return []
        try:
            from deploy.stack.certs import CertError, read_certificates

            known = read_certificates(certs)
        except ModuleNotFoundError:
            return ["the package cryptography is missing: pip install 'kpstream[site]'"]
        except CertError as exc:
            return [str(exc)]
        now = datetime.now(timezone.utc)
        over = [one.name for one in known if one.role != "device" and one.not_after <= now]
        found = []
        if over:
            names = ", ".join(over)
            advice = f"run kpstream certs make --out {certs} --renew"
            found.append(f"certificates of {names} have expired: {advice}")
        if "influxdb" in self.site.native and self.influx_url.startswith("http:"):
            found.append(
                "with KPSTREAM_SITE_CERTS_DIR, InfluxDB speaks https only: "
                "KPSTREAM_PIPELINE_INFLUX_URL must begin with https://"
            )
        return found

    # -- its parts ----------------------------------------------------------------------------

    def parts(self) -> list[Program | Step]:
        """Everything to be run, for the supervisor."""
        steps = self.steps()
        if "influxdb" not in self.site.native:
            del steps[1]  # it is not ours to arrange; `kpstream site setup` does when asked
        return [
            *(self._server(server) for server in self.server_list()),
            *steps,
            *(self._process(name, port) for name, port in self.process_ports()),
            *(Step(f"{name} leaves", 2, partial(self._leave, name)) for name in self._former()),
        ]

    def _former(self) -> list[str]:
        """Bridges that ran here and shall not run now: the broker keeps their share for them."""
        wanted = {name for name, _ in self.process_ports()}
        folders = self.site.state_dir.glob("bridge-*")
        return sorted(
            one.name for one in folders if one.name[7:].isdigit() and one.name not in wanted
        )

    def _leave(self, name: str) -> str:
        """Let a bridge take what the broker still has for it, and give its share to the others.

        Raises:
            RuntimeError: It could not; nothing is lost by that.
        """
        env = {**inherited(), **self._env("bridge", name, 0)}
        env["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] = SHARED_GROUP
        for other in ("SPARKPLUG", "SPARKPLUG_STATE", "MQTT_PROTOCOL"):  # one for all, not shared
            env.pop(f"KPSTREAM_INGEST_{other}", None)
        command = [sys.executable, "-m", "deploy.cli", "bridge", "--leave"]
        done = subprocess.run(  # noqa: S603 (our own command line)
            tied_to_parent(command),
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            raise RuntimeError((done.stderr or done.stdout)[-500:])
        with suppress(OSError):
            (self.site.state_dir / name).rmdir()  # or it leaves once more at the next start
        return done.stdout.strip().rpartition("\n")[2]

    def steps(self, *, may_shorten: bool = False) -> list[Step]:
        """The set-up: topics in Kafka, then buckets, tasks and tokens in InfluxDB.

        Args:
            may_shorten: A bucket may get a shorter retention; InfluxDB then deletes old points.
        """
        return [
            Step("topics", 1, partial(make_topics, self)),
            Step("buckets", 1, partial(make_buckets, self, may_shorten=may_shorten)),
        ]

    def process_ports(self) -> Iterator[tuple[str, int]]:
        """Every process of ours with its status port, in the order in which they start."""
        site = self.site
        for kind, count, first in (
            ("store", site.stores, 21),
            ("worker", site.workers, 41),
            ("bridge", site.bridges, 1),
        ):
            for number in range(count):
                yield f"{kind}-{number + 1}", site.base_port + first + number

    def _server(self, server: ServerProcess) -> Program:
        def command() -> list[str]:
            server.prepare()
            return server.command()

        def look() -> Look:
            healthy = server.healthy(timeout_s=3.0)
            return Look(answers=healthy, ready=healthy)

        return Program(
            name=server.name,
            kind="server",
            folder=server.folder,
            rank=0,
            ends=3,
            command=command,
            log_path=self._log(server.name),
            look=look,
            port=server.port,
            stop_signal=server.stop_signal,
            stop_s=server.stop_s,
            watchdog=_SERVER_WATCH,
        )

    def _process(self, name: str, port: int) -> Program:
        kind = name.partition("-")[0]
        stall_s = self.site.stall_s
        return Program(
            name=name,
            kind="process",
            rank=2,
            ends={"bridge": 0, "worker": 1, "store": 2}[kind],
            command=lambda: [sys.executable, "-m", "deploy.cli", kind],
            env=partial(self._env, kind, name, port),
            log_path=self._log(name),
            look=partial(look_at, port),
            port=port,
            watchdog=Watchdog(silent_s=stall_s, stall_s=stall_s if kind == "worker" else None),
        )

    def _log(self, name: str) -> Path:
        return self.site.state_dir / "logs" / f"{name}.log"

    def _env(self, kind: str, name: str, port: int) -> Mapping[str, str]:
        """What a process is told beside what is in our own environment."""
        env = {
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "KPSTREAM_SITE_NAME": name,
            "KPSTREAM_SITE_STATUS_PORT": str(port),
            "KPSTREAM_SITE_STATE_DIR": str(self.site.state_dir),
            "KPSTREAM_INGEST_MQTT_PORT": str(self.mqtt_port),
        }
        if self.site.certs_dir is not None:
            env |= service_settings(self.site.certs_dir, kind)
        if kind == "bridge":
            env["KPSTREAM_INGEST_MQTT_CLIENT_ID"] = f"{self.ingest.mqtt_client_id}-{name[7:]}"
            if self.site.bridges > 1:
                env["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] = SHARED_GROUP
            if (password := self.ingest.mqtt_password) is not None:
                env["KPSTREAM_INGEST_MQTT_PASSWORD"] = password.get_secret_value()
        if kind == "store":
            env["KPSTREAM_PIPELINE_INFLUX_URL"] = self.influx_url
            if "influxdb" in self.site.native:
                env["KPSTREAM_PIPELINE_INFLUX_TOKEN"] = (
                    self.site.state_dir / STORE_TOKEN_FILE
                ).read_text()
            elif (token := self.pipeline.influx_token) is not None:
                env["KPSTREAM_PIPELINE_INFLUX_TOKEN"] = token.get_secret_value()
        return env


def _split(address: str, default_port: int) -> tuple[str, int]:
    """The host and port of the first address of a list.

    >>> _split("127.0.0.1:9092,b:9092", 1), _split("localhost", 8086)
    (('127.0.0.1', 9092), ('localhost', 8086))
    """
    first = address.partition(",")[0].strip()
    host, colon, port = first.rpartition(":")
    if not colon or not port.isdigit():
        return first, default_port
    return host.strip("[]"), int(port)


def _unusable(name: str, host: str, port: int, setting: str = "") -> list[str]:
    """Why nothing of ours can listen there."""
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    where = setting or _SETTING[name]
    if not is_loopback:
        return [
            f"{name} on {host}: what kpstream runs listens on loopback only; take it out of "
            f"KPSTREAM_SITE_NATIVE to use the one there, or correct {where}"
        ]
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        advice = f"stop it, or set {where}"
        if not setting:
            advice += f", or take {name} out of KPSTREAM_SITE_NATIVE to use what runs there"
        return [f"{name}: port {port} on {host} is taken by another program: {advice}"]
    return []


_SETTING = {
    "mosquitto": "KPSTREAM_INGEST_MQTT_PORT",
    "kafka": "KPSTREAM_SITE_KAFKA",
    "influxdb": "KPSTREAM_PIPELINE_INFLUX_URL",
}
