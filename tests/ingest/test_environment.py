"""Rules of every settings class: no echo of values, checked secrets, plain addresses."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from ingest.environment import EnvironmentSettings, is_secret
from ingest.secrettext import hide_secrets


class Example(EnvironmentSettings):
    """Settings as any subclass writes them."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_EXAMPLE_")

    count: int = 1
    server_url: str | None = None
    token: SecretStr | None = None
    must: SecretStr = SecretStr("")


def test_the_secret_fields_of_a_class_are_known() -> None:
    secret = [name for name, field in Example.model_fields.items() if is_secret(field)]
    assert secret == ["token", "must"]


def test_a_subclass_inherits_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_EXAMPLE_TOKEN", " sub-class-token\n")
    settings = Example()
    assert settings.token is not None
    assert settings.token.get_secret_value() == "sub-class-token"
    assert "sub-class-token" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.count = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Example(unknown=1)  # type: ignore[call-arg]


def test_no_error_shows_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_EXAMPLE_COUNT", "secret-in-the-wrong-place")
    monkeypatch.setenv("KPSTREAM_EXAMPLE_TOKEN", "one-line\nanother-line")
    with pytest.raises(ValidationError) as refused:
        Example()
    assert refused.value.error_count() == 2
    for part in ("wrong-place", "one-line", "another-line"):
        assert part not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://me:url-password@host:1", "me:url-password@host", "https://url-password@host/p"]
)
def test_a_password_in_an_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="user name or password") as refused:
        Example(server_url=url)
    assert "url-password" not in str(refused.value)
    assert "url-password" not in hide_secrets(f"somebody else prints {url}")


@pytest.mark.parametrize("url", ["http://host:1/a@b", "https://[::1]:1", "nonsense"])
def test_other_addresses_are_left_to_their_field(url: str) -> None:
    assert Example(server_url=url).server_url == url
