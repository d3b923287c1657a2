"""The result of `kpstream map try` as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from deploy.commands.mapstudents import StreamFacts, StudentFit, fits_of
from deploy.commands.printable import printable

if TYPE_CHECKING:
    from ingest.mapping.channels import ChannelRule
    from ingest.mapping.compiled import CompiledMapping
    from ingest.mapping.extract import Piece
    from ingest.mapping.joining import JoinCounters
    from ingest.mapping.trial import Outcome, StreamFound, Trial
    from models.manifest import Manifest

__all__ = ["trial_json", "trial_lines"]

_MOST_VALUES = 6
_MOST_READINGS = 3
_MOST_SKIPPED = 10
_MOST_STREAMS = 50
_OFFSET_SHOWN_MS = 100


def trial_lines(
    mapping: CompiledMapping, trial: Trial, students: Sequence[Manifest], last: int, future_ms: int
) -> list[str]:
    """Return the lines for a person.

    Args:
        mapping: The mapping.
        trial: Its trial.
        students: Students of the registry.
        last: Number of messages to show, the newest ones.
        future_ms: Milliseconds that an event time may be ahead, a setting of the bridge.
    """
    lines = _channel_lines(mapping)
    rows = [_message_row(each) for each in trial.outcomes[-last:]]
    if rows:
        lines += ["", "messages" + (f" (the last {last})" if len(trial.outcomes) > last else "")]
        for line, topic, results in rows:
            lines.append(f"  {line}{topic}")
            lines += [f"      {result}" for result in results]
    for bad in trial.bad_lines[:last]:
        lines.append(f"  line {bad.line}: no message: {bad.detail}")
    if trial.whole:
        lines += [
            "",
            "readings joined" + (f" (the last {last})" if len(trial.whole) > last else ""),
        ]
        lines += [f"  {_piece_text(piece)}" for piece in trial.whole[-last:]]
    if trial.streams:
        lines += ["", "streams"]
    for stream in trial.streams[:_MOST_STREAMS]:
        lines += _stream_lines(mapping, stream, future_ms)
    if len(trial.streams) > _MOST_STREAMS:
        lines.append(f"  ... {len(trial.streams)} streams in all")
    if trial.joined is not None and (told := _join_lines(trial.joined)):
        lines += ["", "values that are in no reading", *told]
    if trial.streams:
        lines += ["", "students", *_student_lines(mapping, trial.streams, students)]
    if trial.skipped:
        lines += ["", "channels without a value"]
        for text, count in trial.skipped.most_common(_MOST_SKIPPED):
            lines.append(f"  {count} x {text}")
    return [*map(printable, lines), "", _summary(mapping, trial)]


def trial_json(
    mapping: CompiledMapping, trial: Trial, students: Sequence[Manifest]
) -> dict[str, Any]:
    """Return everything that was found, for programs."""
    return {
        "mapping": mapping.name,
        "filters": list(mapping.filters),
        "channels": [
            {
                "name": rule.name,
                "path": rule.path,
                "source_unit": rule.source_unit,
                "unit": rule.unit,
                "scale": rule.scale,
                "offset": rule.offset,
            }
            for rule in mapping.channels
        ],
        "messages": [_outcome_json(each) for each in trial.outcomes],
        "bad_lines": [{"line": bad.line, "detail": bad.detail} for bad in trial.bad_lines],
        "readings": [_reading_json(piece) for piece in trial.whole],
        "streams": [_stream_json(mapping, each, students) for each in trial.streams],
        "skipped": dict(trial.skipped),
        "joined": None if trial.joined is None else asdict(trial.joined),
        "refused": trial.refused,
    }


# -- for people -----------------------------------------------------------------------------


def _channel_lines(mapping: CompiledMapping) -> list[str]:
    lines = [f"{mapping.name}: takes {', '.join(mapping.filters)}", "", "channels"]
    width = max(len(rule.name) for rule in mapping.channels)
    return lines + [f"  {rule.name:<{width}}  {_channel_text(rule)}" for rule in mapping.channels]


def _channel_text(rule: ChannelRule) -> str:
    units = "no unit given" if rule.unit is None else rule.unit
    if rule.source_unit not in (None, rule.unit):
        units = f"{rule.source_unit} -> {rule.unit}"
    sums = "" if rule.scale == 1 else f" x {rule.scale:.10g}"
    if rule.offset:
        sums += f" {'+' if rule.offset > 0 else '-'} {abs(rule.offset):.10g}"
    where = f"  where {_when(rule)}" if rule.when else ""
    return f"{rule.path}  {units}{f', {sums.strip()}' if sums else ''}{where}"


def _when(rule: ChannelRule) -> str:
    return ", ".join(f"{place} is {' or '.join(of.texts)}" for place, of in rule.when.items())


def _message_row(outcome: Outcome) -> tuple[str, str, list[str]]:
    message = outcome.message
    line = f"line {message.line}: " if message.line else ""
    results = [_piece_text(piece) for piece in outcome.readings[:_MOST_READINGS]]
    if len(outcome.readings) > _MOST_READINGS:
        results.append(f"... {len(outcome.readings)} readings in all")
    if outcome.is_foreign:
        results.append("not for this mapping: its topic is another one")
    if outcome.refused is not None:
        results.append(f"refused, {outcome.refused.reason}: {outcome.refused.detail}")
    if not results:
        why = "; ".join(outcome.skipped) or "`when` or `devices` does not fit"
        results.append(f"left out: {why}")
    return line, message.topic, results


def _piece_text(piece: Piece) -> str:
    values = [f"{name}={value:.7g}" for name, value in piece.values.items()]
    if len(values) > _MOST_VALUES:
        values[_MOST_VALUES:] = [f"... ({len(values)} channels)"]
    how = " (time of receipt)" if piece.is_received_time else ""
    return f"{'/'.join(piece.address)}  {_utc(piece.ts_ms)}{how}  {' '.join(values)}"


def _stream_lines(mapping: CompiledMapping, stream: StreamFound, future_ms: int) -> list[str]:
    of = f"{stream.readings} readings"
    if mapping.join is not None:
        of += f" joined from {stream.parts} parts"
    rate = "rate unknown" if stream.rate_hz is None else f"{stream.rate_hz:.4g} Hz"
    lines = [f"  {'/'.join(stream.address)}: {of}, {rate}, {_clock_text(stream)}"]
    ahead = stream.clock_offset_ms
    if ahead is not None and ahead > future_ms:
        lines.append(
            f"      the bridge refuses its readings (future): more than {future_ms / 1000:g} s "
            "ahead; set the clock of the device, or [time] zone and form"
        )
    unseen = [name for name in stream.channels if name not in stream.seen]
    if unseen:
        lines.append(f"      no value yet for {', '.join(unseen)}")
    return lines


def _join_lines(joined: JoinCounters) -> list[str]:
    """Say why values were in no reading."""
    told = (
        (joined.incomplete_total, "of the trigger came when another channel had no fresh value"),
        (joined.expired_total, "were older than max_age_ms before a reading could use them"),
        (joined.superseded_total, "were followed by a newer one before a reading could use them"),
        (joined.late_total, "came too late: raise lateness_ms in [join]"),
        (joined.duplicates_total, "came twice"),
    )
    return [f"  {count} values {why}" for count, why in told if count]


def _student_lines(
    mapping: CompiledMapping, streams: Sequence[StreamFound], students: Sequence[Manifest]
) -> list[str]:
    """Say for each name of a stream which student would score it, or what is lacking."""
    lines = []
    for name in dict.fromkeys(stream.address.stream for stream in streams):
        alike = [stream for stream in streams if stream.address.stream == name]
        slowest = min(alike, key=lambda stream: stream.rate_hz or float("inf"))
        if not any(each.stream == name for each in students):
            scored = ", ".join(sorted({each.stream for each in students})) or "none"
            lines.append(
                f"  {name}: no student scores this stream (students here score {scored}); until "
                "you add one, its readings are dead letters (no_model)"
            )
        for fit in fits_of(_facts(mapping, slowest), students):
            lines += [f"  {name}: {text}" for text in _fit_texts(fit)]
    return lines


def _clock_text(stream: StreamFound) -> str:
    if stream.is_received_time:
        return "time of receipt"
    offset = stream.clock_offset_ms
    if offset is None:
        return "time of the device"
    if abs(offset) < _OFFSET_SHOWN_MS:
        return "time of the device, equal to ours"
    side = "ahead of" if offset > 0 else "behind"
    return f"time of the device, {abs(offset) / 1000:.1f} s {side} the time of receipt"


def _fit_texts(fit: StudentFit) -> list[str]:
    if not fit.scores_stream:
        return [f"{fit.student} has these channels, but {fit.lacks[0]}"]
    head = f"{fit.student} does not score it" if fit.lacks else f"{fit.student} scores it"
    return [
        head + ("" if not fit.lacks else f": {'; '.join(fit.lacks)}"),
        *(f"  {doubt}" for doubt in fit.doubts),
    ]


def _summary(mapping: CompiledMapping, trial: Trial) -> str:
    count = len(trial.outcomes)
    read = sum(bool(each.readings) for each in trial.outcomes)
    what = "become readings" if mapping.join is None else "hold values"
    text = f"{count} messages: {read} {what}, {trial.refused} refused"
    if trial.joined is not None:
        text += f", {len(trial.whole)} readings joined"
    if trial.foreign:
        text += f", {trial.foreign} of other topics"
    left_out = count - read - trial.foreign
    left_out -= sum(each.refused is not None and not each.readings for each in trial.outcomes)
    if left_out:
        text += f", {left_out} left out"
    if count and trial.foreign == count:
        text += f"; none has a topic of this mapping ({', '.join(mapping.filters)})"
    return text


def _facts(mapping: CompiledMapping, stream: StreamFound) -> StreamFacts:
    units = {rule.name: rule.unit for rule in mapping.channels if rule.name in stream.channels}
    return StreamFacts(stream.address.stream, units, stream.rate_hz)


def _utc(time_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(time_ms // 1000, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return f"{time_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d} UTC"


# -- for programs ---------------------------------------------------------------------------


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    refused = outcome.refused
    return {
        "line": outcome.message.line,
        "topic": outcome.message.topic,
        "is_foreign": outcome.is_foreign,
        "readings": [_reading_json(piece) for piece in outcome.readings],
        "skipped": list(outcome.skipped),
        "ignored": outcome.ignored,
        "refused": None
        if refused is None
        else {"reason": refused.reason.value, "detail": refused.detail},
    }


def _reading_json(piece: Piece) -> dict[str, Any]:
    site, device, stream = piece.address
    return {
        "site": site,
        "device": device,
        "stream": stream,
        "ts_ms": piece.ts_ms,
        "is_received_time": piece.is_received_time,
        "values": piece.values,
    }


def _stream_json(
    mapping: CompiledMapping, stream: StreamFound, students: Sequence[Manifest]
) -> dict[str, Any]:
    site, device, name = stream.address
    return {
        "site": site,
        "device": device,
        "stream": name,
        "readings": stream.readings,
        "parts": stream.parts,
        "channels": list(stream.channels),
        "unseen": [each for each in stream.channels if each not in stream.seen],
        "rate_hz": stream.rate_hz,
        "is_received_time": stream.is_received_time,
        "clock_offset_ms": stream.clock_offset_ms,
        "students": [
            {
                "student": fit.student,
                "scores": fit.scores_stream and not fit.lacks,
                "lacks": list(fit.lacks),
                "doubts": list(fit.doubts),
            }
            for fit in fits_of(_facts(mapping, stream), students)
        ],
    }
