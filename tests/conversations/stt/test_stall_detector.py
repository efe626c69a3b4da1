"""When a recogniser owes an answer."""

import pytest

from gateway.conversations.stt.connection import RecognizerConnection
from gateway.conversations.stt.stall_detector import (
    CAUTION_MAX,
    CLOSE_AGAIN_MAX,
    DOUBT_S,
    FILL_AFTER_S,
    FILL_MID_WORD_S,
    OVERDUE_FLUSH_S,
    REPLAY_DOUBT_S,
    SHORT_S,
)
from gateway.upstreams.stt import Capabilities, SpeechStarted, Transcript
from tests.conversations.stt.parts import Parts, buffered, ready
from tests.conversations.stt.play import ACME, FAST, FRAME_S, HUSH, TONE, words


def sent(*audio: bytes, traits: Capabilities = FAST) -> tuple[Parts, RecognizerConnection]:
    """All parts of a session, and a connection that got this audio at time 0."""
    parts, connection = Parts(buffered(*audio)), ready(traits)
    connection.send_audio(parts.buffer, 0.0)
    return parts, connection


def test_speech_without_a_sign_of_life_is_a_stall_and_silence_is_none() -> None:
    parts, connection = sent(*[TONE] * 102)
    assert parts.stalls.stall_at(connection) == 5.0
    parts, connection = sent(*[HUSH] * 102)
    assert parts.stalls.stall_at(connection) is None


def test_a_provider_with_a_heartbeat_stalls_in_silence_too() -> None:
    traits = Capabilities(replay_rate=float("inf"), heartbeat_s=6.0)
    parts, connection = sent(*[HUSH] * 122, traits=traits)
    assert parts.stalls.stall_at(connection) == 6.0


def test_messages_without_text_do_not_hide_that_a_provider_is_deaf() -> None:
    parts, connection = sent(*[TONE] * 242)
    connection.activity.heard(11.0)
    assert parts.stalls.stall_at(connection) == 12.0


def test_each_stall_needs_twice_the_speech_until_there_is_text() -> None:
    parts, connection = sent(*[TONE] * 190)
    stalls = parts.stalls
    stalls.stalled(connection)
    assert stalls.stall_at(connection) is None
    stalls.heard_text()
    assert stalls.stall_at(connection) == 5.0


def test_after_some_stalls_loudness_proves_nothing() -> None:
    parts, connection = sent(*[TONE] * 600)
    while parts.stalls.caution <= CAUTION_MAX:
        parts.stalls.stalled(connection)
    assert parts.stalls.stall_at(connection) is None


def test_a_missing_heartbeat_says_nothing_about_loudness() -> None:
    traits = Capabilities(replay_rate=float("inf"), heartbeat_s=6.0)
    parts, connection = sent(*[HUSH] * 122, traits=traits)
    parts.stalls.stalled(connection)
    assert parts.stalls.caution == 1


def test_an_open_utterance_is_overdue_some_time_after_the_last_speech() -> None:
    parts, connection = sent(*[TONE] * 10)
    assert parts.stalls.overdue_at(connection) is None
    parts.transcripts.hypothesis(connection, Transcript("he"))
    connection.activity.heard_text(1.0)
    assert parts.stalls.overdue_at(connection) == 1.0 + connection.traits.final_within_s
    connection.flush(4.0)
    assert parts.stalls.overdue_at(connection) == 4.0 + OVERDUE_FLUSH_S


def test_a_flush_over_silence_counts_as_answered_after_a_while() -> None:
    parts, connection = sent(*[HUSH] * 10)
    connection.flush(1.0)
    assert parts.stalls.flush_answered_at(connection) == 1.0 + parts.config.finalize_s
    assert parts.stalls.overdue_at(connection) is None


def test_a_flush_after_speech_owes_words_until_anything_is_heard() -> None:
    parts, connection = sent(*[TONE] * 10)
    connection.flush(1.0)
    assert parts.stalls.flush_answered_at(connection) is None
    assert parts.stalls.overdue_at(connection) == 1.0 + OVERDUE_FLUSH_S
    connection.heard([], 1.5)
    assert parts.stalls.flush_answered_at(connection) is not None


def test_speech_after_a_flush_is_not_owed_by_it() -> None:
    parts, connection = sent(*[HUSH] * 10)
    connection.flush(1.0)
    parts.buffer.add(TONE * 10)
    connection.send_audio(parts.buffer, 1.5)
    assert parts.stalls.flush_answered_at(connection) is not None


def test_a_final_that_a_second_provider_lacks_too_is_given_up() -> None:
    parts, connection = sent(TONE)
    assert parts.stalls.final_overdue(connection)
    assert not parts.stalls.final_overdue(connection)
    assert parts.stalls.final_overdue(connection)
    parts.stalls.heard_final()
    assert parts.stalls.final_overdue(connection)


