"""What an operator may set for /tts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings.tts import TtsConfig


def test_the_older_spelling_of_a_hedge_means_what_it_meant() -> None:
    hedge = TtsConfig.model_validate({"hedge_after_s": 0.5}).hedge
    assert (hedge.enabled, hedge.after_s, hedge.share_max) == (True, 0.5, 1.0)
    assert not TtsConfig.model_validate({"hedge_after_s": None}).hedge.enabled


def test_both_spellings_at_once_are_a_mistake() -> None:
    with pytest.raises(ValidationError):
        TtsConfig.model_validate({"hedge_after_s": 0.5, "hedge": {"enabled": True}})


def test_a_wrong_value_in_the_older_spelling_is_named() -> None:
    with pytest.raises(ValidationError) as wrong:
        TtsConfig.model_validate({"hedge_after_s": -1})
    assert wrong.value.errors()[0]["loc"] == ("hedge", "after_s")
