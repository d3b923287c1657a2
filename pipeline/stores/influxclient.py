"""InfluxDB 2 over influxdb-client, imported here only: requests, answers, errors translated.

One way to connect (address, token, TLS, time limits) for the sink, the layout and the tests. Of the
client library neither the batching writer is used (it drops points silently) nor its retries: who
asks decides when to ask again.
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

from ingest.tls import TlsError, TlsFiles, client_context, tls_advice
from pipeline.errors import SinkError, SinkMisconfigured, SinkSlow, SinkUnavailable

__all__ = ["MISCONFIGURED_RETRY_MS", "Answer", "InfluxClient", "InfluxConnection"]

MISCONFIGURED_RETRY_MS = 30_000
"""How long to wait with the next try when it is a setting that must change."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_RETRYABLE = {408, 425, 429}
_OVERWHELMED = {408, 500, 504}
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class InfluxConnection:
    """Where an InfluxDB is and how to be let in.

    Attributes:
        url: Like `http://127.0.0.1:8086`, or https.
        token: API token; shown in no message.
        org: Organisation, name or id.
        timeout_ms: Longest wait for the connection, and for the answer, of one request.
        ca_file: PEM file of the authorities to trust instead of the system's.
        verify: False takes any certificate: for trials, and refused but for this machine.
        gzip: Compress what is written; None: unless the server is on this machine.
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
            message = f"InfluxDB URL {self.url!r} must look like http://127.0.0.1:8086"
            raise SinkError(message)
        if not self.token.get_secret_value():
            message = f"InfluxDB {self.shown} needs a token: KPSTREAM_PIPELINE_INFLUX_TOKEN"
            raise SinkError(message)
        if not self.verify and urlsplit(self.url).hostname not in _LOOPBACK:
            message = (
                f"KPSTREAM_PIPELINE_INFLUX_VERIFY=false with {self.shown}: the token would go to "
                "whoever answers there; set KPSTREAM_PIPELINE_INFLUX_CA_FILE instead"
            )
            raise SinkError(message)
        if self.ca_file is not None:
            try:
                client_context(self.tls)
            except TlsError as exc:
                raise SinkError(str(exc)) from exc

    @property
    def tls(self) -> TlsFiles:
        """What https with it needs."""
        return TlsFiles(self.ca_file, settings="KPSTREAM_PIPELINE_INFLUX_")

    @property
    def shown(self) -> str:
        """The URL without what must not be shown."""
        return re.sub(r"//[^/@]*@", "//", self.url)

    @property
    def compresses(self) -> bool:
        """Whether writes are compressed."""
        if self.gzip is None:
            return urlsplit(self.url).hostname not in _LOOPBACK
        return self.gzip


@dataclass(frozen=True, slots=True)
class Answer:
    """What InfluxDB said to a request: status, headers (names in lower case) and text."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> dict[str, Any]:
        """The text as a JSON object; {} if it is none."""
        try:
            document = json.loads(self.text)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def message(self) -> str:
        """What it says for a person, whole."""
        return str(self.json.get("message") or self.json.get("error") or self.text)

    @property
    def retry_after_ms(self) -> int | None:
        """The pause it asks for, if it does so in seconds."""
        try:
            return max(0, round(float(self.headers.get("retry-after", "")) * 1000))
        except (ValueError, OverflowError):  # a date is allowed too; our own back-off does as well
            return None

    def complaint(self, where: str, hints: Mapping[int, str]) -> SinkUnavailable:
        """The error that this answer is: come back later, or a setting is wrong."""
        said = " ".join(self.message.split())[:2_000] or "no reason given"
        if self.status in _RETRYABLE or self.status >= 500:
            kind = SinkSlow if self.status in _OVERWHELMED else SinkUnavailable
            return kind(f"{where} answers {self.status}: {said}", self.retry_after_ms)
        hint = hints.get(self.status, "this is not how InfluxDB answers; check the URL")
        message = f"{where} answers {self.status}: {hint}"
        return SinkMisconfigured(message, MISCONFIGURED_RETRY_MS)


class InfluxClient:
    """Requests to one InfluxDB; connects at the first one. Not for several threads at once."""

    def __init__(self, connection: InfluxConnection) -> None:
        """Prepare.

        Raises:
            SinkError: Influxdb-client is not installed, or the CA file can't be read.
        """
        try:
            from influxdb_client import InfluxDBClient, WriteService
        except ImportError as exc:
            message = "influxdb-client is missing: pip install 'kpstream[gateway]'"
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

    def write(self, bucket: str, lines: bytes) -> Answer:
        """Send lines of line protocol (times in ns); only the status 204 says that all are stored.

        Raises:
            SinkUnavailable: Nobody answered within the time: what was sent may be stored or not.
        """
        encoding = "identity"
        if self.connection.compresses:
            # Level 1: 13 times cheaper than the default, and half as big again.
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
            )
        )

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request to the HTTP API below `/api/v2`, JSON both ways.

        Raises:
            SinkUnavailable: Nobody answered within the time.
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
            SinkUnavailable: Nobody answered within the time, or it refused the query.
        """
        rows: list[dict[str, Any]] = []

        def ask() -> None:
            tables = self._client.query_api().query(flux, params=dict(params) if params else None)
            rows.extend(dict(record.values) for table in tables for record in table.records)

        answer = self._answer(ask)
        if answer.status != 200:
            raise answer.complaint(self.where, {400: answer.message, 404: answer.message})
        return rows

    @property
    def where(self) -> str:
        """How the server is named in messages."""
        return f"InfluxDB {self.connection.shown}"

    def _answer(self, ask: Any) -> Answer:
        from influxdb_client.client.exceptions import InfluxDBError
        from influxdb_client.client.flux_csv_parser import FluxQueryException
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        try:
            found = ask()
        except FluxQueryException as exc:  # it had begun to answer 200
            return Answer(400, {}, str(exc))
        except InfluxDBError as exc:
            response = getattr(exc, "response", None)
            status = getattr(exc, "status", None) or getattr(response, "status", 0)
            if not status:  # the client turns a failed handshake into an answer without status
                why = self._tls_advice(exc)
                why = why or " ".join(str(getattr(exc, "reason", None) or exc).split())
                message = f"{self.where} cannot be reached: {why}"
                raise SinkUnavailable(message) from None
            headers = getattr(exc, "headers", None) or {}
            return Answer(status, _lower(headers), _text(getattr(exc, "body", None)))
        except ReadTimeoutError:
            message = f"{self.where} has not answered in {self.connection.timeout_ms} ms"
            raise SinkSlow(message) from None
        except (HTTPError, OSError) as exc:
            # The text of urllib3's errors holds host and port, never a header.
            why = self._tls_advice(exc) or f"{type(exc).__name__}: {exc}"
            message = f"{self.where} cannot be reached: {why}"
            raise SinkUnavailable(message) from None
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
