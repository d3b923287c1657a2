"""Dead letters of mapped devices on their way to a replay: through the files as they are now."""

from __future__ import annotations

from collections import Counter

import click

from deploy.commands.printable import printable
from deploy.settings.errors import exit_on_invalid_settings
from ingest.deadletter import DeadLetter
from ingest.errors import MappingInvalid, RefusalReason

__all__ = ["remapped"]

_SHOWN = 10


def remapped(fit: list[DeadLetter]) -> tuple[list[DeadLetter], list[str]]:
    """Return the messages to publish for dead letters, and the ids that these settle.

    Messages of mapped devices become readings of our own form; all others stay as they are. Says
    what is refused again, and what remains.

    Raises:
        click.ClickException: A mapping file is broken.
    """
    from ingest.settings import IngestSettings

    with exit_on_invalid_settings():
        ingest = IngestSettings()
    if ingest.mappings is None:
        count = sum(each.reason is RefusalReason.mapping for each in fit)
        if count:
            click.echo(
                f"{count} were refused by a mapping, but KPSTREAM_INGEST_MAPPINGS is unset here: "
                "they are published to their own topics again, and the bridge reads them as "
                "messages of now"
            )
        return fit, [each.id for each in fit]
    from ingest.mapping.compiled import compile_mapping
    from ingest.mapping.folder import read_folder
    from ingest.mapping.replaying import remap

    try:
        files, faults = read_folder(ingest.mappings)
    except MappingInvalid as exc:
        raise click.ClickException(str(exc)) from exc
    if faults:
        raise click.ClickException("mend the mapping files first:\n" + "\n".join(faults))
    found = remap(fit, [compile_mapping(each) for each in files], ingest.mqtt_prefix)
    if mapped := len(fit) - len(found.others):
        click.echo(
            f"messages of mapped devices: {mapped}; messages in our own form made of them: "
            f"{len(found.messages)}, with the times at which they were measured or received"
        )
    reasons = Counter(reason for _, reason in found.refused)
    for reason, count in reasons.most_common(_SHOWN):
        click.echo(printable(f"{count} refused again: {reason}"))
    if found.ignored:
        click.echo(f"{found.ignored} are left out by their mapping (devices, when), and stay")
    for name, count in sorted(found.without_partner.items()):
        click.echo(
            f"{count} values of {name} stay, because the other channels of their readings are not "
            "among these dead letters"
        )
    done = [*(each.id for each in found.others), *found.done]
    return [*found.others, *found.messages], done
