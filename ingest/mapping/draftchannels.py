"""The channels of a draft: which numbers of the messages, and whether they come apart. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from ingest.mapping.draftplan import ChannelDraft, DraftPlan
from ingest.mapping.guesses import channel_name, is_counter, is_time_name, time_guess, unit_guess
from ingest.mapping.objects import Item, Objects
from ingest.mapping.paths import Path, parse_path
from ingest.mapping.survey import Leaf, Step, path_text
from ingest.mapping.topicdraft import quantity_of

__all__ = [
    "channels_by_path",
    "channels_by_selector",
    "channels_by_topic",
    "join_channels",
    "lacks_number",
    "single_path",
]

_MOST_CHANNELS = 64
_LONGEST_AGE_MS = 3_600_000
_USUAL_AGE_MS = 60_000


def single_path(objects: Objects) -> str | None:
    """Return the path of the one number of every object, where topics tell what it is."""
    if objects.kind.format == "value":
        return "$"
    if objects.each is not None or len(objects.kind.topics) < 2:
        return None
    paths = {
        path_text(leaf.steps)
        for item in objects.items
        for leaf in item.leaves
        if leaf.is_number and not _is_time(leaf, item)
    }
    only = paths.pop() if len(paths) == 1 else None
    return only if only in ("value", "val", "v", "state", "data") else None


def channels_by_topic(plan: DraftPlan, path: str, items: Sequence[Item]) -> None:
    """One topic, one channel: they are joined."""
    at, place = plan.topic.quantity or (0, "")
    examples: dict[str, Any] = {}
    times: dict[str, list[int]] = {}
    counts: Counter[str] = Counter()
    for item in items:
        level = item.document.levels[at]
        quantity = quantity_of(level, has_prefix=plan.topic.has_prefix)
        counts[quantity] += 1
        value = next((leaf.value for leaf in item.leaves if leaf.is_number), None)
        examples.setdefault(quantity, item.document.content if value is None else value)
        if item.document.message.recv_ms is not None:
            times.setdefault(item.document.message.topic, []).append(item.document.message.recv_ms)
    taken: set[str] = set()
    for quantity, example in list(examples.items())[:_MOST_CHANNELS]:
        name = _named((quantity,), taken)
        unit = unit_guess(quantity, [_number(example)])
        at_path = None if path == "$" else path
        plan.channels.append(ChannelDraft(name, at_path, unit, example, (place, quantity)))
    if len(plan.channels) > 1:
        join_channels(
            plan, times, [counts[each.when[1]] for each in plan.channels if each.when], 1000
        )


def channels_by_selector(plan: DraftPlan, objects: Objects, items: Sequence[Item]) -> None:
    """A text in each object tells which channel it is."""
    selector, place = objects.selector or "", objects.selector_place
    plan.places[place] = selector
    found: dict[tuple[str, str], tuple[Leaf, list[float]]] = {}
    counts: Counter[str] = Counter()
    for item in items:
        text = item.text_at(selector)
        if text is None:
            continue
        counts[text] += 1
        for leaf in _channel_leaves(plan, item):
            path = path_text(leaf.steps)
            if path is not None:
                found.setdefault((text, path), (leaf, []))[1].append(_number(leaf.value))
    chosen = _usual_paths(found, counts)
    paths_of = Counter(text for text, _ in chosen)
    taken: set[str] = set()
    for text, path in chosen[:_MOST_CHANNELS]:
        leaf, values = found[text, path]
        steps = (text,) if paths_of[text] == 1 else (text, *leaf.steps[-1:])
        name = _named(("_".join(map(str, steps)),), taken)
        unit = unit_guess(text if paths_of[text] == 1 else str(leaf.steps[-1]), values)
        plan.channels.append(ChannelDraft(name, path, unit, leaf.value, (place, text)))
    documents = len({id(item.document) for item in items})
    is_whole = all(len(found[each][1]) >= documents for each in chosen)
    has_own_times = plan.time_path is not None and not plan.time_path.startswith("$.")
    if is_whole and (not has_own_times or objects.selected_share_times(str(plan.time_path))):
        return
    times: dict[str, list[int]] = {}
    for item in items if has_own_times else ():
        moment, text = item.time_ms(str(plan.time_path), plan.time), item.text_at(selector)
        if moment is not None and text is not None:
            times.setdefault(text, []).append(moment)
    join_channels(plan, times, [counts[c.when[1]] for c in plan.channels if c.when], 10)


def _usual_paths(
    found: Mapping[tuple[str, str], tuple[Leaf, list[float]]], counts: Counter[str]
) -> list[tuple[str, str]]:
    """Return the paths that most objects of a channel have, at least one for each channel."""
    usual = [each for each in found if 2 * len(found[each][1]) > counts[each[0]]]
    for text in counts:
        rest = [each for each in found if each[0] == text]
        if rest and not any(each[0] == text for each in usual):
            usual.append(
                max(rest, key=lambda each: (each[1].endswith("value"), len(found[each][1])))
            )
    return [each for each in found if each in usual]


def channels_by_path(plan: DraftPlan, items: Sequence[Item]) -> None:
    """One object, one reading: of the channels that most objects have."""
    leaves: dict[str, tuple[Leaf, list[float]]] = {}
    present: Counter[str] = Counter()
    for item in items:
        for leaf in _channel_leaves(plan, item):
            path = path_text(leaf.steps)
            if path is not None:
                leaves.setdefault(path, (leaf, []))[1].append(_number(leaf.value))
                present[path] += 1
    taken: set[str] = set()
    for path, (leaf, values) in list(leaves.items())[: 4 * _MOST_CHANNELS]:
        name = _named(leaf.steps, taken)
        channel = ChannelDraft(name, path, unit_guess(name, values), leaf.value)
        if is_counter([step for step in leaf.steps if isinstance(step, str)]):
            channel.is_active, channel.why = False, "about the message or the device, or a counter"
        elif 2 * present[path] <= len(items):
            channel.is_active, channel.why = False, f"in {present[path]} of {len(items)} readings"
        plan.channels.append(channel)
    if not any(channel.is_active for channel in plan.channels):
        _revive(plan, present, items)
    elif plan.join_ms is None:
        _keep_common(plan, items)
    for channel in [each for each in plan.channels if each.is_active][_MOST_CHANNELS:]:
        channel.is_active, channel.why = False, f"more than {_MOST_CHANNELS} channels"


def _keep_common(plan: DraftPlan, items: Sequence[Item]) -> None:
    """Of the channels that most objects have, keep those that come together most often."""
    active = [each for each in plan.channels if each.is_active]
    paths = [parse_path(str(each.path)) for each in active]
    sets = Counter(
        tuple(at for at, path in enumerate(paths) if not lacks_number(path, item.content))
        for item in items
    )
    sets.pop((), None)
    common = max(sets, key=lambda each: (sets[each], len(each)), default=())
    for at, channel in enumerate(active):
        if common and at not in common:
            channel.is_active, channel.why = False, "not in the same messages as the others"


def _revive(plan: DraftPlan, present: Counter[str], items: Sequence[Item]) -> None:
    """Where no channel is in most objects, take those of some; without any, take the counters.

    Where an object has only some of the channels, all are joined.
    """
    partial = [each for each in plan.channels if each.why.startswith("in ")]
    chosen = (partial or plan.channels)[:_MOST_CHANNELS]
    for channel in chosen:
        channel.is_active, channel.why = True, ""
    paths = [parse_path(str(each.path)) for each in chosen]
    having = {sum(not lacks_number(path, item.content) for path in paths) for item in items}
    if having - {0, len(paths)}:
        join_channels(plan, {}, [present[str(each.path)] for each in chosen], 10, chosen)


def _named(steps: Sequence[Step], taken: set[str]) -> str:
    number = len(taken) + 1
    name = channel_name(steps, taken)
    while name is None or name in taken:
        name, number = f"channel_{number}", number + 1
    taken.add(name)
    return name


def _channel_leaves(plan: DraftPlan, item: Item) -> list[Leaf]:
    return [
        leaf
        for leaf in item.leaves
        if leaf.is_number and path_text(leaf.steps) != plan.time_path and not _is_time(leaf, item)
    ]


def _is_time(leaf: Leaf, item: Item) -> bool:
    """Whether a number is a time by its name and its value."""
    name = str(leaf.steps[-1]) if leaf.steps else ""
    recv_ms = item.document.message.recv_ms
    return is_time_name(name) and time_guess(leaf.value, recv_ms) is not None


def _number(value: Any) -> float:
    while isinstance(value, list):
        value = value[0] if value else 0.0
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def join_channels(
    plan: DraftPlan,
    times: dict[str, list[int]],
    counts: Sequence[int],
    least_ms: int,
    channels: Sequence[ChannelDraft] | None = None,
) -> None:
    """Join the channels; the one that comes most often triggers, of several the last one."""
    chosen = channels or plan.channels
    plan.emit = max(
        (count, each.unit is not None, at, each.name)
        for at, (count, each) in enumerate(zip(counts, chosen, strict=True))
    )[3]
    gaps = [
        median(later - earlier for earlier, later in pairwise(ordered))
        for ordered in (sorted(each) for each in times.values())
        if len(ordered) > 1
    ]
    age_ms = round(2 * max(gaps)) if gaps and max(gaps) > 0 else _USUAL_AGE_MS
    plan.join_ms = min(max(age_ms, least_ms), _LONGEST_AGE_MS)
    if not gaps:
        plan.unknown.append(
            "how far apart the channels of one reading come: check max_age_ms in [join]"
        )


def lacks_number(path: Path, content: Any) -> bool:
    """Whether an object has no number at a path."""
    value = path.find(content)
    return type(value) not in (int, float)
