"""What can be set for an account at ElevenLabs."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.upstreams.provider import Account, ProviderSettings


class ElevenLabsSettings(ProviderSettings):
    """Settings of an ElevenLabs provider."""

    zero_retention: bool = False
    """True has it keep nothing of what is said and heard (`enable_logging=false`), whatever a
    client asks. Accounts without an enterprise contract are refused with it."""


def private(account: Account[ElevenLabsSettings]) -> Mapping[str, bool]:
    """What every request says besides what was asked for.

    Source: https://elevenlabs.io/docs/developers/resources/zero-retention-mode
    """
    return {"enable_logging": False} if account.settings.zero_retention else {}
