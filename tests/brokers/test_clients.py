"""What the control subscriber counts."""

from __future__ import annotations

import json

import pytest

from ingest.simulators.fleet import _GARBAGE
from tests.brokers.clients import _readings
from tests.e2e.devices import payload


def test_readings_of_both_forms_are_counted() -> None:
    assert _readings(payload(0, 10, 1_750_000_000_000)) == 10
    assert _readings(json.dumps({"ts": 1_750_000_000_000, "values": {"T24": 641.8}}).encode()) == 1


@pytest.mark.parametrize("body", _GARBAGE)
def test_a_message_that_has_to_be_refused_has_none(body: bytes) -> None:
    assert _readings(body) == 0
