"""What a drafted mapping file will say; `drafting` decides it and `drafttext` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import IngestError
from ingest.mapping.guesses import TimeGuess
from ingest.mapping.recorded import RecordedMessage
from ingest.mapping.survey import Kind
from ingest.mapping.topicdraft import TopicDraft

__all__ = ["ChannelDraft", "Draft", "DraftPlan", "NothingToDraft"]


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
        step_ms: Guess of the time between readings that have one time together, or None.
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
    step_ms: float | None = None
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
