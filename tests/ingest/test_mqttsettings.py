"""Endpoint, subscriptions and stale filters that follow from the settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ingest.mqttsettings import FORMER_SPARKPLUG, endpoint_of, stale_filters_of, subscriptions_of
from ingest.settings import IngestSettings

ALL, SHARE = "sensors/#", "$share/kpstream/sensors/#"
FORMER = ["sensors/+/+/+", "$share/kpstream/sensors/+/+/+", *FORMER_SPARKPLUG]


@pytest.mark.parametrize(
    ("settings", "subscribe", "stale"),
    [
        ({}, [ALL, "labels/#"], [SHARE]),
        ({"labels_prefix": ""}, [ALL], [SHARE]),
        ({"mqtt_shared_group": "kpstream"}, [SHARE, "$share/kpstream/labels/#"], [ALL]),
        (
            {"mqtt_shared_group": "own", "labels_prefix": "own/labels"},
            ["$share/own/sensors/#", "$share/own/own/labels/#"],
            [ALL, SHARE],
        ),
        (
            {"mqtt_sites": ("a", "b")},
            ["sensors/a/#", "sensors/b/#", "labels/a/#", "labels/b/#"],
            [ALL, SHARE],
        ),
    ],
)
def test_filters(settings: dict[str, Any], subscribe: list[str], stale: list[str]) -> None:
    found = IngestSettings(**settings)
    assert subscriptions_of(found) == subscribe
    assert stale_filters_of(found) == [*stale, *FORMER]


@pytest.mark.parametrize("prefix", ["sensors", "sensors/labels", "+", "labels/", "/labels", "a/#"])
def test_labels_have_topics_of_their_own(prefix: str) -> None:
    with pytest.raises(ValidationError):
        IngestSettings(labels_prefix=prefix)


def test_readings_below_the_labels_are_refused() -> None:
    with pytest.raises(ValidationError, match="share topics: change one"):
        IngestSettings(mqtt_prefix="labels/readings")


def test_only_the_bridge_itself_is_bound_to_mqtt_5_by_a_shared_group() -> None:
    settings = IngestSettings(mqtt_shared_group="kpstream", mqtt_password=SecretStr("secret"))
    assert endpoint_of(settings).protocol == "5"
    assert endpoint_of(settings).client_id == "kpstream-bridge"
    tool = endpoint_of(settings, client_id="tool")
    assert (tool.protocol, tool.client_id, tool.password) == ("auto", "tool", "secret")
