"""``kpstream gateway-update``: brings a gateway's own software to the version of its centre."""

from __future__ import annotations

import logging
import os
import sys

import click

from deploy.settings.secretoutput import start_logging

__all__ = ["gateway_update"]


@click.command("gateway-update")
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
def gateway_update(verbose: bool) -> None:
    """Look at the centre once, and install the software that it has released for this gateway.

    For root and a timer; `install.sh install --updates` sets both up. Exit codes: 0 nothing to do,
    or done; 1 it could not be looked at or installed now; 3 the version failed, and the former one
    runs.
    """
    start_logging(logging.INFO if verbose else logging.WARNING)
    from pathlib import Path

    from deploy.gateway.errors import InstallError
    from deploy.gateway.installer import Installer
    from deploy.gateway.places import Places
    from deploy.gateway.steps import Steps
    from deploy.settings.errors import exit_on_invalid_settings
    from deploy.settings.rolloutsettings import RolloutSettings
    from deploy.settings.settings import GatewaySettings
    from deploy.updates.fetch import BUNDLE_LIMITS, Fetcher, FetchFailed
    from deploy.updates.software import SoftwareUpdater
    from ingest.clock import now_ms
    from ingest.secrettext import error_text

    with exit_on_invalid_settings():
        rollout, gateway = RolloutSettings(), GatewaySettings()
    if rollout.url is None:
        message = "KPSTREAM_ROLLOUT_URL is unset: there is no centre to look at"
        raise click.ClickException(message)
    os.umask(0o022)  # the gateway's user reads what is installed
    folder = rollout.update_dir

    def now_s() -> int:
        return now_ms() // 1000

    source = Fetcher(
        rollout.url,
        folder / "root.json",
        folder / "rollout",
        now_s,
        ca_file=rollout.ca_file,
        limits=BUNDLE_LIMITS,
    )
    installer = Installer(Places(Path("/")), Steps(click.echo))
    try:
        updater = SoftwareUpdater(rollout, gateway.own_name, folder, source, installer, now_s)
        report = updater.run()
    except (FetchFailed, InstallError) as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        raise click.ClickException(error_text(exc)) from exc
    if report is None:
        click.echo("no release of the software is for this gateway now")
        return
    why = f": {report.reason}" if report.reason else ""
    click.echo(f"release {report.release} of software {report.version}: {report.phase}{why}")
    sys.exit(3 if report.phase == "failed" else 0)
