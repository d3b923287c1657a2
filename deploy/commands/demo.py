"""``kpstream demo``: a broker, a gateway and a simulated fleet on loopback, with a live account.

This process runs three child processes: the broker (mosquitto or the embedded amqtt), ``kpstream
gateway`` and the fleet. The terminal shows their addresses and the account. Ctrl-C ends the fleet
first, drains the pipeline, prints the summary and stops the rest. The children always end with this
process: SIGTERM and SIGHUP stop it like Ctrl-C, and after SIGKILL the kernel ends the children
(`ingest.childprocess`).

Every run has a folder of its own, so that its summary covers nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

import click
from rich.console import Console
from rich.live import Live

from deploy.commands.demosummary import account_line, account_table, print_summary
from deploy.commands.statefolder import make_state_folder
from ingest.childprocess import stop_child, tied_to_parent
from ingest.mqtt.broker import BrokerError, LocalBroker

__all__ = ["demo"]

_READY_S = 60.0
_DRAIN_S = 10.0
_START_LINE = re.compile(r"^gateway .*, console (http://\S+/), ", re.MULTILINE)
_PORT_TAKEN = "cannot listen on"
_STOP_S = 30.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option(
    "--engines",
    type=click.IntRange(0, 200),
    default=6,
    show_default=True,
    help="Number of engines.",
)
@click.option(
    "--people",
    type=click.IntRange(0, 200),
    default=4,
    show_default=True,
    help="Number of people.",
)
@click.option(
    "--transformers",
    type=click.IntRange(0, 200),
    default=3,
    show_default=True,
    help="Number of power transformers; their sensors have faults.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port of the console page; if it is in use, a free one.",
)
@click.option("--seconds", type=float, help="Stop after this many seconds.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Random seed."
)
@click.option(
    "--broker",
    "kind",
    type=click.Choice(["auto", "mosquitto", "amqtt"]),
    default="auto",
    show_default=True,
    help="auto: mosquitto if it is installed, otherwise the embedded amqtt.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Keep state, true values and logs of each run in this folder, as run-1, run-2, ...",
)
def demo(
    engines: int,
    people: int,
    transformers: int,
    port: int,
    seconds: float | None,
    seed: int,
    kind: Literal["auto", "mosquitto", "amqtt"],
    keep: Path | None,
) -> None:
    """Run a broker, a gateway and a simulated fleet on this machine until Ctrl-C."""
    _check_settings()
    _unwind_on_signals()
    out = Console(soft_wrap=True)
    folder = _run_folder(keep)
    stopped_well = False
    try:
        with _broker(folder, kind, out) as broker, _gateway(folder, broker, port, out) as gateway:
            fleet = _Fleet(folder, broker, engines, people, transformers, seed)
            grid = f", {transformers} power transformers with sensor faults" if transformers else ""
            with fleet:
                out.print(
                    f"[bold]fleet[/]    {engines} engines that wear out, {people} people who wear "
                    f"an IMU{grid}\n[bold]page[/]     open "
                    f"[link={gateway.url}]{gateway.url}[/]   (Ctrl-C ends the demo)\n"
                )
                _watch(gateway, fleet, seconds, out)
            out.print("fleet stopped; the pipeline drains ...")
            account = _drained(gateway)
        print_summary(account, folder, out)
        stopped_well = True
    except BrokerError as exc:
        raise click.ClickException(str(exc)) from exc
    finally:
        if keep is None and stopped_well:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            out.print(f"logs and state are kept in {folder}")


def _check_settings() -> None:
    """Refuse invalid settings before anything starts; the gateway reads them in a child."""
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.settings import GatewaySettings
    from ingest.settings import IngestSettings
    from pipeline.settings import PipelineSettings

    with exit_on_invalid_settings():
        for settings in (GatewaySettings, IngestSettings, PipelineSettings):
            settings()


def _unwind_on_signals() -> None:
    """Turn signals into exceptions, so that every child is stopped before the exit."""

    def unwind(number: int, _: FrameType | None) -> NoReturn:
        for other in _ENDING[1:]:
            signal.signal(other, signal.SIG_IGN)  # the first signal is being handled
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have disabled it
    signal.signal(signal.SIGTERM, unwind)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, unwind)


def _run_folder(keep: Path | None) -> Path:
    """Make a new folder for this run; scores of an earlier run would not match its true values."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="kpstream-demo-"))
    make_state_folder(keep, is_private=False)
    number = 1
    while True:
        with contextlib.suppress(FileExistsError):
            (folder := keep / f"run-{number}").mkdir(mode=0o700)
            return folder
        number += 1


@dataclass(slots=True)
class _Gateway:
    process: subprocess.Popen[bytes]
    log_path: Path
    url: str = ""

    def find_url(self) -> bool:
        """Read the page's URL from the gateway's output, because its port may be a free one."""
        found = _START_LINE.search(self.log_path.read_text(errors="replace"))
        self.url = found[1] if found else ""
        return found is not None

    def get(self, path: str) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=2) as answer:  # noqa: S310
                page: dict[str, Any] = json.load(answer)
                return page
        except (urllib.error.URLError, OSError, ValueError):
            return None


