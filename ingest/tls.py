"""TLS with a server: the files, the connection, and advice when it fails.

Shared by MQTT, Kafka and InfluxDB. A server is always checked: its certificate must be signed by
the trusted authority, be valid now, and contain the name that we connect to. No setting turns this
off. TLS 1.2 or later.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import IngestError
from ingest.patience import REACH_S
from ingest.tcp import open_tcp

__all__ = [
    "TlsError",
    "TlsFiles",
    "TlsSilent",
    "client_context",
    "open_tls",
    "probe_tls",
    "shake_hands",
    "speaks_tls",
    "tls_advice",
]

_ANSWER_S = 0.5  # time for a server to refuse our certificate after the handshake
# X509_V_ERR_* of OpenSSL.
_NOT_OUR_AUTHORITY = {2, 18, 19, 20, 21}
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = {62, 64}
# Parts of OpenSSL's names for alerts of the other side, or for data that is not TLS.
_PLAIN_PORT = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_CUT = "UNEXPECTED_EOF"
_WANTS_OURS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")
_REFUSES_OURS = ("UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_VER")


class TlsError(IngestError):
    """A file for TLS is unusable, or TLS with a server fails; the message says what to do."""


class TlsSilent(TlsError):
    """A server took the connection, but has not answered the TLS handshake in time."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files for TLS with one server, and the prefix of their settings.

    Attributes:
        ca_file: PEM file of the authority to trust; None: the system's authorities.
        cert_file: PEM file of our certificate, for servers that require one.
        key_file: PEM file of its private key, unencrypted; None: it is in `cert_file`.
        settings: Prefix of the settings' names, for messages.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    settings: str = ""


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a client context from the files.

    Renewed files take effect with the next context, so make one per connection.

    Raises:
        TlsError: A file is missing or unreadable, contains no certificate or key, or the two do not
            belong together.
    """
    name = files.settings
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except OSError as exc:
        raise TlsError(_unusable(f"{name}CA_FILE", files.ca_file, exc)) from exc
    if files.cert_file is None:
        if files.key_file is not None:
            message = f"{name}KEY_FILE is set without {name}CERT_FILE: set both or neither"
            raise TlsError(message)
        return context

    def no_password() -> str:
        message = f"{name}KEY_FILE {files.key_file or files.cert_file} is encrypted, and a service "
        raise TlsError(
            message + "cannot ask for its password: use an unencrypted key with mode 600"
        )

    for setting, path in (("CERT_FILE", files.cert_file), ("KEY_FILE", files.key_file)):
        try:
            if path is not None:
                path.open("rb").close()  # because the library's error names no file
        except OSError as exc:
            raise TlsError(_unusable(f"{name}{setting}", path, exc)) from exc
    try:
        context.load_cert_chain(files.cert_file, files.key_file, no_password)
    except OSError as exc:
        key = files.key_file or files.cert_file
        if "KEY_VALUES_MISMATCH" in (getattr(exc, "reason", "") or ""):
            message = (
                f"{name}KEY_FILE {key} is not the key of {name}CERT_FILE {files.cert_file}: "
                "use the two files that were created together"
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
    """Return a diagnosis with advice if `error` or one of its causes comes from TLS.

    Args:
        error: Error that ended a connection.
        where: `host:port` of the server.
        files: Files that were used.
        shaking_hands: Whether the server may turn out to speak no TLS. False after a handshake: an
            abrupt end is then just a lost connection.

    Returns:
        The advice; None: TLS is not the cause.
    """
    for exc in _chain(error):
        if isinstance(exc, ssl.SSLCertVerificationError):
            return _about_server(exc, where, files)
        if isinstance(exc, ssl.SSLError):
            return _about_line(exc, where, files, shaking_hands)
    return None


def open_tls(
    host: str,
    port: int,
    files: TlsFiles,
    *,
    timeout_s: float = REACH_S,
    handshake_s: float | None = None,
    on_socket: Callable[[socket.socket], None] | None = None,
) -> ssl.SSLSocket:
    """Connect and shake hands; blocks for at most the two limits together.

    With TLS 1.3 a server refuses our certificate only after the handshake: pass the error of the
    first read to `tls_advice`.

    Args:
        host: Host of the server.
        port: Port of the server.
        files: Files for TLS.
        timeout_s: Limit for the TCP connection, seconds.
        handshake_s: Limit for an answer in the handshake, seconds; None: as `timeout_s`.
        on_socket: Called with each socket before it connects, and with that of TLS before it
            shakes hands. `socket.socket.shutdown` of the last one ends the attempt.

    Raises:
        TlsSilent: The server has not answered in the handshake.
        TlsError: The files are unusable, or the handshake fails; the message says what to do.
        OSError: No server listens there.
    """
    context = client_context(files)
    limit_s = timeout_s if handshake_s is None else handshake_s
    plain = open_tcp(host, port, timeout_s, on_socket)
    where = f"{host}:{port}"
    line: socket.socket = plain
    try:
        plain.settimeout(limit_s)
        line = wrapped = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        if on_socket is not None:  # the wrapped socket has taken the descriptor of the plain one
            on_socket(wrapped)
        wrapped.do_handshake()
    except TimeoutError as exc:
        line.close()
        message = f"{where} has not answered our TLS handshake for {limit_s:g} s"
        raise TlsSilent(message) from exc
    except OSError as exc:
        line.close()
        advice = tls_advice(exc, where, files) or _cut(where, files, _plain(exc))
        raise TlsError(advice) from exc
    return wrapped


def probe_tls(host: str, port: int, files: TlsFiles | None, settings: str = "") -> str | None:
    """Find out why a connection fails, for clients that do not report it; blocks for seconds.

    Sends nothing but a handshake.

    Args:
        host: Host of the server.
        port: Port of the server.
        files: Files for TLS; None: the client uses no TLS.
        settings: Prefix of the settings' names, for messages; used without `files`.

    Returns:
        The diagnosis with advice; None: TLS is not the cause, or no server listens there.
    """
    if files is None:
        if not speaks_tls(host, port):
            return None
        return f"{host}:{port} speaks TLS: set {settings}CA_FILE, or connect to its plain port"
    try:
        shake_hands(host, port, files)
    except TlsError as exc:
        return str(exc)
    except OSError:
        return None
    return None


def shake_hands(
    host: str, port: int, files: TlsFiles, *, handshake_s: float | None = None
) -> str | None:
    """Try TLS with a server and send nothing else; blocks for seconds.

    Args:
        host: Host of the server.
        port: Port of the server.
        files: Files for TLS.
        handshake_s: As in `open_tls`.

    Returns:
        The version of TLS.

    Raises:
        TlsError: As `open_tls`, or the server refuses our certificate after the handshake.
        OSError: No server listens there, or the connection broke and TLS is not the cause.
    """
    with open_tls(host, port, files, handshake_s=handshake_s) as line:
        line.settimeout(_ANSWER_S)
        try:
            line.recv(1)
        except TimeoutError:
            pass
        except OSError as exc:
            advice = tls_advice(exc, f"{host}:{port}", files, shaking_hands=False)
            if advice is None:
                raise
            raise TlsError(advice) from exc
        return line.version()


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a TLS handshake with a server works; blocks for seconds.

    Nothing else is sent, and no certificate is checked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is sent after the handshake
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
    """Yield an error, its causes, and the errors that urllib3 wraps as `reason`; each once."""
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
            f"the certificate of {where} is signed by another authority {trusted}: set "
            f"{files.settings}CA_FILE to the certificate of that authority"
        )
    if code == _EXPIRED:
        return f"the certificate of {where} has expired: renew it and restart that server"
    if code == _NOT_YET:
        return f"the certificate of {where} is not valid yet: check the clock of this machine"
    if code in _OTHER_NAME:
        host = where.rpartition(":")[0]
        return (
            f"the certificate of {where} does not contain the name {host!r}: connect to a name "
            "that it contains, or issue it again with this name"
        )
    return f"the certificate of {where} is not accepted: {_plain(exc)}"


def _about_line(exc: ssl.SSLError, where: str, files: TlsFiles, shaking_hands: bool) -> str | None:
    reason = (getattr(exc, "reason", None) or "").upper()
    option = f"{files.settings}CERT_FILE"
    if isinstance(exc, ssl.SSLEOFError) or _CUT in reason:
        return _cut(where, files, _plain(exc)) if shaking_hands else None
    if any(sign in reason for sign in _PLAIN_PORT):
        return _no_tls(where, files, _plain(exc)) if shaking_hands else None
    if files.cert_file is None and any(sign in reason for sign in _WANTS_OURS):
        return f"{where} requires a client certificate: set {option} and {files.settings}KEY_FILE"
    if "CERTIFICATE_EXPIRED" in reason:
        refusal = f"{where} refuses our certificate {files.cert_file} ({option})"
        return f"{refusal}: it has expired; renew it"
    if any(sign in reason for sign in (*_WANTS_OURS, *_REFUSES_OURS)):
        return (
            f"{where} refuses our certificate {files.cert_file} ({option}): it is not signed by an "
            "authority that this server trusts, or not valid for clients"
        )
    return f"TLS with {where} fails: {_plain(exc)}"


def _no_tls(where: str, files: TlsFiles, why: str) -> str:
    return (
        f"{where} does not speak TLS ({why}): connect to its TLS port, or turn TLS off "
        f"({files.settings}*)"
    )


def _cut(where: str, files: TlsFiles, why: str) -> str:
    return (
        f"{where} ended the TLS handshake ({why}), and gave no reason: check that this is its TLS "
        f"port; if it does not speak TLS, turn TLS off ({files.settings}*)"
    )


def _unusable(setting: str, path: Path | None, exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return f"{setting} {path}: no such file"
    if isinstance(exc, ssl.SSLError):
        return f"{setting} {path} contains no certificate in PEM form"
    return f"{setting} {path} is not readable by this user: {exc.strerror or exc}"


def _plain(exc: BaseException) -> str:
    """Return the text of a library error without its bracketed codes and source lines."""
    name = "reason" if isinstance(exc, ssl.SSLError) else "strerror"
    text = getattr(exc, "verify_message", None) or getattr(exc, name, None) or exc
    return (str(text) or type(exc).__name__).replace("_", " ").lower()
