"""On a site: alert-level scores are explained into InfluxDB, and `explain --kafka` answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import paho.mqtt.publish as publish
import pytest

from models.artifact import write_artifact
from models.dummy import dummy_draft, dummy_onnx
from models.registry import Registry
from models.tasks.rul import CRITICAL_RUL
from tests.e2e.site_plant import SitePlant

pytestmark = [
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.slow,
]

STEP_MS = 100
USUAL, WORN = 100.0, -100.0
"""Readings of which the dummy student makes a RUL of 124 and of 1."""


@pytest.mark.timeout(240)
def test_a_site_explains_its_scores(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    draft = dummy_draft("rul")
    write_artifact(tmp_path / "student", draft, dummy_onnx(draft))
    registry.publish(tmp_path / "student", stable=True)

    with SitePlant(
        tmp_path, workers=1, partitions=3, KPSTREAM_SITE_REGISTRY_DIR=str(registry.root)
    ) as plant:
        first_ms = time.time_ns() // 1_000_000
        _send(plant, first_ms, [USUAL] * 6 + [WORN] * 6)
        windows = 12 - draft.window.length + 1
        plant.wait_until(lambda: plant.count("rul", "rul") == windows, "scores")
        scores = {at: value for _, at, value in plant.values("rul", "rul")}
        alerts = {at for _, at, low in plant.values("rul", "rul_low") if low < CRITICAL_RUL}
        assert 2 <= len(alerts) < windows
        plant.wait_until(
            lambda: plant.count("explanation", "channel") == len(alerts), "explanations"
        )
        explained = {at for _, at, _ in plant.values("explanation", "channel")}
        newest = _explain(plant)
        usual = _explain(plant, "--at", str(first_ms + 5 * STEP_MS))
        other = _explain(plant, device="plant/press-9")

    assert explained == alerts
    assert max(scores) in explained
    found = orjson.loads(newest.stdout)
    assert found["end_ms"] == max(scores)
    assert found["is_same_score"]
    assert found["score"]["rul"] == pytest.approx(scores[max(scores)])
    assert orjson.loads(usual.stdout)["score"]["rul"] > 100
    assert other.returncode == 1
    assert "no score of plant/press-9 in the log" in other.stderr


def _send(plant: SitePlant, first_ms: int, readings: list[float]) -> None:
    """One message per reading, so that each closes a window of its own."""
    for number, value in enumerate(readings):
        body = {
            "t0": first_ms + number * STEP_MS,
            "values": {name: [value] for name in ("T24", "T30", "Nf")},
        }
        publish.single(
            "sensors/plant/press-1/engine",
            orjson.dumps(body | {"dt_ms": STEP_MS}),
            qos=1,
            hostname="127.0.0.1",
            port=plant.mosquitto.port,
        )


def _explain(
    plant: SitePlant, *options: str, device: str = "plant/press-1"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli", "explain", "--kafka", "--json", device, *options]
    env = os.environ | plant.env_of(plant.of("worker")[0])
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=90, check=False)
