"""The InfluxDB 2 sink: only status 204 counts as stored, and bad lines are identified.

InfluxDB 2.7 answers to a bad line in one of three ways:

- 400 for a line that cannot be parsed: *nothing* of the request is stored, and the message quotes
  all bad lines.
- 422 for a field of another type than before, or a time older than the retention of the bucket:
  the other lines are *usually* stored. With several kinds of flaws, or several days, the message
  names only the first flaw. InfluxDB reports how many lines it dropped, but not which.
- 400 to every request, with no mention of lines: the request is wrong, or a proxy answers. No
  line is at fault, so the sink waits as it does for a wrong setting.

The sink therefore sets aside the lines that the message names, and writes the others again. Lines
that match the message are tried separately. Otherwise the request is halved, down to single lines.
A line is refused only by name, or if InfluxDB refused a request that contained no other line. Lines
that a partly refused request has stored are written again and overwrite themselves.

`pipeline.stores.stage.deliver` does the rest: it retries without limit, and the log keeps the
scores in the meantime.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from pydantic import SecretStr

from ingest.errors import RefusalReason
from ingest.patience import Patience
from pipeline.errors import SinkSlow, SinkUnavailable
from pipeline.points.lines import to_line
from pipeline.points.pointblocks import Points, each_point
from pipeline.settings import PipelineSettings
from pipeline.stores.influxclient import Answer, InfluxClient, InfluxConnection
from pipeline.stores.sinks import Refused, RefusedLine

__all__ = ["InfluxSink", "influx_connection"]

_LEAST_LINES = 100
_WANTS_HTTPS = "it speaks https: begin KPSTREAM_PIPELINE_INFLUX_URL with https://"
_ADVICE = {
    401: "the token is not accepted; check KPSTREAM_PIPELINE_INFLUX_TOKEN",
    403: "the token may not write to this bucket; give it write permission",
    404: "organisation or bucket does not exist; create it or correct the setting",
}
_BAD_LINES = {400, 413, 422}
_ALWAYS = "every line is refused, for a reason outside the lines: %s"
_MOST_UNEXPLAINED = 20
_UNPARSED = re.compile(r"unable to parse '(.*?)': ([^\n]*)")
_DROPPED = re.compile(r"\bdropped=(\d+)\b")
_CONFLICT = re.compile(r'input field "(.+?)" on measurement "(.+?)" is type (\w+), already')
_TOO_OLD = re.compile(r"Retention Policy Lower Bound at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
_LITERALS = {
    "string": '"',
    "float": "[-0-9.eE+]+(?=[ ,])",
    "integer": "-?[0-9]+i",
    "boolean": "[tTfF]",
}


class InfluxSink:
    """A `Sink` and `LineSink` (`pipeline.stores.sinks`) over the write API of InfluxDB 2.

    Not thread-safe: one consumer owns it.
    """

    def __init__(
        self, connection: InfluxConnection, bucket: str, *, max_lines: int = 5_000
    ) -> None:
        """Prepare a client, which connects at the first write.

        Args:
            connection: Address, token, organisation, TLS.
            bucket: Name or id of the bucket.
            max_lines: Most lines of one request. Requests get shorter while InfluxDB is too slow
                for them, and longer again afterwards. Short ones are waited for ever longer
                (`ingest.patience`).

        Raises:
            SinkError: The package influxdb-client is not installed.
        """
        self._client = InfluxClient(connection)
        self._bucket = bucket
        self._where = f"{self._client.where} bucket {bucket!r}"
        self._max_lines = self._lines = max_lines
        self._patience = Patience(connection.timeout_ms / 1000)
        self._silences = 0  # of requests that cannot get shorter

    def write(self, points: Points) -> list[Refused]:
        """Store points; see `Sink.write`.

        Raises:
            SinkUnavailable: See `writing`.
        """
        single = list(each_point(points))
        flaws = self._finish(_Job(list(map(to_line, single))))
        return [Refused(single[i], flaw.detail) for i, flaw in sorted(flaws.items())]

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        """Return a call that stores lines with times in nanoseconds; see `LineSink.writing`.

        The call raises:
            SinkUnavailable: InfluxDB is not reachable, too slow or overloaded; `retry_after_ms` is
                the pause that it asked for.
            SinkMisconfigured: Token, organisation or bucket is wrong, or this is not InfluxDB.
        """
        job = _Job(lines)

        def resume() -> list[RefusedLine]:
            flaws = sorted(self._finish(job).items())
            return [RefusedLine(lines[i], flaw.reason, flaw.detail) for i, flaw in flaws]

        return resume

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._client.close()

    def _finish(self, job: _Job) -> dict[int, _Flaw]:
        """Write until every line is stored or refused; return the flaws of the refused ones."""
        while job.waiting:
            batch = job.waiting.pop()
            if len(batch) > self._lines:
                batch, rest = batch[: self._lines], batch[self._lines :]
                job.waiting.append(rest)
            sent = [job.lines[i] for i in batch]
            try:
                answer = self._post(sent)
            except SinkUnavailable:
                job.waiting.append(batch)
                raise
            if answer.status == 204:
                job.flaws |= job.unexplained
                job.unexplained.clear()
                job.has_stored = True
                continue
            named, suspects = _identify_bad_lines(answer, sent)
            if named is None and (_names_lines(answer) or job.has_stored or len(job.lines) == 1):
                job.flaws |= dict.fromkeys(batch, _Flaw.of(answer))
                continue
            if named is None:
                job.unexplained[batch[0]] = _Flaw.of(answer)
                if len(job.unexplained) >= _MOST_UNEXPLAINED or not job.waiting:
                    job.reset()
                    raise answer.as_error(self._where, {answer.status: _ALWAYS % answer.message})
                continue
            job.flaws |= {batch[n]: flaw for n, flaw in named.items()}
            parts = _split(len(batch), set(named), suspects)
            job.waiting += [[batch[n] for n in part] for part in parts]
        return job.flaws

    def _post(self, lines: Sequence[str]) -> Answer:
        """Send one request and return an answer that concerns its lines; raise for any other."""
        try:
            timeout_ms = round(1000 * self._patience.limit_s(self._silences))
            data = "\n".join(lines).encode()
            answer = self._client.write(self._bucket, data, timeout_ms=timeout_ms)
            if answer.status == 204:
                self._lines = min(2 * self._lines, self._max_lines)
            if answer.status == 204 or (answer.status in _BAD_LINES and _is_influx(answer)):
                return answer
            advice = _ADVICE | (
                {answer.status: _WANTS_HTTPS} if "HTTPS server" in answer.text else {}
            )
            raise answer.as_error(self._where, advice)
        except SinkUnavailable as exc:
            if isinstance(exc, SinkSlow):
                least = min(_LEAST_LINES, self._max_lines)
                self._silences += len(lines) <= least
                self._lines = max(len(lines) // 2, least)
            raise


def _names_lines(answer: Answer) -> bool:
    """Whether a refusal blames lines rather than the request."""
    message = answer.message
    is_named = "unable to parse" in message or "partial write" in message
    return is_named or isinstance(answer.json.get("data"), list) or answer.status == 413


def _is_influx(answer: Answer) -> bool:
    """Whether InfluxDB itself refused: an https port or a proxy answers 400 to good lines, too."""
    return bool(answer.json) or answer.status == 413


class _Job:
    """A batch of lines that is being written.

    Attributes:
        lines: All lines of the batch.
        waiting: A stack of lists of indices that are still to be written.
        flaws: Flaws of refused lines, by index.
        unexplained: Lines that were refused one by one, without being named, before any line of the
            batch was stored. The fault may be the server's, or that of a proxy.
        has_stored: Whether any line was stored.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.reset()

    def reset(self) -> None:
        """Start again with all lines waiting."""
        self.waiting: list[Sequence[int]] = [range(len(self.lines))] if self.lines else []
        self.flaws: dict[int, _Flaw] = {}
        self.unexplained: dict[int, _Flaw] = {}
        self.has_stored = False


