"""Sets of MQTT topics: which topics a filter takes, and which topics two filters share. Pure.

The topics that two filters share are those of one filter again, so `intersection` decides exactly
whether two formats would claim the same topic, and names those topics.

1. `+` stands for one level, `#` at the end for any number of levels, even none: `a/#` takes `a`.
2. A wildcard at the first level takes no topic that begins with `$` (MQTT 5, 4.7.2).
3. A shared subscription (`$share/<group>/<filter>`) takes the topics of its filter.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["covers", "intersection", "takes_topic"]

_WILDCARDS = frozenset("+#")


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
    """
    return intersection(wider, narrower) == "/".join(_levels(narrower))


def _levels(mqtt_filter: str) -> Sequence[str]:
    levels = mqtt_filter.split("/")
    return levels[2:] if levels[0] == "$share" and len(levels) > 2 else levels


def _at(levels: Sequence[str], at: int) -> str | None:
    """Return a level, or None behind the end."""
    return levels[at] if at < len(levels) else None
