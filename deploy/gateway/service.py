"""The service of the gateway: systemd, and whether it is ready."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deploy.gateway.places import Places
from deploy.gateway.settingsfile import console_address, read_settings
from deploy.gateway.steps import Steps

__all__ = ["GATEWAY_UNIT", "HOLD_S", "UNITS", "UPDATE_UNITS", "Service"]

GATEWAY_UNIT = "kpstream-gateway.service"
UNITS = (GATEWAY_UNIT,)
"""The units that a version starts."""
UPDATE_UNITS = ("kpstream-update.service", "kpstream-update.timer")
"""The units of the updater, which a gateway has if it was installed with `--updates`."""
HOLD_S = 10.0
"""How long a gateway has to stay ready, so that one that ends again and again is none."""
_LOOK_S = 0.5
_TIMEOUT_S = 3.0
_MOST_BYTES = 100_000
_ADVICE = "see `systemctl status kpstream-gateway` and `journalctl -u kpstream-gateway -n 50`"


class Service:
    """Starts and stops the gateway, and asks it whether it is ready.

    Below another root nothing is started, unless a program stands for systemctl.
    """

    def __init__(
        self,
        places: Places,
        steps: Steps,
        *,
        systemctl: Path | None = None,
        hold_s: float = HOLD_S,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare.

        Args:
            places: Where everything lies.
            steps: Carries out the steps.
            systemctl: Program in place of systemctl.
            hold_s: How long the gateway has to stay ready.
            now_s: Monotonic seconds.
            sleep: Waits for seconds.
        """
        self._places = places
        self._steps = steps
        self._program = "systemctl" if systemctl is None else str(systemctl)
        self.is_managed = places.is_live or systemctl is not None
        self._hold_s = hold_s
        self._now_s = now_s
        self._sleep = sleep

    def start(self) -> None:
        """Read the units again, start the gateway anew, and let it start at boot."""
        self._call("daemon-reload")
        self._call("enable", *UNITS)
        self._call("restart", *UNITS)

    def start_updates(self) -> None:
        """Let the timer of the updater run, now and at boot."""
        self._call("daemon-reload")
        self._call("enable", "--now", UPDATE_UNITS[1])

    def stop_updates(self) -> None:
        """Stop the timer of the updater, now and at boot."""
        self._call("disable", "--now", UPDATE_UNITS[1])

    def reload_broker(self) -> None:
        """Start mosquitto anew, with its changed configuration."""
        self._call("enable", "mosquitto.service")
        self._call("restart", "mosquitto.service")

    def stop(self) -> None:
        """Stop the gateway, now and at boot."""
        self._call("disable", "--now", *UNITS)

    def reload(self) -> None:
        """Read the units again."""
        self._call("daemon-reload")

    def wait_ready(self, wait_s: float) -> str | None:
        """Wait until the gateway has been ready for a while; returns None, or why it is not.

        Args:
            wait_s: How long to wait for it to become ready.
        """
        deadline = self._now_s() + wait_s
        since: float | None = None
        while True:
            problem = self.problem()
            now = self._now_s()
            if problem is not None:
                since = None
                if now >= deadline:
                    return problem
            else:
                since = now if since is None else since
                if now - since >= self._hold_s:
                    return None
            self._sleep(_LOOK_S)

    def problem(self) -> str | None:
        """Why the gateway is not ready now; None if it is."""
        host, port = console_address(self._settings())
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/ready", headers={"Host": f"127.0.0.1:{port}"})
            answer = connection.getresponse()
            body = answer.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException):
            return f"http://{host}:{port}/ready does not answer"
        finally:
            connection.close()
        return None if answer.status == 200 else _problems(body, answer.status)

    def _settings(self) -> dict[str, str]:
        with suppress(OSError):
            return read_settings(self._places.env_file.read_text(encoding="utf-8"))
        return {}

    def _call(self, *arguments: str) -> None:
        if self.is_managed:
            self._steps.run([self._program, *arguments], advice=_ADVICE, timeout_s=180)


def _problems(body: bytes, status: int) -> str:
    with suppress(ValueError, RecursionError):
        about = json.loads(body)
        if isinstance(about, dict) and isinstance(about.get("problems"), list):
            return "; ".join(str(problem) for problem in about["problems"])[:1000] or "not ready"
    return f"/ready answers {status}"
