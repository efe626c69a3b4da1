from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from models.interruption.data import interviews, splits
from models.interruption.data.collect import Clone
from models.interruption.data.interviews import Word, events, only_listening, speech_spans, words_of
from models.interruption.pretrained.silero import VAD_FRAME

FRAME_S = VAD_FRAME / 16_000


def voiced(*spans: tuple[float, float], until_s: float = 12.0) -> np.ndarray:
    """Silero's answers to speech in these spans, in seconds."""
    times = (np.arange(int(until_s / FRAME_S)) + 0.5) * FRAME_S
    spoken: np.ndarray = np.max([(times >= s) & (times < e) for s, e in spans], axis=0)
    return spoken.astype(np.float32)


def sentence(text: str, start_s: float, word_s: float = 0.3) -> list[Word]:
    return [
        Word(f" {word}", start_s + i * word_s, start_s + (i + 1) * word_s, 0.9)
        for i, word in enumerate(text.split())
    ]


def test_gaps_inside_a_word_are_bridged_and_clicks_are_left_out() -> None:
    spans = speech_spans(voiced((1.0, 1.5), (1.6, 2.0), (5.0, 5.03)))
    assert len(spans) == 1
    assert spans[0] == pytest.approx((1.0, 2.0), abs=0.05)


def test_a_word_goes_where_it_overlaps_most() -> None:
    first, second = words_of([(1.0, 2.0), (3.0, 4.0)], sentence("one two", 1.1, 1.2))
    assert [word.text for word in first] == [" one"]
    assert [word.text for word in second] == [" two"]


@pytest.mark.parametrize(
    "text", ["Okay.", "Mm-hmm.", "Yeah, okay.", "I see.", "All right.", "Uh-huh"]
)
def test_these_say_no_more_than_i_hear_you(text: str) -> None:
    assert only_listening(sentence(text, 0))


@pytest.mark.parametrize("text", ["Yes.", "No.", "I", "It", "Okay, so", "Stop", ""])
def test_these_may_be_more(text: str) -> None:
    assert not only_listening(sentence(text, 0))


def test_okay_between_two_pauses_is_a_backchannel() -> None:
    found = list(events(voiced((2.0, 2.5)), sentence("Okay.", 2.0, 0.5)))
    assert [event.label for event in found] == ["backchannel"]
    assert found[0].start_s == pytest.approx(2.0, abs=0.05)
    assert found[0].end_s == pytest.approx(2.5, abs=0.05)


def test_okay_at_the_heels_of_somebody_is_none() -> None:
    said = [*sentence("so it hurts", 0.5), *sentence("Okay.", 1.55, 0.5)]
    found = events(voiced((0.5, 1.4), (1.55, 2.0)), said)
    assert "backchannel" not in [event.label for event in found]


def test_an_unsure_word_is_no_label() -> None:
    assert not list(events(voiced((2.0, 2.5)), [Word(" Okay.", 2.0, 2.5, 0.2)]))


def test_what_goes_on_is_a_turn_from_its_first_word() -> None:
    found = list(events(voiced((2.0, 4.0)), sentence("it started last night I think", 2.0)))
    assert [(event.label, event.decisive_s == event.start_s) for event in found] == [("turn", True)]


def test_a_turn_that_starts_with_okay_is_known_by_the_next_word() -> None:
    said = sentence("Okay and where is this pain", 2.0)
    (found,) = events(voiced((2.0, 3.9)), said)
    assert found.label == "turn"
    assert found.decisive_s == pytest.approx(2.3, abs=0.05)


def test_okay_a_short_pause_and_a_question_is_both() -> None:
    said = [*sentence("Okay.", 2.0, 0.5), *sentence("and where is this pain", 2.8)]
    found = [event.label for event in events(voiced((2.0, 2.5), (2.8, 4.4)), said)]
    assert found == ["backchannel", "turn", "turn"], "the word alone, with its question, and this"


def test_a_single_answer_is_left_out() -> None:
    assert not list(events(voiced((2.0, 2.5)), sentence("No.", 2.0, 0.5)))


def test_a_turn_ends_where_somebody_else_may_begin() -> None:
    said = [*sentence("it started last night", 2.0), *sentence("and now it hurts a lot", 5.0)]
    found = list(events(voiced((2.0, 3.4), (5.0, 6.8)), said))
    assert [event.end_s for event in found] == pytest.approx([3.4, 6.8], abs=0.05)


def test_no_person_of_the_held_out_interviews_is_heard_in_training() -> None:
    assert splits.interview_side("GAS0001") is splits.Side.EVAL
    assert splits.interview_side("CAR0001") is splits.Side.TRAIN
    assert splits.interview_side("CAR0005") is None


class Listed(Clone):
    """In a clone's place: every repository holds all of these."""

    def __init__(self, root: Path, source: Any) -> None:
        self.repository = source.repository

    def paths(self) -> list[str]:
        return [
            "data/captured_audio/CAR0001.mp3", "data/captured_audio/GAS0009.mp3",
            "tests/conversations/RES0091.mp3", "tests/conversations/CAR0001.mp3",
            "journal/20260201/field.audio/091500_420/audio.flac",
            "journal/20260201/field.audio/091500_420/audio.ogg",
            "journal/20260203/field.audio/091000_540/audio.ogg",
        ]  # fmt: skip


def test_every_conversation_is_read_once_and_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interviews, "Clone", Listed)
    found = [
        (name, cast(Listed, clone).repository, path)
        for name, clone, path in interviews.recordings(tmp_path)
    ]
    assert [name for name, *_ in found] == [
        "CAR0001", "RES0091", "ES2002a-091500_420", "ES2002a-091000_540",
    ]  # fmt: skip
    assert found[2][1:] == (
        "solpbc/field_journal", "journal/20260201/field.audio/091500_420/audio.flac",
    )  # fmt: skip
    assert all(splits.interview_side(name) is splits.Side.TRAIN for name, *_ in found)
