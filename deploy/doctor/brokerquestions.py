"""Two questions to a broker: what it has dropped (`$SYS`), and which topics nothing reads (`#`).

Each has a connection of its own, because a broker may end the connection of a user who may not ask.
A question without an answer is `unknown`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from deploy.doctor.brokercheck import BrokerCheck
from deploy.doctor.findings import Finding
from ingest.errors import MqttError
from ingest.mqtt.promise import unusable_filter
from ingest.mqtt.reasons import refusal_text, subscription_text
from ingest.mqtt.versions import Version
from ingest.secrettext import error_text
from ingest.tls import TlsError
from ingest.topicfilters import takes_topic
from ingest.topics import topic_shape

__all__ = ["check_beside", "check_dropped"]

_DROPPED = "$SYS/broker/publish/messages/dropped"
_VERSION = "$SYS/broker/version"
_SILENT = f"it publishes no number on {_DROPPED}"
_MOSQUITTO = f"it keeps the number on {_DROPPED} for a minute after a change only"
_ADVICE = (
    "mosquitto: set max_queued_messages 0, and watch that topic with a user who may read it; other "
    "brokers: see their limits and counters (docs/brokers.md)"
)
_MOST_WATCHED = 20_000
_MOST_SHAPES = 50


async def check_dropped(check: BrokerCheck, version: Version) -> Finding:
    """Report how many messages the broker has dropped, which mosquitto tells in `$SYS`."""
    told: dict[str, str] = {}
    is_told = asyncio.Event()

    def take(topic: str, payload: bytes) -> None:
        if topic in (_VERSION, _DROPPED):
            told[topic] = payload[:100].decode(errors="replace").strip()
        if len(told) == 2:
            is_told.set()

    why = await _listen(check, version, (_VERSION, _DROPPED), take, is_told)
    name, count = told.get(_VERSION), told.get(_DROPPED, "")
    who = "the broker" if name is None else f"the broker ({name})"
    if not count.isdecimal():
        text = f"cannot tell how many messages {who} has dropped: "
        text += why or (_MOSQUITTO if (name or "").startswith("mosquitto") else _SILENT)
        return Finding("queue", "unknown", text, _ADVICE)
    if int(count) == 0:
        return Finding("queue", "ok", f"{who} has dropped no message since it started")
    text = f"{who} has dropped {int(count)} messages since it started"
    advice = (
        "by default mosquitto keeps 1000 messages for a slow or absent client and drops the rest, "
        "although it confirmed them to the sensor: set max_queued_messages 0 in mosquitto.conf"
    )
    return Finding("queue", "warn", text, advice)


async def check_beside(check: BrokerCheck, version: Version) -> list[Finding]:
    """Report topics that the gateway does not read; warn where only the letter case differs."""
    ours = {prefix.split("/")[0] for prefix in check.prefixes}
    beside: Counter[str] = Counter()
    is_enough = asyncio.Event()

    def take(topic: str, payload: bytes) -> None:
        del payload
        shape = topic_shape(topic)
        is_read = any(takes_topic(each, topic) for each in check.filters)
        if shape.split("/")[0] not in ours and not is_read:
            beside[shape if shape in beside or len(beside) < _MOST_SHAPES else "other"] += 1
        if beside.total() >= _MOST_WATCHED:
            is_enough.set()

    why = await _listen(check, version, ("#",), take, is_enough)
    if why is not None:
        text = f"cannot tell whether messages arrive on topics that nothing here reads: {why}"
        return [Finding("topics", "unknown", text)]
    if not beside:
        return []
    shown = ", ".join(f"{shape} {n}" for shape, n in beside.most_common(5))
    folded = {each.casefold() for each in ours}
    is_near = any(shape.split("/")[0].casefold() in folded for shape in beside)
    text = f"messages on topics that nothing here reads: {shown}"
    advice = f"fine if they are of others; this gateway reads below {', '.join(sorted(ours))}"
    return [Finding("topics", "warn" if is_near else "ok", text, advice)]


async def _listen(
    check: BrokerCheck,
    version: Version,
    filters: Sequence[str],
    take: Callable[[str, bytes], None],
    is_done: asyncio.Event,
) -> str | None:
    """Listen for `watch_s`, or until `is_done`; return why that was not possible, or None."""
    try:
        async with check.probe(version, "listen", on_message=take) as probe:
            reason, announced = await probe.connect(check.patience.most_s)
            if reason.is_failure:
                return refusal_text(*reason).partition("; ")[0]
            problem = unusable_filter(announced, filters)
            if problem is not None:
                return problem
            reasons = await probe.subscribe(filters, check.patience.most_s)
            for name, each in zip(filters, reasons, strict=False):
                if each.is_failure:
                    return subscription_text(name, *each).partition("; ")[0]
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(is_done.wait(), check.watch_s)
    except (MqttError, OSError, ValueError, TlsError) as exc:
        return error_text(exc).partition("; ")[0]
    return None
