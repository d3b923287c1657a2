"""A whole gateway as a child process, with its broker, for tests that kill and restart them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ingest.mqtt.broker import LocalBroker
from tests.fakes.ports import free_port

WAIT_S = 120.0
"""Limit of a wait: it ends a test that hangs, and says nothing about speed."""


class Plant:
    """One broker, one gateway process and their state in `folder`; a context manager.

    `kill_gateway` and `kill_broker` are SIGKILL; state and ports survive, so a restart finds the
    same state as one in the field. `zoo` names shipped students that are added to its registry
    before the first start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_kind: str | None = None,
        zoo: Sequence[str] = (),
        **env: str,
    ) -> None:
        self.folder = folder
        self.broker = LocalBroker(folder / "broker", kind=broker_kind)  # type: ignore[arg-type]
        self.console_port = free_port()
        self.state_dir = folder / "state"
        self.env = env
        self.process: subprocess.Popen[bytes] | None = None
        self.cold_start_s = float("nan")
        self.zoo = zoo

    def __enter__(self) -> Plant:
        self.broker.start()
        for name in self.zoo:
            command = ["models", "--registry", str(self.state_dir / "registry"), "add", name]
            subprocess.run([sys.executable, "-m", "deploy.cli", *command], check=True, timeout=60)
        self.start_gateway()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop_gateway()
        self.broker.stop()

    @property
    def results_path(self) -> Path:
        return self.state_dir / "results.db"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    def start_gateway(self, *, wait: bool = True) -> None:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"} | self.env
        env |= {
            "KPSTREAM_GATEWAY_STATE_DIR": str(self.state_dir),
            "KPSTREAM_GATEWAY_CONSOLE_PORT": str(self.console_port),
            "KPSTREAM_INGEST_MQTT_PORT": str(self.broker.port),
        }
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", "gateway"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if wait:
            began = time.perf_counter()
            self.wait_ready(poll_s=0.02)
            self.cold_start_s = time.perf_counter() - began

    @property
    def log_path(self) -> Path:
        return self.folder / "gateway.log"

    def wait_ready(self, poll_s: float = 0.1) -> None:
        self.wait_until(
            lambda: bool((self.get("ready") or {}).get("ready")),
            "ready",
            poll_s=poll_s,
        )

    def stop_gateway(self) -> int | None:
        if self.process is None or self.process.poll() is not None:
            return None if self.process is None else self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill_gateway(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_broker(self) -> None:
        self.broker.kill()

    def get(self, path: str) -> dict[str, Any] | None:
        """A JSON page of the console; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=5) as answer:
                return json.load(answer)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            return json.loads(error.read() or b"{}")  # type: ignore[no-any-return]
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def totals(self) -> dict[str, Any]:
        page = self.get("api/v1/pipeline")
        return {} if page is None else page["totals"]

    def accounts(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        devices: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self.get(f"api/v1/fleet?sort=name&limit=100&cursor={cursor}") or {}
            devices += page.get("devices", ())
            cursor = page.get("next")
        return {
            (d["site"], d["device"], d["stream"]): d["account"] for d in devices if d.get("account")
        }

    def wait_until(
        self,
        holds: Callable[[], bool],
        what: str,
        *,
        timeout_s: float = WAIT_S,
        poll_s: float = 0.1,
    ) -> None:
        """Wait for a condition; after the time limit, fail with the totals and the last output."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"gateway ended ({self.process.returncode}):\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not {what} after {timeout_s:.0f} s: {self.totals()}\n{self.output()}"
                )
            time.sleep(poll_s)

    def output(self) -> str:
        return self.log_path.read_text()[-4000:] if self.log_path.exists() else ""
