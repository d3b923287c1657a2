"""Series per device: bounded, stable, and none of their counters ever falls."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.console.metrics import OTHER, DeviceSeries, exposition
from pipeline.status.counters import DeviceAccount
from tests.fakes.view import FakeView


def account(device: str, received: int) -> DeviceAccount:
    return DeviceAccount("plant", device, "engine", received=received, windowed=received)


def shown(series: DeviceSeries, *accounts: DeviceAccount) -> dict[str, int]:
    return {each.device: each.received for each in series.choose(accounts)}


def test_a_small_fleet_has_no_others() -> None:
    series = DeviceSeries(2)
    assert shown(series) == {}
    assert shown(series, account("a", 1), account("b", 2)) == {"a": 1, "b": 2}


def test_the_busiest_are_shown_and_keep_their_series() -> None:
    series = DeviceSeries(2)
    a, b, c, d = (account(name, count) for name, count in zip("abcd", (5, 9, 7, 1), strict=True))
    assert shown(series, a, b, c, d) == {"b": 9, "c": 7, OTHER.device: 6}
    d = replace(d, received=1000)
    assert shown(series, a, b, c, d) == {"b": 9, "c": 7, OTHER.device: 1005}
    assert shown(series, a, c, d) == {"c": 7, "d": 1000, OTHER.device: 1005}  # d takes b's place
    a = replace(a, received=8)
    assert shown(series, a, c, d) == {"c": 7, "d": 1000, OTHER.device: 1008}


def test_nobody_may_have_series_of_their_own() -> None:
    assert shown(DeviceSeries(0), account("a", 1), account("b", 2)) == {OTHER.device: 3}


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5), max_size=6), max_size=12)
)
def test_the_counters_of_the_others_never_fall(scrapes: list[dict[str, int]]) -> None:
    series, counts, last = DeviceSeries(2), dict.fromkeys("abcdef", 0), 0
    for scrape in scrapes:
        for name, more in scrape.items():
            counts[name] += more
        found = shown(series, *(account(name, counts[name]) for name in sorted(scrape)))
        assert len(found) <= 3
        assert found.get(OTHER.device, last) >= last
        last = found.get(OTHER.device, last)


def test_what_the_broker_keeps_is_served() -> None:
    lines = exposition(FakeView(0)).decode().splitlines()
    assert "kpstream_sessions_lost_total 2.0" in lines
    assert "kpstream_promise_void 0.0" in lines
    assert "kpstream_session_expiry_seconds 86400.0" in lines
    assert "kpstream_session_expiry_asked_seconds 604800.0" in lines
