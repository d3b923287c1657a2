"""In place of systemctl: runs the `ExecStart` of a unit as a child process.

`FOLDER/systemctl.log` has every call, `FOLDER/UNIT.pid` the process, `FOLDER/UNIT.log` its output.
It knows what the installer asks for, and no more: daemon-reload, enable, disable --now, restart,
stop. Below another root, paths and the state folder are below that root too.
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
from typing import Any

from deploy.gateway.settingsfile import read_settings

__all__ = ["script", "stop_all"]


def script(root: Path, folder: Path | None = None) -> Path:
    """Write the program for a root; returns its path.

    Args:
        root: The root; `/` starts services as the user of their unit.
        folder: Folder of program, log and processes; None for the root.
    """
    folder = folder or root
    path = folder / "systemctl"
    folder.mkdir(parents=True, exist_ok=True)
    clone = Path(__file__).parents[2]
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={clone} exec {sys.executable} -m {__name__} {root} {folder} "$@"\n'
    )
    path.chmod(0o755)
    return path


def stop_all(folder: Path) -> None:
    """End every process that was started."""
    for pid_file in folder.glob("*.pid"):
        _stop(pid_file)


def main() -> None:
    root, folder, words = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    with (folder / "systemctl.log").open("a") as log:
        log.write(" ".join(words) + "\n")
    if words[0] in ("restart", "stop") or "--now" in words:
        for unit in [word for word in words[1:] if word.endswith(".service")]:
            _stop(folder / f"{unit}.pid")
            if words[0] == "restart":
                _start(root, folder, unit)


def _start(root: Path, folder: Path, unit: str) -> None:
    path = root / "etc/systemd/system" / unit
    if not path.exists():
        path = root / "lib/systemd/system" / unit
    if not path.exists():
        return  # a service that this root does not have
    text = path.read_text()
    command = re.search(r"^ExecStart=(.*)$", text, re.M)
    assert command
    program, *arguments = command[1].split()
    more: dict[str, Any] = {}
    settings = {}
    if unit.startswith("kpstream"):
        settings = read_settings((root / "etc/kpstream/gateway.env").read_text())
    user = re.search(r"^User=(.*)$", text, re.M)
    if root == Path("/"):
        more = {"user": user[1], "group": user[1], "extra_groups": []} if user else {}
    else:
        program = f"{root}{program}"
        settings["KPSTREAM_GATEWAY_STATE_DIR"] = str(root / "var/lib/kpstream")
    with (folder / f"{unit}.log").open("ab") as log:
        child = subprocess.Popen(
            [program, *arguments],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            **more,
        )
    (folder / f"{unit}.pid").write_text(str(child.pid))


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
