"""InfluxDB 2 as a sink: a write counts as stored by status 204 alone, bad lines are found.

What InfluxDB 2.7 does with a bad line, and what is made of it:

- 400, a line that can't be parsed: *nothing* of the request is stored; all bad lines are quoted.
- 422, a field of another type than before, or a time older than the bucket keeps: the other lines
  are stored, *usually*: with several kinds of flaws, or several days, only the first flaw found is
  told. How many lines that one cost is told, which they are is not.
- 400 to everything, with no word about lines: a wrong request, or something in front of InfluxDB.
  That is no line's fault: it is waited for as a wrong setting is.

So lines that are named are set aside and the rest is written again; lines that look like what is
told are tried by themselves; otherwise the request is halved, down to single lines. A line is
refused only if a request was refused of which it was every line, or by name. What was stored by a
request that was refused in part overwrites itself.

Account for the rest in `pipeline.stores.stage.deliver`: it tries again for as long as it takes, and
the log keeps the scores meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import SecretStr

from ingest.errors import RefusalReason
from pipeline.errors import SinkSlow, SinkUnavailable
from pipeline.points.lines import to_line
from pipeline.points.points import Point
from pipeline.settings import PipelineSettings
from pipeline.stores.influxclient import Answer, InfluxClient, InfluxConnection
from pipeline.stores.sinks import Refused, RefusedLine

__all__ = ["InfluxSink", "influx_connection", "influx_sink_from"]

_LEAST_LINES = 100
_WANTS_HTTPS = "it speaks https: KPSTREAM_PIPELINE_INFLUX_URL must begin with https://"
_HINTS = {
    401: "the token is not accepted; check KPSTREAM_PIPELINE_INFLUX_TOKEN",
    403: "the token may not write to this bucket; give it write permission",
    404: "organisation or bucket does not exist; create it or correct the setting",
}
_BAD_LINES = {400, 413, 422}
_ALWAYS = "every line is refused, not for its own sake: %s"
_MOST_DOUBTFUL = 20
_UNPARSED = re.compile(r"unable to parse '(.*?)': ([^\n]*)")
_DROPPED = re.compile(r"\bdropped=(\d+)\b")
_CONFLICT = re.compile(r'input field "(.+?)" on measurement "(.+?)" is type (\w+), already')
_TOO_OLD = re.compile(r"Retention Policy Lower Bound at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
_LOOKS = {
    "string": '"',
    "float": "[-0-9.eE+]+(?=[ ,])",
    "integer": "-?[0-9]+i",
    "boolean": "[tTfF]",
}


class InfluxSink:
    """A `pipeline.stores.sinks.Sink` and `LineSink` over the write API of InfluxDB 2.

    Not for several threads at once: one consumer owns it.
    """

    def __init__(
        self, connection: InfluxConnection, bucket: str, *, max_lines: int = 5_000
    ) -> None:
        """Prepare a client; connects at the first write.

        Args:
            connection: Address, token, organisation, TLS.
            bucket: Name or id.
            max_lines: Longer batches are written in several requests. When InfluxDB is too slow
                for them, requests get shorter by themselves, and longer again.

        Raises:
            SinkError: Influxdb-client is not installed.
        """
        self._client = InfluxClient(connection)
        self._bucket = bucket
        self._where = f"{self._client.where} bucket {bucket!r}"
        self._max_lines = self._lines = max_lines

    def write(self, points: Sequence[Point]) -> list[Refused]:
        """Store points; see `Sink.write`.

        Raises:
            SinkUnavailable: As `writing`.
        """
        flaws = self._finish(_Job([to_line(point) for point in points]))
        return [Refused(points[i], flaw.detail) for i, flaw in sorted(flaws.items())]

    def writing(self, lines: Sequence[str]) -> Callable[[], list[RefusedLine]]:
        """A call that stores lines of line protocol with times in ns; see `LineSink.writing`.

        The call raises:
            SinkUnavailable: not reachable, too slow, overloaded (with `retry_after_ms` if given).
            SinkMisconfigured: token, organisation or bucket is wrong, or this is no InfluxDB.
        """
        job = _Job(lines)

        def go_on() -> list[RefusedLine]:
            flaws = sorted(self._finish(job).items())
            return [RefusedLine(lines[i], flaw.reason, flaw.detail) for i, flaw in flaws]

        return go_on

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._client.close()

    def _finish(self, job: _Job) -> dict[int, _Flaw]:
        """Write until every line is stored or refused; the flaws of the latter by index."""
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
                job.flaws |= job.doubtful
                job.doubtful.clear()
                job.has_stored = True
                continue
            named, suspects = _blame(answer, sent)
            if named is None and (_names_lines(answer) or job.has_stored or len(job.lines) == 1):
                job.flaws |= dict.fromkeys(batch, _Flaw.of(answer))
                continue
            if named is None:
                job.doubtful[batch[0]] = _Flaw.of(answer)
                if len(job.doubtful) >= _MOST_DOUBTFUL or not job.waiting:
                    job.begin_anew()
                    raise answer.complaint(self._where, {answer.status: _ALWAYS % answer.message})
                continue
            job.flaws |= {batch[n]: flaw for n, flaw in named.items()}
            parts = _parted(len(batch), set(named), suspects)
            job.waiting += [[batch[n] for n in part] for part in parts]
        return job.flaws

    def _post(self, lines: Sequence[str]) -> Answer:
        """One request: stored, or refused for its lines; anything else is raised."""
        try:
            answer = self._client.write(self._bucket, "\n".join(lines).encode())
            if answer.status == 204:
                self._lines = min(2 * self._lines, self._max_lines)
            if answer.status == 204 or (answer.status in _BAD_LINES and _is_influx(answer)):
                return answer
            hints = _HINTS | (
                {answer.status: _WANTS_HTTPS} if "HTTPS server" in answer.text else {}
            )
            raise answer.complaint(self._where, hints)
        except SinkUnavailable as exc:
            if isinstance(exc, SinkSlow):
                self._lines = max(len(lines) // 2, min(_LEAST_LINES, self._max_lines))
            raise


def _names_lines(answer: Answer) -> bool:
    """Whether a refusal says that lines are at fault, and not the request."""
    message = answer.message
    is_told = "unable to parse" in message or "partial write" in message
    return is_told or isinstance(answer.json.get("data"), list) or answer.status == 413


def _is_influx(answer: Answer) -> bool:
    """Whether a refusal is InfluxDB's: a port for https, or a proxy, says 400 to good lines too."""
    return bool(answer.json) or answer.status == 413


