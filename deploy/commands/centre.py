"""``kpstream centre``: sign students and release them, in steps, to the gateways."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.commands.centrecontext import CentreContext, CentreGroup
from deploy.settings.centresettings import CentreSettings
from deploy.settings.errors import exit_on_invalid_settings

__all__ = ["centre"]

_SETUP = "deploy.commands.centresetup"
_RELEASE = "deploy.commands.centrerelease"
_SOFTWARE = "deploy.commands.centresoftware"
_POLICY = "deploy.commands.centrepolicy"
_FILES = "deploy.commands.centrefiles"
_GATEWAYS = "deploy.commands.centregateways"

# Command -> (module, attribute, line of text in the overview)
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": (_SETUP, "init", "Make the keys, the first root and an empty repository."),
    "publish": (_RELEASE, "publish", "Sign a student's files, without releasing it yet."),
    "release": (_RELEASE, "release", "Begin to release a version of a student, step by step."),
    "publish-bundle": (
        _SOFTWARE,
        "publish_bundle",
        "Sign offline bundles of the gateways' software, without releasing it yet.",
    ),
    "release-software": (
        _SOFTWARE,
        "release_software",
        "Begin to release a version of the gateways' software, step by step.",
    ),
    "status": ("deploy.commands.centrestatus", "status", "Show releases, policies and expiry."),
    "pause": (_RELEASE, "pause", "Stop a release at its step."),
    "resume": (_RELEASE, "resume", "Let a paused release go on."),
    "abort": (_RELEASE, "abort", "End a release; its gateways go back."),
    "control": (
        "deploy.commands.centrecontrol",
        "control",
        "Take the gateways' reports, and move releases from step to step.",
    ),
    "gateways": (_GATEWAYS, "gateways", "Show who runs what, who fell back and why."),
    "enrol": (_GATEWAYS, "enrol", "Give a gateway a key that signs its reports."),
    "retire": (_GATEWAYS, "retire", "Forget a gateway, and refuse its reports."),
    "restore": (_GATEWAYS, "restore", "Accept the reports of a retired gateway again."),
    "hold": (_POLICY, "hold", "Keep a gateway or a group at what it runs."),
    "pin": (_POLICY, "pin", "Keep one student of a gateway or group at a version."),
    "window": (_POLICY, "window", "Set the maintenance window of a gateway or group."),
    "refresh": (_SETUP, "refresh", "Renew signed files before they expire; for a daily timer."),
    "rotate": (_SETUP, "rotate", "Replace the keys of a role, also lost ones."),
    "passphrase": (_SETUP, "passphrase", "Change the passphrase of the keys."),
    "export": (_FILES, "export", "Copy the repository to a folder, such as a USB stick."),
    "import": (_FILES, "import_", "Take over a newer repository from a folder, verified."),
    "serve": (_FILES, "serve", "Serve the repository over HTTP, for trials."),
}


@click.group(cls=CentreGroup, table=_COMMANDS, extra="centre")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the centre; default: KPSTREAM_CENTRE_DIR.",
)
@click.pass_context
def centre(ctx: click.Context, folder: Path | None) -> None:
    """Sign students and release them, in steps, to the gateways."""
    with exit_on_invalid_settings():
        settings = CentreSettings() if folder is None else CentreSettings(dir=folder)
    ctx.obj = CentreContext(settings)
