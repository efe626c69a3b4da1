"""What is known of a provider's voices."""

from __future__ import annotations

import pytest

from gateway.upstreams.tts import Capabilities


@pytest.mark.parametrize(
    ("wanted", "asked"), [(8_000, 16_000), (16_000, 16_000), (22_050, 24_000), (48_000, 24_000)]
)
def test_a_rate_that_a_provider_lacks_is_made_from_the_next_higher_one(
    wanted: int, asked: int
) -> None:
    voice = Capabilities(rates=(16_000, 24_000), text_chars_max=1000)
    assert voice.rate_for(wanted) == asked
