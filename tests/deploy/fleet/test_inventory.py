"""The inventory: what is filled in, and that every fault is named before a host is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.fleet.errors import InventoryInvalid
from deploy.fleet.inventory import read_inventory

GOOD = """
[defaults]
user = "pi"
bundles = ["b.tar"]
group = "hall-1"

[defaults.settings]
KPSTREAM_INGEST_MQTT_PORT = "1884"
KPSTREAM_PIPELINE_LATENESS_MS = "300"

[hosts.press-7]
address = "192.0.2.7"

[hosts.press-8]
address = "press-8.plant.example"
group = "hall-2"
port = 2222

[hosts.press-8.settings]
KPSTREAM_INGEST_MQTT_PORT = "1885"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "b.tar").write_bytes(b"")
    found = tmp_path / "inventory.toml"
    found.write_text(GOOD)
    return found


def test_a_host_takes_the_defaults_that_it_does_not_say(path: Path) -> None:
    first, second = read_inventory(path).hosts
    assert (first.name, first.user, first.group, first.port) == ("press-7", "pi", "hall-1", None)
    assert (second.user, second.group, second.port) == ("pi", "hall-2", 2222)
    assert first.bundles == (path.parent / "b.tar",)
    assert second.settings == {
        "KPSTREAM_INGEST_MQTT_PORT": "1885",
        "KPSTREAM_PIPELINE_LATENESS_MS": "300",
        "KPSTREAM_GATEWAY_NAME": "press-8",
        "KPSTREAM_ROLLOUT_GROUP": "hall-2",
    }


def test_hosts_are_chosen_by_name_and_by_group(path: Path) -> None:
    inventory = read_inventory(path)
    assert [host.name for host in inventory.limited(("press-7",), ()).hosts] == ["press-7"]
    assert [host.name for host in inventory.limited((), ("hall-2",)).hosts] == ["press-8"]
    assert len(inventory.limited((), ()).hosts) == 2
    with pytest.raises(InventoryInvalid, match="no host or group hall-9, press-9"):
        inventory.limited(("press-9",), ("hall-9",))


FAULTS = {
    "no toml": ("hosts = [", "is no TOML file"),
    "no hosts": ("[defaults]\n", "hosts: Field required"),
    "option as address": (GOOD.replace("192.0.2.7", "-oProxyCommand=x"), "hosts.press-7.address"),
    "command as address": (GOOD.replace("192.0.2.7", "h; reboot"), "hosts.press-7.address"),
    "user": (GOOD.replace('"pi"', '"pi $(id)"'), "defaults.user"),
    "name": (GOOD.replace("[hosts.press-7]", '[hosts."a b"]'), "hosts.a b"),
    "python": (GOOD.replace("port = 2222", 'python = "python3; x"'), "hosts.press-8.python"),
    "unknown word": (GOOD.replace("user =", "usr ="), "defaults.usr"),
    "missing bundle": (GOOD.replace("b.tar", "c.tar"), "there is no bundle .*c.tar"),
    "no bundle": (GOOD.replace('bundles = ["b.tar"]', ""), "it has no bundles"),
    "unknown setting": (GOOD.replace("LATENESS_MS", "LATNESS_MS"), "there is no setting"),
    "quotation mark": (GOOD.replace('"1885"', '"1\'5"'), "quotation mark"),
    "line in a value": (GOOD.replace('"1885"', '"1\\nX=2"'), "control character"),
    "secret": (
        GOOD.replace("KPSTREAM_PIPELINE_LATENESS_MS", "KPSTREAM_PIPELINE_INFLUX_TOKEN"),
        "it holds KPSTREAM_PIPELINE_INFLUX_TOKEN, .* chmod 600",
    ),
}


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(InventoryInvalid, match=said):
        read_inventory(path)


def test_a_secret_is_taken_from_a_file_of_ones_own(path: Path) -> None:
    path.write_text(FAULTS["secret"][0])
    path.chmod(0o600)
    assert read_inventory(path).hosts[0].settings["KPSTREAM_PIPELINE_INFLUX_TOKEN"] == "300"


def test_every_fault_is_told_at_once(path: Path) -> None:
    path.write_text(GOOD.replace("b.tar", "c.tar").replace("LATENESS_MS", "LATNESS_MS"))
    with pytest.raises(InventoryInvalid) as told:
        read_inventory(path)
    assert str(told.value).count("\n") == 4
