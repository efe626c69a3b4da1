"""Codes of languages, and what is taken for them."""

import pytest

from gateway.settings.languages import problem


@pytest.mark.parametrize(
    "code", ["en", "no", "pt-BR", "zh-Hant-TW", "yue", "multi", "EN", "es-419"]
)
def test_a_code_is_taken(code: str) -> None:
    assert problem(code) == ""


@pytest.mark.parametrize(
    ("code", "meant"), [("jp", "ja"), ("cz", "cs"), ("dk", "da"), ("ua", "uk"), ("us", "en")]
)
def test_a_country_is_no_language(code: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in problem(code)


@pytest.mark.parametrize("code", ["", "e", "english", "en_US", "xx", "en-", "1"])
def test_what_is_no_code_is_told(code: str) -> None:
    assert problem(code).startswith("expected a language code")
