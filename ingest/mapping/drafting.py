"""A first mapping file from recorded messages. Pure.

`draft_mapping` surveys the messages, takes the richest kind of them, and writes a mapping file that
reads every message of that kind. What names do not tell is left to the person who reads it: the
comments of the file and `Draft.unknown` say what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from ingest.errors import IngestError
from ingest.mapping.guesses import (
    TimeGuess,
    channel_name,
    is_counter,
    time_guess,
    time_rank,
    unit_guess,
)
from ingest.mapping.objects import Item, Objects, find_objects, objects_at, place_name
from ingest.mapping.paths import Path, parse_path
from ingest.mapping.patterns import parse_pattern
from ingest.mapping.recorded import RecordedMessage
from ingest.mapping.survey import (
    Kind,
    Leaf,
    Step,
    expression,
    is_number_text,
    json_of,
    path_text,
    survey,
)
from ingest.mapping.topicdraft import TopicDraft, draft_topic, quantity_of

__all__ = ["ChannelDraft", "Draft", "DraftPlan", "NothingToDraft", "plan_draft"]

_DEVICE_NAMES = (
    "deviceid", "device_id", "device", "devicename", "device_name", "deveui", "dev_eui", "serial",
    "serialnumber", "mac", "node", "client", "clientid", "id",
)  # fmt: skip
_MOST_CHANNELS = 64
_MOST_MISSING = 20
_MOST_GUARDS = 8
_LONGEST_AGE_MS = 3_600_000
_USUAL_AGE_MS = 60_000


class NothingToDraft(IngestError):
    """No message holds a number in a format that a draft knows."""


@dataclass(slots=True)
class ChannelDraft:
    """One channel of a draft.

    Attributes:
        name: Its name.
        path: Path in the object; None: the bare value.
        unit: Guess of its unit.
        example: A value of it.
        when: Place and value that it needs, or None.
        is_active: Whether it is in force; a channel that is not is a comment.
        why: Why it is not in force.
        is_text: Its numbers may come as text.
    """

    name: str
    path: str | None
    unit: str | None
    example: Any
    when: tuple[str, str] | None = None
    is_active: bool = True
    why: str = ""
    is_text: bool = False


@dataclass(slots=True)
class DraftPlan:
    """Everything that the file will say.

    Attributes:
        kind: The messages it reads.
        topic: Its topics and places.
        each: Path of `each`, or None.
        device: What names the device: a text with places, or a path.
        device_is_path: Whether `device` is a path into the message.
        places: Further places, with their paths.
        guard: Expression that is "reading" for what the file reads; None: for everything.
        missing: Texts that stand for a value that the device does not have.
        time_path: Path of the time, or None.
        time: Form of the time, or None.
        channels: The channels, in order.
        join_ms: Age for `[join]`; None: no join.
        emit: Trigger channel of the join.
        unknown: What the draft could not know, one sentence each.
        others: Topics that it does not read, with the number of messages.
    """

    kind: Kind
    topic: TopicDraft
    each: str | None = None
    device: str = ""
    device_is_path: bool = False
    places: dict[str, str] = field(default_factory=dict)
    guard: str | None = None
    missing: list[str] = field(default_factory=list)
    time_path: str | None = None
    time: TimeGuess | None = None
    channels: list[ChannelDraft] = field(default_factory=list)
    join_ms: int | None = None
    emit: str = ""
    unknown: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted mapping file.

    Attributes:
        text: Its TOML, with comments.
        unknown: What it could not know, one sentence each.
        others: Topics that it does not read, with the number of messages.
        messages: Messages that it was made from.
    """

    text: str
    unknown: Sequence[str]
    others: Counter[str]
    messages: Sequence[RecordedMessage]


def plan_draft(messages: Iterable[RecordedMessage]) -> DraftPlan:
    """Decide what a mapping file for these messages says.

    Raises:
        NothingToDraft: No message holds a number in a format that a draft knows.
    """
    seen = list(messages)
    kinds, others = survey(each for each in seen if _is_writable(each.topic))
    if not kinds:
        topics = ", ".join(sorted({each.topic for each in others})[:5])
        msg = f"none of {len(seen)} messages holds a number" + (
            f" (topics: {topics})" if topics else ""
        )
        raise NothingToDraft(msg)
    kind = kinds[0]
    objects = find_objects(kind)
    single = _single_path(objects)
    topic = draft_topic(kind.topics, has_quantity=single is not None)
    plan = DraftPlan(kind, topic, objects.each)
    items = objects.items
    _name_time(plan, objects, items)
    if single is not None and topic.quantity is not None:
        _channels_by_topic(plan, single, items)
    elif objects.selector is not None:
        _channels_by_selector(plan, objects, items)
    else:
        _channels_by_path(plan, items)
    _name_device(plan, objects, items)
    beside = [*(d.message for other in kinds[1:] for d in other.documents), *others]
    _leave_out(plan, items, beside)
    _note_unknown(plan)
    if not any(channel.is_active for channel in plan.channels):
        msg = f"no path of a mapping file leads to the numbers of {kind.topics[0]!r:.200}"
        raise NothingToDraft(msg)
    return plan