@dataclass(frozen=True, slots=True)
class _Flaw:
    """The reason for a refusal: a code for counters, and a human-readable text."""

    reason: RefusalReason
    detail: str

    @classmethod
    def of(cls, answer: Answer) -> _Flaw:
        message = " ".join(answer.message.split())[:2_000]
        if "field type conflict" in message:
            return cls(RefusalReason.type_conflict, message)
        if "retention policy" in message:
            return cls(RefusalReason.beyond_retention, message)
        return cls(RefusalReason.refused_point, message or f"refused with status {answer.status}")


def _identify_bad_lines(
    answer: Answer, lines: Sequence[str]
) -> tuple[dict[int, _Flaw] | None, set[int]]:
    """Lines that a refusal names, with their flaws, and other lines that match its message.

    None in place of the named lines stands for all lines of the request.
    """
    message = answer.message
    if len(lines) == 1:
        return None, set()
    dropped = _DROPPED.search(message)
    if answer.status == 422 and dropped and int(dropped[1]) >= len(lines):
        return None, set()
    named = {}
    if answer.status == 400:
        named = dict(_named(answer, lines))
    return named, set(_suspects(message, lines)) - set(named)


def _named(answer: Answer, lines: Sequence[str]) -> Iterable[tuple[int, _Flaw]]:
    """Lines that the answer names: by number (InfluxDB 3) or by quoting them (InfluxDB 2)."""
    data = answer.json.get("data")
    for entry in data if isinstance(data, list) else []:
        number = entry.get("line_number") if isinstance(entry, dict) else None
        if isinstance(number, int) and 1 <= number <= len(lines):
            why = str(entry.get("error_message", "refused"))
            yield number - 1, _Flaw(RefusalReason.refused_point, why)
    places: dict[str, list[int]] = {}
    for n, line in enumerate(lines):
        places.setdefault(line, []).append(n)
    for quoted, why in _UNPARSED.findall(answer.message):
        for n in places.get(quoted, ()):
            yield n, _Flaw(RefusalReason.refused_point, why)


