"""Errors in settings, as text: one line per setting, with the name of its environment variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import click
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from deploy.settings.doc import env_name, settings_classes
from ingest.secrettext import error_text

__all__ = ["SETTINGS_ADVICE", "InvalidSettings", "exit_on_invalid_settings", "settings_problems"]

InvalidSettings = (ValidationError, SettingsError)
"""The exceptions that a settings class raises, for ``except InvalidSettings``."""

SETTINGS_ADVICE = "docs/settings.md lists the valid values"


@contextmanager
def exit_on_invalid_settings(exit_code: int = 1) -> Iterator[None]:
    """Turn invalid settings into an error message of the command.

    Args:
        exit_code: Exit code of the command.

    Raises:
        click.ClickException: A setting is invalid; the message names each variable.
    """
    try:
        yield
    except InvalidSettings as exc:
        problems = "\n  ".join(settings_problems(exc))
        error = click.ClickException(f"invalid settings ({SETTINGS_ADVICE}):\n  {problems}")
        error.exit_code = exit_code
        raise error from exc


def settings_problems(error: ValidationError | SettingsError) -> list[str]:
    """Describe each invalid setting in one line; values are left out because they may be secret.

    >>> from deploy.settings.settings import GatewaySettings
    >>> try:
    ...     GatewaySettings(console_port=99_999)
    ... except InvalidSettings as exc:
    ...     settings_problems(exc)
    ['KPSTREAM_GATEWAY_CONSOLE_PORT: Input should be less than or equal to 65535']
    """
    if isinstance(error, SettingsError):  # malformed JSON, found before validation
        field = re.search(r'field "(\w+)"', str(error))
        owners = [cls for cls in settings_classes() if field and field[1] in cls.model_fields]
        if not field or not owners:
            return [error_text(error)]
        return [f'{env_name(owners[0], field[1])}: not valid JSON; write a list as ["one", "two"]']
    owner = next((cls for cls in settings_classes() if cls.__name__ == error.title), None)
    return [
        f"{_variable(owner, item['loc']) or error.title}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    ]


def _variable(owner: type[BaseSettings] | None, loc: tuple[int | str, ...]) -> str:
    if not loc or owner is None:
        return ".".join(map(str, loc))
    index = "".join(f"[{part}]" for part in loc[1:])
    return env_name(owner, str(loc[0])) + index
