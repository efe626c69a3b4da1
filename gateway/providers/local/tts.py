"""The voice that runs beside the gateway, with no key and no network."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.providers._shared.voice_options import VOICES
from gateway.providers.local.settings import LocalSettings
from gateway.upstreams.provider import Account
from gateway.upstreams.tts import Capabilities
from gateway.weights import fetch

TRAITS: Final = Capabilities(
    rates=(24000,), text_chars_max=1000, marks=True, options=VOICES["local"]
)


class LocalVoice:
    """Kokoro in a process of its own."""

    traits = TRAITS

    def __init__(self, account: Account[LocalSettings]) -> None:
        self._settings = account.settings
        self._voices = frozenset(path.stem for path in self._folder().glob("*.bin"))

    def _folder(self) -> Path:
        return self._settings.voice_folder or fetch.cache_folder() / "kokoro"

    def has_voice(self, voice: str) -> bool:
        """Whether `voice` names a voice or a mixture of voices (`af_heart(2)+am_adam`)."""
        return all(part.partition("(")[0].strip() in self._voices for part in voice.split("+"))

    def command(self) -> Sequence[str]:
        folder = self._folder()
        threads = str(self._settings.voice_threads)
        module = "gateway.providers.local.kokoro"
        return (
            *(sys.executable, "-m", module, "--model", str(folder)),
            *("--threads", threads, "--device", self._settings.device),
        )

    def check(self) -> str | None:
        return missing(self._settings.voice_folder)


def can_speak() -> bool:
    """Whether the extra is installed and the voice has been fetched."""
    return missing(None) is None


def missing(folder: Path | None) -> str | None:
    """What the voice lacks to run here, and how to get it."""
    for name in ("phonemizer", "espeakng_loader"):
        if importlib.util.find_spec(name) is None:
            return "the local voice needs espeak-ng: install the extra `espeak`"
    if folder is None and fetch.present("kokoro") is None:
        return "the local voice is not installed: run `gateway models fetch kokoro`"
    return None
