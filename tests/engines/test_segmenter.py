"""How audio is cut into utterances, and what is transcribed when."""

from __future__ import annotations

from gateway.engines.segmenter import CHUNK, CHUNK_S, Out, Segmenter, Transcribe, estimated_words
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import (
    Ended,
    EndpointingConfig,
    Failed,
    FinalTranscript,
    Flushed,
    InterimTranscript,
    SpeechStarted,
    Transcript,
)

LOUD = b"\x00\x20" * CHUNK
QUIET = bytes(2 * CHUNK)


class Play:
    def __init__(self, **cutting: float | None) -> None:
        self.cutter = Segmenter(EndpointingConfig(**cutting))  # type: ignore[arg-type]
        self.asked: list[Transcribe] = []
        self.heard: list[object] = []

    def take(self, out: list[Out]) -> None:
        for one in out:
            if isinstance(one, Transcribe):
                self.asked.append(one)
            else:
                self.heard.append(one)

    def speak(self, seconds: float, probability: float = 0.9) -> None:
        for _ in range(round(seconds / CHUNK_S)):
            self.take(self.cutter.hear(LOUD if probability > 0.5 else QUIET, probability))

    def hush(self, seconds: float) -> None:
        self.speak(seconds, 0.0)

    def answer(self, text: str) -> None:
        self.take(self.cutter.answered(self.asked[-1].number, Transcript(text)))

    def kinds(self) -> list[str]:
        return [type(one).__name__ for one in self.heard]


def test_an_utterance_is_speech_between_two_silences() -> None:
    play = Play(interim_s=None)
    play.hush(1.0)
    play.speak(1.0)
    play.hush(1.0)
    play.answer("hello there")

    assert play.kinds() == ["SpeechStarted", "FinalTranscript"]
    final = play.heard[1]
    assert isinstance(final, FinalTranscript)
    assert abs((final.transcript.start or 0) - 1.0) < 0.4  # a little of what was before
    assert final.transcript.words[-1].end <= (final.transcript.end or 0)


def test_a_click_is_no_speech() -> None:
    play = Play()
    play.hush(1.0)
    play.speak(0.06)
    play.hush(1.0)

    assert play.kinds() == []
    assert play.asked == []


def test_silence_is_never_transcribed() -> None:
    play = Play()
    play.hush(60.0)

    assert play.asked == []


def test_interims_come_while_speech_goes_on_one_at_a_time() -> None:
    play = Play(interim_s=1.0)
    play.speak(3.0)
    assert len(play.asked) == 1

    play.answer("hel")
    play.speak(1.2)
    assert len(play.asked) == 2
    assert play.asked[0].interim
    assert isinstance(play.heard[-1], InterimTranscript)


def test_a_final_overtakes_an_interim_whose_answer_is_then_too_late() -> None:
    play = Play(interim_s=1.0)
    play.speak(1.5)
    late = play.asked[-1].number
    play.hush(1.0)
    assert not play.asked[-1].interim

    play.take(play.cutter.answered(late, Transcript("late")))
    play.answer("the final")
    assert play.kinds() == ["SpeechStarted", "FinalTranscript"]


def test_a_flush_is_answered_after_the_final_it_caused() -> None:
    play = Play(interim_s=None)
    play.speak(1.0)
    play.take(play.cutter.flush())
    assert Flushed not in {type(one) for one in play.heard}

    play.answer("cut short")
    assert play.kinds()[-2:] == ["FinalTranscript", "Flushed"]


def test_a_flush_of_nothing_is_answered_at_once() -> None:
    play = Play()
    play.hush(1.0)
    play.take(play.cutter.flush())

    assert play.kinds() == ["Flushed"]


def test_finish_ends_after_the_last_final() -> None:
    play = Play(interim_s=None)
    play.speak(1.0)
    play.take(play.cutter.finish())
    play.answer("bye")

    assert isinstance(play.heard[-1], Ended)


def test_an_endless_utterance_is_cut_where_it_is_quietest() -> None:
    play = Play(interim_s=None)
    play.speak(26.5)
    for _ in range(7):  # a breath, too short for an end
        play.take(play.cutter.hear(QUIET, 0.9))
    play.speak(3.0)

    assert len(play.asked) == 1
    assert 26.0 <= len(play.asked[0].pcm) / 2 / 16_000 <= 27.2
    play.answer("first part")
    play.hush(1.0)
    play.answer("second part")
    finals = [one.transcript for one in play.heard if isinstance(one, FinalTranscript)]
    assert finals[0].end == finals[1].start


def test_a_failed_transcription_is_a_failure_of_the_line() -> None:
    play = Play(interim_s=None)
    play.speak(1.0)
    play.hush(1.0)
    failure = Failure(Kind.UPSTREAM_ERROR, "no")
    play.take(play.cutter.answered(play.asked[-1].number, failure))

    assert play.heard[-1] == Failed(failure)


