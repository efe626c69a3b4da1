from __future__ import annotations

import base64
import wave
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from pydantic import SecretStr

from gateway.engines.interruption import labelling
from gateway.engines.interruption.disputed import Label
from gateway.engines.interruption.vault import Kept
from gateway.settings.bargein import LearnConfig

KEPT = Kept(
    1_790_000_000.0, "RM_1", "AJ_1", "APIone", "0.11.1", 0.5, 0.6, True, 1.0,
    b"\1\2" * 800, Label.NOISE, 0.65,
)  # fmt: skip
PLACE = Path("a")


def test_what_is_unsure_waits_the_most_disputed_first() -> None:
    far, near = replace(KEPT, claim=0.9), replace(KEPT, claim=0.45, label=None)
    sure, known = replace(KEPT, confidence=0.9), replace(KEPT, by="person")

    found = labelling.waiting((PLACE, one) for one in (far, near, sure, known))
    every = labelling.waiting(((PLACE, one) for one in (far, near, sure, known)), every=True)

    assert [one for _, one in found] == [near, far]
    assert [one for _, one in every] == [near, sure, far]


def test_a_window_is_a_wav_file() -> None:
    with wave.open(BytesIO(labelling.wav(KEPT))) as clip:
        assert (clip.getframerate(), clip.getnchannels(), clip.getsampwidth()) == (16_000, 1, 2)
        assert clip.readframes(2000) == KEPT.window


def test_without_a_key_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert labelling.vault_of(LearnConfig()) is None
    secret = SecretStr(base64.b64encode(bytes(32)).decode())
    vault = labelling.vault_of(LearnConfig(secret=secret, folder=tmp_path))
    assert vault is not None
    assert vault.folder.parent == tmp_path
