"""TLS towards a server: which files, and what to do when it fails.

One place for MQTT, Kafka and InfluxDB. A server is always checked: its certificate must be signed
by the authority we trust, be in date and hold the name we connect to; there is no setting that
turns this off. TLS 1.2 at least.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import IngestError

__all__ = ["TlsError", "TlsFiles", "client_context", "open_tls", "probe_tls", "tls_advice"]

_ANSWER_S = 0.5  # how long a server may take to refuse our certificate after the handshake


class TlsError(IngestError):
    """A file for TLS cannot be used; the message names the file and the setting."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What TLS to one server needs, and what the settings are called that say so.

    Attributes:
        ca_file: PEM file of the authority to trust; None for the system's.
        cert_file: PEM file of our certificate, for servers that ask for one.
        key_file: PEM file of its private key, unencrypted; None: it is in `cert_file`.
        settings: Prefix of the settings' names, for messages.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    settings: str = ""


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Read the files. Make one for every connection where renewed files shall count at once.

    Raises:
        TlsError: A file is missing or unreadable, holds no certificate or key, or they do not fit.
    """
    name = files.settings
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except OSError as exc:
        raise TlsError(_unusable(f"{name}CA_FILE", files.ca_file, exc)) from exc
    if files.cert_file is None:
        if files.key_file is not None:
            message = f"{name}KEY_FILE is set, {name}CERT_FILE is not: a key needs its certificate"
            raise TlsError(message)
        return context

    def no_password() -> str:
        message = f"{name}KEY_FILE {files.key_file or files.cert_file} is encrypted: nobody is "
        raise TlsError(message + "there to type a password; give a key without, mode 600")

    for setting, path in (("CERT_FILE", files.cert_file), ("KEY_FILE", files.key_file)):
        try:
            if path is not None:
                path.open("rb").close()  # the library's own error names no file
        except OSError as exc:
            raise TlsError(_unusable(f"{name}{setting}", path, exc)) from exc
    try:
        context.load_cert_chain(files.cert_file, files.key_file, no_password)
    except OSError as exc:
        key = files.key_file or files.cert_file
        if "KEY_VALUES_MISMATCH" in (getattr(exc, "reason", "") or ""):
            message = (
                f"{name}KEY_FILE {key} is not the key of {name}CERT_FILE {files.cert_file}: "
                "the two are made together"
            )
        else:
            message = (
                f"{name}CERT_FILE {files.cert_file} and {name}KEY_FILE {key} are not a certificate "
                f"and its key in PEM form ({_plain(exc)})"
            )
        raise TlsError(message) from exc
    return context


def tls_advice(
    error: BaseException, where: str, files: TlsFiles, *, shaking_hands: bool = True
) -> str | None:
    """What is wrong and what to do, when `error` (or what caused it) comes from TLS; else None.

    Args:
        error: What a connection ended with.
        where: `host:port` of the server.
        files: What was used.
        shaking_hands: Whether the server may be one without TLS; False once TLS has been spoken
            with it, when an end without goodbye is just a lost connection.
    """
    for exc in _chain(error):
        if isinstance(exc, ssl.SSLCertVerificationError):
            return _about_server(exc, where, files)
        if isinstance(exc, ssl.SSLError):
            return _about_line(exc, where, files, shaking_hands)
    return None


def open_tls(host: str, port: int, files: TlsFiles, *, timeout_s: float = 5.0) -> ssl.SSLSocket:
    """Connect and shake hands; blocks for at most twice the time.

    With TLS 1.3 a server refuses our certificate only after the handshake: give what the first read
    raises to `tls_advice`.

    Raises:
        TlsError: The files cannot be used, or there is no TLS with this server; says what to do.
        OSError: Nobody listens there.
    """
    context = client_context(files)
    plain = socket.create_connection((host, port), timeout=timeout_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname=host)
    except OSError as exc:
        plain.close()
        where = f"{host}:{port}"
        advice = tls_advice(exc, where, files) or _no_tls(where, files, _plain(exc))
        raise TlsError(advice) from exc


def probe_tls(host: str, port: int, files: TlsFiles | None, settings: str = "") -> str | None:
    """What hinders us, for clients that only say they cannot connect; blocks for seconds.

    Sends nothing but a handshake. None when TLS is not the matter, or when nobody listens there.

    Args:
        host: Of the server.
        port: Of the server.
        files: For TLS; None where we speak none.
        settings: Without `files`: prefix of the settings' names, for messages.
    """
    if files is None:
        if not _speaks_tls(host, port):
            return None
        return f"{host}:{port} speaks TLS: set {settings}CA_FILE, or connect to its plain port"
    try:
        with open_tls(host, port, files) as line:
            line.settimeout(_ANSWER_S)
            with suppress(TimeoutError):
                line.recv(1)
    except TlsError as exc:
        return str(exc)
    except OSError as exc:
        return tls_advice(exc, f"{host}:{port}", files, shaking_hands=False)
    return None


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing will be said to whoever it is
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=2.0) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and what urllib3 wraps as `reason`; each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        exc = waiting.pop(0)
        if id(exc) in seen:
            continue
        seen.add(id(exc))
        yield exc
        inner = (exc.__cause__, exc.__context__, getattr(exc, "reason", None), *exc.args)
        waiting += [part for part in inner if isinstance(part, BaseException)]


def _about_server(exc: ssl.SSLCertVerificationError, where: str, files: TlsFiles) -> str:
    code = getattr(exc, "verify_code", None)
    if code in _NOT_OUR_AUTHORITY:
        trusted = f"than {files.ca_file}" if files.ca_file else "than those this system trusts"
        return (
            f"{where} has a certificate by another authority {trusted}: set "
            f"{files.settings}CA_FILE to the certificate of the authority that signed it"
        )
    if code == _EXPIRED:
        return f"the certificate of {where} has expired: renew it there, and restart that server"
    if code == _NOT_YET:
        return f"the certificate of {where} is not good yet: is the clock of this machine right?"
    if code in _OTHER_NAME:
        host = where.rpartition(":")[0]
        return (
            f"the certificate of {where} is for other names than {host!r}: connect to a name that "
            "it holds, or make it anew with this one"
        )
    return f"the certificate of {where} is not accepted: {_plain(exc)}"


def _about_line(exc: ssl.SSLError, where: str, files: TlsFiles, shaking_hands: bool) -> str | None:
    reason = (getattr(exc, "reason", None) or "").upper()
    ours = f"{files.settings}CERT_FILE"
    if any(sign in reason for sign in _PLAIN_PORT) or isinstance(exc, ssl.SSLEOFError):
        return _no_tls(where, files, _plain(exc)) if shaking_hands else None
    if files.cert_file is None and any(sign in reason for sign in _WANTS_OURS):
        return f"{where} asks for a certificate of ours: set {ours} and {files.settings}KEY_FILE"
    if "CERTIFICATE_EXPIRED" in reason:
        return (
            f"{where} refuses our certificate {files.cert_file} ({ours}): it has expired, renew it"
        )
    if any(sign in reason for sign in (*_WANTS_OURS, *_REFUSES_OURS)):
        return (
            f"{where} refuses our certificate {files.cert_file} ({ours}): it is not by an "
            "authority that this server trusts, or not for clients"
        )
    return f"TLS with {where} fails: {_plain(exc)}"


def _no_tls(where: str, files: TlsFiles, why: str) -> str:
    return (
        f"{where} does not speak TLS ({why}): connect to its port for TLS, or turn TLS off "
        f"({files.settings}*)"
    )


def _unusable(setting: str, path: Path | None, exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return f"{setting} {path}: there is no such file"
    if isinstance(exc, ssl.SSLError):
        return f"{setting} {path}: it holds no certificate in PEM form"
    return f"{setting} {path} cannot be read by this user: {exc.strerror or exc}"


def _plain(exc: BaseException) -> str:
    """An error of the library without its bracketed codes and source lines."""
    name = "reason" if isinstance(exc, ssl.SSLError) else "strerror"
    text = getattr(exc, "verify_message", None) or getattr(exc, name, None) or exc
    return (str(text) or type(exc).__name__).replace("_", " ").lower()


# X509_V_ERR_* of OpenSSL.
_NOT_OUR_AUTHORITY = {2, 18, 19, 20, 21}
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = {62, 64}
# Parts of OpenSSL's names of what the other side told us, or of what it sent instead of TLS.
_PLAIN_PORT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_EOF")
_WANTS_OURS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")
_REFUSES_OURS = ("UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_VER")
