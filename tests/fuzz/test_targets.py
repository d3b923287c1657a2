"""The fuzz targets accept any bytes, and nearly valid ones of their own kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.limits import examples, within
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
@examples(60)
@given(data=st.binary(max_size=300))
def test_a_target_takes_any_bytes(name: str, data: bytes) -> None:
    with within(10):
        TARGETS[name](data)
