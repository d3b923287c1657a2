"""InfluxDB 2 as a sink: synchronous writes, every foreign error translated, bad lines isolated.

The only importer of influxdb_client, and only when a sink is made. Its batching writer is not used
(it drops points silently), nor its retries: `pipeline.sinks.deliver` retries, and the log keeps
the scores meanwhile. A write counts as confirmed by status 204 alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from pipeline.errors import SinkError, SinkMisconfigured, SinkUnavailable
from pipeline.points import Point, to_line
from pipeline.sinks import Refused

__all__ = ["InfluxSink", "influx_sink_from"]

_MISCONFIGURED_RETRY_MS = 30_000
_RETRYABLE = {408, 425, 429, 500, 502, 503, 504}
_BAD_LINES = {400, 413, 422}
_REFUSED_US = {
    401: "the token is not accepted; check KPSTREAM_PIPELINE_INFLUX_TOKEN",
    403: "the token may not write to this bucket; give it write permission",
    404: "organisation or bucket does not exist; create it or correct the setting",
}
_UNPARSED = re.compile(r"unable to parse '(.*?)': ([^\n]*)")


class InfluxSink:
    """A `pipeline.sinks.Sink` over the write API of InfluxDB 2 (and 3, which keeps it).

    Not for several threads at once: one consumer owns it.
    """

    def __init__(
        self,
        url: str,
        token: SecretStr,
        org: str,
        bucket: str,
        *,
        timeout_ms: int = 10_000,
        max_lines: int = 5_000,
    ) -> None:
        """Prepare a client; connects at the first write.

        Args:
            url: like `http://127.0.0.1:8086`.
            token: API token that may write to the bucket; shown in no message.
            org: organisation, name or id.
            bucket: name or id.
            timeout_ms: longest wait for connection and answer of one request.
            max_lines: longer batches are written in several requests.

        Raises:
            SinkError: influxdb-client is not installed, or the URL makes no sense.
        """
        if not re.match(r"https?://[^/]+", url):
            message = f"InfluxDB URL {url!r} must look like http://127.0.0.1:8086"
            raise SinkError(message)
        try:
            from influxdb_client import InfluxDBClient, WriteService
        except ImportError as exc:
            message = "influxdb-client is missing: pip install 'kpstream[gateway]'"
            raise SinkError(message) from exc
        self._where = f"InfluxDB {_without_userinfo(url)} bucket {bucket!r}"
        self._org = org
        self._bucket = bucket
        self._max_lines = max_lines
        self._client = InfluxDBClient(
            url=url,
            token=token.get_secret_value(),
            org=org,
            timeout=timeout_ms,
            enable_gzip=True,
            retries=False,
        )
        self._writes = WriteService(self._client.api_client)

    def write(self, points: Sequence[Point]) -> list[Refused]:
        """Store points; see `Sink.write`. Lines that InfluxDB rejects come back as refused.

        When a batch is rejected and the answer names the lines, those are set aside and the rest
        is written again; else the batch is halved until the bad ones are found. Points that a
        partial write stored already are overwritten by themselves.

        Raises:
            SinkUnavailable: not reachable, too slow, overloaded (with `retry_after_ms` if given).
            SinkMisconfigured: token, organisation or bucket is wrong, or this is no InfluxDB.
        """
        refused: list[Refused] = []
        lines = [(point, to_line(point)) for point in points]
        stack = [lines[i : i + self._max_lines] for i in range(0, len(lines), self._max_lines)]
        stack.reverse()
        while stack:
            batch = stack.pop()
            rejected = self._post([line for _, line in batch])
            if rejected is None:
                continue
            named = {i: why for i, why in rejected.lines.items() if i < len(batch)}
            if len(batch) == 1:
                refused.append(Refused(batch[0][0], named.get(0, rejected.message)))
            elif named:
                refused.extend(Refused(batch[i][0], why) for i, why in named.items())
                rest = [item for i, item in enumerate(batch) if i not in named]
                if rest:
                    stack.append(rest)
            else:
                middle = len(batch) // 2
                stack += [batch[middle:], batch[:middle]]
        return refused

    def close(self) -> None:
        """Close the connection pool; idempotent."""
        self._client.close()

    def _post(self, lines: Sequence[str]) -> _Rejected | None:
        """Write one request; None when confirmed."""
        from influxdb_client.client.exceptions import InfluxDBError
        from urllib3.exceptions import HTTPError

        body = "\n".join(lines).encode()
        try:
            _, status, headers = self._writes.post_write_with_http_info(
                org=self._org,
                bucket=self._bucket,
                body=body,
                precision="ns",
                content_type="text/plain; charset=utf-8",
                content_encoding="identity",
            )
            text = ""
        except InfluxDBError as exc:
            response = getattr(exc, "response", None)
            status = getattr(exc, "status", None) or getattr(response, "status", 0)
            headers = getattr(exc, "headers", None) or {}
            text = _text(getattr(exc, "body", None))
        except (HTTPError, OSError) as exc:
            # The text of urllib3's errors holds host and port, never a header.
            message = f"{self._where} cannot be reached: {type(exc).__name__}: {exc}"
            raise SinkUnavailable(message) from None
        if status == 204:
            return None
        message = " ".join(_message(text).split())[:2_000]
        if status in _BAD_LINES:
            return _Rejected(message or f"rejected with status {status}", _named(text, lines))
        if status in _RETRYABLE or status >= 500:
            complaint = f"{self._where} answers {status}: {message or 'no reason given'}"
            raise SinkUnavailable(complaint, _retry_after_ms(headers))
        hint = _REFUSED_US.get(status, "this is not how InfluxDB answers a write; check the URL")
        complaint = f"{self._where} answers {status}: {hint}"
        raise SinkMisconfigured(complaint, _MISCONFIGURED_RETRY_MS)


def influx_sink_from(
    url: str, token: SecretStr | str | None, org: str, bucket: str, *, timeout_ms: int = 10_000
) -> InfluxSink:
    """Make a sink from settings; a plain string token is wrapped. See `InfluxSink`.

    Raises:
        SinkError: as `InfluxSink`, and when there is no token.
    """
    if not token:
        message = f"InfluxDB {_without_userinfo(url)} needs a token: KPSTREAM_PIPELINE_INFLUX_TOKEN"
        raise SinkError(message)
    secret = token if isinstance(token, SecretStr) else SecretStr(token)
    return InfluxSink(url, secret, org, bucket, timeout_ms=timeout_ms)


class _Rejected:
    """The answer to a request of which at least one line was rejected."""

    def __init__(self, message: str, lines: Mapping[int, str]) -> None:
        self.message = message
        self.lines = lines


def _named(text: str, lines: Sequence[str]) -> dict[int, str]:
    """Which lines the answer names, and why: {index: reason}; {} when it names none we know."""
    document = _json(text)
    named = {}
    data = document.get("data")
    for entry in data if isinstance(data, list) else []:  # InfluxDB 3
        number = entry.get("line_number") if isinstance(entry, dict) else None
        if isinstance(number, int) and 1 <= number <= len(lines):
            named[number - 1] = str(entry.get("error_message", "rejected"))
    if not named:  # InfluxDB 2 quotes the line itself
        places: dict[str, list[int]] = {}
        for i, line in enumerate(lines):
            places.setdefault(line, []).append(i)
        for quoted, why in _UNPARSED.findall(_message(text)):
            named.update(dict.fromkeys(places.get(quoted, ()), why))
    return named


def _message(text: str) -> str:
    document = _json(text)
    return str(document.get("message") or document.get("error") or text)


def _json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _text(body: object) -> str:
    if isinstance(body, bytes):
        return body.decode("utf-8", "replace")
    return "" if body is None else str(body)


def _retry_after_ms(headers: Mapping[str, str]) -> int | None:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    try:
        return max(0, round(float(value) * 1000))
    except ValueError:  # a date is allowed too; our own back-off does as well
        return None


def _without_userinfo(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
