"""The files that one message passes on its way from the MQTT callback to the stored point.

Each message closes a window. A profiler records every kpstream file whose functions run meanwhile,
in all threads; periodic work (the MQTT socket, health, checkpoints) does not count. What runs with
some messages only is periodic, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from deploy.processes.gateway import Gateway
from deploy.settings.settings import GatewaySettings
from ingest.mqtt.broker import LocalBroker
from ingest.settings import IngestSettings
from models.artifact import read_artifact
from models.zoo import zoo_path
from pipeline.settings import PipelineSettings
from tests.e2e.states.make_state import publish

pytestmark = [pytest.mark.needs_mosquitto]

ROOT = f"{Path(__file__).parent.parent.parent}/"
PACKAGES = tuple(f"{ROOT}{name}/" for name in ("ingest", "pipeline", "models", "deploy"))
WAY = (
    "pipeline/log/locallog.py",
    "pipeline/log/writer.py",
    "pipeline/log/state.py",
    "pipeline/log/sqliteconsumer.py",
    "pipeline/stage.py",
    "pipeline/scoring/stage.py",
    "pipeline/windows/devices.py",
    "pipeline/windows/slab.py",
    "pipeline/windows/slabstep.py",
    "pipeline/windows/countcut.py",
    "pipeline/scoring/batch.py",
    "pipeline/points/scorecolumns.py",
    "pipeline/log/sqliteproducer.py",
    "pipeline/stores/stage.py",
    "pipeline/stores/prepared.py",
    "pipeline/points/scorepoints.py",
    "pipeline/points/pointblocks.py",
    "pipeline/stores/resultsfile.py",
    "pipeline/stores/resultsrows.py",
)
"""Files of `pipeline`, in the order in which the message passes them."""
CHECKPOINT = {
    "pipeline/windows/series.py",
    "pipeline/windows/slabsnapshots.py",
    "pipeline/windows/snapshots.py",
    "pipeline/log/statetable.py",
    "pipeline/log/handover.py",
}
"""Files that save state and commit offsets, later than the score."""
BY_THE_CLOCK = {
    "deploy/processes/exampling.py",
    "ingest/bridgehealth.py",
    "ingest/decoders.py",
    "ingest/publishing.py",
    "ingest/ticks.py",
    "pipeline/log/retention.py",
}
"""Files of health, of ticks, of labels that may be examples, of log maintenance and of what other
message formats hold back or publish, which run now and then, whatever arrives."""
GUARDS = {
    "ingest/clock.py",
    "ingest/clockjudge.py",
    "ingest/holding.py",
    "ingest/roster.py",
    "ingest/durable/inplace.py",
    "ingest/durable/mark.py",
    "ingest/durable/wal.py",
    "ingest/durable/walbound.py",
    "ingest/sharedstate.py",
    "models/seen.py",
    "models/tasks/quality.py",
    "pipeline/scoring/examples.py",
    "pipeline/scoring/mounting.py",
    "pipeline/scoring/quality.py",
    "pipeline/stores/resultsguard.py",
}
"""Files that check the clock, the disk, the number of devices, how a sensor is mounted, whether it
has examples and whether readings fit the student with every message; they change nothing of it."""
HELPERS = {
    "pipeline/groups.py",
    "pipeline/wakeup.py",
    "pipeline/log/loopcalls.py",
    "pipeline/windows/arrivals.py",
    "pipeline/windows/membership.py",
    "pipeline/windows/devicetable.py",
    "pipeline/windows/joining.py",
    "pipeline/windows/remembered.py",
    "pipeline/windows/slabgroups.py",
    "pipeline/windows/segments.py",
    "pipeline/windows/slabstate.py",
    "pipeline/windows/slabwindows.py",
    "pipeline/windows/spec.py",
    "pipeline/log/staging.py",
    "pipeline/log/tables.py",
    "pipeline/status/counters.py",
    "pipeline/windows/rows.py",
    "pipeline/windows/windowbatch.py",
}
"""What files on the way are made of: wake-ups, rows, statements and sums, and in
`pipeline/windows` the arrays behind `devices` and `slab`."""
SINK = WAY[-1]
"""The file that stores the point, behind the way from the message to the point."""
BACKGROUND = {"until_crashed", "add_health", "look", "_on_scored", "on_scored"}
"""Functions that poll all the time, and those that look at a score beside its way: the live figures
of `/metrics`, whether the score is at alert level, and whether a challenger is to be compared."""


def is_background(frame: FrameType | None) -> bool:
    """Whether a function was called by the console or by something that polls."""
    while frame is not None:
        code = frame.f_code
        if "/pipeline/console/" in code.co_filename or code.co_name in BACKGROUND:
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def seen() -> Iterator[set[str]]:
    """Files whose functions run while the set holds ``"on"``."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and "on" in files:
            file = frame.f_code.co_filename
            if file.startswith(PACKAGES) and not is_background(frame):
                files.add(file.removeprefix(ROOT))

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    yield files
    threading.setprofile(None)  # type: ignore[arg-type]
    sys.setprofile(before)


async def test_a_reading_passes_few_files_and_none_of_deploy(
    tmp_path: Path, seen: set[str]
) -> None:
    manifest = read_artifact(zoo_path("rul-fd001")).manifest
    channels, length = manifest.channel_names, manifest.window.length
    assert manifest.seen is not None
    usual = dict(zip(channels, manifest.seen.middle, strict=True))  # far from an alert

    def message(first: int, stop: int) -> list[tuple[str, bytes]]:
        times = [1_750_000_000_000 + 60_000 * n for n in range(first, stop)]
        body = {
            "ts": times,
            "values": {name: [value] * len(times) for name, value in usual.items()},
        }
        return [(f"sensors/plant/e1/{manifest.stream}", json.dumps(body).encode())]

    with LocalBroker(tmp_path / "broker", kind="mosquitto") as broker:
        gateway = Gateway(
            GatewaySettings(state_dir=tmp_path / "state", console_port=0, model_poll_ms=600_000),
            IngestSettings(mqtt_port=broker.port),
            PipelineSettings(tick_ms=60_000, checkpoint_ms=100),
        )
        await gateway.start()
        try:
            counters = gateway.stores[0].stage.counters
            every: list[set[str]] = []  # what each message passes; the first warms all caches
            for messages in (
                message(0, length + 1),
                *(message(length + n, length + n + 1) for n in range(1, 6)),
            ):
                done = counters.stored + 1
                seen.add("on")
                await asyncio.to_thread(publish, broker.port, messages)
                while counters.stored < done:
                    await asyncio.sleep(0.01)
                every.append(set(seen))
                seen.clear()
                await asyncio.sleep(0.5)  # checkpoints
        finally:
            await gateway.stop()
    seen |= set.intersection(*every[1:]) - {"on"}
    passed = {file for file in seen if not file.startswith("ingest/mqtt/")} - BY_THE_CLOCK
    passed -= GUARDS | HELPERS
    assert not [file for file in passed if file.startswith("deploy/")]
    assert {file for file in passed if file.startswith("pipeline/")} - CHECKPOINT == set(WAY)
    few = sorted(passed - CHECKPOINT - {SINK})
    assert len(few) <= 28, "\n".join(few)  # columns have files of their own at each end of the log
