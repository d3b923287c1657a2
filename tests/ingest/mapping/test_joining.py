"""Channels that come apart: the table of cases, and the same readings whatever the order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mapping.joining import JoinCounters, Joined, Joiner, JoinPlan

BY_POWER = JoinPlan(max_age_ms=100, lateness_ms=20, emit="p")
BY_RATE = JoinPlan(max_age_ms=100, lateness_ms=20, rate_hz=20)  # a step every 50 ms
Message = tuple[int, dict[str, float]]


def joined(
    plan: JoinPlan, messages: Iterable[Message], channels: Sequence[str] = ("p", "v")
) -> tuple[list[Joined], JoinCounters]:
    counters = JoinCounters()
    joiner = Joiner(plan, channels, counters)
    readings = [each for ts_ms, values in messages for each in joiner.add(ts_ms, values)]
    readings += joiner.flush()
    assert balanced(counters, joiner)
    return readings, counters


def balanced(counters: JoinCounters, joiner: Joiner) -> bool:
    accounts = asdict(counters)
    total = accounts.pop("values_total")
    del accounts["readings_total"]
    return bool(total == sum(accounts.values()) + joiner.waiting)


def rows(readings: Iterable[Joined]) -> list[tuple[int, float, float]]:
    return [(each.ts_ms, each.values["p"], each.values["v"]) for each in readings]


CASES: dict[str, tuple[JoinPlan, list[Message], list[tuple[int, float, float]], dict[str, int]]] = {
    "the newest value before the trigger counts": (
        BY_POWER,
        [(10, {"v": 1}), (20, {"v": 2}), (30, {"p": 7})],
        [(30, 7, 2)],
        {"used_total": 2, "superseded_total": 1},
    ),
    "a value serves for several readings": (
        BY_POWER,
        [(10, {"v": 1}), (20, {"p": 7}), (40, {"p": 8})],
        [(20, 7, 1), (40, 8, 1)],
        {"used_total": 3},
    ),
    "a value of the same moment counts, whatever comes first": (
        BY_POWER,
        [(20, {"p": 7}), (20, {"v": 1})],
        [(20, 7, 1)],
        {"used_total": 2},
    ),
    "a value later than the trigger does not": (
        BY_POWER,
        [(20, {"p": 7}), (21, {"v": 1})],
        [],
        {"incomplete_total": 1},
    ),
    "a value of max_age_ms is fresh": (
        BY_POWER,
        [(0, {"v": 1}), (100, {"p": 7})],
        [(100, 7, 1)],
        {"used_total": 2},
    ),
    "an older one is not": (
        BY_POWER,
        [(0, {"v": 1}), (101, {"p": 7})],
        [],
        {"incomplete_total": 1, "expired_total": 1},
    ),
    "within the lateness, the order of arrival means nothing": (
        BY_POWER,
        [(30, {"p": 7}), (11, {"v": 1}), (31, {"v": 3})],
        [(30, 7, 1)],
        {"used_total": 2},
    ),
    "beyond it, a trigger is late": (
        BY_POWER,
        [(10, {"v": 1}), (50, {"p": 7}), (30, {"p": 8})],
        [(50, 7, 1)],
        {"used_total": 2, "late_total": 1},
    ),
    "a late value of another channel still serves for the next reading": (
        BY_POWER,
        [(10, {"v": 1}), (50, {"p": 7}), (90, {"v": 9}), (60, {"v": 2}), (80, {"p": 8})],
        [(50, 7, 1), (80, 8, 2)],
        {"used_total": 4},
    ),
    "the same message again changes nothing": (
        BY_POWER,
        [(10, {"v": 1}), (10, {"v": 1}), (20, {"p": 7}), (20, {"p": 7})],
        [(20, 7, 1)],
        {"used_total": 2, "duplicates_total": 2},
    ),
    "of two numbers for one moment, the first counts": (
        BY_POWER,
        [(10, {"v": 1}), (10, {"v": 2}), (20, {"p": 7})],
        [(20, 7, 1)],
        {"used_total": 2, "superseded_total": 1},
    ),
    "at a rate: the steps of the epoch between first and last time": (
        BY_RATE,
        [(40, {"p": 7, "v": 1}), (60, {"p": 8}), (120, {"v": 2})],
        [(50, 7, 1), (100, 8, 1)],
        {"used_total": 3},
    ),
    "at a rate: no reading where a channel has no fresh value": (
        BY_RATE,
        [(40, {"p": 7, "v": 1}), (190, {"p": 8}), (290, {"v": 2}), (310, {"p": 9, "v": 3})],
        [(50, 7, 1), (100, 7, 1)],
        {"used_total": 2},
    ),
    "at a rate: nothing before every channel was heard": (
        BY_RATE,
        [(40, {"p": 7}), (110, {"v": 1}), (200, {"p": 8})],
        [(200, 8, 1)],
        {"used_total": 2, "expired_total": 1},
    ),
    "at a rate: a long pause costs nothing": (
        BY_RATE,
        [(0, {"p": 7, "v": 1}), (10**12, {"p": 8, "v": 2})],
        [(0, 7, 1), (50, 7, 1), (100, 7, 1), (10**12, 8, 2)],
        {"used_total": 4},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_table_of_cases(case: str) -> None:
    plan, messages, wanted, accounts = CASES[case]
    readings, counters = joined(plan, messages)
    assert rows(readings) == wanted
    found = asdict(counters)
    assert {name: found[name] for name in accounts} == accounts


# -- whatever the order, the duplicates, the cuts and the restarts --------------------------


def defined(plan: JoinPlan, messages: Sequence[Message], channels: Sequence[str]) -> list[Joined]:
    """The readings by definition, from all values at once."""
    known = {c: {ts: v[c] for ts, v in messages if c in v} for c in channels}
    newest = max(ts for ts, _ in messages)
    if plan.emit is not None:
        times = sorted(known[plan.emit])
    else:
        step = 1000 / (plan.rate_hz or 1)
        grid = {round(k * step) for k in range(int(newest / step) + 2)}
        times = sorted(ts for ts in grid if ts <= newest)
    readings = []
    for t in times:
        row = {}
        for c in channels:
            fresh = [ts for ts in known[c] if 0 <= t - ts <= plan.max_age_ms]
            if fresh:
                row[c] = known[c][max(fresh)]
        if len(row) == len(channels):
            readings.append(Joined(t, row))
    return readings


plans = st.builds(
    JoinPlan,
    max_age_ms=st.integers(1, 120),
    lateness_ms=st.integers(0, 60),
    emit=st.just("p"),
) | st.builds(
    JoinPlan,
    max_age_ms=st.integers(1, 120),
    lateness_ms=st.integers(0, 60),
    rate_hz=st.sampled_from([3.0, 7.5, 20.0, 33.3, 100.0]),
)


@st.composite
def streams(draw: st.DrawFn) -> list[Message]:
    """Messages of one to three channels, in the order of their times; no moment twice."""
    cells = draw(
        st.sets(st.tuples(st.integers(0, 600), st.sampled_from("pvq")), min_size=1, max_size=40)
    )
    by_time: dict[int, dict[str, float]] = {}
    for number, (ts_ms, channel) in enumerate(sorted(cells)):
        by_time.setdefault(ts_ms, {})[channel] = float(number)
    return list(by_time.items())


def arrivals(
    messages: Sequence[Message], lateness_ms: int, rng: random.Random, *, twice: float
) -> list[tuple[int, dict[str, float]]]:
    """The values one by one, delayed by less than the lateness, some of them twice."""
    events = []
    for ts_ms, values in messages:
        for channel, value in values.items():
            for _ in range(1 + (rng.random() < twice)):
                delay = rng.random() * lateness_ms * 0.999
                events.append((ts_ms + delay, rng.random(), ts_ms, {channel: value}))
    return [(ts_ms, values) for *_, ts_ms, values in sorted(events, key=lambda e: e[:2])]


def in_order(readings: Iterable[Joined]) -> list[Joined]:
    return sorted(readings, key=lambda each: each.ts_ms)


@given(streams(), plans, st.randoms(use_true_random=False), st.sampled_from([0, 0.5]))
def test_any_order_within_the_lateness_gives_the_readings_of_the_definition(
    messages: list[Message], plan: JoinPlan, rng: random.Random, twice: float
) -> None:
    found, counters = joined(plan, arrivals(messages, plan.lateness_ms, rng, twice=twice), "pvq")
    if plan.lateness_ms:
        assert in_order(found) == defined(plan, messages, "pvq")
    whole, _ = joined(plan, messages, "pvq")
    assert in_order(whole) == defined(plan, messages, "pvq")
    assert counters.late_total == 0 or plan.lateness_ms == 0


@given(streams(), plans, st.randoms(use_true_random=False), st.data())
def test_a_kill_and_a_restore_at_any_point_give_the_same_readings(
    messages: list[Message], plan: JoinPlan, rng: random.Random, data: st.DataObject
) -> None:
    line = arrivals(messages, plan.lateness_ms, rng, twice=0.3)
    undisturbed, _ = joined(plan, line, "pvq")
    counters = JoinCounters()
    joiner = Joiner(plan, "pvq", counters)
    found: list[Joined] = []
    durable = joiner.state()
    kept = at = 0
    kills = 0
    while at < len(line):
        found += joiner.add(*line[at])
        at += 1
        if data.draw(st.booleans()):
            durable, kept = joiner.state(), at
        elif kills < 5 and data.draw(st.booleans()):
            kills += 1
            joiner = Joiner(plan, "pvq", counters, durable)
            at = kept  # what was not acknowledged comes again
    found += joiner.flush()
    assert in_order(
        {(each.ts_ms, tuple(each.values.items())): each for each in found}.values()
    ) == (in_order(undisturbed))


@given(streams(), plans, st.randoms(use_true_random=False))
def test_every_value_comes_to_exactly_one_account_whatever_comes_when(
    messages: list[Message], plan: JoinPlan, rng: random.Random
) -> None:
    line = arrivals(messages, 400, rng, twice=0.4)  # far beyond the lateness
    counters = JoinCounters()
    joiner = Joiner(plan, "pvq", counters)
    made = 0
    for number, (ts_ms, values) in enumerate(line):
        made += len(joiner.add(ts_ms, values, is_dup=rng.random() < 0.2))
        if number % 7 == 3:
            made += len(joiner.flush())
        assert balanced(counters, joiner)
    joiner.drop()
    assert balanced(counters, joiner)
    assert joiner.waiting == 0
    assert counters.readings_total == made
    assert counters.values_total == len(line)


def test_a_device_that_floods_a_joiner_shortens_its_own_lateness() -> None:
    plan = JoinPlan(max_age_ms=86_400_000, lateness_ms=60_000, emit="p")
    counters = JoinCounters()
    joiner = Joiner(plan, ("p", "v"), counters)
    made = 0
    for ts_ms in range(20_000):
        made += len(joiner.add(ts_ms, {"p" if ts_ms % 2 else "v": ts_ms}))
        assert joiner.kept <= 4097
    made += len(joiner.flush())
    for ts_ms in range(20_000, 40_000):  # late ones that may still serve replace each other
        joiner.add(ts_ms - 20_000 + 1, {"v": 1.0})
        assert joiner.kept <= 4097
    assert made == 10_000
    assert balanced(counters, joiner)


@pytest.mark.parametrize(
    "faulty",
    [
        {},
        {"emit": "p", "rate_hz": 1.0},
        {"rate_hz": 0.0},
        {"rate_hz": 1001.0},
        {"rate_hz": 1000.0, "max_age_ms": 10_001},
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(faulty: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"emit|rate_hz|max_age_ms"):
        JoinPlan(**{"max_age_ms": 100, "lateness_ms": 0, **faulty})  # type: ignore[arg-type]


def test_a_state_of_other_channels_is_refused() -> None:
    state = Joiner(BY_POWER, ("p", "v"), JoinCounters()).state()
    with pytest.raises(ValueError, match="not p, q"):
        Joiner(BY_POWER, ("p", "q"), JoinCounters(), state)
