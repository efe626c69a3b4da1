"""What can be set for an account at Deepgram."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.upstreams.provider import Account, ProviderSettings


class DeepgramSettings(ProviderSettings):
    """Settings of a Deepgram provider."""

    training: bool = False
    """True lets Deepgram keep what callers say to improve its models, as it does by itself; then a
    client may refuse with `mip_opt_out`. False refuses for all, whatever a client asks."""


def private(account: Account[DeepgramSettings]) -> Mapping[str, bool]:
    """What every request says besides what was asked for.

    Source: https://developers.deepgram.com/docs/the-deepgram-model-improvement-partnership-program
    """
    return {} if account.settings.training else {"mip_opt_out": True}
