"""What Whisper makes up is known by what it reports of itself."""

from dataclasses import dataclass

import pytest

from gateway.engines.whisper import (
    Heard,
    LanguageMemory,
    believed,
    is_invented,
    is_loop,
    repeats,
    told,
)
from gateway.upstreams.stt import Transcript


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
    assert memory.language is None
    memory.heard(heard("en", 0.9), 3.0)
    memory.heard(heard("ja", 0.6), 3.0)
    memory.heard(heard("ja", 0.95), 0.8)
    memory.heard(heard("ja", 0.95, ""), 3.0)
    assert memory.language == "en"
    memory.heard(heard("de", 0.95), 3.0)
    assert memory.language == "de"


def test_a_short_or_doubtful_utterance_is_in_the_sessions_language() -> None:
    assert not believed(0.99, 1.0)
    assert not believed(0.6, 10.0)
    assert believed(0.9, 3.0)
