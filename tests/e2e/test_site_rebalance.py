"""The rebalance promise of a site: workers come and go under load, and no window changes.

Every few seconds a worker is added, stopped, killed, or frozen until the group has removed it; it
then wakes up as a zombie. At the end every window of every device is in InfluxDB once, equal to the
offline computation, and every reading is accounted for. Meanwhile two bridges share the messages.

`KPSTREAM_REBALANCE_S` is the duration (default 60), `KPSTREAM_REBALANCE_EVERY_S` the interval (10).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.fleet import ChaosDevices
from tests.e2e.site_account import check_accounts, check_windows, settle
from tests.e2e.site_plant import SitePlant

pytestmark = [
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.slow,
]

LASTS_S = float(os.environ.get("KPSTREAM_REBALANCE_S", "60"))
EVERY_S = float(os.environ.get("KPSTREAM_REBALANCE_EVERY_S", "10"))
SEED = int(os.environ.get("KPSTREAM_REBALANCE_SEED", "5"))
DEVICES = 40
SESSION_S = 6.0
SETTLE_S = 150.0


@pytest.mark.timeout(round(LASTS_S + SETTLE_S + 240))
def test_workers_that_come_and_go_change_no_window(tmp_path: Path) -> None:
    env = {
        # Messages come up to a second out of order, and wait for the broker's client meanwhile.
        "KPSTREAM_PIPELINE_LATENESS_MS": "5000",
        "KPSTREAM_PIPELINE_IDLE_MS": "5000",
        "KPSTREAM_PIPELINE_SESSION_MS": str(round(SESSION_S * 1000)),
    }
    with SitePlant(tmp_path, bridges=2, workers=2, **env) as plant:
        fleet = ChaosDevices(plant.mosquitto.port, DEVICES)
        fleet.start()
        began = time.monotonic()
        moves = []
        for move in _partition_moves(plant):
            moves.append(move)
            time.sleep(EVERY_S)
            if time.monotonic() - began > LASTS_S:
                break
        fleet.stop()
        plant.wait_ready()
        settle(plant, fleet, SETTLE_S)
        check_windows(plant, fleet)
        check_accounts(plant, fleet)
        running = [worker for worker in plant.of("worker") if worker.alive]
        moved = max(worker.metrics()["kpstream_rebalances_total"] for worker in running)
        print(f"{moves}; {moved:.0f} rebalances; {sum(fleet.published.values())} readings")
        assert moved >= 1


def _partition_moves(plant: SitePlant) -> Iterator[str]:
    """Do one action after the other that moves partitions, and yield its name."""
    rng = random.Random(SEED)
    frozen = None
    while True:
        running = [worker for worker in plant.of("worker") if worker.alive and worker is not frozen]
        move = rng.choice(["add", "remove", "kill", "freeze"])
        if frozen is not None:
            frozen.resume()  # more than its session has passed
            frozen, move = None, "wake"
        elif move == "add" or len(running) < 2:
            absent = [worker for worker in plant.of("worker") if not worker.alive]
            if absent:
                absent[0].start()
            elif len(plant.of("worker")) < 4:
                plant.add(f"worker-{len(plant.of('worker')) + 1}")
        elif move == "remove":
            victim = rng.choice(running)
            assert victim.stop() == 0, victim.output()
        elif move == "kill":
            victim = rng.choice(running)
            victim.kill()
            victim.start()
        else:
            frozen = rng.choice(running)
            frozen.pause()
        yield move