def _is_writable(topic: str) -> bool:
    """Whether a pattern can take a topic: no empty level, nothing of the broker's own."""
    try:
        parse_pattern(
            "/".join("x" if set(level) & set("+#{}") else level for level in _levels(topic))
        )
    except ValueError:
        return False
    return all(_levels(topic))


def _levels(topic: str) -> list[str]:
    return topic.split("/")


# -- channels -------------------------------------------------------------------------------


def _single_path(objects: Objects) -> str | None:
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


def _channels_by_topic(plan: DraftPlan, path: str, items: Sequence[Item]) -> None:
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
        _join(plan, times, [counts[each.when[1]] for each in plan.channels if each.when], 1000)


def _channels_by_selector(plan: DraftPlan, objects: Objects, items: Sequence[Item]) -> None:
    """A text in each object tells which channel it is."""
    selector, place = objects.selector or "", objects.selector_place
    plan.places[place] = selector
    found: dict[tuple[str, str], tuple[Any, list[float]]] = {}
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
    paths_of = Counter(text for text, _ in found)
    taken: set[str] = set()
    for (text, path), (leaf, values) in list(found.items())[:_MOST_CHANNELS]:
        steps = (text,) if paths_of[text] == 1 else (text, *leaf.steps[-1:])
        name = _named(("_".join(map(str, steps)),), taken)
        unit = unit_guess(text if paths_of[text] == 1 else str(leaf.steps[-1]), values)
        plan.channels.append(ChannelDraft(name, path, unit, leaf.value, (place, text)))
    if plan.time_path is not None and not plan.time_path.startswith("$."):
        if not objects.selected_share_times(plan.time_path):
            times: dict[str, list[int]] = {}
            for item in items:
                moment = item.time_ms(plan.time_path, plan.time)
                text = item.text_at(selector)
                if moment is not None and text is not None:
                    times.setdefault(text, []).append(moment)
            _join(plan, times, [counts[c.when[1]] for c in plan.channels if c.when], 10)


def _channels_by_path(plan: DraftPlan, items: Sequence[Item]) -> None:
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
        tuple(at for at, path in enumerate(paths) if not _lacks(path, item.content))
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
    having = {sum(not _lacks(path, item.content) for path in paths) for item in items}
    if having - {0, len(paths)}:
        _join(plan, {}, [present[str(each.path)] for each in chosen], 10, chosen)


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
    return time_rank(name) < 99 and time_guess(leaf.value, recv_ms) is not None and _known(name)


def _known(name: str) -> bool:
    return time_rank(name) < time_rank("no time at all")


def _number(value: Any) -> float:
    while isinstance(value, list):
        value = value[0] if value else 0.0
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _join(
    plan: DraftPlan,
    times: dict[str, list[int]],
    counts: Sequence[int],
    least_ms: int,
    channels: Sequence[ChannelDraft] | None = None,
) -> None:
    """Join the channels; the one that comes most often triggers, best one with a unit."""
    chosen = channels or plan.channels
    ranked = zip(counts, (each.unit is not None for each in chosen), chosen, strict=True)
    plan.emit = max(ranked, key=lambda triple: triple[:2])[2].name
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


# -- time and device ------------------------------------------------------------------------


def _name_time(plan: DraftPlan, objects: Objects, items: Sequence[Item]) -> None:
    """Choose the time: in the object first, then in the whole message."""
    best: tuple[tuple[int, int, int], str, TimeGuess] | None = None
    for is_root, leaves in ((False, items[0].leaves), (True, objects.root_leaves)):
        for leaf in leaves:
            name = str(leaf.steps[-1]) if leaf.steps else ""
            path = path_text(leaf.steps)
            value = leaf.value[0] if isinstance(leaf.value, list) and leaf.value else leaf.value
            guess = time_guess(value, items[0].document.message.recv_ms)
            if (
                guess is None
                or path is None
                or (isinstance(value, (int, float)) and not _known(name))
            ):
                continue
            if is_root:
                path = f"$.{path}"
            key = (0 if _known(name) else 1, is_root, time_rank(name))
            if best is None or key < best[0]:
                best = (key, path, guess)
    if best is None:
        plan.unknown.append(
            "when a reading was measured: no time was found, so the time of receipt counts"
        )
        return
    plan.time_path, plan.time = best[1], best[2]
    if not best[2].is_sure:
        plan.unknown.append(f"the zone of {best[1]}, which has no offset: check zone in [time]")


