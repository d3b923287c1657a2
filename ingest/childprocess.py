"""Child processes that end with their parent, and functions that stop, pause or kill them.

A parent that is killed with SIGKILL cannot clean up. On Linux a process can ask the kernel for a
signal at that moment (`PR_SET_PDEATHSIG`). Run as a script, this file asks for the signal and then
replaces itself with the given command under the same process id. (`preexec_fn` would need no
script, but can deadlock in a parent that has threads.) On other systems the command runs unchanged.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

__all__ = ["kill_child", "pause_child", "stop_child", "tied_to_parent"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """Return a command line whose process gets SIGTERM when the starting thread ends.

    The kernel watches the thread, not the process. Start the child from a thread that runs as long
    as the child should, usually the main thread. The kernel drops the request for set-uid programs.
    """
    if not sys.platform.startswith("linux"):
        return list(command)
    # Isolated and without site-packages: starts in 20 ms, and no module nearby can shadow another.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def stop_child(
    process: subprocess.Popen[bytes],
    timeout_s: float,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> None:
    """Ask a child to end and wait until it has; kill it after the timeout.

    Args:
        process: The child; one that has ended already is reaped.
        timeout_s: Seconds that the child has to end.
        stop_signal: Signal that asks the child to end. A paused child is resumed to receive it.
    """
    from subprocess import TimeoutExpired  # deferred: the script must start fast

    if process.poll() is None:
        process.send_signal(stop_signal)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout_s)
        except TimeoutExpired:
            pass
    kill_child(process)


def kill_child(process: subprocess.Popen[bytes]) -> None:
    """Kill a child (SIGKILL) and wait until it is gone."""
    if process.poll() is None:
        process.kill()
    process.wait()


def pause_child(process: subprocess.Popen[bytes]) -> None:
    """Freeze a child (SIGSTOP) and wait until all of its threads stand still.

    The kernel stops the threads one after the other, and on a busy machine a server answers a few
    more requests after the signal. A child that has ended is left alone.
    """
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        # Reported when the last thread has stopped, or when the child ended first; WNOWAIT leaves
        # the exit code to Popen.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def _become(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the request
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 (the command line that the parent chose)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
