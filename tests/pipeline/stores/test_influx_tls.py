"""A real InfluxDB that serves https only: checks of the certificate, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.stack.certs import Plan, make_certificates
from deploy.stack.servers import InfluxServer
from pipeline.errors import SinkError, SinkUnavailable
from pipeline.points.points import Point
from pipeline.stores.influx import InfluxSink
from pipeline.stores.influxclient import InfluxClient, InfluxConnection
from tests.fakes.tlsserver import server, speaking

pytestmark = pytest.mark.needs_influxd
NOW = datetime.now(timezone.utc)
POINT = Point("rul", (("device", "d"),), (("rul", 1.0),), 1_700_000_000_000_000_000)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, Plan(), now=NOW)
    return folder


@pytest.fixture(scope="module")
def https(certs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with InfluxServer(tmp_path_factory.mktemp("influx"), certs=certs) as server:
        server.setup("factory", "kpstream")
        yield server


@pytest.fixture
def connection(https: InfluxServer, certs: Path) -> InfluxConnection:
    token = SecretStr(https.token)
    return InfluxConnection(https.url, token, https.org, ca_file=certs / "ca.pem")


def refusal(connection: InfluxConnection) -> str:
    with pytest.raises(SinkUnavailable) as failed:
        InfluxSink(connection, "kpstream").write([POINT])
    assert connection.token.get_secret_value() not in str(failed.value)
    return str(failed.value)


def test_points_are_stored_over_https(connection: InfluxConnection) -> None:
    assert connection.url.startswith("https://")
    sink = InfluxSink(connection, "kpstream")
    assert sink.write([POINT]) == []
    sink.close()
    flux = 'from(bucket: "kpstream") |> range(start: 2023-01-01T00:00:00Z)'
    with InfluxClient(connection) as client:
        assert [row["_value"] for row in client.query(flux)] == [1.0]


def test_a_server_of_another_authority_gets_no_token(
    connection: InfluxConnection, tmp_path: Path
) -> None:
    make_certificates(tmp_path, Plan(), now=NOW)
    said = refusal(replace(connection, ca_file=tmp_path / "ca.pem"))
    assert "set KPSTREAM_PIPELINE_INFLUX_CA_FILE to the certificate of that authority" in said
    said = refusal(replace(connection, ca_file=None))
    assert "than those this system trusts: set KPSTREAM_PIPELINE_INFLUX_CA_FILE" in said


def test_an_expired_certificate_and_another_name_are_reported(
    connection: InfluxConnection, certs: Path, tmp_path: Path
) -> None:
    make_certificates(tmp_path, Plan(days=30), now=NOW - timedelta(days=31))
    with server(speaking(tmp_path)) as port:
        old = replace(connection, url=f"https://127.0.0.1:{port}", ca_file=tmp_path / "ca.pem")
        assert f"the certificate of 127.0.0.1:{port} has expired: renew it" in refusal(old)
    with server(speaking(certs), "127.0.0.2") as port:
        said = refusal(replace(connection, url=f"https://127.0.0.2:{port}"))
        assert "does not contain the name '127.0.0.2'" in said


def test_http_at_an_https_port_loses_no_line(connection: InfluxConnection) -> None:
    said = refusal(replace(connection, url=connection.url.replace("https", "http")))
    assert "answers 400: it speaks https: begin KPSTREAM_PIPELINE_INFLUX_URL with" in said


def test_https_at_a_plain_port_is_reported(
    connection: InfluxConnection, real_influx: InfluxServer
) -> None:
    said = refusal(replace(connection, url=real_influx.url.replace("http", "https")))
    assert "does not speak TLS" in said


def test_a_certificate_goes_unchecked_on_this_machine_only(connection: InfluxConnection) -> None:
    unchecked = replace(connection, ca_file=None, verify=False)
    with pytest.warns(Warning, match="Unverified HTTPS request"):
        assert InfluxSink(unchecked, "kpstream").write([POINT]) == []
    with pytest.raises(SinkError, match="any server could receive the token"):
        replace(unchecked, url="https://influx.plant:8086")


def test_the_ca_file_is_checked_first(connection: InfluxConnection, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"KPSTREAM_PIPELINE_INFLUX_CA_FILE .*: no such file"):
        replace(connection, ca_file=tmp_path / "no.pem")
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(SinkError, match="contains no certificate in PEM form"):
        replace(connection, ca_file=tmp_path / "text.pem")
