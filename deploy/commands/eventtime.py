"""Event times on the command line."""

from __future__ import annotations

from datetime import datetime, timezone

import click

__all__ = ["TIME_HELP", "epoch_ms"]

TIME_HELP = "epoch milliseconds, or 2026-11-28T19:05:00 (UTC without an offset)"


def epoch_ms(text: str, option: str) -> int:
    """Return the time of an option in epoch milliseconds.

    >>> epoch_ms("2026-11-28T19:05:00", "--at") == epoch_ms("2026-11-28T20:05:00+01:00", "--at")
    True

    Args:
        text: Epoch milliseconds, or a time in ISO 8601; UTC without an offset.
        option: Name of the option, for the message.

    Raises:
        click.BadParameter: It is neither.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as exc:
        msg = f"{text!r} is neither epoch milliseconds nor a time such as 2026-11-28T19:05:00"
        raise click.BadParameter(msg, param_hint=option) from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * 1000)
