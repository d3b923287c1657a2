"""Sets of MQTT topics: which topics a filter takes, and which topics two filters share. Pure.

The topics that two filters share are those of one filter again, so `intersection` decides exactly
whether two formats would claim the same topic, and names those topics.

1. `+` stands for one level, `#` at the end for any number of levels, even none: `a/#` takes `a`.
2. A wildcard at the first level takes no topic that begins with `$` (MQTT 5, 4.7.2).
3. A shared subscription (`$share/<group>/<filter>`) takes the topics of its filter.

A format may leave out some of the topics that its filters take: a `TopicSet` is a filter with
patterns for one of its levels. Those are of `fnmatch`, so `shared_topics` decides exactly for `*`
and `?`, and takes `[...]` for any character, which may find a topic where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["TopicSet", "covers", "intersection", "shared_topics", "takes_topic"]

_WILDCARDS = frozenset("+#")
_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^]]*\]|.", re.DOTALL)


class TopicSet(NamedTuple):
    """Topics that a filter takes and of which one level fits one of some patterns.

    Attributes:
        filter: MQTT filter.
        level: Number of the level, from 0.
        patterns: Patterns of `fnmatch`; empty: every level fits.
    """

    filter: str
    level: int = 0
    patterns: tuple[str, ...] = ()


def takes_topic(mqtt_filter: str, topic: str) -> bool:
    """Whether a filter takes a topic.

    >>> takes_topic("tele/+/SENSOR", "tele/press-2/SENSOR"), takes_topic("a/#", "a")
    (True, True)
    >>> takes_topic("#", "$SYS/uptime"), takes_topic("a/+", "a/b/c")
    (False, False)
    """
    wanted, levels = _levels(mqtt_filter), topic.split("/")
    if wanted[0] in _WILDCARDS and levels[0].startswith("$"):
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(levels) == len(wanted)


def intersection(first: str, second: str) -> str | None:
    """Return the filter for the topics that two filters share; None if they share none.

    >>> intersection("tele/+/SENSOR", "tele/press-2/#")
    'tele/press-2/SENSOR'
    >>> intersection("a/#", "+"), intersection("a/+", "a/b/c"), intersection("#", "$SYS/#")
    ('a', None, None)
    """
    one, other = _levels(first), _levels(second)
    if any(a[0] in _WILDCARDS and b[0].startswith("$") for a, b in ((one, other), (other, one))):
        return None
    shared: list[str] = []
    for at in range(max(len(one), len(other))):
        a, b = _at(one, at), _at(other, at)
        if a == "#":
            return "/".join((*shared, *other[at:]))
        if b == "#":
            return "/".join((*shared, *one[at:]))
        if a is None or b is None or (a != b and "+" not in (a, b)):
            return None
        shared.append(b if a == "+" else a)
    return "/".join(shared)


def covers(wider: str, narrower: str) -> bool:
    """Whether a filter takes every topic that another one takes.

    >>> covers("sensors/#", "sensors/+/press-2"), covers("sensors/#", "+/+/press-2")
    (True, False)
    >>> covers("+/#", "#"), covers("a/+/#", "a/#")  # every topic has a first level
    (True, False)
    """
    levels = _levels(narrower)
    if levels == ["#"]:
        levels = ["+", "#"]
    narrowest = "/".join(levels)
    return intersection(wider, narrowest) == narrowest


def shared_topics(first: TopicSet, second: TopicSet) -> str | None:
    """Return the filter for the topics that two sets share; None if they share none.

    >>> plugs = TopicSet("zigbee2mqtt/+", 1, ("plug-*",))
    >>> shared_topics(plugs, TopicSet("zigbee2mqtt/+", 1, ("door-*", "window")))
    >>> shared_topics(plugs, TopicSet("zigbee2mqtt/+", 1, ("*-3",)))
    'zigbee2mqtt/+'
    """
    shared = intersection(first.filter, second.filter)
    if shared is None:
        return None
    levels = shared.split("/")
    for one, other in ((first, second), (second, first)):
        level = levels[one.level] if one.level < len(levels) else "#"
        others = other.patterns if other.level == one.level else ()
        if level not in _WILDCARDS:
            others = (_literal(level),)
        if one.patterns and others:
            if not any(_can_both_match(a, b) for a in one.patterns for b in others):
                return None
    return shared


def _literal(text: str) -> str:
    """Return a pattern that matches one text only."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


def _can_both_match(first: str, second: str) -> bool:
    """Whether some text fits two patterns of `fnmatch`."""
    one, other = _TOKEN.findall(first), _TOKEN.findall(second)
    ends = {(0, 0)}  # pairs of positions that one text can reach
    line = [(0, 0)]
    while line:
        a, b = line.pop()
        following = []
        if a < len(one) and one[a][0] == "*":
            following += [(a + 1, b)] + ([(a, b + 1)] if b < len(other) else [])
        if b < len(other) and other[b][0] == "*":
            following += [(a, b + 1)] + ([(a + 1, b)] if a < len(one) else [])
        if a < len(one) and b < len(other) and _can_be_same(one[a], other[b]):
            following.append((a + 1, b + 1))
        line += [each for each in following if each not in ends]
        ends.update(following)
    return (len(one), len(other)) in ends


def _can_be_same(one: str, other: str) -> bool:
    """Whether two tokens can stand for the same character."""
    return one == other or any(each[0] in "?[" for each in (one, other))


def _levels(mqtt_filter: str) -> Sequence[str]:
    levels = mqtt_filter.split("/")
    return levels[2:] if levels[0] == "$share" and len(levels) > 2 else levels


def _at(levels: Sequence[str], at: int) -> str | None:
    """Return a level, or None behind the end."""
    return levels[at] if at < len(levels) else None
