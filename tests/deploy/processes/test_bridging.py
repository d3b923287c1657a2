"""The broker in the line that a process prints after its start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deploy.processes.bridging import broker_text, known_versions
from ingest.bridge import Bridge
from ingest.settings import IngestSettings
from tests.fakes.log import FakeLog


def test_a_broker_that_is_not_ready_is_told_with_what_is_known() -> None:
    health = Bridge(IngestSettings(), FakeLog()).health()
    waiting = replace(health, error="waiting for 4 s for the answer of broker:1883")
    assert broker_text("broker:1883", replace(health, connected=True)) == "broker:1883"
    assert broker_text("broker:1883", health) == "broker:1883, not ready yet (not connected)"
    assert broker_text("broker:1883", waiting) == (
        "broker:1883, not ready yet (waiting for 4 s for the answer of broker:1883)"
    )


def test_the_version_of_a_broker_is_kept_in_the_state_folder(tmp_path: Path) -> None:
    settings = IngestSettings(mqtt_host="broker", mqtt_port=1884)
    known_versions(settings, tmp_path).write("3.1.1")
    assert known_versions(settings, tmp_path).read() == "3.1.1"
    assert [path.name for path in tmp_path.iterdir()] == ["mqtt-versions.json"]
