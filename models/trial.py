"""A trial of a student in a child process, with a budget of memory and time, before it goes live.

The checks of an artifact bound its size, but not what its graph does: a graph of 200 bytes can
allocate gigabytes or compute for minutes. In the process of a gateway that would end or delay the
scoring of every device, so the first run is in a process that may be killed.

Measured with ONNX Runtime 1.31 on Linux: a trial of a starter student takes 80 MB of resident
memory, 172 MB of address space, 0.1 s of CPU time, and 0.7 s before that for the imports. The
kernel bounds address space and CPU time (RLIMIT_AS, RLIMIT_CPU), and the parent watches resident
memory.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from models.artifact import Artifact
from models.errors import GraphRefused, ModelError, SelfTestFailed
from models.manifest import decode_manifest
from models.session import MAX_BATCH, Student

__all__ = ["Budget", "Trial", "try_student"]

_POLL_S = 0.02
_STEP_MB = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Budget:
    """What a trial may take.

    Attributes:
        memory_mb: Resident memory of the child, of which 80 MB are Python and ONNX Runtime, and
            address space beyond that of the imports.
        cpu_s: Seconds of CPU time for loading, self-test and one full batch.
        wall_s: Seconds after which the child is killed in any case, for a machine without CPU time
            to give.
    """

    memory_mb: int = 400
    cpu_s: int = 5
    wall_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What a student took.

    Attributes:
        memory_mb: Largest resident memory of the child.
        cpu_s: Seconds of CPU time.
    """

    memory_mb: float
    cpu_s: float


def try_student(artifact: Artifact, budget: Budget = Budget()) -> Trial:
    """Load a student, self-test it and score one full batch in a child; blocks for a second or two.

    Raises:
        GraphRefused: ONNX Runtime refuses the graph.
        SelfTestFailed: Its scores are unusable, or it took more than the budget.
        OSError: No child process could be started.
    """
    title = f"{artifact.manifest.name} v{artifact.manifest.version}"
    command = [sys.executable, "-m", "models.trial", str(len(artifact.manifest_bytes))]
    command += [str(budget.memory_mb), str(budget.cpu_s)]
    with subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as child:
        try:
            _send(child, artifact.manifest_bytes + artifact.onnx_bytes)
            excess = _watch(child, budget)
            answer = b"" if child.stdout is None else child.stdout.read(100_000)
        finally:
            child.kill()
    if excess is None and child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        excess = f"took more than {budget.cpu_s} s of CPU time"
    elif excess is None and child.returncode < 0:
        excess = f"ended its process with signal {-child.returncode}"
    if excess is not None:
        msg = f"self-test of {title} failed: it {excess}; export a smaller student"
        raise SelfTestFailed(msg)
    return _verdict(answer, title)


def _send(child: subprocess.Popen[bytes], data: bytes) -> None:
    """Send the artifact; a child that ends at once is judged by its exit."""
    if child.stdin is not None:
        with suppress(BrokenPipeError):
            child.stdin.write(data)
        with suppress(BrokenPipeError):
            child.stdin.close()


def _watch(child: subprocess.Popen[bytes], budget: Budget) -> str | None:
    """Wait for the child; kill it and say why if it takes too much."""
    until_s = time.monotonic() + budget.wall_s
    while child.poll() is None:
        if _memory_mb(child.pid, "VmRSS") > budget.memory_mb:
            child.kill()
            return f"took more than {budget.memory_mb} MB of memory"
        if time.monotonic() > until_s:
            child.kill()
            return f"has not ended within {budget.wall_s:.0f} s"
        time.sleep(_POLL_S)
    return None


def _verdict(answer: bytes, title: str) -> Trial:
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError:
        msg = f"self-test of {title} failed: its process ended without an answer"
        raise SelfTestFailed(msg) from None
    if "error" not in found:
        return Trial(found["memory_mb"], found["cpu_s"])
    kind: Callable[[str], ModelError] = {"GraphRefused": GraphRefused}.get(
        found["kind"], SelfTestFailed
    )
    raise kind(found["error"])


def _memory_mb(pid: int | str, what: str) -> float:
    """Memory of a process in MB; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    found = [line for line in lines.splitlines() if line.startswith(f"{what}:")]
    return int(found[0].split()[1]) * 1024 / _STEP_MB if found else 0.0


def main() -> NoReturn:
    """Run in the child: read the artifact from stdin, answer as JSON on stdout."""
    manifest_bytes, memory_mb, cpu_s = map(int, sys.argv[1:4])
    data = sys.stdin.buffer.read()
    manifest = decode_manifest(data[:manifest_bytes])
    artifact = Artifact(manifest, data[:manifest_bytes], data[manifest_bytes:], Path(), "")
    began_s = time.process_time()
    limit_s = int(began_s) + 1 + cpu_s  # without the time that the imports took
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if (space_mb := _memory_mb("self", "VmSize")) > 0:
        space = int((space_mb + memory_mb) * _STEP_MB)
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    try:
        student = Student(artifact)
        student.self_test()
        shape = (MAX_BATCH, manifest.window.length, len(manifest.channels))
        student.score(np.zeros(shape, np.float32))
    except ModelError as exc:
        answer: dict[str, Any] = {"kind": type(exc).__name__, "error": str(exc)}
    else:
        taken_s = time.process_time() - began_s
        answer = {"memory_mb": _memory_mb("self", "VmHWM"), "cpu_s": taken_s}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # nothing to clean up, and a destructor may take as long as a graph


if __name__ == "__main__":
    main()
