"""What an ElevenLabs account keeps."""

from __future__ import annotations

import pytest

from gateway.providers.elevenlabs.settings import ElevenLabsSettings
from gateway.providers.elevenlabs.stt import ElevenLabsStt
from gateway.providers.elevenlabs.tts import ElevenLabsVoice
from gateway.upstreams.plan import Attempt
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import SpeechRequest
from tests.providers.recognizers import dial


@pytest.mark.parametrize("kept", [True, False])
def test_zero_retention_is_asked_of_ears_and_voices_alike(kept: bool) -> None:
    settings = ElevenLabsSettings(zero_retention=not kept)
    account = Account("e", "elevenlabs", "https://e", "key", settings=settings)
    attempt = Attempt("e", "scribe_v2_realtime")
    heard = dial(ElevenLabsStt(account).recognizer(attempt, 16000)).url
    asked = SpeechRequest("eleven_flash_v2_5", None, None, 16000, {"enable_logging": True})
    said = ElevenLabsVoice(account).dial(asked).url
    assert ("enable_logging=false" in heard) is not kept
    assert ("enable_logging=false" in said) is not kept
