"""What counts as a voice."""

from __future__ import annotations

import math
import random
import struct

import pytest

from gateway.audio.pcm import silence
from gateway.audio.voice import holds_voice
from tests.conversations.stt.play import tone, voice

RATE = 16_000


@pytest.mark.parametrize("pitch_hz", [90, 120, 220])
def test_syllables_with_a_pitch_are_a_voice(pitch_hz: int) -> None:
    assert holds_voice(voice(2.0, pitch_hz), RATE)
    assert holds_voice(silence(RATE) + voice(0.6, pitch_hz) + silence(RATE), RATE)


@pytest.mark.parametrize("hz", [50, 60, 100, 120, 440])
def test_hum_and_tones_are_none(hz: int) -> None:
    count = 2 * RATE
    wave = (int(8000 * math.sin(2 * math.pi * hz * i / RATE)) for i in range(count))
    assert not holds_voice(struct.pack(f"<{count}h", *wave), RATE)
    assert not holds_voice(silence(RATE) + tone(1.0) + silence(RATE), RATE)


def test_noise_is_none_even_if_it_comes_in_bursts() -> None:
    choice = random.Random(1)
    count = 2 * RATE
    loud = [choice.gauss(0, 3000) * (0.2 + (i // 4000 % 2)) for i in range(count)]
    assert not holds_voice(struct.pack(f"<{count}h", *(int(x) for x in loud)), RATE)


def test_silence_and_a_click_are_none() -> None:
    assert not holds_voice(b"", RATE)
    assert not holds_voice(silence(2 * RATE), RATE)
    assert not holds_voice(silence(RATE) + tone(0.02) + silence(RATE), RATE)


@pytest.mark.parametrize("rate", [8000, 24_000, 48_000])
def test_any_rate_will_do(rate: int) -> None:
    pcm = voice(2.0)
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    count = int(len(samples) * rate / RATE)
    other = [samples[int(i * RATE / rate)] for i in range(count)]
    assert holds_voice(struct.pack(f"<{count}h", *other), rate)
