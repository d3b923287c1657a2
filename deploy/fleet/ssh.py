"""The OpenSSH client as a child process.

`BatchMode` refuses everything that would ask a person, and host keys are checked: an unknown one is
refused like a changed one. What is not set here comes from the configuration of ssh.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deploy.fleet.errors import HostFailed
from deploy.fleet.inventory import Host

__all__ = ["Answer", "Ssh", "one_line"]

_NO_CONNECTION = 255
_SHOWN = 400
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "ForwardAgent": "no",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command on a host ended."""

    code: int
    out: str
    err: str


class Ssh:
    """Runs commands on hosts."""

    def __init__(
        self, *, program: str = "ssh", config: Path | None = None, timeout_s: float = 1800
    ) -> None:
        """Prepare; nothing is connected.

        Args:
            program: The client.
            config: Its configuration file; None for that of the user.
            timeout_s: Longest time of a command.
        """
        self._program = program
        self._config = config
        self._timeout_s = timeout_s

    def run(
        self, host: Host, command: Sequence[str], *, sent: BinaryIO | bytes | None = None
    ) -> Answer:
        """Run a command on a host.

        Args:
            host: The host.
            command: The command and its arguments; each is quoted for the host's shell.
            sent: What it reads from standard input.

        Raises:
            HostFailed: No connection, or it took too long.
        """
        return self._run(host, shlex.join(command), sent)

    def script(self, host: Host, text: str, *, sent: BinaryIO | bytes | None = None) -> Answer:
        """Run a script of the POSIX shell on a host, whatever the shell of its user is.

        Args:
            host: The host.
            text: The script; words from outside must be quoted in it.
            sent: What it reads from standard input.

        Raises:
            HostFailed: No connection, or it took too long.
        """
        return self.run(host, ["sh", "-c", text], sent=sent)

    def _run(self, host: Host, text: str, sent: BinaryIO | bytes | None) -> Answer:
        words = [self._program]
        words += [] if self._config is None else ["-F", str(self._config)]
        words += [f"-o{name}={value}" for name, value in _OPTIONS.items()]
        words += [] if host.port is None else ["-p", str(host.port)]
        words += [] if host.user is None else ["-l", host.user]
        streams: dict[str, object] = {"stdin": subprocess.DEVNULL}
        if isinstance(sent, bytes):
            streams = {"input": sent}
        elif sent is not None:
            streams = {"stdin": sent}
        try:
            done = subprocess.run(  # type: ignore[call-overload] # noqa: S603 (no shell here)
                [*words, "--", host.address, text],
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
                **streams,
            )
        except OSError as exc:
            msg = f"{self._program} cannot be run: {exc.strerror}; install the OpenSSH client"
            raise HostFailed(msg) from exc
        except subprocess.TimeoutExpired as exc:
            msg = f"it did not end within {self._timeout_s:.0f} s; run the same command again"
            raise HostFailed(msg) from exc
        answer = Answer(
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        if answer.code == _NO_CONNECTION:
            raise HostFailed(_no_connection(answer.err, host))
        return answer


def one_line(text: str) -> str:
    r"""The last line of what a host said, without control characters and bounded.

    >>> one_line("first\nsecond\x1b[31m\n")
    'second[31m'
    """
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", last).strip()[:_SHOWN]


def _no_connection(said: str, host: Host) -> str:
    if "Host key verification failed" in said:
        return (
            "its host key is unknown or has changed: compare its fingerprint at the machine, then "
            f"connect once by hand: ssh {host.address}"
        )
    if "Permission denied" in said:
        return f"it accepts no key of yours: ssh-copy-id {host.address}"
    return f"no connection: {one_line(said) or 'ssh gave no reason'}"
