"""Findings of the doctor about certificates, keys and unencrypted connections."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.doctor.command import diagnose
from deploy.doctor.tlschecks import check_certificates, check_clear_text
from deploy.processes.runtime import kafka_endpoint
from deploy.settings.settings import GatewaySettings, SiteSettings
from deploy.stack.certs import Plan, make_certificates
from ingest.settings import IngestSettings
from ingest.tls import TlsError
from pipeline.settings import PipelineSettings

NOW = datetime.now(timezone.utc)
NO_INFLUX = PipelineSettings()


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, Plan(services=("bridge",), days=100), now=NOW)
    return folder


def mqtt(certs: Path, **changes: object) -> IngestSettings:
    own = certs / "services/bridge.pem"
    files = {"mqtt_ca_file": certs / "ca.pem", "mqtt_cert_file": own}
    files |= {"mqtt_key_file": own.with_suffix(".key")}
    return IngestSettings(mqtt_tls=True, **(files | changes))  # type: ignore[arg-type]


def test_good_files_are_reported_with_their_expiry(certs: Path) -> None:
    influx = PipelineSettings(influx_url="https://127.0.0.1:8086", influx_ca_file=certs / "ca.pem")
    found = check_certificates(mqtt(certs), influx, NOW)
    assert [one.state for one in found] == ["ok"] * 3
    end = NOW + timedelta(days=100)
    assert f"services/bridge.pem is valid until {end:%Y-%m-%d}" in found[1].text
    assert "KPSTREAM_PIPELINE_INFLUX_CA_FILE" in found[2].text


@pytest.mark.parametrize(("days", "state"), [(60, "ok"), (80, "warn"), (101, "fail")])
def test_expiry_is_reported_in_advance(certs: Path, days: int, state: str) -> None:
    found = check_certificates(mqtt(certs), NO_INFLUX, NOW + timedelta(days=days))
    assert [one.state for one in found] == ["ok", state]


def test_readable_keys_and_missing_files_are_reported(certs: Path, tmp_path: Path) -> None:
    key = tmp_path / "open.key"
    key.write_bytes((certs / "services/bridge.key").read_bytes())
    key.chmod(0o640)
    found = check_certificates(mqtt(certs, mqtt_key_file=key), NO_INFLUX, NOW)
    assert (found[0].state, found[0].advice) == ("warn", f"chmod 600 {key}")
    (found,) = check_certificates(mqtt(certs, mqtt_ca_file=tmp_path / "no"), NO_INFLUX, NOW)
    assert found.state == "fail"
    assert "KPSTREAM_INGEST_MQTT_CA_FILE" in found.text


def test_without_tls_there_is_no_finding(certs: Path) -> None:
    plain = IngestSettings()
    assert check_certificates(plain, NO_INFLUX, NOW) == []
    assert check_clear_text(plain, PipelineSettings(influx_url="http://127.0.0.1:8086")) == []


def test_unencrypted_connections_are_reported(certs: Path) -> None:
    secret = SecretStr("hush")
    far = IngestSettings(mqtt_host="broker.plant", mqtt_password=secret)
    influx = PipelineSettings(influx_url="http://influx.plant:8086", influx_token=secret)
    found = check_clear_text(far, influx)
    assert [one.state for one in found] == ["warn", "warn"]
    assert "readings and the password cross the network to the broker broker.plant" in found[0].text
    assert "the token cross the network to InfluxDB at influx.plant" in found[1].text
    assert "hush" not in str(found)
    assert check_clear_text(mqtt(certs, mqtt_host="broker.plant"), NO_INFLUX) == []


def test_files_for_tls_without_tls_are_refused(certs: Path) -> None:
    key = certs / "services/bridge.key"
    for name in ("mqtt_ca_file", "mqtt_cert_file", "mqtt_key_file"):
        with pytest.raises(ValueError, match="without KPSTREAM_INGEST_MQTT_TLS=true"):
            IngestSettings(**{name: key})  # type: ignore[arg-type]
    with pytest.raises(TlsError, match="KPSTREAM_SITE_KAFKA_CA_FILE is not: set it too"):
        kafka_endpoint(SiteSettings(kafka_key_file=key), "me")
    assert kafka_endpoint(SiteSettings(), "me").tls is None


def test_the_doctor_checks_certificates(certs: Path, tmp_path: Path) -> None:
    settings = GatewaySettings(state_dir=tmp_path, console_port=1)
    found = [one for one in diagnose(settings, mqtt(certs, mqtt_port=1), NO_INFLUX)]
    assert [one.state for one in found if one.name == "tls"] == ["ok", "ok"]