def _name_device(plan: DraftPlan, objects: Objects, items: Sequence[Item]) -> None:
    names = sorted((place for _, place in plan.topic.places), key=lambda name: name != "device")
    if objects.key_place is not None:
        names.append(objects.key_place)
    if objects.series is not None:
        names.append(place_name(objects.series))
        plan.places[names[-1]] = objects.series
        plan.unknown.append(
            f"whether {objects.series} tells devices apart, or whether you want only one of them: "
            f'when = {{ {names[-1]} = "..." }}'
        )
    if names:
        plan.device = ".".join(f"{{{name}}}" for name in names)
        return
    for rooted, leaves in ((False, items[0].leaves), (True, objects.root_leaves)):
        named = {str(leaf.steps[-1]).lower(): leaf for leaf in leaves if leaf.steps}
        for name in _DEVICE_NAMES:
            leaf = named.get(name)
            path = None if leaf is None else path_text(leaf.steps)
            if leaf is not None and path is not None and isinstance(leaf.value, (str, int)):
                plan.device = f"$.{path}" if rooted else path
                plan.device_is_path = True
                return
    plan.device = "device-1"
    plan.unknown.append('the name of the device: neither topic nor message tells it ("device-1")')


def _leave_out(plan: DraftPlan, items: Sequence[Item], beside: Sequence[RecordedMessage]) -> None:
    """Leave out what has the same topics and is no reading of these channels."""
    pattern = parse_pattern(plan.topic.text)
    unfit: list[Any] = []
    for message in beside:
        if pattern.places(message.topic) is None:
            plan.others[message.topic] += 1
        elif plan.kind.format == "value":
            _note_missing(plan, message)
        elif plan.kind.format == "json":
            content = json_of(message)
            unfit += [] if content is None else objects_at(content, plan.each)
    if plan.missing and plan.join_ms is None:
        _join(plan, {}, [0 for _ in plan.channels], 1000)
    active = [each for each in plan.channels if each.is_active and each.when is None]
    if plan.kind.format != "json" or not active:
        return
    paths = [parse_path(str(each.path)) for each in active]
    unfit += [item.content for item in items if any(_lacks(path, item.content) for path in paths)]
    if plan.join_ms is not None:
        if unfit:
            plan.guard = _any_of(paths)
        for channel, path in zip(active, paths, strict=True):
            for item in items:
                value = path.find(item.content)
                if isinstance(value, str):
                    _note_text(plan, channel, value)
        return
    guards: list[str] = []
    while unfit and paths:
        best = max(paths, key=lambda path: sum(_lacks(path, each) for each in unfit))
        left = [each for each in unfit if not _lacks(best, each)]
        if len(left) == len(unfit):
            break
        guards.append(_is_given(best))
        unfit = left
    if guards:
        plan.guard = " && ".join(guards)


def _note_text(plan: DraftPlan, channel: ChannelDraft, text: str) -> None:
    """Note a text at the path of a channel that has numbers elsewhere."""
    if is_number_text(text):
        channel.is_text = True
    elif text not in plan.missing:
        plan.missing.append(text)


def _any_of(paths: Sequence[Path]) -> str:
    """Return the expression for: a value at one of the paths."""
    return f"({' || '.join(map(_is_given, paths[:_MOST_GUARDS]))})"


def _is_given(path: Path) -> str:
    """Return the expression for: a number at a path."""
    return f"type({expression(path.steps or ())}) == 'number'"


def _lacks(path: Path, content: Any) -> bool:
    value = path.find(content)
    return type(value) not in (int, float)


def _note_missing(plan: DraftPlan, message: RecordedMessage) -> None:
    """Note a text that comes instead of a number."""
    try:
        text = message.payload.decode().strip().strip('"')
    except UnicodeDecodeError:
        return
    if len(plan.missing) < _MOST_MISSING and 0 < len(text) <= 40 and text.isprintable():
        if text not in plan.missing:
            plan.missing.append(text)


def _note_unknown(plan: DraftPlan) -> None:
    active = [channel for channel in plan.channels if channel.is_active]
    no_unit = [channel.name for channel in active if channel.unit is None]
    if no_unit:
        shown = ", ".join(no_unit[:8]) + (", ..." if len(no_unit) > 8 else "")
        plan.unknown.append(f"the units of {shown}: add unit, and to if a student wants another")
    guessed = [f"{each.name} ({each.unit})" for each in active if each.unit is not None]
    if guessed:
        shown = ", ".join(guessed[:8]) + (", ..." if len(guessed) > 8 else "")
        plan.unknown.append(f"whether these units, guessed by the names, are right: {shown}")
    plan.unknown.append("your site and the stream: choose the names in site and stream")
