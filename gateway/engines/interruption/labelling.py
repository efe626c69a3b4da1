"""What people are asked about kept windows, on a terminal (`gateway bargein review`) or the
operator's page."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Final

from gateway.engines.interruption.learning import learn_folder
from gateway.engines.interruption.vault import Kept, Vault
from gateway.settings.bargein import LearnConfig, learn_key

SURE: Final = 0.98
"""Confidence in a person's label."""

UNSURE: Final = 0.75
"""A label that followed with less is shown to people."""

RATE: Final = 16_000


def vault_of(config: LearnConfig) -> Vault | None:
    """What is kept by this configuration; None: there is no key to read it."""
    key = None if config.secret is None else learn_key(config.secret)
    return None if key is None else Vault(learn_folder(config), key)


def waiting(kept: Iterable[tuple[Path, Kept]], *, every: bool = False) -> list[tuple[Path, Kept]]:
    """Windows whose label is missing or unsure (`every`: all that no person has labelled), the
    most disputed first."""
    found = [
        (path, one)
        for path, one in kept
        if one.by != "person" and (every or one.label is None or one.confidence < UNSURE)
    ]
    return sorted(found, key=lambda pair: abs(pair[1].claim - pair[1].threshold))


def wav(kept: Kept) -> bytes:
    """The window as a WAV file."""
    file = BytesIO()
    with wave.open(file, "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(RATE)
        clip.writeframes(kept.window)
    return file.getvalue()