def test_silence_is_sent_only_where_an_open_utterance_needs_it() -> None:
    traits = Capabilities(replay_rate=float("inf"), needs_audio_to_end_turn=True)
    parts, connection = sent(TONE, traits=traits)
    assert parts.stalls.fill_at(connection) is None
    parts.transcripts.hypothesis(connection, Transcript("he"))
    assert parts.stalls.fill_at(connection) == FILL_MID_WORD_S  # speech broke off: it may go on
    connection.fill(0.5, 1.0)
    assert parts.stalls.fill_at(connection) == 1.0 + FILL_AFTER_S
    other, plain = sent(TONE)
    other.transcripts.speech_started(plain, SpeechStarted().at)
    assert other.stalls.fill_at(plain) is None


@pytest.mark.parametrize(("audio", "owed"), [(TONE, True), (HUSH, False)])
def test_last_words_are_owed_where_there_was_speech(audio: bytes, owed: bool) -> None:
    parts, connection = sent(*[audio] * 10)
    assert parts.stalls.owes_last_words(connection) is owed
    connection.finish(1.0)
    assert parts.stalls.owes_last_words(connection) is owed


def test_last_words_are_owed_where_speech_goes_on_after_the_text() -> None:
    parts, connection = sent(*[TONE] * 20)
    connection.finish(1.0)
    connection.activity.heard_text(1.0)
    parts.transcripts.hypothesis(connection, words("good", 0.0, 0.4))
    assert parts.stalls.owes_last_words(connection)
    parts.transcripts.hypothesis(connection, words("good bye", 0.0, 0.95))
    assert not parts.stalls.owes_last_words(connection)


def test_last_words_are_asked_of_so_many_providers() -> None:
    parts, connection = sent(*[TONE] * 10)
    asked = 0
    while parts.stalls.owes_last_words(connection):
        parts.stalls.asks_again(connection)
        asked += 1
    assert asked == CLOSE_AGAIN_MAX
    assert parts.stalls.asked_again


# -- doubt


def test_little_speech_raises_doubt_when_as_much_time_has_passed_since() -> None:
    parts, connection = sent(TONE)
    parts.stalls.watch_doubt(connection)
    assert parts.stalls.doubt_at(connection) is None
    parts, connection = sent(*[TONE] * (round(SHORT_S / FRAME_S) + 2))  # the first show the level
    parts.stalls.watch_doubt(connection)
    assert parts.stalls.doubt_at(connection) == DOUBT_S


def test_much_speech_that_was_sent_at_once_raises_doubt_sooner() -> None:
    parts, connection = sent(*[TONE] * 40)
    parts.stalls.watch_doubt(connection)
    assert parts.stalls.doubt_at(connection) == pytest.approx(REPLAY_DOUBT_S + 0.2)


def test_what_nobody_finds_words_in_makes_little_speech_count_less() -> None:
    parts, connection = sent(*[TONE] * (round(SHORT_S / FRAME_S) + 2))
    parts.stalls.doubted_in_vain()
    parts.stalls.watch_doubt(connection)
    assert parts.stalls.doubt_at(connection) is None


def test_noise_is_no_part_of_what_a_recogniser_takes() -> None:
    parts, connection = sent(*[TONE] * 40)
    assert not parts.stalls.hears_voice(connection)  # a steady tone
    connection.activity.sent_audio(0.5, True, 0.0)
    assert parts.stalls.measure(connection) == pytest.approx(0.5)
    assert parts.breaker.ttft_p95_s(ACME) is None  # one sample proves nothing


def test_words_that_come_late_do_not_answer_for_speech_behind_them() -> None:
    parts, connection = sent(*[TONE] * 20, *[HUSH] * 16, *[TONE] * 10, *[HUSH] * 4)
    connection.finish(3.0)
    connection.activity.heard_text(3.0)
    parts.transcripts.final(connection, words("one", 0.0, 1.0))
    parts.stalls.heard_words(connection)
    assert connection.activity.untold_s == pytest.approx(0.5)
    assert parts.stalls.owes_last_words(connection)

    connection.activity.heard_text(3.1)
    parts.transcripts.final(connection, words("two", 1.8, 2.3))
    parts.stalls.heard_words(connection)
    assert connection.activity.untold_s == 0.0
    assert not parts.stalls.owes_last_words(connection)


def test_a_sound_that_ends_a_little_after_its_words_is_owed_none() -> None:
    parts, connection = sent(*[TONE] * 20, *[HUSH] * 4)
    connection.activity.heard_text(1.2)
    parts.transcripts.final(connection, words("one", 0.0, 0.85))
    parts.stalls.heard_words(connection)
    assert connection.activity.untold_s == 0.0


def test_speech_that_is_owed_is_doubted_from_when_it_was_noticed() -> None:
    parts, connection = sent(*[TONE] * 20, *[HUSH] * 16, *[TONE] * 10, *[HUSH] * 4)
    connection.activity.heard_text(5.0)
    parts.stalls.watch_doubt(connection)
    parts.transcripts.final(connection, words("one", 0.0, 1.0))
    parts.stalls.heard_words(connection)
    assert connection.activity.doubtful_s > SHORT_S
    assert parts.stalls.doubt_at(connection) == 5.0 + connection.doubt_s
