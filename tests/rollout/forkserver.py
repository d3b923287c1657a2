"""Forks small gateways from a process that has imported everything.

It reads one JSON object a line, the fields of a `GatewayConfig`, and answers with the id of the
process. At the end of its input it kills all of them.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import models.session  # noqa: F401 - ONNX Runtime, imported once for all gateways
from tests.rollout.gateway import GatewayConfig, run_gateway

__all__: list[str] = []


def _serve() -> None:
    children: list[int] = []
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        config = GatewayConfig(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            _child(config)
        children.append(pid)
        print(pid, flush=True)
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _child(config: GatewayConfig) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    errors = Path(config.folder) / "errors.txt"
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        run_gateway(config)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    # The kernel removes ended gateways at once: nobody waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _serve()
