"""Every fault of TLS files, servers and connections is reported with what to do."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from deploy.stack.certs import Plan, make_certificates
from ingest.mqtt.endpoint import Endpoint
from ingest.tls import (
    TlsError,
    TlsFiles,
    TlsSilent,
    client_context,
    open_tls,
    probe_tls,
    tls_advice,
)
from tests.fakes.ports import free_port
from tests.fakes.tlsserver import server, speaking

NOW = datetime.now(timezone.utc)
SHORT = Plan(services=("bridge",), days=10)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, SHORT, now=NOW)
    return folder


@pytest.fixture
def files(certs: Path) -> TlsFiles:
    bridge = certs / "services/bridge.pem"
    return TlsFiles(certs / "ca.pem", bridge, bridge.with_suffix(".key"), "SITE_")


def refusal(port: int, files: TlsFiles, host: str = "127.0.0.1") -> str:
    with pytest.raises(TlsError) as failed:
        open_tls(host, port, files)
    assert probe_tls(host, port, files) == str(failed.value)
    return str(failed.value)


def test_a_valid_server_is_accepted(certs: Path, files: TlsFiles) -> None:
    with server(speaking(certs)) as port:
        with open_tls("localhost", port, files) as line:
            assert line.recv(5) == b"hello"
            assert line.version() == "TLSv1.3"
        assert probe_tls("127.0.0.1", port, files) is None


def test_faults_of_the_server(certs: Path, files: TlsFiles, tmp_path: Path) -> None:
    for name, began in (("old", timedelta(days=-11)), ("new", timedelta(days=2))):
        make_certificates(tmp_path / name, SHORT, now=NOW + began)
    with server(speaking(certs)) as port:
        where = f"127.0.0.1:{port}"
        strange = replace(files, ca_file=tmp_path / "old/ca.pem")
        assert refusal(port, strange) == (
            f"the certificate of {where} is signed by another authority than {tmp_path}/old/ca.pem:"
            " set SITE_CA_FILE to the certificate of that authority"
        )
        assert "than those this system trusts: set SITE_CA_FILE" in refusal(
            port, replace(files, ca_file=None)
        )
    with server(speaking(certs), "127.0.0.2") as port:
        assert refusal(port, files, "127.0.0.2") == (
            f"the certificate of 127.0.0.2:{port} does not contain the name '127.0.0.2': connect "
            "to a name that it contains, or issue it again with this name"
        )
    with server(speaking(tmp_path / "old")) as port:
        old = replace(files, ca_file=tmp_path / "old/ca.pem")
        assert refusal(port, old) == (
            f"the certificate of 127.0.0.1:{port} has expired: renew it and restart that server"
        )
    with server(speaking(tmp_path / "new")) as port:
        new = replace(files, ca_file=tmp_path / "new/ca.pem")
        assert "is not valid yet: check the clock of this machine" in refusal(port, new)


def test_faults_of_the_connection(certs: Path, files: TlsFiles) -> None:
    with server(None) as port:
        assert refusal(port, files).startswith(f"127.0.0.1:{port} ended the TLS handshake (")
        assert refusal(port, files).endswith("turn TLS off (SITE_*)")
        assert probe_tls("127.0.0.1", port, None) is None
    with server(speaking(certs)) as port:
        assert probe_tls("127.0.0.1", port, None, "SITE_") == (
            f"127.0.0.1:{port} speaks TLS: set SITE_CA_FILE, or connect to its plain port"
        )
    assert probe_tls("127.0.0.1", free_port(), files) is None, "nobody is there"
    with pytest.raises(ConnectionRefusedError):
        open_tls("127.0.0.1", free_port(), files)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(certs / "servers/kafka.pem", certs / "servers/kafka.key")
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with server(old) as port:
        assert "fails: " in refusal(port, files)


def test_silence_in_the_handshake_is_no_proof_of_a_plain_port(files: TlsFiles) -> None:
    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TlsSilent) as failed:
            open_tls("127.0.0.1", port, files, handshake_s=0.2, on_socket=opened.append)
    assert str(failed.value) == f"127.0.0.1:{port} has not answered our TLS handshake for 0.2 s"
    assert opened[0].fileno() == -1, "closed"


def test_faults_of_our_certificate(certs: Path, files: TlsFiles, tmp_path: Path) -> None:
    make_certificates(tmp_path, SHORT, now=NOW)
    asking = speaking(certs)
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(certs / "ca.pem")
    cases = {
        "requires a client certificate: set SITE_CERT_FILE and SITE_KEY_FILE": replace(
            files, cert_file=None, key_file=None
        ),
        "(SITE_CERT_FILE): it is not signed by an authority that this server trusts": replace(
            files,
            cert_file=tmp_path / "services/bridge.pem",
            key_file=tmp_path / "services/bridge.key",
        ),
    }
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        asking.maximum_version = version
        with server(asking) as port:
            assert probe_tls("127.0.0.1", port, files) is None
            for advice, wrong in cases.items():
                assert advice in str(probe_tls("127.0.0.1", port, wrong)), version


def test_faults_of_files(certs: Path, files: TlsFiles, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("hello")
    key = load_pem_private_key((certs / "services/bridge.key").read_bytes(), None)
    locked = tmp_path / "locked.key"
    secret = BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    other = certs / "servers/kafka.key"
    cases = {
        replace(files, ca_file=tmp_path / "no"): "SITE_CA_FILE .*/no: no such file",
        replace(files, cert_file=tmp_path / "no"): "SITE_CERT_FILE .*/no: no such file",
        replace(files, key_file=tmp_path / "no"): "SITE_KEY_FILE .*/no: no such file",
        replace(files, ca_file=text): "SITE_CA_FILE .*text.pem contains no certificate in PEM",
        replace(files, cert_file=text): "SITE_CERT_FILE .*text.pem and .* are not a certificate",
        replace(files, key_file=other): "SITE_KEY_FILE .*kafka.key is not the key of SITE_CERT",
        replace(files, key_file=None): "are not a certificate and its key",
        replace(files, cert_file=None): "SITE_KEY_FILE is set without SITE_CERT_FILE",
        replace(files, key_file=locked): "locked.key is encrypted, and a service cannot",
        replace(files, key_file=tmp_path): "SITE_KEY_FILE .* is not readable by this user",
    }
    for wrong, complaint in cases.items():
        with pytest.raises(TlsError, match=complaint):
            client_context(wrong)


def test_other_errors_get_no_tls_advice(files: TlsFiles) -> None:
    assert tls_advice(ConnectionResetError(), "here:1", files) is None
    broken = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert tls_advice(broken, "here:1", files, shaking_hands=False) is None
    try:
        try:
            raise ssl.SSLCertVerificationError(1, "certificate verify failed")
        except ssl.SSLError as exc:
            raise RuntimeError("a library's own") from exc
    except RuntimeError as exc:
        assert "is not accepted" in str(tls_advice(exc, "here:1", files)), "found in its cause"


def test_an_endpoint_shows_no_password() -> None:
    endpoint = Endpoint("broker", 8883, "me", username="u", password="do-not-show")
    assert "do-not-show" not in repr(endpoint)
    assert "do-not-show" not in str(endpoint)
