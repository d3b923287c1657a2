"""Paths into a message: ours, those of JMESPath, and those of `each`."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mapping.paths import ABSENT, parse_each, parse_path

DOCUMENT: dict[str, Any] = {
    "a": {"b": [10, {"c": 20}], "x y": 30, "d-e": None},
    "list": [{"n": "t", "v": 1}, {"n": "h", "v": 2}],
    "text": "abc",
    "json": '[215, {"v": 7}]',
    "": 5,
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("text", "abc"),
        ("a.b[0]", 10),
        ("a.b[-1].c", 20),
        ('a."x y"', 30),
        ("a.d-e", None),
        ("a.b[2]", ABSENT),
        ("a.b[-3]", ABSENT),
        ("a.b.c", ABSENT),
        ("a[0]", ABSENT),
        ("text[0]", ABSENT),
        ("text.a", ABSENT),
        ("nothing.at.all", ABSENT),
        ("list[?n=='h'] | [0].v", 2),
        ("list[?n=='x'] | [0].v", ABSENT),
        ("list[*].v", [1, 2]),
        ("sum(list[*].v)", 3),
        ("sum(list)", ABSENT),
        ("from_json(json)[0]", 215),
        ("from_json(json)[1].v", 7),
        ("from_json(text)", ABSENT),
        ("from_json(list)", ABSENT),
        ("length(nothing)", ABSENT),
    ],
)
def test_a_path_finds_what_is_there(path: str, expected: Any) -> None:
    assert parse_path(path).find(DOCUMENT) == expected


def test_a_rooted_path_begins_at_the_message() -> None:
    each = DOCUMENT["list"][0]
    assert parse_path("v").of(DOCUMENT, each) == 1
    assert parse_path("$.text").of(DOCUMENT, each) == "abc"
    assert parse_path("$[0]").of([7], each) == 7
    assert parse_path("$").of(DOCUMENT, each) is DOCUMENT
    assert parse_path("$.list[?v==`2`] | [0].n").of(DOCUMENT, each) == "h"


@pytest.mark.parametrize("path", ["", "a.", "a..b", ".a", "a[", "a[b]", "a b", "{a}", "x" * 501])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"neither a path|characters"):
        parse_path(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", [(DOCUMENT, {})]),
        ("list", [(each, {}) for each in DOCUMENT["list"]]),
        ("list[0]", [(DOCUMENT["list"][0], {})]),
        ("list[*].v", [(1, {}), (2, {})]),
        ("list.*.v", [(1, {}), (2, {})]),
        ("a.*", [(10, {}), ({"c": 20}, {}), (30, {}), (None, {})]),
        ("{k}.b", [(10, {"k": "a"}), ({"c": 20}, {"k": "a"})]),
        ("{k}.{m}", [
            (10, {"k": "a", "m": "b"}), ({"c": 20}, {"k": "a", "m": "b"}),
            (30, {"k": "a", "m": "x y"}), (None, {"k": "a", "m": "d-e"}),
        ]),
        ("text.*", []),
        ("nothing", []),
    ],
)  # fmt: skip
def test_each_yields_objects_and_places(path: str, expected: Any) -> None:
    assert list(parse_each(path).objects(DOCUMENT)) == expected


@pytest.mark.parametrize("path", ["", "a b", "{A}", "{a}.{a}", "a[", "x" * 501])
def test_what_is_no_path_of_each_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"write names|twice|characters"):
        parse_each(path)


names = st.sampled_from(["a", "b", "c"])
documents = st.recursive(
    st.integers() | st.text(max_size=2) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
)
steps = st.lists(names | st.integers(-3, 3), min_size=1, max_size=4)


@given(documents, steps)
def test_a_simple_path_is_what_jmespath_makes_of_it(document: Any, path: list[str | int]) -> None:
    text = "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in path)
    text = text.removeprefix(".")
    found = parse_path(text)
    assert found.steps == tuple(path)
    value = found.find(document)
    assert (None if value is ABSENT else value) == jmespath.search(text, document)


@given(st.text(max_size=20), documents)
def test_any_text_is_a_path_or_a_fault(text: str, document: Any) -> None:
    for parse in (parse_path, parse_each):
        try:
            parsed = parse(text)
        except ValueError:
            continue
        if hasattr(parsed, "find"):
            parsed.find(document)
        else:
            list(parsed.objects(document))