def test_an_engine_that_cannot_keep_up_fails_rather_than_queues_without_end() -> None:
    play = Play(interim_s=None)
    for _ in range(12):
        play.speak(0.5)
        play.hush(0.6)

    assert any(isinstance(one, Failed) for one in play.heard)


def test_what_was_said_before_is_no_prompt_of_the_next_utterance() -> None:
    play = Play(interim_s=None)
    play.speak(0.5)
    play.hush(0.6)
    play.answer("My name is Marta.")
    play.speak(0.5)
    play.hush(0.6)

    assert play.asked[-1].prompt == ""


def test_words_without_times_are_spread_by_their_length() -> None:
    words = estimated_words("a longer word", 1.0, 2.4)

    assert [word.text for word in words] == ["a", "longer", "word"]
    assert words[0].start == 1.0
    assert abs(words[-1].end - 2.4) < 1e-9
    assert words[1].end - words[1].start > words[0].end - words[0].start


def test_the_onset_is_told_where_speech_began() -> None:
    play = Play()
    play.hush(2.0)
    play.speak(0.2)

    (started,) = play.heard
    assert isinstance(started, SpeechStarted)
    assert abs((started.at or 0) - 2.0) < 0.1


def early() -> Play:
    """An utterance of 1 s, then the pause that has it transcribed early."""
    play = Play(interim_s=None, early_s=0.2)
    play.speak(1.0)
    play.hush(0.25)
    assert [one.early for one in play.asked] == [True]
    assert not play.asked[0].interim
    return play


def test_what_was_heard_at_a_pause_is_the_final_if_nothing_more_is_said() -> None:
    play = early()
    play.answer("hello there")
    assert play.kinds() == ["SpeechStarted", "InterimTranscript"]
    play.hush(0.3)
    assert play.kinds() == ["SpeechStarted", "InterimTranscript", "FinalTranscript"]
    final = play.heard[-1]
    assert isinstance(final, FinalTranscript)
    assert final.transcript.text == "hello there"
    assert len(play.asked) == 1

    play.speak(1.0)
    play.hush(0.5)
    play.answer("again")
    assert play.kinds()[-2:] == ["SpeechStarted", "FinalTranscript"]


def test_an_answer_that_is_under_way_when_the_utterance_ends_is_its_final() -> None:
    play = early()
    play.hush(0.5)
    assert len(play.asked) == 1
    play.answer("hello there")
    assert play.kinds() == ["SpeechStarted", "FinalTranscript"]


def test_speech_after_the_pause_makes_it_an_interim() -> None:
    play = early()
    play.speak(0.5)
    play.answer("hello")
    assert play.kinds() == ["SpeechStarted", "InterimTranscript"]
    play.hush(0.5)
    assert len(play.asked) == 2
    assert len(play.asked[1].pcm) > len(play.asked[0].pcm)
    play.answer("hello there")
    assert play.kinds()[-1] == "FinalTranscript"


def test_speech_after_an_answer_that_has_come_has_all_of_it_transcribed() -> None:
    play = early()
    play.answer("hello")
    play.speak(0.5)
    play.hush(0.5)
    assert len(play.asked) == 2
    play.answer("hello there")
    finals = [one for one in play.heard if isinstance(one, FinalTranscript)]
    assert [one.transcript.text for one in finals] == ["hello there"]


def test_an_engine_without_time_for_it_is_asked_at_the_end() -> None:
    play = early()
    play.take(play.cutter.answered(play.asked[0].number, None))
    play.hush(0.5)
    assert [one.early for one in play.asked] == [True, False]
    play.answer("hello there")
    assert play.kinds() == ["SpeechStarted", "FinalTranscript"]


def test_a_refusal_that_comes_after_the_utterance_has_ended_loses_no_words() -> None:
    play = early()
    play.hush(0.5)
    play.take(play.cutter.answered(play.asked[0].number, None))
    assert [one.early for one in play.asked] == [True, False]
    play.answer("hello there")
    assert play.kinds() == ["SpeechStarted", "FinalTranscript"]


def test_a_flush_after_the_pause_needs_no_second_transcription() -> None:
    play = early()
    play.answer("hello there")
    play.take(play.cutter.flush())
    assert play.kinds()[-2:] == ["FinalTranscript", "Flushed"]

    play = early()
    play.take(play.cutter.flush())
    play.answer("hello there")
    assert play.kinds()[-2:] == ["FinalTranscript", "Flushed"]
    assert len(play.asked) == 1


def test_an_early_request_overtakes_an_interim() -> None:
    play = Play(interim_s=1.0, early_s=0.2)
    play.speak(1.1)
    interim = play.asked[-1]
    assert interim.interim
    play.hush(0.25)
    assert play.asked[-1].early
    play.take(play.cutter.answered(interim.number, Transcript("too late")))
    play.hush(0.5)
    play.answer("hello")
    assert play.kinds() == ["SpeechStarted", "FinalTranscript"]
