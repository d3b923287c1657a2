"""The compose file of a gateway: current, and as open, secret and hardened as that of a site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.gateway.compose import compose, compose_text
from deploy.settings.doc import env_name, settings_classes
from deploy.stack.composefile import CONFINED

FOLDER = Path(__file__).parents[3] / "deploy/gateway"
STACK = yaml.safe_load((FOLDER.parent / "stack/compose.yaml").read_text())


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def test_the_file_in_the_repository_is_current() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    assert text == compose_text(), "python -m deploy.gateway.compose > deploy/gateway/compose.yaml"
    assert yaml.safe_load(text) == compose()


def test_broker_influxdb_and_grafana_are_those_of_a_site(services: dict[str, Any]) -> None:
    for name in ("mosquitto", "influxdb"):
        assert services[name] == STACK["services"][name]
    grafana = dict(STACK["services"]["grafana"])
    del grafana["profiles"]
    assert services["grafana"] == grafana
    assert compose()["configs"] == STACK["configs"]


def test_ports_are_open_on_loopback_only_and_each_once(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)
    assert len(ports) == len(set(ports)) == 4


def test_no_password_and_no_token_is_in_the_file(services: dict[str, Any]) -> None:
    variables = [name for each in services.values() for name in each.get("environment", {})]
    assert [name for name in variables if re.search("PASSWORD$|TOKEN$", name)] == []


def test_our_variables_are_settings(services: dict[str, Any]) -> None:
    known = {env_name(cls, field) for cls in settings_classes() for field in cls.model_fields}
    for name in ("setup", "gateway"):
        ours = {key for key in services[name]["environment"] if key.startswith("KPSTREAM_")}
        assert ours <= known


def test_our_containers_are_confined(services: dict[str, Any]) -> None:
    for name in ("setup", "gateway"):
        assert CONFINED.items() <= services[name].items()


def test_a_container_has_only_the_secrets_it_needs(services: dict[str, Any]) -> None:
    has = {
        name: {volume.split(":")[0] for volume in service.get("volumes", [])}
        for name, service in services.items()
    }
    assert {name for name, volumes in has.items() if "secrets" in volumes} == {"setup", "gateway"}
    tokens = {name for name, volumes in has.items() if "grafana-token" in volumes}
    assert tokens == {"setup", "grafana"}
    assert "state" not in has["grafana"]
    named = {volume for volume in set().union(*has.values()) if not volume.startswith(".")}
    assert named == set(compose()["volumes"])


def test_every_path_of_the_repository_exists(services: dict[str, Any]) -> None:
    mounts = [volume.split(":")[0] for volume in services["grafana"]["volumes"]]
    for path in [path for path in mounts if path.startswith(".")]:
        assert (FOLDER / path).is_dir(), path
    build = services["gateway"]["build"]
    assert (FOLDER / build["context"] / "pyproject.toml").is_file()


def test_what_waits_for_the_set_up_waits_for_its_end(services: dict[str, Any]) -> None:
    for name in ("gateway", "grafana"):
        condition = services[name]["depends_on"]["setup"]["condition"]
        assert condition == "service_completed_successfully"
