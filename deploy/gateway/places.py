"""Where everything lies on a gateway, below `/` or below another root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["USER", "Places"]

USER = "kpstream"
"""User and group of the service."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and files of an installation.

    Attributes:
        root: `/`, or the folder that will be `/` (an image, a test).
    """

    root: Path = Path("/")

    @property
    def is_live(self) -> bool:
        """Whether this is the running system, whose service manager can be called."""
        return self.root == Path("/")

    @property
    def home(self) -> Path:
        """Folder of all versions and of the link `current`."""
        return self.root / "opt/kpstream"

    @property
    def versions(self) -> Path:
        """Folder of the versions."""
        return self.home / "versions"

    @property
    def current(self) -> Path:
        """Link to the version that runs."""
        return self.home / "current"

    @property
    def previous(self) -> Path:
        """Link to the version that ran before."""
        return self.home / "previous"

    @property
    def settings(self) -> Path:
        """Folder of settings, certificates and the pinned root of the centre."""
        return self.root / "etc/kpstream"

    @property
    def env_file(self) -> Path:
        """Settings of the gateway as variables."""
        return self.settings / "gateway.env"

    @property
    def authority(self) -> Path:
        """Certificates and the keys of the authorities; readable by root only."""
        return self.settings / "authority"

    @property
    def certificates(self) -> Path:
        """What the gateway itself needs of the certificates."""
        return self.settings / "certs"

    @property
    def broker_certificates(self) -> Path:
        """What mosquitto needs of the certificates, and its access lists."""
        return self.settings / "mosquitto"

    @property
    def broker_file(self) -> Path:
        """Our part of the configuration of mosquitto."""
        return self.root / "etc/mosquitto/conf.d/kpstream.conf"

    @property
    def units(self) -> Path:
        """Folder of systemd units."""
        return self.root / "etc/systemd/system"

    @property
    def user_file(self) -> Path:
        """Description of the user for systemd-sysusers, for an image without one."""
        return self.root / "etc/sysusers.d/kpstream.conf"

    @property
    def program(self) -> Path:
        """The command `kpstream` for people."""
        return self.root / "usr/local/bin/kpstream"

    @property
    def state(self) -> Path:
        """Log, results, registry: what an upgrade keeps."""
        return self.root / "var/lib/kpstream"

    @property
    def updates(self) -> Path:
        """Folder of the updater of the software; only root may write it."""
        return self.root / "var/lib/kpstream-update"

    def inside(self, path: Path) -> str:
        """A path as it is named once the root is `/`."""
        return f"/{path.relative_to(self.root)}"
