"""``kpstream centre init|rotate|passphrase|refresh``: keys, and what they have to sign anew."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.commands.centrecontext import (
    CentreContext,
    ask_passphrase,
    pass_centre,
    root_passphrase,
)

if TYPE_CHECKING:
    from deploy.rollout.ceremony import RootKeys
    from deploy.rollout.keys import Passphrase

__all__ = ["init", "passphrase", "refresh", "rotate"]

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_ROOT_PASSPHRASE = click.option(
    "--root-passphrase-file",
    type=_FILE,
    help="File with the passphrase of the root keys; default: asked for each key.",
)
_WITHOUT = click.option(
    "--without-passphrase", is_flag=True, help="Write new keys without a passphrase, for a trial."
)


@click.command()
@click.option("--root-keys", "count", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--threshold",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Root keys that have to sign a change of keys.",
)
@click.option(
    "--root-out", type=_FOLDER, required=True, help="Folder for the root keys, to be carried away."
)
@_ROOT_PASSPHRASE
@_WITHOUT
@pass_centre
def init(
    centre: CentreContext,
    count: int,
    threshold: int,
    root_out: Path,
    root_passphrase_file: Path | None,
    without_passphrase: bool,
) -> None:
    """Make the keys, the first root and an empty repository.

    The same command goes on from an interrupted one, and changes nothing once it is done.
    """
    from deploy.rollout.ceremony import RootKeys, set_up
    from deploy.rollout.metadata import root_path

    centre.without_passphrase, centre.is_new = without_passphrase, True
    passphrase = root_passphrase(root_passphrase_file, without_passphrase, new=True)
    made = set_up(centre.repository, RootKeys(count, threshold, root_out, passphrase))
    first = root_path(centre.repository.folder.repository, 1)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    click.echo(
        f"The centre is {'ready' if made else 'there already'}: {centre.folder}\n"
        f"  root that gateways trust  {first}\n"
        f"  its SHA-256               {digest}\n"
        f"  static files to serve     {centre.repository.folder.repository}"
    )
    if made:
        click.echo(
            f"Carry the {count} root keys in {root_out} away, each to another place; {threshold} "
            "of them replace any key.\nGive every gateway the root by a way that you trust "
            "(KPSTREAM_ROLLOUT_ROOT_FILE), and compare the SHA-256."
        )


@click.command()
@click.argument("role", type=click.Choice(["root", "targets", "snapshot", "timestamp"]))
@click.option(
    "--root-key",
    "places",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="File or folder with present root keys; repeatable.",
)
@_ROOT_PASSPHRASE
@click.option("--same-keys", is_flag=True, help="Role root: only renew the root's expiry.")
@click.option("--root-keys", "count", type=click.IntRange(1), help="Role root: number of new keys.")
@click.option("--threshold", type=click.IntRange(1), help="Role root: new threshold.")
@click.option("--root-out", type=_FOLDER, help="Role root: folder for the new root keys.")
@_WITHOUT
@pass_centre
def rotate(
    centre: CentreContext,
    role: str,
    places: tuple[Path, ...],
    root_passphrase_file: Path | None,
    same_keys: bool,
    count: int | None,
    threshold: int | None,
    root_out: Path | None,
    without_passphrase: bool,
) -> None:
    """Replace the key of ROLE, or all keys of the root; the old key of a role may be lost.

    It needs as many present root keys as their threshold. Gateways follow by themselves.
    """
    from deploy.rollout.ceremony import renew_root, rotate_online, rotate_root
    from deploy.rollout.keys import Keys

    if role != "root" and (same_keys or count or threshold or root_out):
        message = "--same-keys, --root-keys, --threshold and --root-out are for the role root"
        raise click.UsageError(message)
    if role == "root" and not same_keys and root_out is None:
        message = "the role root needs --root-out FOLDER for its new keys, or --same-keys"
        raise click.UsageError(message)
    signers = Keys(places, root_passphrase(root_passphrase_file, without=False, new=False))
    repository = centre.repository
    if role != "root":
        centre.without_passphrase = without_passphrase
        keyid = rotate_online(repository, role, signers)
        click.echo(f"The {role} key is now {role}-{keyid[:16]}.pem; the old one is removed.")
    elif same_keys:
        root = renew_root(repository, signers)
        click.echo(f"Root {root.version} expires at {root.expires:%Y-%m-%d}.")
    else:
        assert root_out is not None  # noqa: S101 - checked above
        passphrase = root_passphrase(root_passphrase_file, without_passphrase, new=True)
        keys = _new_root_keys(centre, count, threshold, root_out, passphrase)
        root, was_made = rotate_root(repository, keys, signers)
        how = "was made by an interrupted command" if was_made else "has new keys"
        click.echo(f"Root {root.version} {how}: carry the keys away from {root_out}.")
    centre.announce(repository.index())


@click.command()
@pass_centre
def refresh(centre: CentreContext) -> None:
    """Renew signed files that are past half of their life; run it every day by a timer."""
    centre.unlock()
    renewed = centre.repository.refresh_timestamp()
    click.echo(f"Renewed: {', '.join(renewed)}." if renewed else "Nothing is due.")


@click.command()
@click.argument(
    "paths", metavar="[FILE]...", type=click.Path(path_type=Path, dir_okay=False), nargs=-1
)
@click.option("--new-file", type=_FILE, help="File with the new passphrase; default: asked.")
@pass_centre
def passphrase(centre: CentreContext, paths: tuple[Path, ...], new_file: Path | None) -> None:
    """Encrypt the keys of the centre anew, or the root key FILEs that are named."""
    from deploy.rollout.keys import change_passphrase
    from deploy.rollout.passphrase import passphrase_from_file

    if new_file is None:
        new = ask_passphrase("New passphrase", confirm=True)
    else:
        new = passphrase_from_file(new_file)
    with centre.repository.locked():
        if paths:
            old = root_passphrase(None, without=False, new=False)
        else:
            old = lambda _: centre.passphrase()  # noqa: E731 - the same for all of them
        found = paths or sorted(centre.repository.folder.keys.glob("*.pem"))
        changed = [path for path in found if change_passphrase(path, old, new)]
    click.echo(f"{len(changed)} of {len(found)} keys are encrypted with the new passphrase now")


def _new_root_keys(
    centre: CentreContext,
    count: int | None,
    threshold: int | None,
    folder: Path,
    passphrase: Passphrase,
) -> RootKeys:
    from deploy.rollout.ceremony import RootKeys

    present = centre.repository.state().root.roles["root"]
    return RootKeys(
        count or len(present.keyids), threshold or present.threshold, folder, passphrase
    )
