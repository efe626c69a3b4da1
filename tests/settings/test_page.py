"""Settings of the operator's page."""

import pytest
from pydantic import ValidationError

from gateway.settings.page import PageConfig


def test_the_page_is_off_by_itself() -> None:
    assert PageConfig().token is None


def test_a_token_that_can_be_guessed_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError, match="at least 16 characters"):
        PageConfig(token="short")
