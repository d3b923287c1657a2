"""The files of a gateway: systemd units, the configuration of mosquitto, settings to begin with.

`python -m deploy.gateway.files FOLDER` writes them. The installer calls it in the environment of
the version that it installs, so that every version brings its own. `deploy/gateway/systemd/` and
`deploy/gateway/compose.yaml` are its output with the default settings, and a test compares them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from deploy.gateway.places import USER
from deploy.stack.acl import (
    DEVICES_ACL,
    SERVICES_ACL,
    devices_acl,
    mosquitto_tls_config,
    services_acl,
)
from deploy.stack.generated import HARDENED, RESTARTED, anonymous_listener, mosquitto_settings
from ingest.settings import IngestSettings

__all__ = ["gateway_files", "main", "tls_files"]

GENERATED = (
    "# Written by `python -m deploy.gateway.files`; change deploy/gateway/files.py instead.\n"
)
_CURRENT = "/opt/kpstream/current"
_STATE = "/var/lib/kpstream"
_ENV_FILE = "/etc/kpstream/gateway.env"

_SETTINGS = f"""\
# Settings of the gateway; docs/settings.md lists them all. After a change:
#     sudo systemctl restart kpstream-gateway
# A value with spaces or special characters stands in single quotes.
KPSTREAM_GATEWAY_STATE_DIR={_STATE}
KPSTREAM_INGEST_MQTT_HOST=127.0.0.1
KPSTREAM_INGEST_MQTT_PORT=1883
"""

_WRAPPER = f"""\
#!/bin/sh
{GENERATED}# Runs kpstream with the settings of the gateway, and as its user where root asks.
set -eu
if [ ! -r {_ENV_FILE} ]; then
  echo "kpstream: {_ENV_FILE} cannot be read: run sudo kpstream" >&2
  exit 1
fi
set -a
. {_ENV_FILE}
set +a
program={_CURRENT}/venv/bin/kpstream
if [ "$(id -u)" = 0 ]; then
  cd /
  exec setpriv --reuid {USER} --regid {USER} --init-groups "$program" "$@"
fi
exec "$program" "$@"
"""


_UPDATE_TIMER = f"""\
{GENERATED}[Unit]
Description=kpstream: look at the centre for software

[Timer]
OnBootSec=5min
OnUnitInactiveSec=15min
RandomizedDelaySec=3min

[Install]
WantedBy=timers.target
"""


def gateway_files() -> dict[str, str]:
    """Return the content of every file, by its name."""
    return {
        "kpstream-gateway.service": _gateway_unit(),
        "kpstream-update.service": _update_unit(),
        "kpstream-update.timer": _UPDATE_TIMER,
        "mosquitto.conf": GENERATED + mosquitto_settings(anonymous_listener("127.0.0.1")),
        "gateway.env": _SETTINGS,
        "sysusers.conf": f'{GENERATED}u {USER} - "kpstream gateway" {_STATE} /usr/sbin/nologin\n',
        "kpstream": _WRAPPER,
    }


def tls_files(certs: Path, devices_host: str, prefix: str) -> dict[str, str]:
    """Return mosquitto's configuration with TLS, and its access lists, by name.

    Args:
        certs: Folder in which mosquitto finds its certificates and the access lists.
        devices_host: Address for devices; the gateway's own port stays on loopback.
        prefix: First levels of the MQTT topics of readings.
    """
    listeners = mosquitto_tls_config(certs, certs, devices_host=devices_host)
    return {
        "mosquitto.conf": GENERATED + mosquitto_settings(listeners),
        DEVICES_ACL: devices_acl(prefix=prefix),
        SERVICES_ACL: services_acl(prefix=prefix),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files to a folder."""
    parser = argparse.ArgumentParser(prog="python -m deploy.gateway.files", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tls", type=Path, help="folder of mosquitto's certificates")
    parser.add_argument("--listen", default="127.0.0.1", help="address for devices, with --tls")
    given = parser.parse_args(arguments)
    if given.tls is None:
        files = gateway_files()
    else:
        files = tls_files(given.tls, given.listen, IngestSettings().mqtt_prefix)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (given.folder / name).write_text(text, encoding="utf-8")


def _gateway_unit() -> str:
    return (
        f"{GENERATED}[Unit]\nDescription=kpstream gateway\n"
        "After=network-online.target time-sync.target mosquitto.service\n"
        "Wants=network-online.target mosquitto.service\n"
        "StartLimitIntervalSec=0\n\n"
        "[Service]\n"
        f"User={USER}\n"
        f"EnvironmentFile={_ENV_FILE}\n"
        "Environment=OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1\n"
        f"ExecStart={_CURRENT}/venv/bin/kpstream gateway\n"
        "TimeoutStopSec=30\n"
        f"{RESTARTED}"
        "StateDirectory=kpstream\nStateDirectoryMode=0700\n"
        f"{HARDENED}\n[Install]\nWantedBy=multi-user.target\n"
    )


def _update_unit() -> str:
    """It installs below /opt and switches units, so it runs as root."""
    return (
        f"{GENERATED}[Unit]\nDescription=kpstream: install the software that the centre released\n"
        "After=network-online.target time-sync.target\nWants=network-online.target\n\n"
        "[Service]\nType=oneshot\n"
        f"EnvironmentFile={_ENV_FILE}\n"
        "Environment=PYTHONUNBUFFERED=1\n"
        f"ExecStart={_CURRENT}/venv/bin/kpstream gateway-update\n"
        "StateDirectory=kpstream-update\nStateDirectoryMode=0755\n"
        "UMask=0022\n"
        "ProtectHome=yes\nPrivateTmp=yes\nProtectClock=yes\nProtectKernelLogs=yes\n"
        "ProtectKernelModules=yes\nProtectKernelTunables=yes\nRestrictRealtime=yes\n"
        "LockPersonality=yes\n"
    )


if __name__ == "__main__":
    main()
