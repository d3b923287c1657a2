"""Programs and steps that the supervisor runs, as data, with the rules for restarts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.supervisor.healthcheck import HealthCheck

__all__ = ["SECRETS", "Program", "Step", "Watchdog", "inherited_environment"]

SECRETS = frozenset(
    {
        "KPSTREAM_INGEST_MQTT_PASSWORD",
        "KPSTREAM_PIPELINE_INFLUX_TOKEN",
        "KPSTREAM_GRAFANA_TOKEN",
        "KPSTREAM_GRAFANA_INFLUX_TOKEN",
    }
)
"""Variables of our own environment that a program gets only if its `env` contains them."""


def inherited_environment() -> dict[str, str]:
    """Return our own environment without `SECRETS`; every program that we start inherits it."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Time limits after which a running program is restarted. None switches a limit off.

    Attributes:
        start_s: Seconds after the start without a single answer.
        silent_s: Seconds without an answer, once the program has answered.
        stall_s: Seconds with a backlog and no progress.
    """

    start_s: float | None = 300.0
    silent_s: float | None = 60.0
    stall_s: float | None = None


@dataclass(frozen=True)
class Program:
    """A child process and how to supervise it.

    Attributes:
        name: Unique name in the site.
        kind: A server, or one of our own processes.
        rank: Start order, see `deploy.supervisor.supervisor`.
        command: Returns the command line; called at every start. Raises if something is missing.
        log_path: File that receives the output.
        check: Runs a health check within a few seconds. Called in a thread, one call at a time;
            never raises.
        folder: Working directory; None for our own.
        stop_order: Programs with the lowest number stop first; the next ones follow once those
            have ended.
        env: Returns variables to add to `inherited_environment`; called at every start.
        port: Port that the program listens on, for display.
        stop_signal: Signal that asks the program to end.
        stop_s: Seconds the program has to end before it is killed.
        watchdog: Limits that restart a program which still runs.
    """

    name: str
    kind: Literal["server", "process"]
    rank: int
    command: Callable[[], Sequence[str]]
    log_path: Path
    check: Callable[[], HealthCheck]
    folder: Path | None = None
    stop_order: int = 0
    env: Callable[[], Mapping[str, str]] = dict
    port: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 30.0
    watchdog: Watchdog = field(default_factory=Watchdog)


@dataclass(frozen=True)
class Step:
    """A step of the set-up; it is retried until it succeeds, and then never runs again.

    Attributes:
        name: Unique name in the site.
        rank: Start order, see `deploy.supervisor.supervisor`.
        run: Performs the step and returns a summary. Safe to repeat; called in a thread. Raises
            if the step fails.
    """

    name: str
    rank: int
    run: Callable[[], str]
