"""Requests to InfluxDB 2 over influxdb-client, with its errors translated.

Sink, layout and tests connect in this one way (address, token, TLS, time limits), and no other file
imports the library. Its batching writer is not used, because it drops points silently, nor are its
retries, because the caller decides when to try again.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from ingest.extras import install_command
from ingest.secrettext import checked_secret, error_text, hide_secrets
from ingest.tls import TlsError, TlsFiles, client_context, tls_advice
from pipeline.errors import SinkError, SinkMisconfigured, SinkSlow, SinkUnavailable

__all__ = ["MISCONFIGURED_RETRY_MS", "Answer", "InfluxClient", "InfluxConnection"]

MISCONFIGURED_RETRY_MS = 30_000
"""Pause before the next try when a setting must be corrected first."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_RETRYABLE = {408, 425, 429}
_OVERWHELMED = {408, 500, 504}
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class InfluxConnection:
    """Address, credentials and limits of a connection to InfluxDB.

    Attributes:
        url: URL such as `http://127.0.0.1:8086`, or https.
        token: API token; no message shows it.
        org: Organisation, name or id.
        timeout_ms: Longest wait of a request for the connection, and for the answer.
        ca_file: PEM file of the authorities to trust instead of the system's.
        verify: False accepts any certificate, for trials with a server on this machine only.
        gzip: Whether writes are compressed; None: unless the server is on this machine.
    """

    url: str
    token: SecretStr
    org: str
    timeout_ms: int = 10_000
    ca_file: Path | None = None
    verify: bool = True
    gzip: bool | None = None

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]+", self.url):
            message = (
                f"InfluxDB URL {self.shown!r} is invalid: it must look like http://127.0.0.1:8086"
            )
            raise SinkError(message)
        try:
            object.__setattr__(self, "token", checked_secret(self.token))
        except ValueError as exc:
            why = error_text(exc)
            message = f"KPSTREAM_PIPELINE_INFLUX_TOKEN for InfluxDB {self.shown} {why}"
            raise SinkError(message) from None
        if not self.token.get_secret_value():
            message = f"InfluxDB {self.shown} needs a token: set KPSTREAM_PIPELINE_INFLUX_TOKEN"
            raise SinkError(message)
        if not self.verify and urlsplit(self.url).hostname not in _LOOPBACK:
            message = (
                f"KPSTREAM_PIPELINE_INFLUX_VERIFY is false, but {self.shown} is another machine: "
                "any server could receive the token; set KPSTREAM_PIPELINE_INFLUX_CA_FILE instead"
            )
            raise SinkError(message)
        if self.ca_file is not None:
            try:
                client_context(self.tls)
            except TlsError as exc:
                raise SinkError(str(exc)) from exc

    @property
    def tls(self) -> TlsFiles:
        """The files for https."""
        return TlsFiles(self.ca_file, settings="KPSTREAM_PIPELINE_INFLUX_")

    @property
    def shown(self) -> str:
        """The URL without a password."""
        return re.sub(r"(^|//)[^/@]*@", r"\1", self.url)

    @property
    def compresses(self) -> bool:
        """Whether writes are compressed."""
        if self.gzip is None:
            return urlsplit(self.url).hostname not in _LOOPBACK
        return self.gzip


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of InfluxDB: status, headers (names in lower case) and text."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> dict[str, Any]:
        """The text as a JSON object; {} if it is not one."""
        try:
            document = json.loads(self.text)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def message(self) -> str:
        """The message as text, not shortened; without secrets, which a proxy may send back."""
        return hide_secrets(str(self.json.get("message") or self.json.get("error") or self.text))

    @property
    def retry_after_ms(self) -> int | None:
        """The pause that InfluxDB asks for; None unless it is in seconds."""
        try:
            return max(0, round(float(self.headers.get("retry-after", "")) * 1000))
        except (
            ValueError,
            OverflowError,
        ):  # HTTP also allows a date; the caller's own back-off then applies
            return None

    def as_error(self, where: str, advice: Mapping[int, str]) -> SinkUnavailable:
        """The answer as an error: unavailable for now, or wrong settings."""
        text = " ".join(self.message.split())[:2_000] or "no reason given"
        if self.status in _RETRYABLE or self.status >= 500:
            kind = SinkSlow if self.status in _OVERWHELMED else SinkUnavailable
            return kind(f"{where} answers {self.status}: {text}", self.retry_after_ms)
        hint = advice.get(self.status, "this is not an answer of InfluxDB; check the URL")
        message = f"{where} answers {self.status}: {hint}"
        return SinkMisconfigured(message, MISCONFIGURED_RETRY_MS)


