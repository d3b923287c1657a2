"""Make the state folder of a gateway that was killed in the middle of its windows.

Run it with the revision whose state is wanted as the working directory and on the path, and with
mosquitto on PATH::

    cd REVISION; PYTHONPATH=. python .../make_state.py OUT

A gateway gets the first part of the readings and is killed (SIGKILL) as soon as the log has the
last of them: the log then holds records that were not applied, windows are half open, and scores
are not stored. A second gateway gets all readings undisturbed; its points are the expected ones.
The script writes `state.zip` and `expected.json` into OUT. It leaves the registry out, because it
holds only the starter students, which a gateway adds to an empty registry.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from tests.e2e.plant import Plant

START_MS = 1_750_000_000_000
SETTLED = {"engine-1": 40, "engine-2": 15, "person-1": 180, "person-2": 90}
"""Readings per device that are applied and checkpointed before the kill."""
KILLED = {"engine-1": 45, "engine-2": 20, "person-1": 200, "person-2": 100}
"""Readings per device that are in the log at the kill."""
ALL = {"engine-1": 60, "engine-2": 50, "person-1": 400, "person-2": 260}
WINDOWS = {"rul": 31 + 21, "activity": 5 + 3}
"""Scores of all readings: (60 - 29) + (50 - 29), and one per hop of 64 after the first 128."""
ENGINE_CHANNELS = "T24 T30 T50 P30 Nf Nc Ps30 phi NRf NRc BPR htBleed W31 W32".split()
IMU_CHANNELS = [f"{k}_{axis}" for k in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
LONG = {"KPSTREAM_PIPELINE_RESULTS_DAYS": "36500", "KPSTREAM_GATEWAY_LOG_HOURS": "876000"}
"""Settings that keep points and records whatever the date."""
VALUES = {"rul": ("rul", "rul_low", "rul_high"), "activity": ("activity", "probability")}


def messages(first: dict[str, int], stop: dict[str, int]) -> list[tuple[str, bytes]]:
    """MQTT topics and payloads of the readings `first` to `stop` of every device, in turns."""
    found = []
    for n in range(max(stop.values())):
        for device in stop:
            if first.get(device, 0) <= n < stop[device]:
                engine = device.startswith("engine")
                channels = ENGINE_CHANNELS if engine else IMU_CHANNELS
                scale = 100 if engine else 1
                values = {
                    name: round(scale * math.sin(0.37 * n + c), 4)
                    for c, name in enumerate(channels)
                }
                body = {"ts": START_MS + n * (1000 if engine else 20), "values": values}
                topic = f"sensors/plant-7/{device}/{'engine' if engine else 'imu'}"
                found.append((topic, json.dumps(body).encode()))
    return found


def publish(port: int, sent: list[tuple[str, bytes]]) -> None:
    """Publish with QoS 1; returns when the broker has all of them."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for info in [client.publish(topic, payload, qos=1) for topic, payload in sent]:
        info.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def points(results: Path) -> dict[str, dict[str, list[Any]]]:
    """The values of each point of every measurement, by ``device end_ns``."""
    db = sqlite3.connect(f"file:{results}?mode=ro", uri=True)
    try:
        return {
            measurement: {
                f"{device} {time_ns}": list(values)
                for device, time_ns, *values in db.execute(
                    f"SELECT device, time_ns, {', '.join(VALUES[measurement])} FROM {measurement}"
                )
            }
            for measurement in VALUES
        }
    finally:
        db.close()


def main(out: Path) -> None:
    """Write `state.zip` and `expected.json` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with Plant(out / "undisturbed", **LONG) as plant:
        publish(plant.broker.port, messages({}, ALL))
        wanted = sum(WINDOWS.values())
        plant.wait_until(lambda: plant.totals().get("stored", 0) >= wanted, "stored")
        plant.stop_gateway()
        expected = points(plant.results_path)
    (out / "expected.json").write_text(json.dumps(expected, indent=0, sort_keys=True) + "\n")
    with Plant(out / "killed", **LONG) as plant:
        publish(plant.broker.port, messages({}, SETTLED))
        settled = sum(SETTLED.values())
        plant.wait_until(lambda: plant.totals().get("windowed") == settled, "windowed")
        time.sleep(3)  # a checkpoint
        publish(plant.broker.port, messages(SETTLED, KILLED))
        killed = sum(KILLED.values())
        logged = "messages_logged"
        plant.wait_until(lambda: plant.totals().get(logged, 0) >= killed, "logged", poll_s=0.01)
        plant.kill_gateway()
        with zipfile.ZipFile(out / "state.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
            for path in sorted(plant.state_dir.rglob("*")):
                name = path.relative_to(plant.state_dir)
                if path.is_file() and name.parts[0] != "registry" and path.suffix != ".lock":
                    file.write(path, str(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
