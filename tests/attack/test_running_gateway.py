"""A whole gateway whose log is taken away, or whose disk fills up, while readings flow."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.attack.account import Attack
from tests.e2e.devices import NumberedDevices
from tests.e2e.plant import Plant

DEVICES = 3
NOTICED_S = 30.0
TMPFS_MB = 400
"""Above the free space below which the log refuses appends by itself (256 MB)."""

pytestmark = pytest.mark.needs_mosquitto


def _received(plant: Plant) -> int:
    return sum(account["received"] for account in plant.accounts().values())


def _unready(plant: Plant, sign: str) -> bool:
    page = plant.get("ready") or {}
    return not page.get("ready", True) and any(sign in each for each in page["problems"])


def _windowed(plant: Plant) -> int:
    return sum(int(account["windowed"]) for account in plant.accounts().values())


def _missing(plant: Plant, devices: NumberedDevices) -> int:
    """Wait until every published reading is in a window; returns how many never are.

    A message that the log had, but had not confirmed, comes again and is a duplicate.
    """
    published = sum(devices.published.values())
    plant.wait_until(
        lambda: _windowed(plant) >= published, f"windowed {published:,}", timeout_s=600
    )
    unaccounted = sum(int(account["missing"]) for account in plant.accounts().values())
    return published - _windowed(plant) + unaccounted


def _take_away(log: Path, how: str) -> Path:
    """Delete or replace the log; returns a second name of the file that was there."""
    aside = log.with_name("aside.db")
    os.link(log, aside)
    if how == "replaced":
        copy = log.with_name("copy.db")
        shutil.copyfile(log, copy)
        copy.replace(log)
    else:
        log.unlink()
    return aside


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_log_that_is_taken_away_is_noticed_and_loses_no_reading(
    attack: Attack, tmp_path: Path, how: str
) -> None:
    with Plant(tmp_path, broker_kind="mosquitto", zoo=("har-wrist",)) as plant:
        devices = NumberedDevices(plant.broker.port, DEVICES)
        devices.start()
        plant.wait_until(lambda: _received(plant) > 500, "readings")
        log = plant.state_dir / "log.db"
        aside = _take_away(log, how)
        plant.wait_until(lambda: _unready(plant, f"{log} was {how}"), "told", timeout_s=NOTICED_S)
        told = plant.get("ready") or {}
        plant.stop_gateway()
        devices.stop()
        aside.replace(log)
        plant.start_gateway()
        missing = _missing(plant, devices)
        published = sum(devices.published.values())
    attack.note(told["problems"][0][:90])
    attack.report(published, lost=missing)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own in memory; skips where nobody may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m,mode=700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no program `mount`: a full disk needs a small one")
    if done.returncode:
        pytest.skip(f"a full disk needs a small one, and only root may mount it: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill_disk(filler: Path) -> None:
    """Write until there is no space, not even for one page."""
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def test_a_disk_that_is_full_holds_readings_back_until_there_is_space(
    attack: Attack, tmp_path: Path
) -> None:
    plant = Plant(tmp_path, broker_kind="mosquitto", zoo=("har-wrist",))
    with _small_disk(plant.state_dir), plant:
        devices = NumberedDevices(plant.broker.port, DEVICES)
        devices.start()
        plant.wait_until(lambda: _received(plant) > 500, "readings")
        filler = plant.state_dir / "filler"
        _fill_disk(filler)
        plant.wait_until(lambda: _unready(plant, "confirmed nothing"), "told", timeout_s=NOTICED_S)
        told = plant.get("ready") or {}
        held_at = _received(plant)
        filler.unlink()
        plant.wait_ready()
        devices.stop()
        missing = _missing(plant, devices)
        published = sum(devices.published.values())
    attack.note(next(each for each in told["problems"] if "confirmed nothing" in each)[:120])
    attack.report(published, lost=missing)
    assert published > held_at, "nothing was held back"
