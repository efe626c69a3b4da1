"""What a Deepgram account may be used for."""

from __future__ import annotations

import pytest

from gateway.providers.deepgram.settings import DeepgramSettings, private
from gateway.upstreams.provider import Account


@pytest.mark.parametrize(("training", "said"), [(False, {"mip_opt_out": True}), (True, {})])
def test_training_is_refused_unless_the_operator_allows_it(
    training: bool, said: dict[str, bool]
) -> None:
    settings = DeepgramSettings(training=training)
    assert private(Account("d", "deepgram", "https://d", "k", settings=settings)) == said
