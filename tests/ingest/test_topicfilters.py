"""What filters take and share is decided exactly: compared with all topics of a small world."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from ingest.topicfilters import covers, intersection, takes_topic

LEVELS = ("", "a", "b", "$a")
TOPICS = ["/".join(levels) for n in (1, 2, 3, 4) for levels in product(LEVELS, repeat=n)]


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.sampled_from((*LEVELS, "+")), min_size=1, max_size=3))
    if draw(st.booleans()):
        levels = [*levels, "#"] if draw(st.booleans()) or len(levels) > 1 else ["#"]
    return "/".join(levels)


def of(mqtt_filter: str | None) -> set[str]:
    if mqtt_filter is None:
        return set()
    return {topic for topic in TOPICS if takes_topic(mqtt_filter, topic)}


@given(filters(), filters())
def test_the_intersection_takes_exactly_the_topics_that_both_filters_take(a: str, b: str) -> None:
    shared = intersection(a, b)
    assert of(shared) == of(a) & of(b)
    assert (shared is None) == (not of(a) & of(b))
    assert of(intersection(b, a)) == of(shared)


@given(filters(), filters())
def test_a_filter_covers_another_if_it_takes_all_of_its_topics(a: str, b: str) -> None:
    assert covers(a, b) == (of(b) <= of(a)) or not of(b)


def test_the_rules_of_mqtt_for_wildcards() -> None:
    assert takes_topic("sport/tennis/#", "sport/tennis")
    assert takes_topic("+/monitor", "/monitor")
    assert takes_topic("+/+", "/finance")
    assert not takes_topic("+", "/finance")
    assert not takes_topic("+/monitor/clients", "$SYS/monitor/clients")
    assert takes_topic("$SYS/#", "$SYS/monitor/clients")


def test_a_share_takes_the_topics_of_its_filter() -> None:
    assert takes_topic("$share/g/a/+", "a/b")
    assert intersection("$share/g/a/+", "a/b") == "a/b"
    assert covers("$share/g/a/#", "$share/h/a/b")
