"""A whole gateway beside a broker of the matrix, as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.brokers.broker import PASSWORD, USERS, Broker
from tests.e2e.plant import Plant

__all__ = ["BrokerPlant", "Finished"]

READY_S = 300.0


class Finished:
    """A command of the product that has ended: its exit code and everything it printed."""

    def __init__(self, returncode: int | None, output: str) -> None:
        self.returncode, self.output = returncode, output


class BrokerPlant(Plant):
    """A gateway process whose broker is one of the matrix; starts nothing by itself."""

    def __init__(self, broker: Broker, folder: Path, *, user: str = USERS[0], **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        credentials = {
            "KPSTREAM_INGEST_MQTT_USERNAME": user,
            "KPSTREAM_INGEST_MQTT_PASSWORD": PASSWORD,
        }
        # Every message has a device of its own, so its reading can be waited for at once.
        patient = {"KPSTREAM_PIPELINE_LATENESS_MS": "0", "KPSTREAM_PIPELINE_MAX_DEVICES": "5000"}
        super().__init__(folder, **{**credentials, **patient, **env})
        self.broker = broker  # type: ignore[assignment]

    @property
    def runs(self) -> bool:
        """Whether the gateway process runs."""
        return self.process is not None and self.process.poll() is None

    def wait_ready(self, poll_s: float = 0.1) -> None:
        """Wait until `/ready` is 200."""
        self.wait_until(
            lambda: bool((self.get("ready") or {}).get("ready")), "ready", timeout_s=READY_S
        )

    def problem(self, wanted: str = "", timeout_s: float = 60.0) -> str:
        """Return why the gateway is not ready; waits until the text contains `wanted`."""
        deadline, text = time.monotonic() + timeout_s, ""
        while time.monotonic() < deadline:
            page = self.get("ready")
            text = "answers nothing" if page is None else _problem(page)
            if page is not None and wanted.lower() in text.lower():
                break
            time.sleep(0.5)
        return text

    def command(
        self, *words: str, stop_after_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> Finished:
        """Run one command of the product against the broker, with the gateway's settings.

        Args:
            words: The command line after `kpstream`.
            stop_after_s: Send SIGINT, like Ctrl-C, after this time; None: wait for its end.
            env: Variables to add or to change.
        """
        variables = os.environ | {"OMP_NUM_THREADS": "1"} | self.env
        variables |= {
            "KPSTREAM_INGEST_MQTT_PORT": str(self.broker.port),
            "KPSTREAM_GATEWAY_STATE_DIR": str(self.state_dir),
            "KPSTREAM_GATEWAY_CONSOLE_PORT": str(self.console_port),
        }
        variables |= env or {}
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", *words],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=stop_after_s or 180)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                output, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                return Finished(None, output)
        return Finished(process.returncode, output)

    def mqtt_health(self) -> dict[str, Any]:
        """Return the part of `/health` about the bridge."""
        return (self.get("health") or {}).get("parts", {}).get("bridge", {})  # type: ignore[no-any-return]


def _problem(page: dict[str, Any]) -> str:
    """Why the gateway is not ready, as one text."""
    return "" if page.get("ready") else "; ".join(map(str, page.get("problems", ())))
