"""One synthesis: whole samples at the client's rate, as loud as the voice before."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gateway.conversations.tts.synthesis import (
    GAIN_DB_MAX,
    MATCH_S,
    RECORDING_BYTES_MAX,
    Synthesis,
)
from gateway.upstreams.plan import Attempt
from gateway.upstreams.tts import Capabilities, Timed, Words

RATE = 16000


def synthesis(
    rates: tuple[int, ...] = (RATE,), match_db: float | None = None, rate: int = RATE
) -> Synthesis:
    traits = Capabilities(rates=rates, text_chars_max=400)
    return Synthesis(1, Attempt("acme", "one"), traits, 0, rate, 0.0, match_db)


def wav(pcm: bytes, rate: int, channels: int = 1) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(form)) + form
    return head + b"data" + struct.pack("<I", len(pcm)) + pcm


def tone(seconds: float, amplitude: float = 8000, rate: int = RATE) -> bytes:
    t = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 220 * t) * amplitude).astype(np.int16).tobytes()


def test_torn_samples_are_made_whole() -> None:
    one = synthesis()
    pcm = tone(0.01)
    parts = [one.samples(part) for part in (pcm[:3], pcm[3:4], pcm[4:11], pcm[11:])]
    assert all(len(part) % 2 == 0 for part in parts)
    assert b"".join(parts) == pcm


def test_another_rate_is_resampled_and_its_end_comes_with_the_rest() -> None:
    one = synthesis(rates=(8000,))
    pcm = one.samples(tone(0.5, rate=8000)) + one.rest()
    assert len(pcm) == 2 * RATE // 2


def test_a_rate_that_the_provider_tells_is_believed() -> None:
    one = synthesis()
    one.rate(8000)
    assert len(one.samples(tone(0.5, rate=8000)) + one.rest()) == 2 * RATE // 2


def test_audio_is_held_back_until_its_loudness_is_known_and_then_matched() -> None:
    reference = synthesis(match_db=-20.0)
    loud = tone(MATCH_S + 0.1)
    assert reference.samples(loud[:2000]) == b""
    pcm = reference.samples(loud[2000:])
    assert len(pcm) == len(loud)
    before = np.abs(np.frombuffer(loud, np.int16)).max()
    after = np.abs(np.frombuffer(pcm, np.int16)).max()
    assert after < before


def test_a_short_synthesis_is_matched_at_its_end() -> None:
    one = synthesis(match_db=-20.0)
    pcm = tone(0.1)
    assert one.samples(pcm) == b""
    assert len(one.rest()) == len(pcm)


def test_no_gain_is_larger_than_voices_differ() -> None:
    one = synthesis(match_db=-90.0)
    pcm = one.samples(tone(MATCH_S + 0.1))
    loudest = np.abs(np.frombuffer(pcm, np.int16)).max()
    assert loudest == pytest.approx(8000 / 10 ** (GAIN_DB_MAX / 20), rel=0.02)


def test_what_is_recorded_is_bounded() -> None:
    one = synthesis()
    one.recording = bytearray()
    one.record(bytes(RECORDING_BYTES_MAX))
    assert one.recording is not None
    one.record(b"12")
    assert one.recording is None
    one.record(b"12")
    one.keep_words([Timed("late", 0.0, 0.1)])
    assert one.recording is None
    assert one.spoken_words == []


def test_timings_are_due_with_their_audio_or_all_at_the_end() -> None:
    one = synthesis()
    one.progress.said("One two. ", 1)
    one.timings(Words((Timed("One", 0.0, 0.2), Timed("two.", 0.3, 0.5))))
    one.sent = RATE // 10
    assert [word.text for word in one.due()[0]] == ["One"]
    assert [word.text for word in one.due(True)[0]] == ["two."]


def test_a_wav_header_is_taken_off_every_message_and_its_rate_believed() -> None:
    one, pcm = synthesis(), tone(0.5, rate=8000)
    half = len(pcm) // 2
    heard = b""
    for part in (pcm[:half], pcm[half:]):
        unwrapped = one.unwrapped(wav(part, 8000))
        assert isinstance(unwrapped, bytes)
        heard += one.samples(unwrapped)
    assert len(heard + one.rest()) == 2 * RATE // 2


def test_a_header_that_does_not_end_is_taken_off_by_its_usual_length() -> None:
    assert synthesis().unwrapped(b"RIFF" + bytes(4) + b"WAVE" + bytes(32) + b"\1\2") == b"\1\2"


def test_another_format_is_named_at_the_beginning_alone() -> None:
    one = synthesis()
    assert one.unwrapped(b"OggS\0\2" + bytes(20)) == "Ogg"
    assert one.unwrapped(wav(bytes(8), RATE, channels=2)) == (
        "a WAV of 2 channels of 16 bits, format 1"
    )
    one.first_audio_s = 0.1
    assert one.unwrapped(b"OggS\0\2" + bytes(20)) == b"OggS\0\2" + bytes(20)
