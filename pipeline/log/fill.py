"""What fills the log: its largest topics, and which group still has to read them."""

from __future__ import annotations

from pipeline.log.state import LogState, Topic

__all__ = ["describe_fill"]

_SHOWN = 3
_LEAST_SHARE = 0.05
"""Share of the content below which a topic explains nothing."""


def describe_fill(state: LogState) -> str:
    """Describe the largest topics, and the reason why their records are still there.

    An example is "readings 81 % (kpstream-score has 5120 records to read), dead-letters 10 %
    (nobody reads it)".
    """
    sizes = {
        name: sum(part.size_bytes for part in topic.partitions)
        for name, topic in list(state.topics.items())
    }
    total = max(sum(sizes.values()), 1)
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
    shown = [
        f"{name} {100 * sizes[name] / total:.0f} % ({_reason(state, state.topics[name])})"
        for name in largest
        if sizes[name] >= _LEAST_SHARE * total
    ]
    return ", ".join(shown) or "it is empty"


def _reason(state: LogState, topic: Topic) -> str:
    """Why the records of a topic are still there."""
    if topic.compacted:
        return "the newest record of each key"
    behind: dict[str, int] = {}
    for group, offsets in list(state.groups.items()):
        for part in topic.partitions:
            at = offsets.get(part.slot)
            if at is not None and at.pins:
                unread = part.next_offset - max(at.offset, part.earliest)
                behind[group] = behind.get(group, 0) + max(0, unread)
    if not behind:
        return "nobody reads it"
    slowest = max(behind, key=lambda group: behind[group])
    if not behind[slowest]:
        return "every group has read it"
    return f"{slowest} has {behind[slowest]} records to read"
