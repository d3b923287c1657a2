"""Certificates for a trial of the site: two authorities, servers, services and devices.

All keys are ECDSA on P-256. **For trials only**: the keys of the authorities are stored unencrypted
beside the certificates, and no certificate can be revoked. A plant has an authority of its own; put
its files into the same settings (see docs/security.md).

```
DIR/                         mode 0700, every .key and the keystore 0600
  ca.pem, ca.key             authority of servers and services; every client trusts it
  devices-ca.pem, .key       authority of devices; only mosquitto's device listener trusts it
  servers/NAME.pem, .key     mosquitto, kafka, influxdb
  servers/kafka-keystore.pem key, certificate and authority in one file, as Kafka reads PEM
  services/NAME.pem, .key    our clients: bridge, worker, store, operator
  devices/SITE/DEVICE.pem    one client certificate per device, with common name SITE/DEVICE
```

There are two authorities so that a device's certificate is valid only at the broker's listener for
devices. Kafka and the broker's listener for services do not trust it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingest.topics import is_name

__all__ = [
    "CA_DAYS",
    "LEAF_DAYS",
    "LOOPBACK",
    "SERVERS",
    "SERVICES",
    "CertError",
    "Certificate",
    "Plan",
    "expires",
    "make_certificates",
    "read_certificates",
]

SERVERS = ("mosquitto", "kafka", "influxdb")
SERVICES = ("bridge", "worker", "store", "operator")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts in every server certificate, besides the requested ones."""
CA_DAYS = 730
LEAF_DAYS = 365
_RENEW = timedelta(days=30)
_EARLIER = timedelta(hours=1)  # for clients with a slow clock
_MAX_NAME = 64  # ub-common-name of RFC 5280

Role = Literal["authority", "server", "service", "device"]

_FOLDERS: tuple[tuple[str, Role], ...] = (
    ("servers", "server"),
    ("services", "service"),
    ("devices", "device"),
)


