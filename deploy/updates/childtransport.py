"""How the fetching child gets bytes: from a web server, or from a folder such as a USB stick.

Nothing here is trusted: the length of each answer is bounded by what signed metadata announce, or
by a limit of our own, and `tuf` verifies every byte. A target that a cut connection left half is
kept and continued (HTTP `Range`). Only the child process imports this module.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

import urllib3
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from ingest.patience import REACH_S
from ingest.secrettext import error_text
from ingest.statefile import NotRegular, open_regular
from ingest.tls import TlsError, TlsFiles, client_context, tls_advice

__all__ = ["FetchStopped", "Pace", "Transport"]

_CHUNK = 65_536
_MOST_METADATA = 5_000_000
"""Bytes of one metadata file, whatever other metadata announce."""
_RESERVE = 1_000_000
"""Bytes that stay free on the disk."""


class FetchStopped(Exception):
    """The fetch ends here, for a reason that is known where it is raised.

    Attributes:
        state: One of `deploy.rollout.report.FetchState`.
    """

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an answer has to come.

    Attributes:
        stall_s: Seconds without a single byte.
        grace_s: Seconds after which the average counts.
        bytes_per_s: Least average.
    """

    stall_s: float
    grace_s: float
    bytes_per_s: int


class _Source(Protocol):
    """Where the bytes of the repository come from."""

    def open(self, path: str, start: int) -> _Answer: ...


@dataclass(slots=True)
class _Answer:
    """An answer whose body has not been read yet.

    Attributes:
        chunks: The body.
        close: Ends the answer, read or not.
        start: Offset of its first byte in the file; 0 if the server does not resume.
        total: Length of the whole file; None if the server does not say.
        date_s: Time at the server, not proven; None without one.
    """

    chunks: Iterator[bytes]
    close: Callable[[], None]
    start: int = 0
    total: int | None = None
    date_s: int | None = None


