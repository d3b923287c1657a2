"""The command behind `install.sh`: its arguments, and how it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deploy.gateway.broker import Tls
from deploy.gateway.errors import InstallError
from deploy.gateway.installer import WAIT_S, Installer
from deploy.gateway.places import Places
from deploy.gateway.service import HOLD_S, Service
from deploy.gateway.settingsfile import parse_setting, read_settings
from deploy.gateway.steps import Steps

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, *, default_source: Path | None = None) -> NoReturn:
    """Run a command of the installer.

    Exit codes: 0 done, 1 a step failed, 2 wrong arguments, 3 the new version did not become ready
    and the former one runs again.

    Args:
        arguments: The command line; None for that of the process.
        default_source: What is installed without `--from`.
    """
    given = _parser().parse_args(arguments)
    os.umask(0o022)
    places = Places(given.root.resolve())
    steps = Steps(_say, dry_run=given.dry_run)
    service = Service(places, steps, systemctl=given.systemctl, hold_s=given.hold_ready)
    installer = Installer(places, steps, service=service, wait_s=given.wait_ready)
    try:
        _run(installer, given, default_source)
    except InstallError as exc:
        print(f"install.sh: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
    except OSError as exc:
        name = exc.filename or "a file"
        print(
            f"install.sh: {name}: {exc.strerror}; mend that, then run the same command again",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("install.sh: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _run(installer: Installer, given: argparse.Namespace, default_source: Path | None) -> None:
    if given.command == "install":
        tls = Tls(given.hosts, given.devices, given.listen) if given.tls else None
        if tls is None and (given.hosts or given.devices):
            msg = "--host and --device are for certificates: add --tls"
            raise InstallError(msg)
        settings = _settings(given.settings, given.settings_file)
        installer.install(
            _source(given, default_source),
            settings=settings,
            broker=given.broker,
            tls=tls,
            updates=given.updates,
        )
    elif given.command == "upgrade":
        installer.upgrade(_source(given, default_source), force=given.force)
    elif given.command == "rollback":
        installer.rollback()
    elif given.command == "uninstall":
        installer.uninstall(purge=given.purge)
    else:
        installer.steps.say(installer.status())


def _settings(given: Sequence[str], path: str | None) -> dict[str, str]:
    """Settings of a file or of standard input, which no list of processes shows, and of words."""
    found: dict[str, str] = {}
    if path is not None:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        lines = [f"{name}={value}" for name, value in read_settings(text).items()]
        found |= dict(parse_setting(line) for line in lines)
    return found | dict(parse_setting(text) for text in given)


def _source(given: argparse.Namespace, default_source: Path | None) -> Path:
    source: Path | None = given.source or default_source
    if source is None:
        msg = "name a bundle, a checkout or a wheel with --from"
        raise InstallError(msg)
    return source


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="install.sh", description="Install, upgrade, roll back or remove a kpstream gateway."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--root", type=Path, default=Path("/"), help="install below this folder; start nothing"
    )
    common.add_argument("--dry-run", action="store_true", help="only show the steps")
    common.add_argument(
        "--wait-ready", type=float, default=WAIT_S, metavar="S", help="seconds for /ready to come"
    )
    common.add_argument(
        "--hold-ready", type=float, default=HOLD_S, metavar="S", help="seconds it has to stay"
    )
    common.add_argument("--systemctl", type=Path, help="program in place of systemctl")
    commands = parser.add_subparsers(dest="command", required=True)

    source = argparse.ArgumentParser(add_help=False)
    source.add_argument(
        "--from", dest="source", type=Path, help="bundle, checkout or wheel; default: this one"
    )
    install = commands.add_parser(
        "install", parents=[common, source], help="install with everything around it"
    )
    install.add_argument(
        *("--set", "-s"),
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting for gateway.env; repeatable",
    )
    install.add_argument(
        *("--settings",),
        dest="settings_file",
        metavar="FILE",
        help="settings for gateway.env, one NAME=VALUE a line; - for standard input",
    )
    install.add_argument(
        "--broker", metavar="HOST:PORT", help="use this broker, not mosquitto here"
    )
    install.add_argument("--tls", action="store_true", help="certificates for broker and devices")
    install.add_argument(
        "--host", dest="hosts", action="append", default=[], help="name of this machine; repeatable"
    )
    install.add_argument(
        *("--device",),
        dest="devices",
        action="append",
        default=[],
        metavar="SITE/DEVICE",
        help="a device that gets a certificate; repeatable",
    )
    install.add_argument(
        "--updates", action="store_true", help="install the software that the centre releases"
    )
    install.add_argument(
        "--listen", default="127.0.0.1", metavar="ADDRESS", help="address for devices, with --tls"
    )
    upgrade = commands.add_parser(
        "upgrade", parents=[common, source], help="a new version; goes back if it is not ready"
    )
    upgrade.add_argument("--force", action="store_true", help="even if it has failed before")
    commands.add_parser("rollback", parents=[common], help="the version that ran before")
    uninstall = commands.add_parser("uninstall", parents=[common], help="remove the software")
    uninstall.add_argument("--purge", action="store_true", help="also settings, state and user")
    commands.add_parser("status", parents=[common], help="what is installed and what runs")
    return parser


if __name__ == "__main__":
    main()