@contextmanager
def _broker(
    folder: Path, kind: Literal["auto", "mosquitto", "amqtt"], out: Console
) -> Iterator[LocalBroker]:
    with LocalBroker(folder / "broker", kind=None if kind == "auto" else kind) as broker:
        name: str = broker.kind
        if name == "amqtt":
            name += (
                " (embedded, for a first try; install mosquitto for delivery that survives kills)"
            )
        out.print(f"[bold]broker[/]   {name} on {broker.host}:{broker.port}")
        yield broker


@contextmanager
def _gateway(folder: Path, broker: LocalBroker, port: int, out: Console) -> Iterator[_Gateway]:
    started = time.monotonic()
    gateway = _start_gateway(folder, broker, port if _is_free(port) else 0)
    try:
        while not (gateway.find_url() and (gateway.get("ready") or {}).get("ready")):
            if gateway.process.poll() is not None or time.monotonic() - started > _READY_S:
                output = gateway.log_path.read_text(errors="replace")
                if _PORT_TAKEN not in output or port == 0:
                    message = f"the gateway did not start:\n{output[-2000:]}"
                    raise click.ClickException(message)
                port = 0  # another program has taken the port meanwhile
                gateway = _start_gateway(folder, broker, port)
            time.sleep(0.1)
        out.print(
            f"[bold]gateway[/]  pid {gateway.process.pid}, ready after "
            f"{time.monotonic() - started:.1f} s, state in {folder / 'state'}"
        )
        yield gateway
    finally:
        stop_child(gateway.process, _STOP_S)


def _gateway_environment(protocol: str) -> dict[str, str]:
    """The environment of the gateway; it follows no centre, which would take it for a real one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KPSTREAM_ROLLOUT_")}
    # The protocol of this broker is known, so the bridge need not detect it.
    return kept | {"OMP_NUM_THREADS": "1", "KPSTREAM_INGEST_MQTT_PROTOCOL": protocol}


def _start_gateway(folder: Path, broker: LocalBroker, port: int) -> _Gateway:
    env = _gateway_environment(broker.protocol)
    command = [
        *(sys.executable, "-m", "deploy.cli", "gateway"),
        *("--mqtt", f"{broker.host}:{broker.port}"),
        *("--state-dir", str(folder / "state"), "--console-port", str(port)),
    ]
    log_path = folder / "gateway.log"
    with log_path.open("wb") as log_file:
        return _Gateway(_child(command, env, log_file), log_path)


class _Fleet:
    """The simulated fleet as a child process."""

    def __init__(
        self,
        folder: Path,
        broker: LocalBroker,
        engines: int,
        people: int,
        transformers: int,
        seed: int,
    ) -> None:
        self.truth_path = folder / "truth.jsonl"
        self.log_path = folder / "fleet.log"
        self._command = [
            *(sys.executable, "-m", "deploy.cli", "simulate"),
            *("--mqtt", f"{broker.host}:{broker.port}"),
            *("--engines", str(engines), "--people", str(people)),
            *("--transformers", str(transformers), "--seed", str(seed)),
            *("--truth", str(self.truth_path)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> _Fleet:
        with self.log_path.open("wb") as log_file:
            self._process = _child(self._command, dict(os.environ), log_file)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            stop_child(self._process, _STOP_S)


def _watch(gateway: _Gateway, fleet: _Fleet, seconds: float | None, out: Console) -> None:
    """Show the account until Ctrl-C, the time limit, or the end of a child."""
    stop = [False]
    before = {
        number: signal.signal(number, lambda *_: stop.__setitem__(0, True))
        for number in _ENDING
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    started = time.monotonic()
    next_line = 5.0
    try:
        with Live(console=out, refresh_per_second=4, transient=False) as live:
            while not stop[0] and (seconds is None or time.monotonic() - started < seconds):
                page = gateway.get("api/v1/pipeline")
                elapsed = time.monotonic() - started
                if page is not None and out.is_terminal:
                    live.update(account_table(page, elapsed))
                elif page is not None and elapsed >= next_line:
                    next_line += 5.0
                    out.print(account_line(page, elapsed))
                for name, alive, path in (
                    ("gateway", gateway.process.poll() is None, gateway.log_path),
                    ("fleet", fleet.alive, fleet.log_path),
                ):
                    if not alive:
                        message = f"the {name} ended by itself:\n{path.read_text()[-2000:]}"
                        raise click.ClickException(message)
                time.sleep(0.5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drained(gateway: _Gateway) -> dict[str, Any] | None:
    """Wait, for a limited time, until nothing waits or changes; returns the last page."""
    deadline = time.monotonic() + _DRAIN_S
    last: tuple[Any, ...] | None = None
    quiet = 0
    page = gateway.get("api/v1/pipeline")
    while page is not None and time.monotonic() < deadline:
        totals = page["totals"]
        now = (totals["received"], totals["scored"], totals["stored"], totals["messages_logged"])
        quiet = quiet + 1 if now == last else 0
        if quiet == 2 and not any(part["backlog"] for part in page["partitions"]):
            break
        last = now
        time.sleep(1.0)
        page = gateway.get("api/v1/pipeline") or page
    return page


def _child(command: list[str], env: dict[str, str], output: Any) -> subprocess.Popen[bytes]:
    # In sessions of their own, the children do not get Ctrl-C from the terminal. This process
    # stops them in an order that loses nothing.
    return subprocess.Popen(  # noqa: S603 - our own command line
        tied_to_parent(command),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