class Transport(FetcherInterface):
    """Gets the files of one repository, metadata into memory, targets into files that resume.

    Args:
        url: The repository: `https://`, `http://`, or `file://` with an absolute path.
        partial: Folder for targets that are not complete yet.
        pace: Least speed.
        ca_file: PEM file of the authority for https; None: the system's.

    Attributes:
        asked: The last file that was asked for, such as `metadata/2.root.json`; "" before.
        last: Bytes of the last metadata file.
        resumed: Whether the last target was continued, not begun.
        date_s: Newest time that the server gave, not proven; None without one.
    """

    def __init__(self, url: str, partial: Path, pace: Pace, ca_file: Path | None = None) -> None:
        self._base = url.rstrip("/") + "/"
        self._partial = partial
        self._source: _Source
        if urlsplit(url).scheme == "file":
            self._source = _Folder(Path(unquote(urlsplit(url).path)))
        else:
            self._source = _Web(self._base, pace, ca_file)
        self.asked = ""
        self.last = b""
        self.resumed = False
        self.date_s: int | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._open(url, 0).chunks

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Download a file of at most `max_length` bytes; see `FetcherInterface`.

        A target that the caller refuses is deleted, so that the next attempt begins anew.
        """
        if url.startswith(f"{self._base}targets/"):
            path = self._partial / hashlib.sha256(url.encode()).hexdigest()
            with os.fdopen(open_regular(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
                self._continue(url, file, max_length)
                file.seek(0)
                try:
                    yield file
                finally:
                    path.unlink(missing_ok=True)  # taken, or refused
        else:
            self.last = self._read(url, min(max_length, _MOST_METADATA))
            yield io.BytesIO(self.last)

    def _open(self, url: str, start: int) -> _Answer:
        self.asked = url.removeprefix(self._base)
        answer = self._source.open(self.asked, start)
        self.date_s = answer.date_s or self.date_s
        return answer

    def _read(self, url: str, limit: int) -> bytes:
        data = bytearray()
        with closing(self._open(url, 0)) as answer:
            for chunk in answer.chunks:
                data += chunk
                if len(data) > limit:
                    raise self._endless(limit)
        if answer.total is not None and len(data) < answer.total:
            raise self._cut(len(data), answer.total)
        return bytes(data)

    def _continue(self, url: str, file: IO[bytes], length: int) -> None:
        """Append what is missing; what came so far stays if the connection breaks."""
        start = file.seek(0, os.SEEK_END)
        if start > length:
            start = file.truncate(0)
        self.resumed = start > 0
        _check_room(Path(self._partial), 2 * length - start)
        if start == length:
            self.asked = url.removeprefix(self._base)
            return
        with closing(self._open(url, start)) as answer:
            self._append(answer, file, start, length)

    def _append(self, answer: _Answer, file: IO[bytes], start: int, length: int) -> None:
        if answer.start != start:
            file.truncate(answer.start)
            self.resumed = False
        got = file.seek(answer.start)
        if answer.total is not None and answer.total < length:
            file.truncate(0)
            msg = (
                f"replaced target: {self.asked} has {answer.total:,} bytes at the repository, the "
                f"centre signed {length:,}: publish it again at the centre"
            )
            raise FetchStopped(msg, "refused")
        try:
            for chunk in answer.chunks:
                got += len(chunk)
                if got > length:
                    file.truncate(0)
                    raise self._endless(length)
                file.write(chunk)
        finally:
            file.flush()
        if got < length:
            raise self._cut(got, length)

    def _endless(self, limit: int) -> FetchStopped:
        return FetchStopped(
            f"endless data: the repository sends more than the {limit:,} bytes that {self.asked} "
            "may have",
            "refused",
        )

    def _cut(self, got: int, length: int) -> FetchStopped:
        return FetchStopped(
            f"the answer for {self.asked} ended after {got:,} of {length:,} bytes: check the line "
            "to the centre; the next attempt goes on from there",
            "away",
        )


def _check_room(folder: Path, needed: int) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < needed + _RESERVE:
        msg = (
            f"{folder} has {free:,} bytes free, the download needs {needed + _RESERVE:,}: make room"
        )
        raise FetchStopped(msg, "full")


class _Folder:
    """A repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, path: str, start: int) -> _Answer:
        if ".." in Path(path).parts:
            msg = f"the repository names a file outside itself: {path}"
            raise FetchStopped(msg, "refused")
        if not self._folder.is_dir():
            msg = f"the folder {self._folder} is not there: connect or mount it"
            raise FetchStopped(msg, "away")
        try:
            file = os.fdopen(open_regular(self._folder / path, os.O_RDONLY), "rb")
        except FileNotFoundError as exc:
            msg = f"{path} is not there"
            raise DownloadHTTPError(msg, 404) from exc
        except NotRegular as exc:
            raise FetchStopped(error_text(exc), "refused") from exc
        except OSError as exc:
            msg = f"{path} cannot be read: {exc.strerror}"
            raise FetchStopped(msg, "away") from exc
        size = os.fstat(file.fileno()).st_size
        start = min(start, size)
        file.seek(start)
        return _Answer(self._chunks(file, path), file.close, start, size)

    def _chunks(self, file: IO[bytes], path: str) -> Iterator[bytes]:
        try:
            while chunk := file.read(_CHUNK):
                yield chunk
        except OSError as exc:
            msg = f"{path} cannot be read: {exc.strerror}"
            raise FetchStopped(msg, "away") from exc


