"""The voice detector inside the wheel, on sounds of which the answer is known."""

import numpy as np

from models.interruption.pretrained import silero


def test_silence_holds_no_speech_seconds() -> None:
    assert silero.speech_seconds(np.zeros(16_000, np.float32)) == 0


def test_silero_says_of_each_sound_of_a_batch_what_it_says_of_it_alone() -> None:
    rng = np.random.default_rng(3)
    buzz = np.sign(np.sin(2 * np.pi * 120 * np.arange(16_000) / 16_000)) * np.linspace(
        0, 0.3, 16_000
    )
    sounds = np.stack([buzz, rng.standard_normal(16_000) * 0.1]).astype(np.float32)

    together = silero.speech_probabilities(sounds)

    assert together.shape == (2, 16_000 // silero.VAD_FRAME)
    for alone, heard in zip(sounds, together, strict=True):
        np.testing.assert_allclose(silero.speech_probabilities(alone), heard, atol=1e-4)
