"""`kpstream demo`: what a new user sees first, on either broker, ended by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from ingest.broker import free_port


@pytest.mark.slow
@pytest.mark.parametrize(
    "broker", ["amqtt", pytest.param("mosquitto", marks=pytest.mark.needs_mosquitto)]
)
def test_the_demo_scores_and_ends_cleanly_on_ctrl_c(tmp_path: Path, broker: str) -> None:
    port = free_port()
    command = [
        *(sys.executable, "-m", "deploy.cli", "demo", "--broker", broker, "--port", str(port)),
        *("--engines", "2", "--people", "2", "--keep", str(tmp_path)),
    ]
    with (tmp_path / "demo.txt").open("wb") as output:
        demo = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(lambda: "scored" in (tmp_path / "demo.txt").read_text(), demo)
        _wait(lambda: _stored(port) > 3, demo)
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 3  # broker, gateway, fleet
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    finally:
        demo.kill()
        demo.wait()
    text = (tmp_path / "demo.txt").read_text()
    assert "(balanced)" in text
    assert re.search(r"activity +accuracy \d", text), text
    assert not [child for child in children if child.is_running()], "a child was left behind"


def _stored(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            found = re.search(rb"kpstream_stored_total (\d+)", answer.read())
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def _wait(holds: object, demo: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not holds():  # type: ignore[operator]
        assert demo.poll() is None, "the demo ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.2)