class _Web:
    """A repository behind a web server. Redirects are not followed."""

    def __init__(self, base: str, pace: Pace, ca_file: Path | None) -> None:
        self._base, self._pace = base, pace
        self._files = TlsFiles(ca_file=ca_file, settings="KPSTREAM_ROLLOUT_")
        self._where = urlsplit(base).netloc.rpartition("@")[2]
        self._pool: urllib3.PoolManager | None = None

    def open(self, path: str, start: int) -> _Answer:
        headers = {"Accept-Encoding": "identity", "User-Agent": "kpstream"}
        if start:
            headers["Range"] = f"bytes={start}-"
        answer = self._request(path, headers)
        date_s = _http_date(answer.headers.get("Date"))
        if answer.status == 416 and start:  # what we have is no beginning of that file
            answer.close()
            return self.open(path, 0)
        if answer.status != 200 and not (start and answer.status == 206):
            answer.close()
            self._refuse(path, answer)
        length, begin = answer.headers.get("Content-Length", ""), 0
        if answer.status == 206:
            begin = _range_start(answer.headers.get("Content-Range", ""))
            if begin != start:
                answer.close()
                return self.open(path, 0)
        total = begin + int(length) if length.isdecimal() else None
        return _Answer(self._chunks(answer, path), answer.close, begin, total, date_s)

    def _request(self, path: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        timeout = urllib3.Timeout(connect=REACH_S, read=self._pace.stall_s)
        try:
            return self._connected().request(
                "GET",
                self._base + path,
                headers=headers,
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=timeout,
            )
        except TlsError as exc:
            raise FetchStopped(str(exc), "away") from exc
        except (urllib3.exceptions.HTTPError, HTTPException, OSError) as exc:
            raise self._unreached(path, exc) from exc

    def _unreached(self, path: str, exc: Exception) -> FetchStopped:
        if isinstance(exc, urllib3.exceptions.ReadTimeoutError):
            return self._slow(path, 0)
        advice = tls_advice(exc, self._where, self._files)
        if advice is not None:
            return FetchStopped(advice, "away")
        return FetchStopped(
            f"the centre at {self._where} cannot be reached ({error_text(exc)}): check the network "
            "and KPSTREAM_ROLLOUT_URL",
            "away",
        )

    def _connected(self) -> urllib3.PoolManager:
        if self._pool is None:
            scheme, host = urlsplit(self._base).scheme, urlsplit(self._base).hostname or ""
            context = client_context(self._files) if scheme == "https" else None
            proxy = urllib.request.getproxies().get(scheme)
            if scheme == "https" and proxy and not urllib.request.proxy_bypass(host):
                self._pool = urllib3.ProxyManager(proxy, ssl_context=context)
            else:
                self._pool = urllib3.PoolManager(ssl_context=context)
        return self._pool

    def _refuse(self, path: str, answer: urllib3.BaseHTTPResponse) -> None:
        if answer.status in (403, 404):
            msg = f"{path} is not there"
            raise DownloadHTTPError(msg, answer.status)
        if 300 <= answer.status < 400:
            msg = (
                f"the centre answers {path} with a redirect to another address: set "
                "KPSTREAM_ROLLOUT_URL to where the repository is"
            )
            raise FetchStopped(msg, "away")
        msg = f"the centre answers {path} with HTTP status {answer.status}"
        raise FetchStopped(msg, "away")

    def _chunks(self, answer: urllib3.BaseHTTPResponse, path: str) -> Iterator[bytes]:
        began_s, got = time.monotonic(), 0
        try:
            while chunk := answer.read1(_CHUNK, decode_content=False):
                got += len(chunk)
                passed_s = time.monotonic() - began_s
                if passed_s > self._pace.grace_s and got < passed_s * self._pace.bytes_per_s:
                    raise self._slow(path, got)
                yield chunk
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise self._slow(path, got) from exc
        except (urllib3.exceptions.HTTPError, HTTPException, OSError) as exc:
            msg = (
                f"the connection to {self._where} broke after {got:,} bytes of {path} "
                f"({error_text(exc)}): check the line; the next attempt goes on from there"
            )
            raise FetchStopped(msg, "away") from exc

    def _slow(self, path: str, got: int) -> FetchStopped:
        pace = self._pace
        return FetchStopped(
            f"slow retrieval: {path} came with {got:,} bytes and then too slowly (at least "
            f"{pace.bytes_per_s:,} bytes/s are wanted, no pause above {pace.stall_s:g} s): check "
            "the line to the centre",
            "away",
        )


def _http_date(text: str | None) -> int | None:
    with suppress(ValueError, TypeError, OverflowError):
        return int(parsedate_to_datetime(text or "").timestamp())
    return None


def _range_start(text: str) -> int:
    """First byte of a `Content-Range`; -1 if it is none."""
    first = text.removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdecimal() else -1
