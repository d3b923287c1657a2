"""The doctor's steps at real brokers: mosquitto with and without rights, amqtt."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from deploy.doctor.brokercheck import broker_check
from deploy.doctor.brokerchecks import check_broker
from deploy.doctor.findings import Finding
from ingest.mqtt.broker import LocalBroker
from ingest.patience import Patience
from ingest.settings import IngestSettings
from tests.fakes.ports import free_port

ACL = """
user all
topic readwrite sensors/#
topic read $SYS/broker/#
user reads
topic read sensors/#
user writes
topic write sensors/#
"""


GOOD = {"TCP": "ok", "CONNECT": "ok", "SUBSCRIBE": "ok", "PUBLISH": "ok"}


def states(findings: list[Finding]) -> dict[str, str]:
    """State of each step; not of `queue`, because mosquitto keeps the number for a minute only."""
    return {
        each.text.partition(":")[0] if each.name == "broker" else each.name: each.state
        for each in findings
        if each.name != "queue"
    }


def queue(findings: list[Finding]) -> Finding:
    (found,) = [each for each in findings if each.name == "queue"]
    return found


def ask(port: int, changes: Any = None, **settings: Any) -> list[Finding]:
    ingest = IngestSettings(mqtt_port=port, **settings)
    check = replace(broker_check(ingest), **({"patience": Patience(first_s=30)} | (changes or {})))
    return list(check_broker(check))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, mosquitto_program: str) -> Iterator[int]:
    """A mosquitto with the users of `ACL`; yields its port."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    (folder / "acl").write_text(ACL)
    for name in ("all", "reads", "writes"):
        create = [] if (folder / "passwords").exists() else ["-c"]
        command = ["mosquitto_passwd", *create, "-b", str(folder / "passwords"), name, "right"]
        subprocess.run(command, check=True, capture_output=True)
    listeners = (
        f"listener {port} 127.0.0.1\nallow_anonymous false\n"
        f"password_file {folder}/passwords\nacl_file {folder}/acl\n"
    )
    with LocalBroker(folder / "mq", port=port, listeners=listeners):
        yield port


@pytest.mark.parametrize(
    ("name", "protocol", "differs"),
    [
        ("all", "auto", {}),
        ("all", "3.1.1", {}),
        ("reads", "5", {"PUBLISH": "unknown"}),
        ("reads", "3.1.1", {"PUBLISH": "unknown"}),
        ("writes", "5", {"PUBLISH": "fail"}),
        ("writes", "3.1.1", {"PUBLISH": "unknown"}),
    ],
)
def test_the_rights_of_a_user_decide(
    guarded: int, name: str, protocol: Any, differs: dict[str, str]
) -> None:
    found = ask(
        guarded,
        {"back_s": 1.0} if differs else None,
        mqtt_username=name,
        mqtt_password="right",
        mqtt_protocol=protocol,
    )
    assert states(found) == GOOD | differs
    if name == "all":
        assert "(mosquitto version" in queue(found).text
    else:
        assert queue(found).state == "unknown"


def test_a_wrong_password_is_refused_by_connect(guarded: int) -> None:
    found = ask(guarded, mqtt_username="all", mqtt_password="wrong")
    (failed,) = [each for each in found if each.state == "fail"]
    assert failed.text == "CONNECT: the broker refuses us: Not authorized"
    assert "KPSTREAM_INGEST_MQTT_PASSWORD" in failed.advice


@pytest.mark.needs_mosquitto
def test_topics_that_nothing_reads_are_counted_by_shape(tmp_path: Path) -> None:
    topics = {"sensors/p/d/s": 1, "Sensors/p/d/s": 2, "tele/plug-1/STATE": 3}
    with LocalBroker(tmp_path, port=free_port(), kind="mosquitto") as local:
        sender = paho.Client(CallbackAPIVersion.VERSION2)
        sender.connect(local.host, local.port)
        sender.loop_start()
        for topic, number in topics.items():
            for n in range(number):
                sender.publish(f"{topic}{n}", b"x", qos=1, retain=True).wait_for_publish(10)
        sender.disconnect()
        sender.loop_stop()
        found = ask(local.port)
        assert states(ask(local.port, {"prefixes": ()})) == GOOD
    assert states(found) == GOOD | {"topics": "warn"}, "one differs from ours in letter case only"
    assert found[-1].text.endswith(": tele/+/+ 3, Sensors/+/+/+ 2")


def test_amqtt_ignores_version_5_and_passes_with_3_1_1(tmp_path: Path) -> None:
    with LocalBroker(tmp_path, port=free_port(), kind="amqtt") as local:
        found = ask(local.port, {"patience": Patience(first_s=2.0)})
    assert states(found) == GOOD
    assert queue(found).state == "unknown"
    assert "accepted with MQTT 3.1.1" in found[1].text
    assert "has not answered our CONNECT (MQTT 5) for 2 s" in found[1].text
