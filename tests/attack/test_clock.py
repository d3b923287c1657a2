"""Steps of the machine's clock: a gateway under libfaketime, devices with the right time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from pipeline.stores.resultsfile import ResultsFile
from tests.attack.account import Attack
from tests.e2e.devices import NumberedDevices
from tests.e2e.plant import Plant

DEVICES = 4
LENGTH, HOP = 128, 64

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow, pytest.mark.timeout(300)]


class Clocked:
    """A gateway whose clock the test sets; monotonic time, broker and devices are real."""

    def __init__(self, folder: Path, library: Path, offset: str = "+0") -> None:
        self._file = folder / "clock"
        self.set(offset)
        self.plant = Plant(
            folder,
            broker_kind="mosquitto",
            zoo=["har-waist"],
            LD_PRELOAD=str(library),
            FAKETIME_TIMESTAMP_FILE=str(self._file),
            FAKETIME_CACHE_DURATION="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            NO_FAKE_STAT="1",
            KPSTREAM_PIPELINE_LATENESS_MS="1000",
        )

    def set(self, offset: str) -> None:
        """Set the clock that far from the right time, as `+40d` or `-120s`."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._file)


@contextmanager
def clocked(folder: Path, library: Path, offset: str = "+0") -> Iterator[Clocked]:
    """Start a gateway that takes messages; it may not be ready under a wrong clock."""
    made = Clocked(folder, library, offset)
    plant = made.plant
    with plant.broker:
        for name in plant.zoo:
            _add_student(plant, name)
        plant.start_gateway(wait=False)
        try:
            plant.wait_until(lambda: _is_connected(plant), 150, "connected")
            yield made
        finally:
            plant.stop_gateway()


def test_a_step_of_forty_days_deletes_nothing_and_closes_nothing(
    attack: Attack, tmp_path: Path, faketime_library: Path
) -> None:
    with clocked(tmp_path, faketime_library) as site:
        plant = site.plant
        letters = 50
        publish(plant, [(f"sensors/g/bad-{n}/imu", b"{") for n in range(letters)])
        quiet = NumberedDevices(plant.broker.port, 1, client_id="quiet")
        quiet.messages = _renamed(quiet)  # type: ignore[method-assign]
        quiet.start()
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()
        time.sleep(4)
        quiet.stop()  # its points are written before the step and not after
        for offset, seconds in (("+40d", attack.size(8, 90)), ("+0", attack.size(3, 75))):
            site.set(offset)
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
    attack: Attack, tmp_path: Path, faketime_library: Path
) -> None:
    with clocked(tmp_path, faketime_library) as site:
        plant = site.plant
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()
        plant.wait_until(lambda: totals_of(plant)["received"] > 0, 120, "receiving")
        site.set("-120s")
        looks = attack.size(6, 70)
        frozen, before = 0, shown(plant)
        for _ in range(looks):
            time.sleep(2)
            after = shown(plant)
            frozen += any(new <= old for new, old in zip(after, before, strict=True))
            before = after
        site.set("+0")
        fleet.stop()
        settle(plant, fleet.published)
        windowed, again = account(plant)
    sent = sum(fleet.published.values())
    attack.note(f"{looks} looks at page and metrics under the step, {frozen} of them frozen")
    attack.report(count=sent, lost=sent - windowed + frozen, doubled=again)


def test_a_clock_that_is_behind_holds_everything_until_it_is_right(
    attack: Attack, tmp_path: Path, faketime_library: Path
) -> None:
    with clocked(tmp_path, faketime_library, "-3600s") as site:
        plant = site.plant
        fleet = NumberedDevices(plant.broker.port, DEVICES)
        fleet.start()

        def is_said() -> bool:
            return any("this machine's clock is wrong" in text for text in ready(plant)["problems"])

        plant.wait_until(is_said, 120, "not ready because of its clock")
        time.sleep(attack.size(3, 60))
        assert ready(plant)["ready"] is False
        assert totals_of(plant)["received"] == 0
        assert "this machine's clock is wrong" in plant.output()
        site.set("+0")
        fleet_s = time.monotonic()
        plant.wait_until(lambda: not is_said(), 60, "ready again")
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

    plant.wait_until(settled, 150, "settled", poll_s=0.5)


def account(plant: Plant) -> tuple[int, int]:
    """Readings windowed, and readings that were late or came twice."""
    accounts = [d["account"] for d in answer(plant, "api/v1/fleet")["devices"]]
    windowed = sum(a["windowed"] for a in accounts)
    return windowed, sum(a["late"] + a["duplicate"] for a in accounts)


def shown(plant: Plant) -> tuple[int, float]:
    """Readings received, as the page and the metrics show them."""
    import urllib.request

    with urllib.request.urlopen(f"{plant.url}/metrics", timeout=60) as reply:
        lines = reply.read().decode().splitlines()
    name = "kpstream_readings_received_total"
    metric = next(float(line.split()[-1]) for line in lines if line.split(" ")[0] == name)
    return totals_of(plant)["received"], metric


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


def _renamed(devices: NumberedDevices) -> Any:
    """The messages of devices under the name `quiet`."""
    original = devices.messages

    def messages(start: int) -> Iterator[tuple[str, bytes]]:
        for topic, body in original(start):
            name = topic.split("/")[2]
            devices.published["quiet"] = devices.published.pop(name, start) + devices.count
            yield topic.replace(name, "quiet"), body

    return messages


def _is_connected(plant: Plant) -> bool:
    parts = (plant.get("ready") or {}).get("parts") or {}
    return bool(parts.get("bridge", {}).get("connected"))


def _add_student(plant: Plant, name: str) -> None:
    import subprocess
    import sys

    command = ["models", "--registry", str(plant.state_dir / "registry"), "add", name]
    subprocess.run([sys.executable, "-m", "deploy.cli", *command], check=True, timeout=60)
