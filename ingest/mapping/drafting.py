"""A first mapping file from recorded messages. Pure.

`draft_mapping` surveys the messages, takes the richest kind of them, and writes a mapping file that
reads every message of that kind. What names do not tell is left to the person who reads it: the
comments of the file and `Draft.unknown` say what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ingest.mapping.draftchannels import (
    channels_by_path,
    channels_by_selector,
    channels_by_topic,
    join_channels,
    lacks_number,
    single_path,
)
from ingest.mapping.draftplan import ChannelDraft, DraftPlan, NothingToDraft
from ingest.mapping.guesses import TimeGuess, is_time_name, time_guess, time_rank
from ingest.mapping.objects import Item, Objects, find_objects, objects_at, place_name
from ingest.mapping.paths import Path, parse_path
from ingest.mapping.patterns import parse_pattern
from ingest.mapping.recorded import RecordedMessage
from ingest.mapping.survey import expression, is_number_text, json_of, path_text, survey
from ingest.mapping.topicdraft import draft_topic

__all__ = ["plan_draft"]

_DEVICE_NAMES = (
    "deviceid", "device_id", "device", "devicename", "device_name", "deveui", "dev_eui", "serial",
    "serialnumber", "mac", "node", "client", "clientid", "id",
)  # fmt: skip
_MOST_MISSING = 20
_STEP_MS = 1000.0  # where the messages do not tell
_MAX_STEP_MS = 86_400_000.0  # what a mapping file may say
_MOST_GUARDS = 8
_PACKED_NAMES = {"data", "payload", "frm_payload", "raw", "hex", "bytes", "payload_raw"}
_PACKED = re.compile(r"(?:[0-9a-fA-F]{2}){4,}|[A-Za-z0-9+/_-]{6,}={0,2}")


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
    single = single_path(objects)
    topic = draft_topic(kind.topics, has_quantity=single is not None)
    pattern = parse_pattern(topic.text)
    taken = [each for each in kind.documents if pattern.places(each.message.topic) is not None]
    if not taken:
        msg = f"no topic of a mapping file takes {kind.topics[0]!r:.200}"
        raise NothingToDraft(msg)
    left_out = [d.message for d in kind.documents if d not in taken]
    kind.documents[:] = taken
    plan = DraftPlan(kind, topic, objects.each)
    items = [item for item in objects.items if item.document in taken]
    _name_time(plan, objects, items)
    _guess_step(plan, objects, items)
    if single is not None and topic.quantity is not None:
        channels_by_topic(plan, single, items)
    elif objects.selector is not None:
        channels_by_selector(plan, objects, items)
    else:
        channels_by_path(plan, items)
    _name_device(plan, objects, items)
    beside = [*left_out, *(d.message for other in kinds[1:] for d in other.documents), *others]
    _leave_out(plan, items, beside)
    _note_packed(plan, items)
    _note_unknown(plan)
    if not any(channel.is_active for channel in plan.channels):
        msg = f"no path of a mapping file leads to the numbers of {kind.topics[0]!r:.200}"
        raise NothingToDraft(msg)
    return plan


def _is_writable(topic: str) -> bool:
    """Whether a mapping file can take a topic; the broker's own begin with $."""
    levels = ("x" if set(level) & set("+#{}") else level for level in topic.split("/"))
    try:
        parse_pattern("/".join(levels))
    except ValueError:
        return False
    return True


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
            is_first = leaf.steps == (0,) and plan.kind.format == "csv"  # a column without a name
            if (
                guess is None
                or path is None
                or (isinstance(value, (int, float)) and not is_time_name(name) and not is_first)
            ):
                continue
            if is_root:
                path = f"$.{path}"
            key = (0 if is_time_name(name) else 1, is_root, time_rank(name))
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


def _guess_step(plan: DraftPlan, objects: Objects, items: Sequence[Item]) -> None:
    """Guess the distance of the readings of a message that have one time together."""
    has_own = plan.time_path is not None and not plan.time_path.startswith("$.")
    is_one_reading = objects.selector or objects.series or objects.key_place
    received = [ms for item in items if (ms := item.document.message.recv_ms) is not None]
    messages = len({id(item.document) for item in items})
    if has_own or is_one_reading or len(items) == messages:
        return
    span_ms = max(received, default=0) - min(received, default=0)
    guess = span_ms * messages / (messages - 1) / len(items) if messages > 1 else 0.0
    guess = float(f"{guess:.3g}")
    plan.step_ms = guess if 0 < guess <= _MAX_STEP_MS else _STEP_MS
    plan.unknown.append("how far apart the readings of a message are: check step_ms in [time]")


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
        join_channels(plan, {}, [0 for _ in plan.channels], 1000)
    active = [each for each in plan.channels if each.is_active and each.when is None]
    if plan.kind.format != "json" or not active:
        return
    paths = [parse_path(str(each.path)) for each in active]
    unfit += [
        item.content for item in items if any(lacks_number(path, item.content) for path in paths)
    ]
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
        best = max(paths, key=lambda path: sum(lacks_number(path, each) for each in unfit))
        left = [each for each in unfit if not lacks_number(best, each)]
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


def _note_missing(plan: DraftPlan, message: RecordedMessage) -> None:
    """Note a text that comes instead of a number."""
    try:
        text = message.payload.decode().strip().strip('"')
    except UnicodeDecodeError:
        return
    if len(plan.missing) < _MOST_MISSING and 0 < len(text) <= 40 and text.isprintable():
        if text not in plan.missing:
            plan.missing.append(text)


def _note_packed(plan: DraftPlan, items: Sequence[Item]) -> None:
    """Point to a text that may hold packed numbers."""
    for leaf in items[0].leaves:
        name = str(leaf.steps[-1]).lower() if leaf.steps else ""
        if name in _PACKED_NAMES and isinstance(leaf.value, str) and _PACKED.fullmatch(leaf.value):
            path = path_text(leaf.steps)
            plan.unknown.append(
                f"whether {path} holds the numbers, packed as the manual of the device says: "
                'format = "packed"'
            )
            return


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
