"""The text of a drafted mapping file: TOML with comments. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ingest.mapping.drafting import plan_draft
from ingest.mapping.draftplan import ChannelDraft, Draft, DraftPlan
from ingest.mapping.recorded import RecordedMessage
from ingest.mapping.schema import LINE_FORMATS
from ingest.mapping.topicdraft import is_generic
from ingest.topics import is_name

__all__ = ["draft_mapping"]

_SHOWN_TOPICS = 20
_WIDEST = 60


def draft_mapping(messages: list[RecordedMessage]) -> Draft:
    """Return a mapping file that reads the richest kind of these messages.

    Raises:
        NothingToDraft: No message holds a number in a format that a draft knows.
    """
    plan = plan_draft(messages)
    text = "\n".join(_lines(plan)) + "\n"
    return Draft(text, plan.unknown, plan.others, [each.message for each in plan.kind.documents])


def _lines(plan: DraftPlan) -> Iterator[str]:
    count, topics = len(plan.kind.documents), len(plan.kind.topics)
    yield f"# Draft (messages: {count}, topics: {topics}). It reads them as they came; before you"
    yield "# use it, go through what it could not know:"
    for sentence in plan.unknown:
        yield f"# - {_comment(sentence)}"
    yield ""
    yield f"topic = {_text(plan.topic.text)}"
    if plan.kind.format != "json":
        yield f"format = {_text(plan.kind.format)}"
    yield 'site = "plant"                # your site'
    device = f"{{ path = {_text(plan.device)} }}" if plan.device_is_path else _text(plan.device)
    if device != '"{device}"':
        yield f"device = {device}"
    yield f"stream = {_text(_stream(plan))}"
    if plan.each is not None and plan.kind.format not in LINE_FORMATS:
        yield f"each = {_text(plan.each)}               # one object there is one reading"
    if plan.missing:
        yield f"missing = [{', '.join(map(_text, plan.missing))}]   # seen instead of numbers"
    places = dict(plan.places)
    if plan.guard is not None:
        yield "# Other messages come on these topics, too: those without this value are left out."
        places["is"] = f"{plan.guard} && 'reading' || 'other'"
    if places:
        pairs = ", ".join(f"{name} = {_text(path)}" for name, path in places.items())
        yield f"places = {{ {pairs} }}"
    if plan.guard is not None:
        yield 'when = { is = "reading" }'
    rows = plan.kind.documents[0].rows
    if rows is not None:
        yield ""
        yield "[csv]"
        yield f"delimiter = {_text(rows.delimiter)}"
        yield f"header = {'true' if rows.has_header else 'false'}"
    yield ""
    yield from _time_lines(plan)
    yield ""
    yield "[channels]"
    yield from _channel_lines(plan)
    if plan.join_ms is not None:
        yield ""
        yield "# The channels come apart: a reading is made when the trigger channel comes, of the"
        yield "# newest values of the others that are not older than max_age_ms."
        yield "[join]"
        yield f"max_age_ms = {plan.join_ms}"
        yield f"emit = {_text(plan.emit)}"
    if plan.others:
        yield ""
        yield "# Topics seen that this file does not read:"
        for topic, number in sorted(plan.others.items())[:_SHOWN_TOPICS]:
            yield f"#   {_comment(topic)} ({number} messages)"
        if len(plan.others) > _SHOWN_TOPICS:
            yield f"#   and {len(plan.others) - _SHOWN_TOPICS} more"


def _time_lines(plan: DraftPlan) -> Iterator[str]:
    yield "[time]"
    if plan.time_path is None or plan.time is None:
        yield 'from = "received"             # no time was found in the messages'
        yield from _step_lines(plan)
        return
    yield f"path = {_text(plan.time_path)}"
    yield f"form = {_text(plan.time.form)}"
    if plan.time.format is not None:
        yield f"format = {_text(plan.time.format)}"
    if plan.time.zone is not None:
        sure = "" if plan.time.is_sure else "            # a guess: the times have no offset"
        yield f"zone = {_text(plan.time.zone)}{sure}"
    yield from _step_lines(plan)


def _step_lines(plan: DraftPlan) -> Iterator[str]:
    if plan.step_ms is not None:
        yield f"step_ms = {plan.step_ms:g}            # a guess: the readings have one time"


def _channel_lines(plan: DraftPlan) -> Iterator[str]:
    for channel in plan.channels:
        if channel.is_active:
            yield f"{_channel(channel)}  # {_example(channel.example)}"
    idle = [channel for channel in plan.channels if not channel.is_active]
    if idle:
        yield "# Left out; remove the # of those that you want:"
    for channel in idle:
        yield f"# {_channel(channel)}  # {_example(channel.example)}; {_comment(channel.why)}"


def _channel(channel: ChannelDraft) -> str:
    keys = []
    if channel.path is not None:
        keys.append(f"path = {_text(channel.path)}")
    if channel.unit is not None:
        keys.append(f"unit = {_text(channel.unit)}")
    if channel.is_text or (isinstance(channel.example, str) and channel.path is not None):
        keys.append("text = true")
    if channel.when is not None:
        place, value = channel.when
        keys.append(f"when = {{ {place} = {_text(_literal(value))} }}")
    return (
        f"{_key(channel.name)} = {{ {', '.join(keys)} }}"
        if keys
        else f"{_key(channel.name)} = {{}}"
    )


def _literal(text: str) -> str:
    """Return a pattern of `when` that only this text fits."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _stream(plan: DraftPlan) -> str:
    """Name the stream after a fixed level of the topic, if one is a name."""
    if plan.join_ms is None:
        for level in reversed(plan.topic.text.split("/")[1:]):
            if is_name(level) and not is_generic(level) and sum(map(str.isdigit, level)) < 4:
                return level
    return "readings"


def _example(value: Any) -> str:
    return _comment(json.dumps(value, ensure_ascii=True)[:_WIDEST])


def _key(name: str) -> str:
    return _text(name) if "." in name else name


def _text(text: str) -> str:
    """Return a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """Return text that is safe in a comment and in a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
