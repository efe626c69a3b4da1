"""The operator's page."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr, field_validator

from gateway.settings.section import Section

TOKEN_CHARS_MIN: Final = 16
"""Shorter ones can be guessed."""


class PageConfig(Section):
    """The page for people on the operator's port, at /ui: who is calling, what rests, what failed,
    what it costs, and a bench to try recognisers, voices, chat and interruption."""

    token: SecretStr | None = None
    """Switches the page on: whoever opens it is asked for this. At least 16 characters. What is
    tried on the page counts as use by the first of `keys`."""

    @field_validator("token")
    @classmethod
    def _is_long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < TOKEN_CHARS_MIN:
            raise ValueError(f"expected at least {TOKEN_CHARS_MIN} characters")
        return token
