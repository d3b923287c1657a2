"""The base of every settings class: environment variables, secrets that no message shows."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.secrettext import checked_secret, remember_secret

__all__ = ["EnvironmentSettings", "is_secret"]


class EnvironmentSettings(BaseSettings):
    """Frozen settings from environment variables, with these rules for every subclass.

    - No error shows the value of a setting, because it may be a secret in the wrong place.
    - A field of type `SecretStr` is stripped and checked by `ingest.secrettext.checked_secret`.
    - An address has no user name or password in it: messages show addresses.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if value is None:
            return value
        if is_secret(cls.model_fields[name]):
            return checked_secret(value)
        if isinstance(value, str) and name.rpartition("_")[2] == "url":
            _refuse_credentials(value)
        return value


def is_secret(field: FieldInfo) -> bool:
    """Whether a field of a settings class holds a secret."""
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def _refuse_credentials(url: str) -> None:
    credentials, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    if not at and "@" in url.partition("/")[0]:  # without a scheme
        credentials, at, _ = url.partition("/")[0].rpartition("@")
    if at:
        remember_secret(credentials.partition(":")[2] or credentials)
        msg = "contains a user name or password: leave it out, and use the settings for secrets"
        raise ValueError(msg)
