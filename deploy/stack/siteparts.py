"""The parts of a site for the supervisor: servers, set-up steps, and our own processes.

```
rank 0  mosquitto, kafka, influxdb              the native servers
rank 1  topics, buckets                         created where they are missing
rank 2  stores, workers, bridges                Kafka holds the records between them
        bridge-2 leaves                         one step per bridge that is no longer wanted
```

They stop in the order of the data flow, bridges first and servers last, so that each part can still
save the records it has taken.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from deploy.stack.process import ServerProcess
from deploy.stack.site import Site
from deploy.stack.sitesetup import STORE_TOKEN_FILE, setup_steps
from deploy.stack.tlsconfig import service_settings
from deploy.supervisor.healthcheck import HealthCheck, check_process
from deploy.supervisor.program import Program, Step, Watchdog, inherited_environment
from ingest.childprocess import tied_to_parent
from ingest.secrettext import hide_secrets, remember_secret
from ingest.statefile import read_regular
from ingest.topics import SHARED_GROUP

__all__ = ["site_parts"]

_SERVER_RANK, _PROCESS_RANK = 0, 2
_SERVER_WATCHDOG = Watchdog(start_s=600.0, silent_s=120.0)
_STOP_ORDER = {"bridge": 0, "worker": 1, "store": 2, "server": 3}


def site_parts(site: Site) -> list[Program | Step]:
    """Return everything that `kpstream site up` runs."""
    steps = setup_steps(site)
    if "influxdb" not in site.site.native:
        # An InfluxDB outside kpstream is changed only on request, by `kpstream site setup`.
        steps = [step for step in steps if step.name != "buckets"]
    return [
        *(_server_program(site, server) for server in site.native_servers()),
        *steps,
        *(_process_program(site, name, port) for name, port in site.process_ports()),
        *(
            Step(f"{name} leaves", _PROCESS_RANK, partial(_leave, site, name))
            for name in _former_bridges(site)
        ),
    ]


def _server_program(site: Site, server: ServerProcess) -> Program:
    def command() -> list[str]:
        server.prepare()
        return server.command()

    def check() -> HealthCheck:
        healthy = server.healthy(timeout_s=3.0)
        return HealthCheck(answers=healthy, ready=healthy)

    return Program(
        name=server.name,
        kind="server",
        rank=_SERVER_RANK,
        command=command,
        log_path=site.site.state_dir / "logs" / f"{server.name}.log",
        check=check,
        folder=server.folder,
        stop_order=_STOP_ORDER["server"],
        port=server.port,
        stop_signal=server.stop_signal,
        stop_s=server.stop_s,
        watchdog=_SERVER_WATCHDOG,
    )


def _process_program(site: Site, name: str, port: int) -> Program:
    kind = name.partition("-")[0]
    stall_s = site.site.stall_s
    return Program(
        name=name,
        kind="process",
        rank=_PROCESS_RANK,
        command=lambda: [sys.executable, "-m", "deploy.cli", kind],
        log_path=site.site.state_dir / "logs" / f"{name}.log",
        check=partial(check_process, port),
        stop_order=_STOP_ORDER[kind],
        env=partial(_environment, site, kind, name, port),
        port=port,
        watchdog=Watchdog(silent_s=stall_s, stall_s=stall_s if kind == "worker" else None),
    )


def _environment(site: Site, kind: str, name: str, port: int) -> Mapping[str, str]:
    """Return the variables of a process, in addition to those it inherits."""
    env = {
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "KPSTREAM_SITE_NAME": name,
        "KPSTREAM_SITE_STATUS_PORT": str(port),
        "KPSTREAM_SITE_STATE_DIR": str(site.site.state_dir),
        "KPSTREAM_INGEST_MQTT_PORT": str(site.mqtt_port),
    }
    if site.site.certs_dir is not None:
        env |= service_settings(site.site.certs_dir, kind)
    if kind == "bridge":
        number = name.partition("-")[2]
        env["KPSTREAM_INGEST_MQTT_CLIENT_ID"] = f"{site.ingest.mqtt_client_id}-{number}"
        if site.site.bridges > 1:
            env["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] = SHARED_GROUP
        if (password := site.ingest.mqtt_password) is not None:
            env["KPSTREAM_INGEST_MQTT_PASSWORD"] = password.get_secret_value()
    if kind == "store":
        env["KPSTREAM_PIPELINE_INFLUX_URL"] = site.influx_url
        if "influxdb" in site.site.native:
            token_text = read_regular(site.site.state_dir / STORE_TOKEN_FILE).decode(
                errors="replace"
            )
            env["KPSTREAM_PIPELINE_INFLUX_TOKEN"] = token_text.strip()
            remember_secret(token_text)
        elif (token := site.pipeline.influx_token) is not None:
            env["KPSTREAM_PIPELINE_INFLUX_TOKEN"] = token.get_secret_value()
    return env


def _former_bridges(site: Site) -> list[str]:
    """Return bridges that ran here before and are not wanted now.

    The broker still keeps their share of the messages for them.
    """
    wanted = {name for name, _ in site.process_ports()}
    folders = site.site.state_dir.glob("bridge-*")
    return sorted(
        folder.name
        for folder in folders
        if folder.name.removeprefix("bridge-").isdigit() and folder.name not in wanted
    )


def _leave(site: Site, name: str) -> str:
    """Have a bridge take what the broker still keeps for it, and give its share to the others.

    Raises:
        RuntimeError: The bridge failed; the broker keeps the messages, so nothing is lost.
    """
    env = {**inherited_environment(), **_environment(site, "bridge", name, 0)}
    env["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] = SHARED_GROUP
    for other in ("SPARKPLUG", "SPARKPLUG_STATE", "MQTT_PROTOCOL"):  # never with a shared group
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
        raise RuntimeError(hide_secrets(done.stderr or done.stdout)[-500:])
    with suppress(OSError):
        (site.site.state_dir / name).rmdir()  # otherwise it leaves again at the next start
    return done.stdout.strip().rpartition("\n")[2]
