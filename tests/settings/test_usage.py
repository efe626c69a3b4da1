"""What an operator may set for usage records."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings.usage import UsageConfig


def test_a_variable_that_is_not_set_means_the_default_store() -> None:
    assert UsageConfig.model_validate({"url": ""}).url is None


def test_a_file_or_a_server_is_a_store() -> None:
    config = UsageConfig.model_validate({"url": "sqlite:/var/usage.db"})
    assert config.url is not None
    assert config.url.get_secret_value() == "sqlite:/var/usage.db"


@pytest.mark.parametrize("url", ["mysql://h/db", "/var/usage.db"])
def test_another_store_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected sqlite:PATH or postgresql://"):
        UsageConfig.model_validate({"url": url})


def test_a_password_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        UsageConfig.model_validate({"url": "mysql://u:secret@h/db"})
    assert "secret" not in str(caught.value)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    config = UsageConfig.model_validate({"url": "sqlite:~/usage.db", "spill": "~/spill"})
    assert config.url is not None
    assert config.url.get_secret_value() == "sqlite:/home/op/usage.db"
    assert config.spill == "/home/op/spill"
