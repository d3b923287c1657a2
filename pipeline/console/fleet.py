"""The fleet page, made for fleets of any size: an index of all devices, and the part that is asked.

The index knows of each device only what searching, sorting and the overview need: its names, its
task, when it was heard, and the headline of its newest score. Everything else is read for the
devices of one page. Devices are in sections: those of one task on machines, or on people. The index
is made again at most a tenth of the time, so 20,000 devices cost a gateway no more than a few, only
their page is some seconds old.

A cursor is the sort key of the last device of a page. So a page begins behind that device, also
when others came, went, or were scored meanwhile. A first look at a large fleet has the first few
devices of each section instead (`per_section`), so that no section hides behind another one.
"""

from __future__ import annotations

import base64
import binascii
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice, product
from typing import Any, get_args

import orjson

from models.tasks.contract import Subject, Task
from models.tasks.number import NumberAnswer
from models.tasks.quality import GOOD, QUALITY
from models.tasks.quantiles import QuantilesAnswer
from models.tasks.registry import tasks
from pipeline.console.cards import fleet_card
from pipeline.console.notes import DeviceNotes, Note
from pipeline.console.pages import (
    PageSettings,
    channel_units,
    device_entry,
    health_page,
    label_names,
    scored_keys,
    stale_after_ms,
    task_cards,
)
from pipeline.console.queries import Device, Headline, headlines, latest
from pipeline.status.counters import DeviceAccount
from pipeline.status.view import GatewayView, ModelStatus
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["MOST_LIMIT", "Fleet", "FleetQuery"]

MOST_LIMIT = 100
"""Most devices on one page."""

