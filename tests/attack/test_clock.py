"""Steps of the machine's clock: a gateway whose clock is set, devices with the right time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from pipeline.stores.resultsfile import ResultsFile
from tests.attack.account import Attack
from tests.e2e.devices import NumberedDevices, payload
from tests.e2e.plant import Plant
from tests.fakes.setclock import SetClock

DEVICES = 4
LENGTH, HOP = 128, 64
DAY_S = 86_400

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Site:
    """A gateway whose clock the test sets; monotonic time, broker and devices are real."""

    plant: Plant
    clock: SetClock


@contextmanager
def clocked(folder: Path, compiler: str, ahead_s: float = 0.0) -> Iterator[Site]:
    """Start a gateway that takes messages; it may not be ready under a wrong clock."""
    clock = SetClock(folder, compiler)
    clock.set(ahead_s)
    env = clock.env | {"KPSTREAM_PIPELINE_LATENESS_MS": "1000"}
    plant = Plant(folder, broker_kind="mosquitto", **env)
    with plant.broker:
        _add_student(plant, "har-waist")
        plant.start_gateway(wait=False)
        try:
            plant.wait_until(lambda: _is_connected(plant), "connected", timeout_s=150)
            yield Site(plant, clock)
        finally:
            plant.stop_gateway()


def test_a_step_of_forty_days_deletes_nothing_and_closes_nothing(
    attack: Attack, tmp_path: Path, c_compiler: str
) -> None:
    with clocked(tmp_path, c_compiler) as site:
        plant = site.plant
        letters = 50
        publish(plant, [(f"sensors/g/bad-{n}/imu", b"{") for n in range(letters)])
        quiet = Quiet(plant.broker.port, 1, client_id="quiet")
        quiet.start()
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()
        time.sleep(4)
        quiet.stop()  # its points are written before the step and not after
        for ahead_s, seconds in ((40 * DAY_S, attack.size(8, 90)), (0, attack.size(3, 75))):
            site.clock.set(ahead_s)
            time.sleep(seconds)
        fleet.stop()
        published = fleet.published | quiet.published
        settle(plant, published)
        windowed, again = account(plant)
        sent = sum(published.values())
        kept = totals_of(plant)["dead_letters"].get("not_json", 0)
        assert plant.stop_gateway() == 0
        stored = points(plant.results_path)
        expected = sum(max(0, (count - LENGTH) // HOP + 1) for count in published.values())
        in_log = letters_in_log(plant)
    attack.note(f"{stored} of {expected} scores and {in_log} of {letters} dead letters kept")
    lost = (sent - windowed) + (expected - stored) + (letters - in_log)
    attack.report(count=sent, lost=lost, doubled=again)
    assert kept == letters


def test_a_step_back_freezes_neither_page_nor_metrics(
    attack: Attack, tmp_path: Path, c_compiler: str
) -> None:
    with clocked(tmp_path, c_compiler) as site:
        plant = site.plant
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()
        plant.wait_until(lambda: totals_of(plant)["received"] > 0, "receiving")
        site.clock.set(-120)
        looks = attack.size(6, 70)
        frozen, before = 0, shown(plant)
        for _ in range(looks):
            time.sleep(2)
            after = shown(plant)
            frozen += any(new <= old for new, old in zip(after, before, strict=True))
            before = after
        site.clock.set(0)
        fleet.stop()
        settle(plant, fleet.published)
        windowed, again = account(plant)
    sent = sum(fleet.published.values())
    attack.note(f"{looks} looks at page and metrics under the step, {frozen} of them frozen")
    attack.report(count=sent, lost=sent - windowed + frozen, doubled=again)


def test_a_clock_that_is_behind_holds_everything_until_it_is_right(
    attack: Attack, tmp_path: Path, c_compiler: str
) -> None:
    with clocked(tmp_path, c_compiler, -3600) as site:
        plant = site.plant
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()

        def is_said() -> bool:
            return any("this machine's clock is wrong" in text for text in ready(plant)["problems"])

        plant.wait_until(is_said, "not ready because of its clock")
        time.sleep(attack.size(3, 60))
        assert ready(plant)["ready"] is False
        assert totals_of(plant)["received"] == 0
        assert "this machine's clock is wrong" in plant.output()
        site.clock.set(0)
        fleet_s = time.monotonic()
        plant.wait_until(lambda: not is_said(), "ready again")
        attack.note(f"took messages {time.monotonic() - fleet_s:.1f} s after the clock was right")
        fleet.stop()
        settle(plant, fleet.published)
        windowed, again = account(plant)
        totals = totals_of(plant)
    sent = sum(fleet.published.values())
    attack.report(count=sent, lost=sent - windowed, doubled=again)
    assert totals["messages_dead_lettered"] == 0
    assert totals["late"] == 0


def publish(plant: Plant, messages: list[tuple[str, bytes]]) -> None:
    """Publish messages at QoS 1; returns when the broker has them."""
    import asyncio

    async def run() -> None:
        async with Publisher(Endpoint("127.0.0.1", plant.broker.port, "garbage")) as publisher:
            for topic, body in messages:
                await publisher.publish(topic, body)
            await publisher.flush()

    asyncio.run(run())


def ready(plant: Plant) -> dict[str, Any]:
    """The page `/ready`, however slow a busy machine is."""
    return answer(plant, "ready")


def totals_of(plant: Plant) -> dict[str, Any]:
    """The totals of the pipeline page."""
    return answer(plant, "api/v1/pipeline")["totals"]  # type: ignore[no-any-return]


def answer(plant: Plant, path: str) -> dict[str, Any]:
    for _ in range(20):
        if (page := plant.get(path)) is not None:
            return page
    raise AssertionError(f"/{path} does not answer:\n{plant.output()}")


def settle(plant: Plant, published: dict[str, int]) -> None:
    """Wait until everything published is windowed and every window is stored."""
    expected = sum(max(0, (count - LENGTH) // HOP + 1) for count in published.values())

    def settled() -> bool:
        windowed = {device: a["windowed"] for (_, device, _), a in plant.accounts().items()}
        done = all(windowed.get(device, 0) >= count for device, count in published.items())
        return done and totals_of(plant)["stored"] >= expected

    plant.wait_until(settled, "settled", timeout_s=150, poll_s=0.5)


def account(plant: Plant) -> tuple[int, int]:
    """Readings windowed, and readings that were late or came twice."""
    accounts = [d["account"] for d in answer(plant, "api/v1/fleet")["devices"]]
    windowed = sum(a["windowed"] for a in accounts)
    return windowed, sum(a["late"] + a["duplicate"] for a in accounts)


def shown(plant: Plant) -> tuple[int, float]:
    """Messages received, as the page and the metrics show them."""
    import urllib.request

    with urllib.request.urlopen(f"{plant.url}/metrics", timeout=60) as reply:
        lines = reply.read().decode().splitlines()
    name = "kpstream_messages_received_total "
    metric = next(float(line.split()[-1]) for line in lines if line.startswith(name))
    return totals_of(plant)["messages_received"], metric


def points(path: Path) -> int:
    results = ResultsFile(path, read_only=True)
    try:
        return int(results.select("SELECT count(*) FROM points_activity")[0][0])
    finally:
        results.close()


def letters_in_log(plant: Plant) -> int:
    """Dead letters that are in the log; the gateway has stopped."""
    from pipeline.log.locallog import SqliteLog

    log = SqliteLog(plant.state_dir / "log.db")
    try:
        partitions = log.topics().get("dead-letters", 0)
        return sum(len(log.read("dead-letters", p, 0, 10_000)) for p in range(partitions))
    finally:
        log.close()


class Quiet(NumberedDevices):
    """One device of another name."""

    def messages(self, start: int) -> Iterator[tuple[str, bytes]]:
        yield "sensors/ledger/quiet/imu", payload(start, self.count, self.t0_ms)
        self.published["quiet"] = start + self.count


def _is_connected(plant: Plant) -> bool:
    parts = (plant.get("ready") or {}).get("parts") or {}
    return bool(parts.get("bridge", {}).get("connected"))


def _add_student(plant: Plant, name: str) -> None:
    import subprocess
    import sys

    command = ["models", "--registry", str(plant.state_dir / "registry"), "add", name]
    subprocess.run([sys.executable, "-m", "deploy.cli", *command], check=True, timeout=60)
