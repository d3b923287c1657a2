"""Runs where a bundle is installed, with its Python: `score IN OUT`, or `gateway DATA FOLDER`.

Standard library and kpstream only, because nothing else is there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

URL = "http://127.0.0.1:8765"
DEVICES = 5
READY_S = PASSED_S = 3000.0  # an emulated processor on a busy machine is slow
MOSQUITTO = """\
listener 1883 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 0
"""


def score(source: Path, target: Path) -> None:
    """Score the windows of every shipped student; write every array of the scores."""
    import numpy as np

    from models.artifact import read_artifact
    from models.session import Student
    from models.zoo import zoo_path

    arrays = {}
    with np.load(source) as windows:
        for name in windows.files:
            student = Student(read_artifact(zoo_path(name)))
            student.self_test()
            scores = student.score(windows[name])
            assert scores.valid.all(), f"{name}: a score is not finite"
            for field in dataclasses.fields(scores):  # type: ignore[arg-type]
                value = getattr(scores, field.name)
                if isinstance(value, np.ndarray):
                    arrays[f"{name}/{field.name}"] = value
    np.savez(target, **arrays)


def gateway(data: Path, folder: Path) -> dict[str, Any]:
    """Run a whole gateway with mosquitto, send real engines, and return what it counted."""
    state = folder / "state"
    state.mkdir(mode=0o700, parents=True)
    kpstream = [sys.executable, "-m", "deploy.cli"]
    environ = os.environ | {
        "KPSTREAM_GATEWAY_STATE_DIR": str(state),
        "KPSTREAM_INGEST_MQTT_HOST": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    (folder / "mosquitto.conf").write_text(MOSQUITTO)
    broker = subprocess.Popen(["mosquitto", "-c", str(folder / "mosquitto.conf")])
    started = time.monotonic()
    running = subprocess.Popen([*kpstream, "gateway"], env=environ)
    try:
        _wait(lambda: _get("/ready") is not None, READY_S, "the gateway is not ready")
        ready_s = time.monotonic() - started
        replay = [*kpstream, "replay", "cmapss", "--from", str(data), "--devices", str(DEVICES)]
        subprocess.run(replay, env=environ, check=True, stdout=subprocess.DEVNULL)
        sent, windows = _expected(data)
        _wait(lambda: _has_passed(sent, windows), PASSED_S, "readings are still under way")
        page = _get("/api/v1/pipeline") or {}
        doctor = subprocess.run([*kpstream, "doctor", "--json"], env=environ, capture_output=True)
        found = json.loads(doctor.stdout)["findings"]
    finally:
        running.send_signal(signal.SIGTERM)
        code = running.wait(timeout=300)
        broker.terminate()
        broker.wait(timeout=60)
    with sqlite3.connect(state / "results.db") as results:
        (points,) = results.execute("SELECT count(*) FROM rul").fetchone()
    packages = next(each for each in found if each["name"] == "packages")
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "sent": sent,
        "windows": windows,
        "totals": page["totals"],
        "points": points,
        "ready_s": ready_s,
        "exit_code": code,
        "doctor": packages["text"],
    }


def _expected(data: Path) -> tuple[int, int]:
    """Readings of the devices, and windows of the starter student that they make."""
    from ingest import recordings
    from models.artifact import read_artifact
    from models.zoo import zoo_path

    length = read_artifact(zoo_path("rul-fd001")).manifest.window.length
    histories = recordings.read_cmapss(data, "FD001", "test")[:DEVICES]
    lengths = [len(history.cycles) for history in histories]
    return sum(lengths), sum(each - length + 1 for each in lengths)


def _has_passed(sent: int, windows: int) -> bool:
    page = _get("/api/v1/pipeline")
    if page is None:
        return False
    totals = page["totals"]
    return totals["windowed"] == sent and totals["stored"] == totals["windows"] == windows


def _get(path: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(URL + path, timeout=60) as answer:
            found = json.load(answer)
            return found if isinstance(found, dict) else {}
    except (OSError, urllib.error.URLError):
        return None


def _wait(is_so: Any, timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{otherwise} after {timeout_s:.0f} s: {_get('/api/v1/pipeline')}")
        time.sleep(0.5)


if __name__ == "__main__":
    if sys.argv[1] == "score":
        score(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        print(json.dumps(gateway(Path(sys.argv[2]), Path(sys.argv[3]))))
