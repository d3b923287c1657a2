"""For every end-to-end test: what it started and did not stop publishes into no other test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.devices import abandon_all


@pytest.fixture(autouse=True)
def _no_devices_are_left_behind() -> Iterator[None]:
    yield
    abandon_all()
