"""Settings of a gateway that follows a centre: what is refused, and with which advice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploy.settings.errors import settings_problems
from deploy.settings.rolloutsettings import RolloutSettings

ROOT = Path("/etc/kpstream/root.json")


def test_without_settings_a_gateway_follows_no_centre() -> None:
    settings = RolloutSettings()
    assert settings.url is None
    assert settings.hold is None, "the centre decides"


@pytest.mark.parametrize(
    "url",
    [
        "https://centre.example/kpstream",
        "http://127.0.0.1:8800",
        "http://localhost:8800/repository",
        "http://[::1]:8800",
        "/media/usb/repository",
        "/media/usb stick/repository",
        "file:///media/usb/repository",
    ],
)
def test_address_is_taken(url: str) -> None:
    assert RolloutSettings(url=url, root_file=ROOT).url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://centre.example",
        "ftp://127.0.0.1",
        "https://",
        "repository",
        "",
        "https:/centre",
        "https://centre.example/?state=1",
        "file://centre.example/repository",
    ],
)
def test_other_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RolloutSettings(url=url, root_file=ROOT)
    assert "KPSTREAM_ROLLOUT_URL" in settings_problems(caught.value)[0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"url": "https://centre.example"}, "KPSTREAM_ROLLOUT_ROOT_FILE"),
        ({"mqtt_username": "gateway"}, "KPSTREAM_ROLLOUT_MQTT_HOST"),
        ({"mqtt_tls": True}, "KPSTREAM_ROLLOUT_MQTT_HOST"),
        ({"mqtt_host": "b", "mqtt_ca_file": ROOT}, "KPSTREAM_ROLLOUT_MQTT_TLS"),
        ({"pin": {"rul-fd001": 0}}, "KPSTREAM_ROLLOUT_PIN"),
        ({"pin": {"../x": 1}}, "KPSTREAM_ROLLOUT_PIN"),
        ({"window": "24:00-01:00"}, "KPSTREAM_ROLLOUT_WINDOW"),
        ({"window": "1:00-2:00"}, "KPSTREAM_ROLLOUT_WINDOW"),
        ({"group": "a/b"}, "KPSTREAM_ROLLOUT_GROUP"),
    ],
)
def test_invalid_setting_names_its_variable(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RolloutSettings(**values)
    assert told in settings_problems(caught.value)[0]


def test_pins_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_ROLLOUT_PIN", '{"rul-fd001": 3}')
    assert RolloutSettings().pin == {"rul-fd001": 3}
