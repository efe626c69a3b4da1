"""Whisper's answers, as the rest of the gateway has them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gateway.engines import whisper
from gateway.engines.whisper import WhisperError, transcribe
from gateway.upstreams.stt import Word

PCM = np.full(16_000, 16_384, np.int16).tobytes()


@dataclass
class Spoken:
    """A word as the library has it."""

    word: str
    start: float = 0.0
    end: float = 0.5
    probability: float = 0.75


@dataclass
class Segment:
    text: str
    no_speech_prob: float = 0.0
    avg_logprob: float = 0.0
    words: list[Spoken] | None = None


@dataclass
class Info:
    language: str = "en"


@dataclass
class Model:
    """Answers with given segments, and keeps what it was asked."""

    segments: list[Segment] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)

    def transcribe(self, audio: Any, **asked: Any) -> tuple[list[Segment], Info]:
        self.asked = {"audio": audio, **asked}
        return self.segments, Info()


@pytest.fixture
def model() -> Iterator[Model]:
    """What the worker process has loaded."""
    before, whisper._model = whisper._model, Model()
    yield whisper._model
    whisper._model = before


def test_samples_go_in_as_floats_with_the_language_and_what_was_said_before(model: Model) -> None:
    transcribe(PCM, "de", "Guten Tag.", True)
    assert model.asked["audio"].dtype == np.float32
    assert model.asked["audio"][0] == pytest.approx(0.5, abs=1e-4)
    assert model.asked["language"] == "de"
    assert model.asked["initial_prompt"] == "Guten Tag."


def test_an_interim_is_quick_and_a_final_has_words(model: Model) -> None:
    transcribe(PCM, None, "", False)
    assert (model.asked["beam_size"], model.asked["word_timestamps"]) == (1, False)
    transcribe(PCM, None, "", True)
    assert (model.asked["beam_size"], model.asked["word_timestamps"]) == (3, True)
    assert model.asked["initial_prompt"] is None


def test_segments_are_one_transcript_with_words_and_a_confidence(model: Model) -> None:
    model.segments = [
        Segment(" I need ", avg_logprob=-0.2, words=[Spoken(" I "), Spoken(" need")]),
        Segment(" a room.", avg_logprob=-0.4),
    ]
    heard = transcribe(PCM, None, "", True)
    assert heard.text == "I need a room."
    assert heard.words == (Word("I", 0.0, 0.5, 0.75), Word("need", 0.0, 0.5, 0.75))
    assert heard.confidence == pytest.approx(math.exp(-0.3))
    assert heard.language == "en"


def test_words_that_whisper_invents_in_silence_are_left_out(model: Model) -> None:
    model.segments = [
        Segment("Thank you for watching.", no_speech_prob=0.9, avg_logprob=-1.5),
        Segment("Yes.", no_speech_prob=0.9, avg_logprob=-0.1),
    ]
    assert transcribe(PCM, None, "", True).text == "Yes."
    model.segments = model.segments[:1]
    heard = transcribe(PCM, None, "", True)
    assert (heard.text, heard.confidence) == ("", 1.0)


def test_a_model_that_could_not_be_loaded_says_so_at_each_utterance(model: Model) -> None:
    whisper._model = WhisperError("no such file")
    with pytest.raises(WhisperError, match="no such file"):
        transcribe(PCM, None, "", True)
