"""A short battery with the brokers that every machine of a developer has; `make brokers`: all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.battery import run_battery
from tests.brokers.broker import Broker, connect_packet
from tests.brokers.install import InstallFailed, install
from tests.brokers.rig import Row, Size
from tests.brokers.starters import BROKERS, Amqtt, Mosquitto

SHORT = Size(load=40, queue=200, simulate_s=12.0, engines=15, settle_s=30.0)
STEPS = ("announced", "queue", "ready", "simulate", "gateway killed", "broker killed", "doctor")


def _run(broker: type[Broker], folder: Path, steps: tuple[str, ...]) -> dict[str, Row]:
    rows: list[Row] = []
    run_battery(broker(folder / broker.name), folder, SHORT, rows.append, steps)
    assert [row.step for row in rows] == list(steps)
    broken = [f"{row.step}: {row.text} {row.numbers}" for row in rows if row.verdict == "BROKEN"]
    assert not broken, "\n".join(broken)
    return {row.step: row for row in rows}


@pytest.mark.needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mosquitto_keeps_what_it_confirmed_and_the_gateway_takes_it_once(tmp_path: Path) -> None:
    rows = _run(Mosquitto, tmp_path, STEPS)
    for step in ("queue", "ready", "gateway killed"):
        assert rows[step].verdict == "held", rows[step]
    assert rows["gateway killed"].numbers["confirmed"] == 2 * SHORT.load
    assert rows["gateway killed"].numbers["session_kept"] is True
    assert rows["announced"].numbers["5"]["connack"] == "Success"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_amqtt_loses_its_sessions_and_that_is_told_apart_from_a_loss_of_ours(
    tmp_path: Path,
) -> None:
    pytest.importorskip("amqtt")
    rows = _run(Amqtt, tmp_path, ("ready", "gateway killed", "broker killed"))
    assert rows["ready"].text == "MQTT 3.1.1"
    crash = rows["broker killed"]
    assert crash.verdict == "broker"
    assert crash.numbers["session_kept"] is False
    assert crash.numbers["control_lost"] > 0
    assert crash.numbers["sessions_lost"] > 0  # said in /ready's page, the metrics and the log


def test_every_broker_says_how_it_can_be_had() -> None:
    reasons = {name: kind.missing() for name, kind in BROKERS.items()}
    assert list(reasons)[:3] == ["mosquitto", "rabbitmq", "hivemq"]
    for name, reason in reasons.items():
        assert reason is None or "install" in reason or "make brokers" in reason, name


def test_a_missing_tool_is_the_reason_of_the_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPSTREAM_SERVERS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, tool in {
        "rabbitmq": "apt-cache",
        "hivemq": "mvn",
        "artemis": "mvn",
        "moquette": "mvn",
        "aedes": "npm",
        "mochi": "go",
        "nats": "go",
    }.items():
        with pytest.raises(InstallFailed, match=f"needs {tool}"):
            install(name, lambda _: None)
        assert BROKERS[name].missing() is not None
    assert list((tmp_path / "brokers").iterdir()) == []  # nothing half installed


def test_a_connect_packet_carries_user_and_password() -> None:
    packet = connect_packet("kpstream", "right")
    assert packet[1] == len(packet) - 2
    assert packet.endswith(b"\x00\x08kpstream\x00\x05right")
