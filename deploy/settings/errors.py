"""Settings that cannot be, in words: one line each, with the name of the environment variable."""

from __future__ import annotations

import re

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from deploy.settings.doc import env_name, settings_classes

__all__ = ["SETTINGS_ADVICE", "BadSettings", "settings_problems"]

BadSettings = (ValidationError, SettingsError)
"""What a settings class raises: for ``except BadSettings``."""

SETTINGS_ADVICE = "docs/settings.md says what each setting may be"


def settings_problems(error: ValidationError | SettingsError) -> list[str]:
    """What is wrong, a line per setting; values are left out, one may be a secret.

    >>> from deploy.settings.settings import GatewaySettings
    >>> try:
    ...     GatewaySettings(console_port=99_999)
    ... except BadSettings as exc:
    ...     settings_problems(exc)
    ['KPSTREAM_GATEWAY_CONSOLE_PORT: Input should be less than or equal to 65535']
    """
    if isinstance(error, SettingsError):  # a list that is no JSON, seen before it is validated
        field = re.search(r'field "(\w+)"', str(error))
        owners = [cls for cls in settings_classes() if field and field[1] in cls.model_fields]
        if not field or not owners:
            return [str(error)]
        return [f'{env_name(owners[0], field[1])}: is no JSON; a list is written ["one", "two"]']
    owner = next((cls for cls in settings_classes() if cls.__name__ == error.title), None)
    return [
        f"{_named(owner, item['loc']) or error.title}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)
    ]


def _named(owner: type[BaseSettings] | None, loc: tuple[int | str, ...]) -> str:
    if not loc or owner is None:
        return ".".join(map(str, loc))
    inside = "".join(f"[{part}]" for part in loc[1:])
    return env_name(owner, str(loc[0])) + inside