class CertError(Exception):
    """A certificate cannot be made or read; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The certificates to make.

    Attributes:
        hosts: Names and addresses of the servers' machine, besides loopback.
        services: Names of our own clients; several bridges are bridge-1, bridge-2, ...
        devices: Devices, each as `site/device`.
        days: Days for which a certificate is valid; authorities are valid for `CA_DAYS`.
    """

    hosts: tuple[str, ...] = ()
    services: tuple[str, ...] = SERVICES
    devices: tuple[str, ...] = ()
    days: int = LEAF_DAYS


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a folder.

    Attributes:
        path: PEM file.
        role: Kind of holder.
        name: Common name; for a device `site/device`.
        hosts: Host names and addresses of a server certificate.
        not_before: Start of its validity, UTC.
        not_after: End of its validity, UTC.
        key_mode: Permissions of the key file; None if there is no key.
    """

    path: Path
    role: Role
    name: str
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key_mode: int | None

    def days_left(self, now: datetime) -> int:
        """Return the whole days until it expires; negative once it has."""
        return (self.not_after - now) // timedelta(days=1)


def make_certificates(
    folder: Path, plan: Plan, *, now: datetime, renew: bool = False
) -> list[Path]:
    """Make the certificates of the plan that the folder does not have yet.

    A certificate that is valid for another 30 days is kept, so that devices can be added later. A
    server certificate that lacks a host is replaced, and keeps its other hosts. Keys are always
    new, and at no moment readable by other users.

    Args:
        folder: Target folder; created for its owner only if missing.
        plan: Certificates to make.
        now: Current time, with a time zone.
        renew: Replace every certificate except the authorities, including those not in the plan.

    Returns:
        The certificates that were written.

    Raises:
        CertError: A name is invalid, an authority expires soon, or a file cannot be written.
    """
    _check(plan)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if renew and (folder / "ca.pem").exists():
            plan = _with_known(plan, read_certificates(folder))
            _check(plan)
        return _make(folder, plan, now, renew)
    except OSError as exc:
        message = f"certificates in {folder}: {exc.strerror}: {exc.filename}"
        raise CertError(message) from exc


def read_certificates(folder: Path) -> list[Certificate]:
    """Read every certificate in a folder of `make_certificates`, authorities first.

    Raises:
        CertError: The folder has no authority, or a file is not a certificate.
    """
    if not (folder / "ca.pem").is_file():
        message = (
            f"no certificates in {folder}: make them with `kpstream certs make --out {folder}`"
        )
        raise CertError(message)
    found = [_read(folder / name, "authority") for name in ("ca.pem", "devices-ca.pem")]
    for below, role in _FOLDERS:
        paths = sorted((folder / below).rglob("*.pem"))
        found += [_read(path, role) for path in paths if not path.name.endswith("-keystore.pem")]
    return found


def expires(path: Path) -> datetime:
    """Return when the first certificate in a PEM file expires, UTC.

    Raises:
        CertError: The file contains no certificate.
    """
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as exc:
        message = f"{path} is not a readable certificate: {exc}"
        raise CertError(message) from exc
    return min(one.not_valid_after_utc for one in found)


def _check(plan: Plan) -> None:
    for service in plan.services:
        if not is_name(service) or service in SERVERS:
            message = f"{service!r} is not a valid service name; use a name like bridge-1"
            raise CertError(message)
    for device in plan.devices:
        site, slash, name = device.partition("/")
        if not (slash and is_name(site) and is_name(name)):
            message = f"device {device!r} is not SITE/DEVICE; use the names in its MQTT topic"
            raise CertError(message)
        if len(device) > _MAX_NAME:
            message = (
                f"device {device!r} has {len(device)} characters, but a certificate's common name "
                f"has at most {_MAX_NAME}; use shorter names for site and device"
            )
            raise CertError(message)
    for host in plan.hosts:
        _alternative(host)
    if not 1 <= plan.days <= CA_DAYS:
        message = f"certificates can be valid for 1 to {CA_DAYS} days, not {plan.days}"
        raise CertError(message)


def _make(folder: Path, plan: Plan, now: datetime, renew: bool) -> list[Path]:
    written: list[Path] = []
    services_ca = _authority(folder / "ca.pem", "kpstream trial CA", now, written)
    devices_ca = _authority(folder / "devices-ca.pem", "kpstream trial devices CA", now, written)
    for name in SERVERS:
        path = folder / "servers" / f"{name}.pem"
        hosts = _union((*LOOPBACK, *plan.hosts), _read(path).hosts if path.exists() else ())
        usage = [ExtendedKeyUsageOID.SERVER_AUTH]
        if name == "kafka":  # a node is also a client of the controller
            usage.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        if renew or not _is_good(path, services_ca, now, hosts):
            pem = services_ca.issue(path, name, usage, now, plan.days, hosts)
            if name == "kafka":
                _write(path.with_name("kafka-keystore.pem"), pem + services_ca.pem, 0o600)
            written.append(path)
    clients = [
        (services_ca, folder / "services" / f"{name}.pem", name) for name in plan.services
    ] + [(devices_ca, folder / "devices" / f"{name}.pem", name) for name in plan.devices]
    for authority, path, name in clients:
        if renew or not _is_good(path, authority, now, ()):
            authority.issue(path, name, [ExtendedKeyUsageOID.CLIENT_AUTH], now, plan.days, ())
            written.append(path)
    return written


def _with_known(plan: Plan, known: Sequence[Certificate]) -> Plan:
    names = {role: [one.name for one in known if one.role == role] for _, role in _FOLDERS}
    return replace(
        plan,
        services=_union(plan.services, names["service"]),
        devices=_union(plan.devices, names["device"]),
    )


def _union(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        path: Path,
        name: str,
        usage: Sequence[x509.ObjectIdentifier],
        now: datetime,
        days: int,
        hosts: Sequence[str],
    ) -> bytes:
        """Write a certificate and its key; returns both as one PEM text, the key first."""
        key = ec.generate_private_key(ec.SECP256R1())
        ends = self.certificate.not_valid_after_utc
        builder = (
            _builder(name, self.certificate.subject, key.public_key())
            .not_valid_before(max(now - _EARLIER, self.certificate.not_valid_before_utc))
            .not_valid_after(min(now + timedelta(days=days), ends))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_key_id_of(self.certificate), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        pem = builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_pem = _key_pem(key)
        _write(path.with_suffix(".key"), key_pem, 0o600)
        _write(path, pem, 0o644)
        return key_pem + pem


def _authority(path: Path, name: str, now: datetime, written: list[Path]) -> _Authority:
    """Read the authority, or make it if there is none; adds a new one to `written`."""
    key_path = path.with_suffix(".key")
    if path.exists() and key_path.exists():
        found = _load(path)
        key = load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            message = f"{key_path} is not a key of this command; choose an empty folder"
            raise CertError(message)
        if found.not_valid_after_utc < now + _RENEW:
            message = (
                f"the authority {path} expires on {found.not_valid_after_utc:%Y-%m-%d}: make all "
                "certificates in another folder, and distribute them to servers and devices"
            )
            raise CertError(message)
        return _Authority(found, key)
    if path.exists() or key_path.exists():
        message = f"{path} and {key_path.name} belong together, but one of them is missing"
        raise CertError(message)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, _name(name), key.public_key())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _key_pem(key), 0o600)
    _write(path, certificate.public_bytes(Encoding.PEM), 0o644)
    written.append(path)
    return _Authority(certificate, key)


def _is_good(path: Path, authority: _Authority, now: datetime, hosts: Sequence[str]) -> bool:
    """Whether a certificate and its key exist, and are valid long enough under the authority."""
    key_path = path.with_suffix(".key")
    if not (path.exists() and key_path.exists()):
        return False
    found = _load(path)
    try:
        found.verify_directly_issued_by(authority.certificate)
        key = load_pem_private_key(key_path.read_bytes(), None)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if (
        key.public_key() != found.public_key()
    ):  # the process was killed between writing the two files
        return False
    lasts, whole = (
        found.not_valid_after_utc - now,
        found.not_valid_after_utc - found.not_valid_before_utc,
    )
    is_old = lasts < _RENEW and lasts < whole / 2  # a certificate for a few days is not old at once
    return not is_old and set(hosts) <= set(_hosts(found))


def _read(path: Path, role: Role = "server") -> Certificate:
    found = _load(path)
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    key_path = path.with_suffix(".key")
    return Certificate(
        path=path,
        role=role,
        name=str(names[0].value) if names else "",
        hosts=_hosts(found),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        key_mode=key_path.stat().st_mode & 0o777 if key_path.exists() else None,
    )


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as exc:
        message = f"{path} is not a readable certificate: {exc}"
        raise CertError(message) from exc


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    dns = names.get_values_for_type(x509.DNSName)
    return (*dns, *(str(address) for address in names.get_values_for_type(x509.IPAddress)))


def _builder(
    name: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id_of(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > 253 or not all(is_name(label) and "_" not in label for label in labels):
        message = f"host {host!r} is neither a host name nor an IP address"
        raise CertError(message)
    return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file atomically; `mkstemp` restricts it to its owner from the first byte."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