_LIMIT = 60
_STATES = ("", "live", "stale", "waiting", "retired")
_SORTS = ("urgent", "site", "name")
_SUBJECTS = ("", *get_args(Subject))
_URGENCY: tuple[type, ...] = (int, int, float)
_DEVICE: tuple[type, ...] = (str, str, str)
_KINDS = {
    "urgent": (int, *_URGENCY, *_DEVICE),
    "site": (int, str, *_URGENCY, *_DEVICE),
    "name": _DEVICE,
}
_MOST_TEXT = 200
_REST = 10  # the index rests ten times as long as it took
_NO_SCORE = 1e9  # after every number
_SEEN, _CALM = 2, 3
"""Ranks behind critical (0) and wearing (1): acknowledged, and what needs no attention."""


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """What a fleet page shows.

    Attributes:
        search: Text that `site/device/stream` contains, in any case; "": all.
        task: Name of the task; "": all.
        subject: "machine", "person" or "" (both).
        state: "live", "stale" (silent for too long), "waiting" (without a score), "retired" (out of
            use) or "" (all that are in use).
        sort: "urgent" (by section; those that need attention first, the rest live before stale),
            "site" (by section and site, then as before) or "name".
        limit: Most devices on the page.
        per_section: The first devices of each section, without a cursor; 0: a page of all.
        cursor: Sort key behind which the page begins; None: at the first device.
    """

    search: str = ""
    task: str = ""
    subject: str = ""
    state: str = ""
    sort: str = _SORTS[0]
    limit: int = _LIMIT
    per_section: int = 0
    cursor: tuple[Any, ...] | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> FleetQuery:
        """Read the parameters of an address.

        Raises:
            ValueError: One is invalid; the message names it and what is right.
        """
        names = ("search", "task", "subject", "state", "sort", "cursor")
        text = {name: query.get(name, "") for name in names}
        for name in ("search", "task"):
            if len(text[name]) > _MOST_TEXT:
                msg = f"{name} has {len(text[name])} characters, at most {_MOST_TEXT} are allowed"
                raise ValueError(msg)
        if text["state"] not in _STATES:
            msg = f"state must be live, stale, waiting or retired, not {text['state']!r:.80}"
            raise ValueError(msg)
        if text["subject"] not in _SUBJECTS:
            msg = f"subject must be machine or person, not {text['subject']!r:.80}"
            raise ValueError(msg)
        sort = text["sort"] or _SORTS[0]
        if sort not in _SORTS:
            msg = f"sort must be urgent, site or name, not {sort!r:.80}"
            raise ValueError(msg)
        cursor = _decoded(text["cursor"], sort) if text["cursor"] else None
        per_section = _number(query, "per_section", 0)
        if per_section and (cursor is not None or sort == "name"):
            msg = "per_section goes with the first page of the orders urgent and site only"
            raise ValueError(msg)
        return cls(
            text["search"].lower(),
            text["task"],
            text["subject"],
            text["state"],
            sort,
            _number(query, "limit", _LIMIT),
            per_section,
            cursor,
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One device in the index."""

    device: Device
    task: str
    subject: str
    is_scored: bool
    is_stale: bool
    note: Note | None
    text: str
    place: int
    urgency: tuple[int, int, float]

    @property
    def is_retired(self) -> bool:
        """Whether it is out of use."""
        return self.note is not None and self.note.kind == "retired"

    def key(self, sort: str) -> tuple[Any, ...]:
        """Its sort key in an order."""
        if sort == "urgent":
            return (self.place, *self.urgency, *self.device)
        if sort == "site":
            return (self.place, self.device[0], *self.urgency, *self.device)
        return self.device

    def matches(self, query: FleetQuery) -> bool:
        """Whether the query asks for it."""
        return (
            (not query.task or query.task == self.task)
            and (not query.subject or query.subject == self.subject)
            and query.search in self.text
            and self.is_retired == (query.state == "retired")
            and (
                query.state in ("", "retired")
                or (query.state == "live" and not self.is_stale)
                or (query.state == "stale" and self.is_stale)
                or (query.state == "waiting" and not self.is_scored)
            )
        )


@dataclass(slots=True)
class _Index:
    """All devices, in the orders that were asked for, and what the overview says."""

    scored: dict[Device, tuple[Task, Headline]]
    entries: list[_Entry] = field(default_factory=list)
    overview: dict[str, Any] = field(default_factory=dict)
    orders: dict[str, list[_Entry]] = field(default_factory=dict)

    def ordered(self, sort: str) -> list[_Entry]:
        """All devices in an order."""
        if sort not in self.orders:
            self.orders[sort] = sorted(self.entries, key=lambda entry: entry.key(sort))
        return self.orders[sort]


class Fleet:
    """Makes pages of the fleet; call it from one thread."""

    def __init__(
        self,
        results: ResultsFile,
        settings: PageSettings,
        clock: Callable[[], float] = time.monotonic,
        notes: DeviceNotes | None = None,
    ) -> None:
        """Prepare.

        Args:
            results: The results file.
            settings: Settings of the pages.
            clock: Monotonic seconds.
            notes: Notes on devices; None: there are none.
        """
        self._results = results
        self._settings = settings
        self._clock = clock
        self._notes = notes
        self._index: _Index | None = None
        self._made_s = self._cost_s = 0.0

    def page(self, view: GatewayView, query: FleetQuery, now_ms: int) -> dict[str, Any]:
        """The devices that the query asks for, with the overview of the whole fleet."""
        models = list(view.models())
        index = self._fresh_index(view, models, now_ms)
        found = [entry for entry in index.ordered(query.sort) if entry.matches(query)]
        first = 0
        if query.cursor is not None:
            first = bisect_right(found, query.cursor, key=lambda entry: entry.key(query.sort))
        shown = found[first : first + query.limit]
        more = first + query.limit < len(found) and not query.per_section
        if query.per_section:
            shown = [
                entry
                for _, section in groupby(found, lambda entry: entry.place)
                for entry in islice(section, query.per_section)
            ]
        wanted = {entry.device for entry in shown}
        accounts = {
            key: account
            for account in view.account()
            if (key := (account.site, account.device, account.stream)) in wanted
        }
        devices = [
            self._device(entry.device, accounts.get(entry.device), index, models)
            | {"note": None if entry.note is None else asdict(entry.note)}
            for entry in shown
        ]
        return {
            "devices": devices,
            "first": first,
            "matching": len(found),
            "counts": dict(Counter(entry.task for entry in found)),
            "sections": _sections(found),
            "next": _encoded(shown[-1].key(query.sort)) if more else None,
            "overview": index.overview,
            "labels": label_names(models, devices),
            "tasks": task_cards(),
            "settings": asdict(self._settings),
            "streams": [
                {"stream": m.stream, "task": m.task, "channels": list(m.channels)} for m in models
            ],
            "health": health_page(view),
        }

    def _device(
        self,
        device: Device,
        account: DeviceAccount | None,
        index: _Index,
        models: Sequence[ModelStatus],
    ) -> dict[str, Any]:
        entry = device_entry(device, account, models, self._settings)
        if device in index.scored:
            task, _ = index.scored[device]
            for point in latest(self._results, task.measurement, device):
                entry |= scored_keys(task, point, entry)
                units = channel_units(models, device)
                entry[task.name] = fleet_card(self._results, task, device, point, units)
        return entry

    def _fresh_index(self, view: GatewayView, models: Sequence[ModelStatus], now_ms: int) -> _Index:
        begun_s = self._clock()
        if self._index is None or begun_s - self._made_s >= _REST * self._cost_s:
            self._index = self._made_index(view, models, now_ms)
            self._made_s = self._clock()
            self._cost_s = self._made_s - begun_s
        return self._index

    def _made_index(self, view: GatewayView, models: Sequence[ModelStatus], now_ms: int) -> _Index:
        accounts = {(a.site, a.device, a.stream): a for a in view.account()}
        scored: dict[Device, tuple[Task, Headline]] = {}
        for task in tasks():
            for device, headline in headlines(
                self._results, task.measurement, _headline_fields(task)
            ).items():
                scored.setdefault(device, (task, headline))
        index = _Index(scored)
        by_stream = {model.stream: model for model in reversed(models)}
        stale_ms = {s: stale_after_ms(m, self._settings) for s, m in by_stream.items()}
        places = {section: i for i, section in enumerate(product(map(_name, tasks()), _SUBJECTS))}
        entries = index.entries
        notes = {} if self._notes is None else dict(self._notes.read())
        for device in accounts.keys() | scored.keys():
            account, found = accounts.get(device), scored.get(device)
            model = by_stream.get(device[2])
            heard_ms = None if account is None else account.last_recv_ms
            if heard_ms is None and found is not None:
                heard_ms = found[1].written_ms
            limit_ms = stale_ms.get(device[2], self._settings.stale_ms)
            is_stale = heard_ms is None or now_ms - heard_ms > limit_ms
            name = found[0].name if found else ("" if model is None else model.task)
            subject = "" if model is None else model.subject
            if not subject and found:
                subject = found[0].subject
            text = "/".join(device).lower()
            place = places.get((name, subject), 0)
            urgency = _urgency(found, is_stale, self._settings)
            note = notes.get(device)
            if note is not None and self._notes is not None:
                note = self._notes.follow(device, note, urgency[0], heard_ms, is_stale=is_stale)
            if note is not None and note.kind == "acknowledged":
                urgency = (_SEEN, *urgency[1:])
            entries.append(
                _Entry(
                    device, name, subject, found is not None, is_stale, note, text, place, urgency
                )
            )
        index.overview = _overview(entries, scored, by_stream, self._settings)
        return index


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    """A number of devices from the parameters of an address.

    Raises:
        ValueError: It is none from 1 to `MOST_LIMIT`.
    """
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_LIMIT):
        msg = f"{name} must be a whole number from 1 to {MOST_LIMIT}, not {text!r:.80}"
        raise ValueError(msg)
    return int(text)


def _name(task: Task) -> str:
    return task.name


def _sections(found: Sequence[_Entry]) -> list[dict[str, Any]]:
    """The sections that have a device, in order, with the number of devices in each."""
    counts = Counter((entry.place, entry.task, entry.subject) for entry in found)
    return [
        {"task": task, "subject": subject, "matching": count}
        for (_, task, subject), count in sorted(counts.items())
    ]


def _headline_fields(task: Task) -> tuple[str, ...]:
    """What the index knows of the newest score; its quality is the last."""
    answer = task.answer
    if isinstance(answer, QuantilesAnswer):
        return ("alarm", "covered", QUALITY)
    if isinstance(answer, NumberAnswer) and answer.low_field:
        return (answer.headline_field, answer.low_field, answer.high_field, QUALITY)
    return (answer.headline_field, QUALITY)


def _is_doubtful(headline: Headline) -> bool:
    return headline.values[-1] not in (None, GOOD)


def _cautious(task: Task, headline: Headline) -> float | None:
    """The lower end of a number's interval, or the number; None without either.

    None in doubt, unless the score is at alert level nevertheless.
    """
    answer = task.answer
    if not isinstance(answer, NumberAnswer):
        return None
    names = _headline_fields(task)
    fields = {n: v for n, v in zip(names, headline.values, strict=True) if v is not None}
    if _is_doubtful(headline) and not task.is_alarming(fields):
        return None
    found = fields.get(answer.low_field, fields.get(answer.field))
    return None if found is None else float(found)


def _urgency(
    found: tuple[Task, Headline] | None, is_stale: bool, settings: PageSettings
) -> tuple[int, int, float]:
    """Sort key of a device within its task, the most urgent one first.

    What was close to failure or in alarm stays at the top when it falls silent; of the others the
    live ones come first, because an old score is no news.
    """
    if found is None:
        return _CALM, int(is_stale), _NO_SCORE
    task, headline = found
    if isinstance(task.answer, QuantilesAnswer):
        return (0 if headline.values[0] else _CALM), int(is_stale), 0.0
    value = _cautious(task, headline)
    if value is None and _is_doubtful(headline):
        return 1, int(is_stale), _NO_SCORE
    if value is None:
        return _CALM, int(is_stale), _NO_SCORE if isinstance(task.answer, NumberAnswer) else 0.0
    rank = _CALM
    if task.needs_attention is not None:
        rank = 0 if value < settings.rul_critical else 1 if value < settings.rul_warning else _CALM
    return rank, int(is_stale), value


def _overview(
    entries: Sequence[_Entry],
    scored: Mapping[Device, tuple[Task, Headline]],
    models: Mapping[str, ModelStatus],
    settings: PageSettings,
) -> dict[str, Any]:
    """Numbers of the whole fleet, and for each task with devices what its tiles show."""
    by_task: dict[str, list[tuple[Device, Headline]]] = {}
    retired = sum(entry.is_retired for entry in entries)
    entries = [entry for entry in entries if not entry.is_retired]
    used = {entry.device for entry in entries}
    scored = {device: each for device, each in scored.items() if device in used}
    for device, (task, headline) in scored.items():
        by_task.setdefault(task.name, []).append((device, headline))
    devices = Counter(entry.task for entry in entries)
    found: dict[str, Any] = {}
    for task in tasks():
        if devices[task.name]:
            rows = by_task.get(task.name, [])
            about = {
                "devices": devices[task.name],
                "scored": len(rows),
                "doubtful": sum(_is_doubtful(headline) for _, headline in rows),
            }
            found[task.name] = about | _figures(task, rows, models, settings)
    stale = sum(entry.is_stale for entry in entries)
    return {
        "devices": len(entries),
        "sites": len({entry.device[0] for entry in entries}),
        "live": len(entries) - stale,
        "stale": stale,
        "waiting": sum(not entry.is_scored for entry in entries),
        "acknowledged": sum(entry.note is not None for entry in entries),
        "retired": retired,
        "tasks": found,
    }


def _figures(
    task: Task,
    rows: Sequence[tuple[Device, Headline]],
    models: Mapping[str, ModelStatus],
    settings: PageSettings,
) -> dict[str, Any]:
    """What the tiles of a task show, by the kind of its answer."""
    values = [headline.values[0] for _, headline in rows if headline.values[0] is not None]
    if isinstance(task.answer, QuantilesAnswer):
        covered = [h.values[1] for _, h in rows if h.values[1] is not None]
        mean = sum(covered) / len(covered) if covered else None
        return {"alarms": sum(map(bool, values)), "covered": mean}
    if not isinstance(task.answer, NumberAnswer):
        common = Counter(values).most_common(1)
        return {"common": list(common[0]) if common else None}
    lowest = min(
        (
            (h.values[0], device)
            for device, h in rows
            if h.values[0] is not None and _cautious(task, h) is not None
        ),
        default=None,
    )
    cautious = [low for _, h in rows if (low := _cautious(task, h)) is not None]
    model = None if lowest is None else models.get(lowest[1][2])
    unit = (model and model.unit) or task.field(task.answer.headline_field).unit
    return {
        "critical": sum(low < settings.rul_critical for low in cautious),
        "warning": sum(settings.rul_critical <= low < settings.rul_warning for low in cautious),
        "lowest": None if lowest is None else [lowest[0], unit, *lowest[1]],
    }


def _encoded(key: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode("ascii").rstrip("=")


def _decoded(cursor: str, sort: str) -> tuple[Any, ...]:
    kinds = _KINDS[sort]
    msg = f"cursor {cursor!r:.80} is none that a page of this order gave; begin without one"
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        key = orjson.loads(base64.urlsafe_b64decode(padded))
    except (UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError):
        raise ValueError(msg) from None
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise ValueError(msg)
    return tuple(key)
