"""The demo's gateway is a trial: it takes no part in a rollout."""

from __future__ import annotations

import pytest

from deploy.commands.demo import _gateway_environment


def test_gateway_of_the_demo_follows_no_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_ROLLOUT_URL", "https://centre.example")
    monkeypatch.setenv("KPSTREAM_ROLLOUT_MQTT_HOST", "centre.example")
    monkeypatch.setenv("KPSTREAM_PIPELINE_PARTITIONS", "3")
    found = _gateway_environment("5")
    assert not [name for name in found if name.startswith("KPSTREAM_ROLLOUT_")]
    assert found["KPSTREAM_PIPELINE_PARTITIONS"] == "3"
    assert found["KPSTREAM_INGEST_MQTT_PROTOCOL"] == "5"
