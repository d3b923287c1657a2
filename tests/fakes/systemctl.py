"""In place of systemctl: runs the `ExecStart` of a unit below another root as a child process.

`ROOT/systemctl.log` has every call; `ROOT/UNIT.pid` the process. It knows what the installer asks
for, and no more: daemon-reload, enable, disable --now, restart, stop.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from deploy.gateway.settingsfile import read_settings

__all__ = ["script", "stop_all"]


def script(root: Path) -> Path:
    """Write the program for a root; returns its path."""
    path = root / "systemctl"
    path.parent.mkdir(parents=True, exist_ok=True)
    clone = Path(__file__).parents[2]
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={clone} exec {sys.executable} -m {__name__} {root} "$@"\n'
    )
    path.chmod(0o755)
    return path


def stop_all(root: Path) -> None:
    """End every process that was started."""
    for pid_file in root.glob("*.pid"):
        _stop(pid_file)


def main() -> None:
    root, words = Path(sys.argv[1]), sys.argv[2:]
    with (root / "systemctl.log").open("a") as log:
        log.write(" ".join(words) + "\n")
    if words[0] in ("restart", "stop") or "--now" in words:
        for unit in [word for word in words[1:] if word.endswith(".service")]:
            if unit.startswith("kpstream"):
                _stop(root / f"{unit}.pid")
                if words[0] == "restart":
                    _start(root, unit)


def _start(root: Path, unit: str) -> None:
    text = (root / "etc/systemd/system" / unit).read_text()
    command = re.search(r"^ExecStart=(.*)$", text, re.M)
    assert command
    program, *arguments = command[1].split()
    settings = read_settings((root / "etc/kpstream/gateway.env").read_text())
    settings["KPSTREAM_GATEWAY_STATE_DIR"] = str(root / "var/lib/kpstream")
    with (root / f"{unit}.log").open("ab") as log:
        child = subprocess.Popen(
            [f"{root}{program}", *arguments],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (root / f"{unit}.pid").write_text(str(child.pid))


def _stop(pid_file: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and _lives(pid):
            time.sleep(0.05)
        if _lives(pid):
            os.kill(pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


if __name__ == "__main__":
    main()
