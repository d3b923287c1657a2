"""What the commands of `kpstream centre` share: settings, repository, passphrase, errors, note."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy.commands.lazygroup import LazyGroup
from deploy.rollout.errors import CentreError
from deploy.settings.centresettings import CentreSettings
from deploy.settings.settings import GatewaySettings
from ingest.clock import now_ms
from ingest.secrettext import error_text
from models.errors import ModelError
from models.registry import Registry

if TYPE_CHECKING:
    from deploy.rollout.release import ReleaseIndex
    from deploy.rollout.repository import CentreRepository

__all__ = [
    "CentreContext",
    "CentreGroup",
    "ask_passphrase",
    "now_s",
    "pass_centre",
    "root_passphrase",
]


def now_s() -> int:
    """The time of this process, epoch seconds."""
    return now_ms() // 1000


@dataclass
class CentreContext:
    """The centre that a command works on.

    Attributes:
        settings: Its settings.
        without_passphrase: New keys are written without a passphrase, for trials.
        is_new: The passphrase is a new one: it is asked twice.
    """

    settings: CentreSettings
    without_passphrase: bool = False
    is_new: bool = False
    _passphrase: bytes | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """The folder of the centre."""
        return self.settings.dir

    @cached_property
    def repository(self) -> CentreRepository:
        """Its signed repository."""
        from deploy.rollout.repository import CentreRepository, Lifetimes

        lifetimes = Lifetimes(
            root=self.settings.root_days,
            targets=self.settings.targets_days,
            snapshot=self.settings.snapshot_days,
            timestamp=self.settings.timestamp_days,
        )
        return CentreRepository(self.folder, now_s, self.passphrase, lifetimes)

    def registry(self, folder: Path | None = None) -> Registry:
        """The registry of the students: that of an option, of the settings, or of a gateway."""
        return Registry(folder or self.settings.registry_dir or GatewaySettings().registry_path)

    def passphrase(self) -> bytes | None:
        """The passphrase of the keys that stay here; asked at most once."""
        if self._passphrase is None and not self.without_passphrase:
            self._passphrase = self._read_passphrase()
        return self._passphrase

    def unlock(self) -> None:
        """Ask for the passphrase now if it comes from the terminal, not while others wait."""
        if self.settings.passphrase_file is None and self.settings.passphrase_command is None:
            self.repository.unlock()

    def write_index(self, change: Callable[[ReleaseIndex], ReleaseIndex]) -> ReleaseIndex:
        """Change the index, and tell the gateways; see `CentreRepository.write_index`."""
        self.unlock()
        index = self.repository.write_index(change)
        self.announce(index)
        return index

    def announce(self, index: ReleaseIndex) -> None:
        """Tell the gateways that there is something new; a note that fails is only a warning."""
        from deploy.rollout.note import publish_note

        endpoint = self.settings.own_endpoint(f"kpstream-centre-{os.getpid()}")
        if endpoint is None:
            return
        problem = asyncio.run(publish_note(endpoint, index.made_s))
        if problem is not None:
            click.echo(
                f"The note over MQTT may not have arrived ({problem}): the gateways look at their "
                "next interval.",
                err=True,
            )

    def _read_passphrase(self) -> bytes:
        from deploy.rollout.passphrase import passphrase_from_command, passphrase_from_file

        if self.settings.passphrase_file is not None:
            return passphrase_from_file(self.settings.passphrase_file)
        if self.settings.passphrase_command is not None:
            return passphrase_from_command(self.settings.passphrase_command)
        return ask_passphrase("Passphrase of the centre's keys", confirm=self.is_new)


pass_centre = click.make_pass_decorator(CentreContext)


class CentreGroup(LazyGroup):
    """Shows the errors of the centre as messages."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand."""
        with _errors_as_messages():
            return super().invoke(ctx)


def ask_passphrase(text: str, *, confirm: bool = False) -> bytes:
    """Ask at the terminal, without showing what is typed."""
    from ingest.secrettext import remember_secret

    try:
        word: str = click.prompt(text, hide_input=True, confirmation_prompt=confirm, err=True)
    except click.Abort as exc:
        if sys.stdin.isatty():
            raise
        msg = (
            f"{text}: there is no terminal to ask at. Set KPSTREAM_CENTRE_PASSPHRASE_FILE or "
            "KPSTREAM_CENTRE_PASSPHRASE_COMMAND"
        )
        raise click.ClickException(msg) from exc
    remember_secret(word)
    return word.encode()


def root_passphrase(
    path_of_file: Path | None, without: bool, *, new: bool
) -> Callable[[Path], bytes | None]:
    """The passphrase of root keys: from a file, none, or asked for each key file."""
    from deploy.rollout.passphrase import passphrase_from_file

    def passphrase(path: Path) -> bytes | None:
        if without:
            return None
        if path_of_file is not None:
            return passphrase_from_file(path_of_file)
        text = f"New passphrase of {path.name}" if new else f"Passphrase of {path.name}"
        return ask_passphrase(text, confirm=new)

    return passphrase


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    try:
        yield
    except (CentreError, ModelError) as exc:
        raise click.ClickException(str(exc)) from exc
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        message = (
            f"{where}{exc.strerror or error_text(exc)}; the repository is whole: mend that and run "
            "the same command again"
        )
        raise click.ClickException(message) from exc