def _suspects(message: str, lines: Sequence[str]) -> Iterable[int]:
    """Lines that match the message about one of them: a guess, to be tried separately."""
    if conflict := _CONFLICT.search(message):
        field, measurement, kind = conflict.groups()
        literal = re.compile(f"[ ,]{re.escape(field)}={_LITERALS.get(kind, '')}")
        for n, line in enumerate(lines):
            if line.startswith((f"{measurement},", f"{measurement} ")) and literal.search(line):
                yield n
    elif too_old := _TOO_OLD.search(message):
        bound = datetime.fromisoformat(too_old[1]).replace(tzinfo=timezone.utc)
        bound_ns = int(bound.timestamp()) * 10**9
        for n, line in enumerate(lines):
            time_ns = line.rpartition(" ")[2]
            if time_ns.lstrip("-").isdigit() and int(time_ns) < bound_ns:
                yield n


def _split(count: int, named: set[int], suspects: set[int]) -> list[list[int]]:
    """Split `count` lines for the next requests: suspects from the others, or else in halves.

    The parts are in the order in which they go on the stack, so suspects are written last.
    """
    rest = [n for n in range(count) if n not in named]
    if named:
        return [rest] if rest else []
    if 0 < len(suspects) < count:
        return [sorted(suspects), [n for n in rest if n not in suspects]]
    return [rest[count // 2 :], rest[: count // 2]]


def influx_connection(settings: PipelineSettings) -> InfluxConnection:
    """The connection that the settings describe.

    Raises:
        SinkError: Address or token is not set, or the CA file is missing.
    """
    return InfluxConnection(
        settings.influx_url or "",
        settings.influx_token or SecretStr(""),
        settings.influx_org,
        ca_file=settings.influx_ca_file,
        verify=settings.influx_verify,
    )
