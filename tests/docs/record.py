"""Runs the commands whose output pages show, and keeps the output in docs/results/*.txt.

    python -m tests.docs.record --data DATA_FOLDER            # all
    python -m tests.docs.record --data DATA_FOLDER demo       # one

`test_excerpts.py` holds the pages against these files. Paths of this machine are shortened.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ingest.mqtt.broker import LocalBroker, free_port

RESULTS = Path(__file__).parents[2] / "docs" / "results"
BIN = Path(sys.executable).parent


def record_demo(data: Path, folder: Path) -> str:
    """Three minutes of `make demo`."""
    command = ["kpstream", "demo", "--seconds", "180", "--port", str(free_port())]
    return _run(command, folder, shown=["make", "demo"])


def record_doctor(data: Path, folder: Path) -> str:
    """`kpstream doctor` beside a gateway that has scored for a while."""
    return _beside_a_gateway(["kpstream", "doctor"], data, folder)


def record_explain(data: Path, folder: Path) -> str:
    """Why a test engine near its end got its last score; engine 34 of FD001 has 7 cycles left."""
    return _beside_a_gateway(["kpstream", "explain", "FD001-034"], data, folder)


def _beside_a_gateway(command: list[str], data: Path, folder: Path) -> str:
    """A command beside a gateway that has scored the test engines of FD001."""
    port = free_port()
    with LocalBroker(folder / "broker", kind="mosquitto") as broker:
        env = _env(folder) | {
            "KPSTREAM_INGEST_MQTT_PORT": str(broker.port),
            "KPSTREAM_GATEWAY_CONSOLE_PORT": str(port),
        }
        gateway = subprocess.Popen(
            [BIN / "kpstream", "gateway"], env=env, stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(5)
            at = ["--mqtt", f"127.0.0.1:{broker.port}", "--rate", "50"]
            _run(["kpstream", "replay", "cmapss", "--from", str(data / "cmapss.zip"), *at], folder)
            time.sleep(15)
            text = _run(command, folder, env=env)
        finally:
            gateway.terminate()
            gateway.wait(30)
    return text.replace(f"127.0.0.1:{broker.port}", "127.0.0.1:1883").replace(
        f"127.0.0.1:{port}", "127.0.0.1:8765"
    )


def record_replay(data: Path, folder: Path) -> str:
    """Replays of two data sets, the second with duplicates and disorder."""
    with LocalBroker(folder / "broker", kind="mosquitto") as broker:
        at = ["--mqtt", f"127.0.0.1:{broker.port}"]
        cmapss = ["kpstream", "replay", "cmapss", "--from"]
        people = ["kpstream", "replay", "uci-har", "--from"]
        worse = ["--duplicates", "0.05", "--disorder-ms", "150"]
        text = _run(
            [*cmapss, str(data / "cmapss.zip"), *at], folder, shown=[*cmapss, "cmapss.zip"]
        ) + _run([*people, str(data), *worse, *at], folder, shown=[*people, "data/", *worse])
        return text.replace(f"127.0.0.1:{broker.port}", "127.0.0.1:1883")


def record_redistill(data: Path, folder: Path) -> str:
    """A student for FD003 beside the starter, which has learned from FD001."""
    command = ["train-redistill", "--task", "rul", "--data"]
    rest = ["--subset", "FD003", "--publish"]
    return _run(
        [*command, str(data / "cmapss.zip"), *rest],
        folder,
        shown=[*command, "cmapss.zip", *rest],
    )


def record_redistill_forecast(data: Path, folder: Path) -> str:
    """A forecasting student of ETTh1."""
    command = ["train-redistill", "--task", "forecast", "--data"]
    rest = ["--subset", "ETTh1", "--publish"]
    return _run(
        [*command, str(data / "ett.zip"), *rest], folder, shown=[*command, "ett.zip", *rest]
    )


RECORDINGS = {
    "demo": record_demo,
    "doctor": record_doctor,
    "explain": record_explain,
    "replay": record_replay,
    "redistill": record_redistill,
    "redistill-forecast": record_redistill_forecast,
}


def _env(folder: Path) -> dict[str, str]:
    mine = {n: value for n, value in os.environ.items() if not n.startswith("KPSTREAM_")}
    return mine | {"HOME": str(folder), "COLUMNS": "110", "OMP_NUM_THREADS": "1"}


def _run(
    command: list[str],
    folder: Path,
    *,
    shown: list[str] | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Output of a command, below the command, with carriage returns resolved."""
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        env=env or _env(folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line.rpartition("\r")[2].rstrip() for line in done.stdout.splitlines()]
    text = "\n".join(line for line in lines if line)
    text = text.replace(f"{folder}/.local", "~/.local").replace(str(folder), "~")
    text = re.sub(r"/tmp/[\w./-]*?(kpstream-demo)", r"/tmp/\1", text)
    return f"$ {' '.join(shown or command)}\n{text}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.docs.record")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("which", nargs="*", default=list(RECORDINGS))
    args = parser.parse_args()
    for name in args.which:
        with tempfile.TemporaryDirectory() as folder:
            text = RECORDINGS[name](args.data.resolve(), Path(folder))
        (RESULTS / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
