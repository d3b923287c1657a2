"""Topic patterns with places agree with the MQTT filters that they subscribe to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mapping.patterns import parse_pattern, parse_template
from ingest.topicfilters import takes_topic
from ingest.topics import is_name

levels = st.sampled_from(["a", "b", "", "$SYS", "é", "a+"])
topics = st.lists(st.sampled_from(["a", "b", "", "$SYS", "é\n"]), min_size=1, max_size=4).map(
    "/".join
)


@st.composite
def _patterns(draw: st.DrawFn) -> str:
    kinds = draw(st.lists(st.sampled_from(["a", "b", "+", "{}", "x{}"]), min_size=1, max_size=4))
    found = [kind.format(f"{{p{at}}}") for at, kind in enumerate(kinds)]
    return "/".join([*found, *draw(st.sampled_from([[], ["#"]]))])


@given(_patterns(), topics)
def test_what_a_pattern_takes_its_filter_takes(text: str, topic: str) -> None:
    pattern = parse_pattern(text)
    places = pattern.places(topic)
    if places is not None:
        assert takes_topic(pattern.filter, topic)
        assert tuple(places) == pattern.names
        assert all(places.values())
    elif "" not in topic.split("/") and "x" not in text:
        assert not takes_topic(pattern.filter, topic)


@pytest.mark.parametrize("topic", ["$SYS", "$SYS/a", "$SYS/a/b"])
def test_no_wildcard_takes_a_topic_of_the_broker(topic: str) -> None:
    assert [parse_pattern(text).places(topic) for text in ("#", "+/#", "{a}", "{a}/{b}")] == [
        None
    ] * 4


@given(st.text(min_size=1), st.text(min_size=1))
def test_what_places_say_is_always_a_name_of_its_own(one: str, other: str) -> None:
    template = parse_template("dev-{a}")
    names = template.fill({"a": one}), template.fill({"a": other})
    assert all(map(is_name, names))
    assert (names[0] == names[1]) == (one == other)