class _Job:
    """Lines on their way.

    Attributes:
        lines: All of them.
        waiting: A stack of indices: what is still to be written.
        flaws: Lines that are refused.
        doubtful: Lines that were refused one by one without a word about them, before any line of
            the job was stored: it may be the server that is wrong, or something in front of it.
        has_stored: Something was stored.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing of it is stored, nothing refused."""
        self.waiting: list[Sequence[int]] = [range(len(self.lines))] if self.lines else []
        self.flaws: dict[int, _Flaw] = {}
        self.doubtful: dict[int, _Flaw] = {}
        self.has_stored = False


@dataclass(frozen=True, slots=True)
class _Flaw:
    """Why lines are refused: for counters, and for a person."""

    reason: RefusalReason
    detail: str

    @classmethod
    def of(cls, answer: Answer) -> _Flaw:
        message = " ".join(answer.message.split())[:2_000]
        if "field type conflict" in message:
            return cls(RefusalReason.type_conflict, message)
        if "retention policy" in message:
            return cls(RefusalReason.beyond_retention, message)
        return cls(RefusalReason.refused_point, message or f"rejected with {answer.status}")


def _blame(answer: Answer, lines: Sequence[str]) -> tuple[dict[int, _Flaw] | None, set[int]]:
    """What a refusal says of the lines: those named with their flaws, those that look like it.

    None in place of the named ones: all lines of the request are refused.
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
    """Lines that the answer names, by number (InfluxDB 3) or by quoting them (InfluxDB 2)."""
    data = answer.json.get("data")
    for entry in data if isinstance(data, list) else []:
        number = entry.get("line_number") if isinstance(entry, dict) else None
        if isinstance(number, int) and 1 <= number <= len(lines):
            why = str(entry.get("error_message", "rejected"))
            yield number - 1, _Flaw(RefusalReason.refused_point, why)
    places: dict[str, list[int]] = {}
    for n, line in enumerate(lines):
        places.setdefault(line, []).append(n)
    for quoted, why in _UNPARSED.findall(answer.message):
        for n in places.get(quoted, ()):
            yield n, _Flaw(RefusalReason.refused_point, why)


def _suspects(message: str, lines: Sequence[str]) -> Iterable[int]:
    """Lines that look like what the message tells of one of them; only ever a guess."""
    if conflict := _CONFLICT.search(message):
        field, measurement, kind = conflict.groups()
        looks = re.compile(f"[ ,]{re.escape(field)}={_LOOKS.get(kind, '')}")
        for n, line in enumerate(lines):
            if line.startswith((f"{measurement},", f"{measurement} ")) and looks.search(line):
                yield n
    elif too_old := _TOO_OLD.search(message):
        bound = datetime.fromisoformat(too_old[1]).replace(tzinfo=timezone.utc)
        bound_ns = int(bound.timestamp()) * 10**9
        for n, line in enumerate(lines):
            time_ns = line.rpartition(" ")[2]
            if time_ns.lstrip("-").isdigit() and int(time_ns) < bound_ns:
                yield n


def _parted(count: int, named: set[int], suspects: set[int]) -> list[list[int]]:
    """What to write next of `count` lines: suspects apart, or all in halves if that says nothing.

    In the order in which they are to be put on a stack: the suspects come last off it.
    """
    rest = [n for n in range(count) if n not in named]
    if named:
        return [rest] if rest else []
    if 0 < len(suspects) < count:
        return [sorted(suspects), [n for n in rest if n not in suspects]]
    return [rest[count // 2 :], rest[: count // 2]]


def influx_connection(settings: PipelineSettings) -> InfluxConnection:
    """Where InfluxDB is, from the settings.

    Raises:
        SinkError: There is no address, no token, or the CA file is missing.
    """
    return InfluxConnection(
        settings.influx_url or "",
        settings.influx_token or SecretStr(""),
        settings.influx_org,
        ca_file=settings.influx_ca_file,
        verify=settings.influx_verify,
    )


def influx_sink_from(
    url: str,
    token: SecretStr | str | None,
    org: str,
    bucket: str,
    *,
    timeout_ms: int = 10_000,
    ca_file: Path | None = None,
    verify: bool = True,
) -> InfluxSink:
    """Make a sink from single settings; a plain string token is wrapped. See `InfluxSink`.

    Raises:
        SinkError: As `InfluxSink`, and when address or token make no sense.
    """
    secret = token if isinstance(token, SecretStr) else SecretStr(token or "")
    connection = InfluxConnection(
        url, secret, org, timeout_ms=timeout_ms, ca_file=ca_file, verify=verify
    )
    return InfluxSink(connection, bucket)
