"""What an operator may set for avatars."""

import pytest
from pydantic import ValidationError

from gateway.settings.avatar import AvatarConfig


@pytest.mark.parametrize(
    "given",
    [
        {"livekit_key": "k", "livekit_url": "wss://x"},
        {"livekit_key": "k", "livekit_secret": "s"},
        {"livekit_url": "x"},
        {"livekit_url": "ftp://x"},
        {"session_s_max": 1},
        {"idle_timeout_s": 1},
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AvatarConfig.model_validate(given)


def test_a_pair_goes_with_its_server() -> None:
    given = {"livekit_key": "k", "livekit_secret": "s", "livekit_url": "wss://x"}
    assert AvatarConfig.model_validate(given).livekit_key == "k"
