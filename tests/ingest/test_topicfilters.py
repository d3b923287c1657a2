"""What filters take and share is decided exactly: compared with all topics of a small world."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product

from hypothesis import example, given
from hypothesis import strategies as st

from ingest.topicfilters import TopicSet, covers, intersection, shared_topics, takes_topic

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
@example("+/#", "#")  # written apart, the same topics
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


PATTERNS = st.text(alphabet="ab*?", max_size=4)
TEXTS = ["".join(letters) for n in range(1, 7) for letters in product("ab", repeat=n)]


@given(st.lists(PATTERNS, min_size=1, max_size=2), st.lists(PATTERNS, min_size=1, max_size=2))
def test_patterns_of_one_level_decide_exactly(one: list[str], other: list[str]) -> None:
    shared = shared_topics(TopicSet("z/+", 1, tuple(one)), TopicSet("z/+", 1, tuple(other)))
    both = [
        text
        for text in TEXTS
        if any(fnmatchcase(text, p) for p in one) and any(fnmatchcase(text, p) for p in other)
    ]
    only_empty = {"", "*"}.issuperset({*one, *other}) and not both
    assert (shared is not None) == bool(both) or only_empty or shared_is_empty(one, other)


def shared_is_empty(one: list[str], other: list[str]) -> bool:
    """Whether the empty text fits both; no level with a device is empty."""
    return all(any(fnmatchcase("", p) for p in patterns) for patterns in (one, other))


def test_patterns_and_names_of_levels() -> None:
    plugs = TopicSet("z/+/state", 1, ("plug-*",))
    assert shared_topics(plugs, TopicSet("z/plug-3/state")) == "z/plug-3/state"
    assert shared_topics(plugs, TopicSet("z/door/state")) is None
    assert shared_topics(TopicSet("z/door/state"), plugs) is None
    assert shared_topics(plugs, TopicSet("z/#")) == "z/+/state"
    assert shared_topics(plugs, TopicSet("+/plug-1/+", 2, ("st*",))) == "z/plug-1/state"
    assert shared_topics(plugs, TopicSet("+/plug-1/+", 2, ("x*",))) is None
    assert shared_topics(TopicSet("z/+", 1, ("a[*]b",)), TopicSet("z/a*b")) == "z/a*b"
