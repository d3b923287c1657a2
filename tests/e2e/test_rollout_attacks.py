"""A gateway process under attack on the way to its centre: told by name, and it scores on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.clock import now_ms
from models.artifact import read_artifact, write_artifact
from models.zoo import zoo_path
from tests.deploy.updates.test_attacks import ATTACKS, recover
from tests.e2e.plant import Plant
from tests.e2e.test_rollout import NAME, Flow, draft_of
from tests.fakes.repositoryserver import serving
from tests.fakes.rolloutworld import World

TRIED = ("wrong key of targets", "endless timestamp", "replaced index", "login page")


def make_student(folder: Path, version: int) -> None:
    starter = read_artifact(zoo_path(NAME))
    write_artifact(folder, draft_of(starter, version=version), starter.onnx_bytes)


@pytest.mark.needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_gateway_under_attack_scores_on_and_takes_the_next_release(tmp_path: Path) -> None:
    with serving(tmp_path / "repository") as server:
        world = World(tmp_path, server, now_s=now_ms() // 1000, make=make_student)
        settings = {
            "KPSTREAM_ROLLOUT_URL": server.url,
            "KPSTREAM_ROLLOUT_ROOT_FILE": str(tmp_path / "root.json"),
            "KPSTREAM_ROLLOUT_INTERVAL_S": "10",
        }
        with Plant(tmp_path, broker_kind="mosquitto", **settings) as plant:

            def rollout() -> dict[str, Any]:
                return (plant.get("health") or {"parts": {}})["parts"].get("rollout") or {}

            def follows(number: int) -> bool:
                found = rollout()
                student = found.get("students", {}).get(NAME, {})
                return found.get("centre") == "ok" and student.get("release") == number

            def scores_on() -> None:
                scored = plant.totals().get("scored", 0)
                plant.wait_until(
                    lambda: plant.totals()["scored"] > scored, "scoring on", timeout_s=240
                )

            def endure(name: str, number: int) -> None:
                attack = ATTACKS[name]
                attack.do(world)
                plant.wait_until(
                    lambda: attack.words in rollout().get("detail", ""), name, timeout_s=240
                )
                assert rollout()["centre"] == attack.state
                assert any(attack.words in text for text in rollout()["notices"])
                assert (plant.get("ready") or {})["ready"]
                scores_on()
                recover(world, attack, number)
                plant.wait_until(
                    lambda: follows(number), f"following release {number}", timeout_s=240
                )

            flow = Flow(plant.broker.port)
            flow.start()
            plant.wait_until(lambda: follows(1), "following release 1", timeout_s=240)
            for number, name in enumerate(TRIED, 10):
                endure(name, number)
            published = flow.stop()
            plant.wait_until(
                lambda: plant.totals()["windowed"] == published, "windowed", timeout_s=240
            )
            assert plant.stop_gateway() == 0
