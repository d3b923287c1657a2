"""`kpstream store` with the real Kafka and InfluxDB down, frozen or killed: no point is lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.commands.dead_letter_reader import read_site_dead_letters
from deploy.settings.settings import SiteSettings
from ingest.errors import RefusalReason
from ingest.topics import ACCOUNTS
from tests.bench.store import PARTITIONS, Site, scores

pytestmark = [pytest.mark.needs_kafka_server, pytest.mark.needs_influxd, pytest.mark.slow]


async def until(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"after {timeout_s:.0f} s still not: {what}"
        await asyncio.sleep(0.1)


def ready(site: Site) -> dict[str, Any]:
    """The page `/ready` of the store; {} without an answer."""
    try:
        url = f"http://127.0.0.1:{site.status_port}/ready"
        with urllib.request.urlopen(url, timeout=5) as answer:
            page: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            page = json.load(exc)
    except OSError:
        return {}
    return page


async def test_every_score_is_one_point_after_any_kill(tmp_path: Path) -> None:
    site = Site(tmp_path)
    chance = random.Random(7)
    try:
        await site.start()
        site.influx.stop()
        first_ms = time.time_ns() // 10**6 - 10**7
        with site.store(core=None) as store:
            await site.write(scores(4_000, first_ms, 1, 50), 20)
            await until(
                lambda: "InfluxDB" in " ".join(ready(site).get("problems", [])),
                "the store says what it waits for",
            )
            assert not ready(site)["ready"]
            site.influx.start()
            await until(lambda: site.counted() == site.written, "the backlog is stored")
            await until(lambda: ready(site).get("ready"), "the store says so")

        for round_number in range(4):
            with site.store(core=None) as store:
                await until(lambda: ready(site).get("ready"), "a store runs")
                writing = asyncio.create_task(_write_on(site, first_ms))
                for _ in range(2):
                    await asyncio.sleep(chance.uniform(0.2, 1.0))
                    _harm(site, store, chance.choice(["kill", "freeze", "stop"]))
                await asyncio.sleep(chance.uniform(0.2, 1.0))
                store.kill()
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            site.influx.resume()
            site.influx.start()
            assert site.counted() <= site.written, round_number

        bad = [f'rul,device=bad-{n} rul="text" {first_ms + n}000000' for n in range(3)]
        bad.append("device,device=bad-4 received=1t 5")
        assert site.producer is not None
        await site.producer.send_and_wait(ACCOUNTS, "\n".join(bad).encode(), partition=0)
        with site.store(core=None):
            await until(lambda: site.counted() == site.written, "every score is a point")
            settings = SiteSettings(kafka=site.kafka.address, partitions=PARTITIONS)
            await until(
                lambda: len(read_site_dead_letters(settings).dead_letters) >= len(bad),
                "every bad point is a dead letter",
            )
            dead = await asyncio.to_thread(read_site_dead_letters, settings)
            await until(lambda: ready(site).get("ready"), "the store has caught up")
        found = {one.raw.decode(): one.reason for one in dead.dead_letters}
        assert found == {
            **dict.fromkeys(bad[:3], RefusalReason.type_conflict),
            bad[3]: RefusalReason.refused_point,
        }
    finally:
        await site.stop()


async def _write_on(site: Site, first_ms: int) -> None:
    while True:
        part = scores(150, first_ms + site.written, 1, 50)
        # Counted once all are confirmed: a write that is cancelled may be in Kafka or not.
        await asyncio.shield(asyncio.ensure_future(site.write(part, 15)))
        await asyncio.sleep(0.05)


def _harm(site: Site, store: psutil.Process, how: str) -> None:
    if how == "kill":
        site.influx.kill()
        site.influx.start()
    elif how == "freeze":
        site.influx.pause()
        time.sleep(1.0)
        site.influx.resume()
    else:
        store.suspend()
        site.influx.stop()
        store.resume()
        time.sleep(0.5)
        site.influx.start()
