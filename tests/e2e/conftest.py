"""Cleanup after every end-to-end test, so that no thread publishes into the next one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.devices import abandon_all


@pytest.fixture(autouse=True)
def _no_devices_are_left_behind() -> Iterator[None]:
    yield
    abandon_all()