class InfluxClient:
    """A client of one InfluxDB, which connects at the first request. Not thread-safe."""

    def __init__(self, connection: InfluxConnection) -> None:
        """Prepare.

        Raises:
            SinkError: The package influxdb-client is not installed, or the CA file cannot be read.
        """
        try:
            from influxdb_client import InfluxDBClient, WriteService
        except ImportError as exc:
            message = f"influxdb-client is not installed: {install_command('gateway')}"
            raise SinkError(message) from exc
        self.connection = connection
        self._client = InfluxDBClient(
            url=connection.url,
            token=connection.token.get_secret_value(),
            org=connection.org,
            timeout=connection.timeout_ms,
            retries=False,
            verify_ssl=connection.verify,
            ssl_ca_cert=None if connection.ca_file is None else str(connection.ca_file),
        )
        self._writes = WriteService(self._client.api_client)

    def __enter__(self) -> InfluxClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._client.close()

    def write(self, bucket: str, lines: bytes, *, timeout_ms: int | None = None) -> Answer:
        """Send lines with times in nanoseconds; only status 204 means that all are stored.

        Args:
            bucket: Name or id of the bucket.
            lines: Points in line protocol.
            timeout_ms: Longest wait for the answer; None: that of the connection.

        Raises:
            SinkUnavailable: No answer came in time; the lines may or may not be stored.
        """
        encoding = "identity"
        if self.connection.compresses:
            # Level 1 is 13 times cheaper than the default, and the result is half as big again.
            squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
            lines, encoding = squeeze.compress(lines) + squeeze.flush(), "gzip"
        return self._answer(
            lambda: self._writes.post_write_with_http_info(
                org=self.connection.org,
                bucket=bucket,
                body=lines,
                precision="ns",
                content_type="text/plain; charset=utf-8",
                content_encoding=encoding,
                _request_timeout=timeout_ms,
            ),
            timeout_ms,
        )

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one JSON request to the HTTP API below `/api/v2`.

        Raises:
            SinkUnavailable: No answer came in time.
        """
        return self._answer(
            lambda: self._client.api_client.call_api(
                f"/api/v2{path}",
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=None if body is None else dict(body),
                response_type="object",
            )
        )

    def query(self, flux: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run Flux and return all rows of all tables; `params` are variables of the query.

        Raises:
            SinkUnavailable: No answer came in time, or InfluxDB refused the query.
        """
        rows: list[dict[str, Any]] = []

        def ask() -> None:
            tables = self._client.query_api().query(flux, params=dict(params) if params else None)
            rows.extend(dict(record.values) for table in tables for record in table.records)

        answer = self._answer(ask)
        if answer.status != 200:
            raise answer.as_error(self.where, {400: answer.message, 404: answer.message})
        return rows

    @property
    def where(self) -> str:
        """The name of the server in messages."""
        return f"InfluxDB {self.connection.shown}"

    def _answer(self, ask: Any, timeout_ms: int | None = None) -> Answer:
        from influxdb_client.client.exceptions import InfluxDBError
        from influxdb_client.client.flux_csv_parser import FluxQueryException
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        try:
            found = ask()
        except FluxQueryException as exc:  # the answer had begun with status 200
            return Answer(400, {}, error_text(exc))
        except InfluxDBError as exc:
            response = getattr(exc, "response", None)
            status = getattr(exc, "status", None) or getattr(response, "status", 0)
            if not status:  # the client turns a failed handshake into an answer without status
                why = self._tls_advice(exc)
                why = why or " ".join(hide_secrets(str(getattr(exc, "reason", "") or exc)).split())
                message = f"{self.where} cannot be reached: {why}"
                raise SinkUnavailable(message) from None
            headers = getattr(exc, "headers", None) or {}
            return Answer(status, _lower(headers), _text(getattr(exc, "body", None)))
        except ReadTimeoutError:
            waited_ms = timeout_ms or self.connection.timeout_ms
            message = f"{self.where} has not answered in {waited_ms} ms"
            raise SinkSlow(message) from None
        except (HTTPError, OSError) as exc:
            why = self._tls_advice(exc) or error_text(exc, named=True)
            message = f"{self.where} cannot be reached: {why}"
            raise SinkUnavailable(message) from None
        except ValueError as exc:  # a header or URL that HTTP does not allow; its text quotes it
            message = f"{self.where} cannot be asked: {error_text(exc, named=True)}"
            raise SinkMisconfigured(message, MISCONFIGURED_RETRY_MS) from None
        if found is None:
            return Answer(200, {}, "")
        text, status, headers = found
        return Answer(status, _lower(headers), _text(text))

    def _tls_advice(self, exc: BaseException) -> str | None:
        url = urlsplit(self.connection.url)
        where = f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
        return tls_advice(exc, where, self.connection.tls)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _text(body: object) -> str:
    if isinstance(body, dict):  # the client has read it already
        return json.dumps(body)
    if isinstance(body, bytes):
        return body.decode("utf-8", "replace")
    return "" if body is None else str(body)
