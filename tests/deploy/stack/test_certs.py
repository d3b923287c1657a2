"""Trial certificates: valid in a handshake, private, and reported before they expire."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.cli import main
from deploy.settings.settings import SiteSettings
from deploy.stack.certs import (
    CA_DAYS,
    LEAF_DAYS,
    LOOPBACK,
    SERVERS,
    SERVICES,
    CertError,
    Plan,
    make_certificates,
    read_certificates,
)
from ingest.extras import install_command
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings

NOW = datetime.now(timezone.utc)
DEVICES = ("plant-7/press-1", "plant-7/press-2")
PLAN = Plan(hosts=("broker.plant", "192.0.2.7"), devices=DEVICES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "certs", PLAN, now=NOW)
    return tmp_path / "certs"


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def shake_hands(server: tuple[Path, Path], client: tuple[Path, Path], host: str) -> dict:
    """A handshake in memory; the certificate of the client as the server sees it.

    Args:
        server: Certificate of the server, and the authority it trusts for clients.
        client: Certificate of the client, and the authority it trusts for servers.
        host: Name that the client connects to.
    """
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(server[0], server[0].with_suffix(".key"))
    ours.load_verify_locations(server[1])
    ours.verify_mode = ssl.CERT_REQUIRED
    theirs = ssl.create_default_context(cafile=client[1])
    theirs.load_cert_chain(client[0], client[0].with_suffix(".key"))
    for context in (ours, theirs):  # what Python 3.13 asks for by default
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = ours.wrap_bio(to_server, to_client, server_side=True)
    client_side = theirs.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [client_side, server_side]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    found = server_side.getpeercert()
    assert found is not None
    return found


def common_name(peer: dict) -> str:
    return dict(part for group in peer["subject"] for part in group)["commonName"]


def test_server_certificates_contain_every_name_and_client_certificates_their_own(
    folder: Path,
) -> None:
    ca, devices_ca = folder / "ca.pem", folder / "devices-ca.pem"
    for server in SERVERS:
        for host in (*LOOPBACK, *PLAN.hosts):
            bridge = (folder / "services/bridge.pem", ca)
            peer = shake_hands((folder / f"servers/{server}.pem", ca), bridge, host)
            assert common_name(peer) == "bridge"
    for device in DEVICES:
        client = (folder / f"devices/{device}.pem", ca)
        peer = shake_hands((folder / "servers/mosquitto.pem", devices_ca), client, "localhost")
        assert common_name(peer) == device


def test_devices_and_services_have_no_access_at_the_other_listener(
    folder: Path,
) -> None:
    ca, devices_ca = folder / "ca.pem", folder / "devices-ca.pem"
    device = (folder / f"devices/{DEVICES[0]}.pem", ca)
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake_hands((folder / "servers/kafka.pem", ca), device, "localhost")
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        bridge = (folder / "services/bridge.pem", ca)
        shake_hands((folder / "servers/mosquitto.pem", devices_ca), bridge, "localhost")


def test_a_client_certificate_makes_no_server_and_a_server_certificate_no_client(
    folder: Path,
) -> None:
    ca = folder / "ca.pem"
    bridge, mosquitto = folder / "services/bridge.pem", folder / "servers/mosquitto.pem"
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake_hands((bridge, ca), (folder / "services/worker.pem", ca), "localhost")
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake_hands((folder / "servers/kafka.pem", ca), (mosquitto, ca), "localhost")


def test_another_name_is_refused(folder: Path) -> None:
    ca = folder / "ca.pem"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        bridge = (folder / "services/bridge.pem", ca)
        shake_hands((folder / "servers/kafka.pem", ca), bridge, "kafka.elsewhere")


def test_certificates_are_of_p_256_and_state_their_purpose(folder: Path) -> None:
    for one in read_certificates(folder):
        found = load(one.path)
        key = found.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        limits = found.extensions.get_extension_for_class(x509.BasicConstraints)
        assert limits.critical
        assert limits.value.ca == (one.role == "authority")
        usage = found.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign == (one.role == "authority")
        assert usage.value.digital_signature == (one.role != "authority")
        days = CA_DAYS if one.role == "authority" else LEAF_DAYS
        assert found.not_valid_before_utc < NOW
        assert abs(found.not_valid_after_utc - NOW - timedelta(days=days)) < timedelta(seconds=2)
        if one.role != "authority":
            purposes = list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
            expected = [ExtendedKeyUsageOID.CLIENT_AUTH]
            if one.role == "server":
                expected = [ExtendedKeyUsageOID.SERVER_AUTH]
            if one.name == "kafka":  # its node is a client of its controller
                expected = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            assert purposes == expected


def test_keys_are_never_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        make_certificates(tmp_path / "certs", PLAN, now=NOW)
    finally:
        os.umask(old)
    assert (tmp_path / "certs").stat().st_mode & 0o777 == 0o700
    files = [path for path in (tmp_path / "certs").rglob("*") if path.is_file()]
    secret = [path for path in files if b"PRIVATE KEY" in path.read_bytes()]
    clients = len(SERVICES) + len(DEVICES)
    assert len(secret) == 2 + len(SERVERS) + 1 + clients  # the 1: Kafka's keystore
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    assert not [path for path in files if path.name.startswith(".")], "nothing half written stays"


def test_existing_certificates_stay_and_requested_ones_are_added(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    assert make_certificates(folder, PLAN, now=NOW) == []
    added = make_certificates(folder, Plan(devices=("plant-8/saw",)), now=NOW)
    assert added == [folder / "devices/plant-8/saw.pem"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_another_host_renews_the_servers_and_forgets_no_host(folder: Path) -> None:
    keystore = folder / "servers/kafka-keystore.pem"
    before = keystore.read_bytes()
    written = make_certificates(folder, Plan(hosts=("second.plant",)), now=NOW)
    assert [path.stem for path in written] == list(SERVERS)
    hosts = {one.hosts for one in read_certificates(folder) if one.role == "server"}
    assert {frozenset(each) for each in hosts} == {
        frozenset((*LOOPBACK, *PLAN.hosts, "second.plant"))
    }
    assert keystore.read_bytes() != before
    assert (folder / "servers/kafka.pem").read_bytes() in keystore.read_bytes()


def test_renewal_makes_everything_again_but_the_authorities(folder: Path) -> None:
    authority = (folder / "ca.pem").read_bytes()
    later = NOW + timedelta(days=100)
    written = make_certificates(folder, Plan(), now=later, renew=True)
    assert len(written) == len(SERVERS) + len(SERVICES) + len(DEVICES)
    assert (folder / "ca.pem").read_bytes() == authority
    ends = {one.not_after.date() for one in read_certificates(folder) if one.role != "authority"}
    assert ends == {(later + timedelta(days=LEAF_DAYS)).date()}


def test_certificates_that_expire_within_thirty_days_are_renewed(folder: Path) -> None:
    later = NOW + timedelta(days=LEAF_DAYS - 29)
    assert len(make_certificates(folder, PLAN, now=later)) == (
        len(SERVERS) + len(SERVICES) + len(DEVICES)
    )


def test_no_certificate_outlives_its_authority(folder: Path) -> None:
    later = NOW + timedelta(days=CA_DAYS - 60)
    make_certificates(folder, PLAN, now=later, renew=True)
    ends = {one.not_after for one in read_certificates(folder)}
    assert len(ends) == 1, "all end with the authorities"
    with pytest.raises(CertError, match="make all certificates in another folder"):
        make_certificates(folder, PLAN, now=NOW + timedelta(days=CA_DAYS - 29))


def test_a_certificate_whose_key_is_another_one_is_made_again(folder: Path) -> None:
    path = folder / "services/bridge.pem"
    path.with_suffix(".key").write_bytes((folder / "services/worker.key").read_bytes())
    assert make_certificates(folder, PLAN, now=NOW) == [path]
    shake_hands((folder / "servers/kafka.pem", folder / "ca.pem"), (path, folder / "ca.pem"), "::1")


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (Plan(devices=("press-1",)), "is not SITE/DEVICE"),
        (Plan(devices=("plant/press/engine",)), "is not SITE/DEVICE"),
        (Plan(devices=("+/press",)), "is not SITE/DEVICE"),
        (Plan(devices=("../../etc/passwd",)), "is not SITE/DEVICE"),
        (Plan(devices=("p" * 40 + "/" + "d" * 40,)), "has 81 characters, but a certificate"),
        (Plan(services=("../bridge",)), "is not a valid service name"),
        (Plan(services=("kafka",)), "is not a valid service name"),
        (Plan(hosts=("http://broker",)), "neither a host name nor an IP address"),
        (Plan(hosts=("*.plant",)), "neither a host name nor an IP address"),
        (Plan(days=0), "1 to 730 days"),
        (Plan(days=731), "1 to 730 days"),
    ],
)
def test_invalid_names_are_refused_before_anything_is_written(
    tmp_path: Path, plan: Plan, complaint: str
) -> None:
    with pytest.raises(CertError, match=complaint):
        make_certificates(tmp_path / "certs", plan, now=NOW)
    assert not (tmp_path / "certs").exists()


def test_an_incomplete_authority_is_not_replaced(folder: Path) -> None:
    (folder / "ca.key").unlink()
    with pytest.raises(CertError, match="belong together, but one of them is missing"):
        make_certificates(folder, PLAN, now=NOW)


def kpstream(*args: str, given: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["certs", *args], input=given)
    return done.exit_code, done.output


def test_command_makes_and_shows(tmp_path: Path) -> None:
    out = str(tmp_path / "certs")
    code, said = kpstream(
        *("make", "--out", out, "--host", "broker.plant", "--device", "plant-7/press-1"),
        *("--service", "bridge-2", "--devices", "-"),
        given="# the second hall\nplant-7/press-2\n\nplant-7/press-3\n",
    )
    assert code == 0, said
    assert "For trials only" in said
    assert f"{2 + len(SERVERS) + len(SERVICES) + 1 + 3} certificates made" in said
    code, said = kpstream("show", out)
    assert code == 0, said
    assert "service   bridge-2 " in said
    assert "device    plant-7/press-3 " in said
    assert "(364 days) for localhost, broker.plant, 127.0.0.1, ::1" in said


def test_show_warns_before_the_expiry_and_reports_it_after(tmp_path: Path) -> None:
    for days, word in ((20, "EXPIRES SOON"), (-1, "EXPIRED")):
        folder = tmp_path / f"in {days} days"
        made = NOW + timedelta(days=days) - timedelta(days=90)
        make_certificates(folder, Plan(services=("bridge",), days=90), now=made)
        code, said = kpstream("show", str(folder))
        assert code == 1, said
        assert said.count(word) == len(SERVERS) + 1
        assert f"kpstream certs make --out '{folder}' --renew" in said
        assert kpstream("make", "--out", str(folder), "--renew")[0] == 0
        assert kpstream("show", str(folder))[0] == 0
    assert kpstream("show", str(folder), "--warn-days", "400")[0] == 1


def test_show_reports_a_readable_key(folder: Path) -> None:
    (folder / "services/bridge.key").chmod(0o644)
    code, said = kpstream("show", str(folder))
    assert code == 1
    assert "KEY IS READABLE BY OTHERS (mode 644; chmod 600)" in said


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    code, said = kpstream("show", str(tmp_path))
    assert (code, said) == (
        1,
        f"Error: no certificates in {tmp_path}: make them with "
        f"`kpstream certs make --out {tmp_path}`\n",
    )
    (tmp_path / "ca.pem").write_text("no certificate")
    code, said = kpstream("show", str(tmp_path))
    assert code == 1
    assert "ca.pem is not a readable certificate" in said


def test_without_the_library_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['cryptography'] = None; from deploy.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hide, "certs", "show", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert install_command("site") in done.stderr
    assert "Traceback" not in done.stderr


def test_config_prints_the_settings_of_servers_and_services(folder: Path) -> None:
    code, listeners = kpstream("config", str(folder), "mosquitto")
    assert code == 0
    assert listeners.count("require_certificate true") == 2
    assert f"cafile {folder}/devices-ca.pem" in listeners
    assert "allow_anonymous true" not in listeners
    code, acl = kpstream(
        "config", str(folder), "devices-acl", "--deny", DEVICES[0], "--node", "g/n"
    )
    assert code == 0
    assert "pattern write sensors/%u/+" in acl
    assert f"user {DEVICES[0]}\ntopic deny #" in acl
    assert "topic write spBv1.0/g/NDATA/n" in acl
    code, acl = kpstream("config", str(folder), "services-acl")
    assert code == 0
    assert "user bridge\ntopic read sensors/#" in acl
    code, properties = kpstream("config", str(folder), "kafka", "--host", "10.0.0.7")
    assert code == 0
    assert "listeners=SSL://10.0.0.7:9092,CONTROLLER://10.0.0.7:9093" in properties
    assert (
        f"super.users={';'.join(f'User:CN={name}' for name in ('kafka', *sorted(SERVICES)))}"
        in (properties)
    )
    assert kpstream("config", str(folder), "influxdb")[1].startswith("--tls-cert ")


def test_the_environment_of_a_service_is_made_of_settings_that_exist(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = kpstream("config", str(folder), "bridge")
    assert code == 0
    for line in said.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    ingest, site, pipeline = IngestSettings(), SiteSettings(), PipelineSettings()
    key = folder / "services/bridge.key"
    assert ingest.mqtt_tls
    assert ingest.mqtt_key_file == site.kafka_key_file == key
    assert ingest.mqtt_ca_file == site.kafka_ca_file == pipeline.influx_ca_file == folder / "ca.pem"


def test_config_refuses_what_it_does_not_know(folder: Path) -> None:
    code, said = kpstream("config", str(folder), "grafana")
    assert code == 1
    assert "'grafana' is not a server, an access list or a service" in said
    code, said = kpstream("config", str(folder), "devices-acl", "--node", "+/n")
    assert code == 1
    assert "is not allowed in an ACL file" in said
