from pathlib import Path

import numpy as np
import pytest

from models.interruption.data.answers import SPEECH, Teachers
from models.interruption.data.clips import Clip
from models.interruption.label import teachers

RATE = 16_000


def clip(name: str, seconds: float) -> Clip:
    """Noise after 0.3 s of silence."""
    samples = np.zeros(int(seconds * RATE), np.int16)
    samples[4800:] = np.random.default_rng(0).integers(-9000, 9000, len(samples) - 4800)
    return Clip(name, "speech_libri", "speech_libri/libri_1", samples, 0.3, seconds, 0.3)


def test_silero_is_asked_once_for_a_clip_and_remembered_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip("speech_libri/1", 2.0), clip("speech_libri/2", 1.25)]
    teachers.ask_silero(clips, tmp_path / SPEECH)
    monkeypatch.setattr(teachers, "speech_of", None)  # asking again would fail
    teachers.ask_silero(clips, tmp_path / SPEECH)
    known = Teachers(tmp_path)
    for one in clips:
        speech = known.speech(one)
        assert speech is not None
        times, heard = speech
        assert len(times) == len(heard) == len(one.samples) // 512
        assert times[0] == pytest.approx(0.032)


def test_smart_turn_is_asked_from_the_onset_and_once_inside_a_recorded_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def complete(sound: np.ndarray) -> float:
        asked.append(len(sound))
        return 0.5

    monkeypatch.setattr(teachers, "turn_complete", complete)
    found = teachers.answers(clip("speech_libri/1", 2.0))
    assert found.shape == (2, 2, 6)
    assert found[:, 0, 0].tolist() == pytest.approx(teachers.starts(clip("speech_libri/1", 2.0)))
    assert found[0, 0].tolist() == pytest.approx([0.3, 0.6, 0.8, 1.0, 1.25, 1.55])
    assert found[0, 1].tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert asked[:5] == [round(seconds * RATE) for seconds in (0.3, 0.5, 0.7, 0.95, 1.25)]
