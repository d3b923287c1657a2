"""The part of a gateway that follows a centre: what it shows, and what it must not break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.processes.following import Following
from deploy.processes.gateway import Gateway
from deploy.rollout.report import SoftwareReport, decode_report
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.settings.settings import GatewaySettings
from deploy.updates.memory import RolloutMemory
from deploy.updates.progress import Progress
from deploy.updates.softwarememory import UPDATE_FILE, UpdateMemory
from ingest.settings import IngestSettings
from ingest.statefile import write_object
from ingest.topics import report_topic
from models.pointer import Pointer
from pipeline.settings import PipelineSettings


def gateway(folder: Path, **rollout: object) -> Gateway:
    settings = RolloutSettings(
        url=str(folder / "nowhere"),
        root_file=folder / "root.json",
        **rollout,  # type: ignore[arg-type]
    )
    own = GatewaySettings(state_dir=folder / "state", console_port=0, name="gw-1")
    return Gateway(own, IngestSettings(mqtt_port=1), PipelineSettings(), settings)


def started(made: Gateway, look: Callable[[Following], bool]) -> None:
    """Start it, wait until something shows, and stop it."""

    async def run() -> None:
        following = made.following
        assert following is not None
        await made.start()
        try:
            for _ in range(1200):
                if look(following):
                    return
                await asyncio.sleep(0.1)
            pytest.fail(f"it does not show: {following.status()}")
        finally:
            await made.stop()

    asyncio.run(run())


def test_centre_that_is_not_there_leaves_the_gateway_as_it_is(tmp_path: Path) -> None:
    made = gateway(tmp_path)
    started(made, lambda following: following.status()["centre"] == "refused")
    following = made.following
    assert following is not None
    assert "pinned root" in following.status()["detail"]
    assert "pinned root" in following.notices()[0]
    problems = made.view.health().problems
    assert not [text for text in problems if "root" in text or "centre" in text]
    assert made.view.health().parts["rollout"]["centre"] == "refused"
    assert {model.version for model in made.view.models()} == {1}


def test_key_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    made = gateway(tmp_path, report_key_file=tmp_path / "no-key")
    following = made.following
    assert following is not None
    assert "no-key" in following.status()["reports"]
    made.log_file.close()
    made.results.close()


def test_state_goes_into_the_log_for_influxdb(tmp_path: Path) -> None:
    made = gateway(tmp_path)
    lines: list[str] = []

    async def append(value: bytes) -> None:
        lines.append(value.decode())

    async def run() -> None:
        following = made.following
        assert following is not None
        made.models.poll()
        running = asyncio.ensure_future(following.run(append))
        for _ in range(2400):
            await asyncio.sleep(0.05)
            if lines:
                break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    made.log_file.close()
    made.results.close()
    assert lines[0].startswith("rollout_state,gateway=gw-1,model=")
    assert 'phase="champion"' in lines[0]


def test_crashing_student_is_gone_back_from_before_any_is_loaded(tmp_path: Path) -> None:
    first = gateway(tmp_path)
    name = first.registry.names()[0]
    pointer = first.registry.read_stable(name)
    assert pointer is not None
    first.log_file.close()
    first.results.close()
    crashed = Progress(
        release=7,
        version=pointer.version,
        digest=pointer.digest,
        phase="probation",
        since_s=1,
        former=Pointer(version=9, digest="f" * 64),
        starts=1,
    )
    RolloutMemory(tmp_path / "state" / "rollout.json").save(name, crashed)
    made = gateway(tmp_path)
    assert made.following is not None
    assert list(made.following.rejected()) == [pointer.digest]
    made.models.poll()
    assert name not in {student.manifest.name for student in made.models.running.values()}
    made.log_file.close()
    made.results.close()


@pytest.mark.parametrize("is_damaged", [False, True])
def test_the_report_says_what_the_updater_of_the_software_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    report = SoftwareReport(release=3, version="2.0.0", phase="failed", reason="it is sick")
    path = tmp_path / "updates" / UPDATE_FILE
    write_object(path, UpdateMemory(report=report).model_dump())
    if is_damaged:
        path.write_bytes(path.read_bytes()[:-9])
    made = gateway(tmp_path, update_dir=path.parent)
    assert made.following is not None
    offered: list[bytes] = []
    monkeypatch.setattr(made.following.reporter, "offer", offered.append)
    started(made, lambda _: bool(offered))
    sent = decode_report(report_topic("gw-1"), offered[0])
    assert sent.update == (None if is_damaged else report)
