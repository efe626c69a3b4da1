"""Whisper's answers as the rest of the gateway has them; what it makes up is not told."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.engines import whisper
from gateway.engines.whisper import (
    Heard,
    LanguageMemory,
    WhisperError,
    believed,
    is_invented,
    is_loop,
    repeats,
    tokens_max,
    told,
    transcribe,
)
from gateway.upstreams.stt import Transcript, Word

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
    compression_ratio: float = 1.2
    words: list[Spoken] | None = None


@dataclass
class Info:
    language: str = "en"
    language_probability: float = 0.9


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


def test_a_loop_is_stopped_where_no_speech_could_be_so_long(model: Model) -> None:
    transcribe(PCM, None, "", True)
    assert model.asked["max_new_tokens"] == 54
    assert model.asked["best_of"] == 1
    assert tokens_max(28.0, prompted=False) == 440
    # with a prompt of 224 tokens and 4 of its own they are what the model holds
    assert tokens_max(28.0, prompted=True) + 224 + 4 <= 448


def test_segments_are_one_transcript_with_words_and_a_confidence(model: Model) -> None:
    model.segments = [
        Segment(" I need ", avg_logprob=-0.2, words=[Spoken(" I "), Spoken(" need")]),
        Segment(" a room.", avg_logprob=-0.4),
    ]
    heard = transcribe(PCM, None, "", True).transcript
    assert heard.text == "I need a room."
    assert heard.words == (Word("I", 0.0, 0.5, 0.75), Word("need", 0.0, 0.5, 0.75))
    assert heard.confidence == pytest.approx(math.exp(-0.3))
    assert heard.language == "en"


def test_words_that_whisper_invents_in_silence_are_left_out(model: Model) -> None:
    model.segments = [
        Segment("Thank you for watching.", no_speech_prob=0.9, avg_logprob=-1.5),
        Segment("Yes.", no_speech_prob=0.9, avg_logprob=-0.1),
    ]
    assert transcribe(PCM, None, "", True).transcript.text == "Yes."
    model.segments = model.segments[:1]
    heard = transcribe(PCM, None, "", True).transcript
    assert (heard.text, heard.confidence) == ("", 1.0)


def test_a_model_that_could_not_be_loaded_says_so_at_each_utterance(model: Model) -> None:
    whisper._model = WhisperError("no such file")
    with pytest.raises(WhisperError, match="no such file"):
        transcribe(PCM, None, "", True)


@dataclass
class Said:
    text: str
    avg_logprob: float = -0.3
    no_speech_prob: float = 0.02
    compression_ratio: float = 1.2


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("I'm sorry, I'm sorry, I'm sorry, I'm sorry, I'm sorry, I'm sorry", True),
        ("4, 4, 4, 4, 4, 4, 4, 4, 4", True),
        ("no no no no no no", True),
        ("4 3 3 3 8", False),
        ("very very very good", False),
        ("The number is 0 0 0 0 1.", False),
        ("", False),
    ],
)
def test_a_text_that_repeats_itself_is_a_loop(text: str, loop: bool) -> None:
    assert repeats(text) is loop


def test_a_text_that_compresses_too_well_is_a_loop() -> None:
    assert is_loop(Said("whatever", compression_ratio=2.5))
    assert not is_loop(Said("whatever"))


@pytest.mark.parametrize(
    ("said", "invented"),
    [
        (Said(" Thank you.", no_speech_prob=0.5), True),
        (Said(" Thank you.", avg_logprob=-0.9), True),
        (Said(" Thank you."), False),
        (Said(" Thanks for watching!", no_speech_prob=0.3), True),
        (Said(" Thank you, that was all I wanted.", no_speech_prob=0.5), False),
        (Said(" Cough!"), True),
        (Said(" Ha ha ha!"), True),
        (Said(" (coughing)"), True),
        (Said(" Uh, uh..."), True),
        (Said(" AHHHHH"), True),
        (Said(" Uh-huh."), False),
        (Said(" Uh, yes."), False),
        (Said(" Harry has a cough."), False),
        (Said(" Mumbled words", avg_logprob=-1.2, no_speech_prob=0.7), True),
    ],
)
def test_a_phrase_of_subtitles_needs_evidence(said: Said, invented: bool) -> None:
    assert is_invented(said) is invented


def test_only_what_was_said_is_told() -> None:
    segments = [Said("Hello."), Said("so so so so so so so"), Said("you", no_speech_prob=0.9)]
    assert [one.text for one in told(segments)] == ["Hello."]


def heard(language: str, probability: float, text: str = "x") -> Heard:
    return Heard(Transcript(text, language=language), probability)


def test_a_sessions_language_is_remembered_and_doubted_before_it_is_changed() -> None:
    memory = LanguageMemory()
    memory.heard(heard("ja", 0.4), 3.0)
    known = [memory.language]
    memory.heard(heard("en", 0.9), 3.0)
    memory.heard(heard("ja", 0.6), 3.0)
    memory.heard(heard("ja", 0.95), 0.8)
    memory.heard(heard("ja", 0.95, ""), 3.0)
    known.append(memory.language)
    memory.heard(heard("de", 0.95), 3.0)
    known.append(memory.language)
    assert known == [None, "en", "de"]


def test_a_short_or_doubtful_utterance_is_in_the_sessions_language() -> None:
    assert not believed(0.99, 1.0)
    assert not believed(0.6, 10.0)
    assert believed(0.9, 3.0)


@pytest.mark.skipif(not whisper.installed(), reason="the extra `local` is not installed")
@pytest.mark.parametrize(
    ("device", "gpus", "runs", "loaded"),
    [
        ("cpu", 1, True, [("cpu", "int8")]),
        ("auto", 0, True, [("cpu", "int8")]),
        ("auto", 1, True, [("cuda", "float16")]),
        ("auto", 1, False, [("cuda", "float16"), ("cpu", "int8")]),
        ("cuda", 1, False, [("cuda", "float16")]),
    ],
)
def test_auto_is_a_gpu_on_which_the_model_really_runs(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    gpus: int,
    runs: bool,
    loaded: list[tuple[str, str]],
) -> None:
    tried = []

    class Loaded(Model):
        def __init__(self, path: str, device: str, compute_type: str, **more: int) -> None:
            super().__init__()
            tried.append((device, compute_type))

        def transcribe(self, audio: Any, **asked: Any) -> tuple[list[Segment], Info]:
            if not runs:
                raise RuntimeError("libcudnn is not found")
            return super().transcribe(audio, **asked)

    monkeypatch.setattr("faster_whisper.WhisperModel", Loaded)
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: gpus)
    if device == "cuda" and not runs:
        with pytest.raises(RuntimeError):
            whisper._loaded("m", device, None, 1)
    else:
        whisper._loaded("m", device, None, 1)
    assert tried == loaded


@pytest.mark.parametrize(
    ("device", "compute_type", "gpus", "why"),
    [
        ("cuda", None, 0, "no GPU"),
        ("cpu", "float16", 1, "'float16' cannot be computed on this machine's CPU"),
        ("auto", "float16", 0, "'float16' cannot be computed on this machine's CPU"),
        ("auto", "float16", 1, ""),
        ("cpu", None, 0, ""),
    ],
)
def test_what_the_machine_cannot_compute_is_known_beforehand(
    monkeypatch: pytest.MonkeyPatch, device: str, compute_type: str | None, gpus: int, why: str
) -> None:
    able = {"cpu": {"int8", "float32"}, "cuda": {"float16"}}
    library = SimpleNamespace(
        get_cuda_device_count=lambda: gpus, get_supported_compute_types=able.__getitem__
    )
    monkeypatch.setitem(sys.modules, "ctranslate2", library)
    told = whisper.cannot_compute(device, compute_type)
    assert why in told
    assert bool(told) == bool(why)
