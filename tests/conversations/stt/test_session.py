"""What a speech-to-text session does, and when."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.conversations.stt.handover import CALM_S
from gateway.conversations.stt.recognition import CLOSING_SILENT_S
from gateway.conversations.stt.stall_detector import CLOSE_AGAIN_MAX
from gateway.conversations.stt.states import ENDED_S
from gateway.routing.breaker import Breaker
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Failure, Kind
from gateway.upstreams.stt import (
    Capabilities,
    EagerEndOfTurn,
    Ended,
    Expiring,
    Failed,
    FinalTranscript,
    Finish,
    Flush,
    Flushed,
    InterimTranscript,
    KeepAlive,
    NotUpdated,
    Ready,
    SpeechStarted,
    Transcript,
    TurnResumed,
)
from tests.conversations.stt.play import (
    ACME,
    FRAME_S,
    HUSH,
    RATE,
    TONE,
    ZEUS,
    Play,
    final,
    interim,
    word,
    words,
)

GREETS = Capabilities(replay_rate=float("inf"), sends_ready=True)


# -- a call that goes well


def test_a_session_is_created_before_the_provider_is_there() -> None:
    play = Play()
    play.say(play.create)

    assert play.types() == ["session.created"]
    assert play.told[0]["session_id"] == "stt_1"
    assert play.providers == ["acme"]


def test_audio_that_comes_before_the_provider_reaches_it() -> None:
    play = Play()
    play.say(play.create)
    play.speak(0.5)
    play.accept()

    assert play.audio_s() == pytest.approx(0.5)


def test_each_frame_goes_out_as_it_comes() -> None:
    play = Play().started()
    play.speak(1.0)

    assert play.audio_s() == pytest.approx(1.0)
    assert play.asked(type(play.sent[1][0])) == 20


def test_no_audio_is_sent_before_a_provider_has_accepted_the_settings() -> None:
    play = Play(traits=GREETS)
    play.say(play.create)
    play.accept()
    play.speak(0.3)
    assert play.sent[1] == ["hello"]

    play.hear(Ready())
    assert play.audio_s() == pytest.approx(0.3)


def test_transcripts_carry_every_field_that_the_clients_read() -> None:
    play = Play(settings={"language": "en"}).started()
    play.speak(1.0)
    play.hear(
        FinalTranscript(
            Transcript(
                "Hello there.",
                start=0.1,
                end=0.9,
                confidence=0.93,
                words=words("Hello there.", 0.1, 0.9).words,
                speaker="S0",
                request_id="req-7",
                extra={"speech_final": True},
            )
        )
    )

    (message,) = play.of("final_transcript")
    assert message == {
        "type": "final_transcript",
        "session_id": "stt_1",
        "request_id": "req-7",
        "transcript": "Hello there.",
        "start": 0.1,
        "duration": 0.8,
        "confidence": 0.93,
        "language": "en",
        "speaker_id": "S0",
        "extra": {"speech_final": True},
        "words": [
            {"word": "Hello", "start": 0.1, "end": 0.5, "confidence": 0.9},
            {"word": "there.", "start": 0.5, "end": 0.9, "confidence": 0.9},
        ],
    }


def test_nothing_is_ever_null() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(FinalTranscript(Transcript("Hello")))

    (message,) = play.of("final_transcript")
    assert None not in message.values()
    assert "language" not in message
    assert message["request_id"] == "stt_1"
    assert (message["start"], message["duration"]) == (0.0, 1.0)


def test_empty_finals_and_repeated_interims_are_not_passed_on() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hel"), interim("hel"), interim(""), FinalTranscript(Transcript("")))

    assert play.types() == ["session.created", "interim_transcript"]


def test_the_onset_of_speech_is_told_once_an_utterance() -> None:
    play = Play().started()
    play.speak(0.5)
    play.hear(SpeechStarted(0.1), SpeechStarted(0.2), interim("one"), SpeechStarted(0.3))
    play.hear(final("One.", 0.1, 0.5))
    play.speak(0.5)
    play.hear(SpeechStarted(0.6))

    assert play.types() == [
        "session.created",
        "start_of_speech",
        "interim_transcript",
        "final_transcript",
        "start_of_speech",
    ]


def test_an_eager_end_is_a_preflight_after_the_onset_and_can_be_taken_back() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(EagerEndOfTurn(words("I think", 0.1, 0.9)), TurnResumed())

    assert play.types()[1:] == ["start_of_speech", "preflight_transcript", "interim_transcript"]


# -- flush and end


def test_finalize_is_answered_after_the_finals_it_caused() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello"))
    play.say({"type": "session.finalize"})
    assert play.asked(Flush) == 1
    assert "session.finalized" not in play.types()

    play.hear(final("Hello."), Flushed())
    assert play.types()[-2:] == ["final_transcript", "session.finalized"]


def test_a_flush_that_nobody_answers_is_finalized_all_the_same() -> None:
    play = Play().started()
    play.hush(1.0)
    play.say({"type": "session.finalize"})
    play.wait(0.9)
    assert "session.finalized" not in play.types()

    play.wait(0.2)
    assert play.types()[-1] == "session.finalized"


def test_every_finalize_gets_its_answer() -> None:
    play = Play().started()
    play.speak(0.5)
    play.say({"type": "session.finalize"})
    play.say({"type": "session.finalize"})
    play.hear(Flushed())
    play.hear(Flushed())

    assert play.types().count("session.finalized") == 2


def test_close_brings_the_last_finals_then_closed_then_a_normal_close() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("bye"))
    play.say({"type": "session.close"})
    assert play.asked(Finish) == 1

    play.hear(final("Bye."), Ended())
    assert play.types()[-2:] == ["final_transcript", "session.closed"]
    assert play.ended is not None
    assert play.ended.code == 1000
    assert play.session.deadline is None


def test_nothing_is_said_at_once_after_close_because_one_client_dies_of_it() -> None:
    play = Play().started()
    play.hush(0.5)
    play.say({"type": "session.close"})

    assert play.lingered


def test_a_provider_that_does_not_end_costs_the_close_time_and_no_words() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("bye", 0.1, 0.9))
    play.say({"type": "session.close"})
    play.wait(5.1)

    assert play.finals() == ["bye"]
    assert play.types()[-1] == "session.closed"


def test_a_provider_that_stalls_at_the_very_end_is_followed_by_one_that_tells() -> None:
    play = Play().started()
    play.speak(1.0)
    play.say({"type": "session.finalize"})
    play.say({"type": "session.close"})
    play.wait(5.1)
    play.accept()

    assert play.providers == ["acme", "zeus"]
    assert play.audio_s() == pytest.approx(1.0)
    play.hear(final("bye", 0.1, 0.9), Ended())
    assert play.finals() == ["bye"]
    assert play.types()[-2:] == ["session.finalized", "session.closed"]


def test_a_provider_that_hangs_up_without_the_last_words_is_followed_by_another() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("good", 0.1, 0.4))
    play.speak(0.5)
    play.say({"type": "session.close"})
    play.close_upstream(1000)
    play.accept()
    play.hear(final("good bye", 0.1, 1.3), Ended())

    assert play.finals() == ["good bye"]
    assert play.types()[-1] == "session.closed"


def test_a_provider_that_is_not_there_at_the_end_is_followed_by_another() -> None:
    play = Play(traits=GREETS).started()
    play.hear(Ready())
    play.speak(1.0)
    play.close_upstream(1011)
    play.close_upstream(1011)
    play.accept()  # and then it says nothing
    play.say({"type": "session.close"})
    for _ in range(4):
        play.wait(4.0)
        if play.providers[-1] == "zeus" or len(play.opened) > 3:
            break
    play.accept()
    play.hear(Ready())
    play.hear(final("bye", 0.1, 0.9), Ended())

    assert play.finals() == ["bye"]
    assert play.types()[-1] == "session.closed"


def test_a_session_whose_connections_all_fail_at_its_end_is_closed_in_ten_seconds() -> None:
    play = Play(connection={"retries": 10}).started()
    play.speak(1.0)
    play.hear(interim("hello"))
    play.speak(1.0)
    play.say({"type": "session.close"})
    began = play.now
    while play.ended is None:
        play.close_upstream()
        play.wait(0.3)

    assert play.now - began <= CLOSING_SILENT_S + 1.0
    assert play.finals() == ["hello"]
    assert play.types()[-1] == "session.closed"


def test_the_last_words_are_asked_of_so_many_providers_and_no_more() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("good", 0.1, 0.4))
    play.speak(0.5)
    play.say({"type": "session.close"})
    for _ in range(20):
        play.wait(2.0)
        if play.ended is None and play.opened[-1].number not in play.dropped:
            play.accept()

    assert 2 <= len(play.opened) <= 1 + CLOSE_AGAIN_MAX
    assert play.finals() == ["good"]
    assert play.types()[-1] == "session.closed"
    assert play.ended is not None
    assert play.ended.code == 1000


def test_a_flush_that_speech_calls_for_and_silence_answers_is_asked_of_the_next() -> None:
    play = Play().started()
    play.speak(1.0)
    play.say({"type": "session.finalize"})
    play.wait(2.1)
    play.accept()

    assert play.providers == ["acme", "zeus"]
    assert play.asked(Flush) == 1
    assert play.of("session.finalized") == []
    play.hear(final("hello", 0.1, 0.9), Flushed())
    assert play.finals() == ["hello"]
    assert len(play.of("session.finalized")) == 1


def test_a_cough_before_a_finalize_costs_one_change_of_provider_at_most() -> None:
    play = Play().started()
    play.hush(0.5)
    play.speak(0.3)
    play.hush(0.5)
    play.say({"type": "session.finalize"})
    play.wait(2.1)
    play.accept()
    play.wait(8.0)

    assert len(play.opened) == 2
    assert len(play.of("session.finalized")) == 1


def test_close_while_connecting_ends_at_once_when_nothing_was_said() -> None:
    play = Play()
    play.say(play.create)
    play.hush(0.3)
    play.say({"type": "session.close"})

    assert play.types() == ["session.created", "session.closed"]
    assert play.dropped == [1]


def test_close_while_connecting_waits_for_what_was_said() -> None:
    play = Play()
    play.say(play.create)
    play.speak(0.5)
    play.say({"type": "session.close"})
    play.accept()
    assert play.asked(Finish) == 1

    play.hear(final("Hey.", 0, 0.5), Ended())
    assert play.finals() == ["Hey."]


def test_a_client_that_leaves_takes_its_connections_along() -> None:
    play = Play().started()
    play.speak(0.5)
    play.leave()

    assert play.dropped == [1]
    assert play.ended is not None
    assert play.session.deadline is None
    assert play.session.report.left


def test_an_old_client_that_only_finalizes_is_ended_by_silence() -> None:
    play = Play(ends_itself=True).started()
    play.speak(0.5)
    play.say({"type": "session.finalize"})
    play.hear(final("Hi.", 0, 0.5), Flushed())
    play.wait(4.0)
    assert play.ended is None

    play.wait(1.2)
    assert play.types()[-1] == "session.closed"


def test_a_new_client_that_is_muted_after_a_finalize_lives_on() -> None:
    play = Play().started()
    play.say({"type": "session.finalize"})
    play.wait(600)

    assert play.ended is None


# -- failover


def test_the_next_provider_hears_what_the_failed_one_had_not_finished() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hush(0.5)
    play.hear(final("One.", 0, 1.0))
    play.speak(1.0)
    play.fail(Kind.UNREACHABLE)
    play.speak(0.5)
    play.accept()

    assert play.providers == ["acme", "zeus"]
    # the second utterance with a little silence before it, and what was said meanwhile
    assert 1.5 <= play.audio_s(2) <= 1.9


def test_times_go_on_from_the_sessions_first_sample_after_a_failover() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hush(1.0)
    play.hear(final("One.", 0, 1.0))
    play.speak(1.0)  # from 2.0 to 3.0
    play.fail()
    play.accept()
    lead = play.audio_s(2) - 1.0
    play.hear(final("Two.", lead, lead + 1.0))

    message = play.of("final_transcript")[-1]
    assert message["start"] == pytest.approx(2.0, abs=FRAME_S)
    assert message["duration"] == pytest.approx(1.0, abs=FRAME_S)


def test_finals_are_neither_repeated_nor_lost() -> None:
    play = Play().started()
    play.speak(2.0)  # no pause: the replay begins inside speech
    play.hear(final("one two", 0, 1.0))
    play.fail()
    play.accept()
    heard = words("two three", -0.1, 1.0)  # a little of what was told is heard again
    play.hear(FinalTranscript(Transcript("two three", words=heard.words, start=0.0, end=1.0)))

    texts = play.finals()
    assert texts[0] == "one two"
    assert texts[1].split()[-1] == "three"


def test_a_word_that_was_told_is_left_out_of_a_replay() -> None:
    play = Play().started()
    play.speak(0.9)
    play.hush(0.1)
    play.speak(1.0)
    play.hear(final("one two", 0, 1.0))
    play.fail()
    play.accept()  # hears from 0.95 s on, where it is quiet
    assert play.audio_s(2) == pytest.approx(1.05, abs=0.01)
    play.hear(
        FinalTranscript(
            Transcript("two three", words=(word("two", 0, 0.04), word("three", 0.1, 0.5)))
        )
    )

    assert play.finals() == ["one two", "three"]


def test_the_onset_is_not_told_twice_for_one_utterance() -> None:
    play = Play().started()
    play.speak(0.5)
    play.hear(SpeechStarted(0.0), interim("he"))
    play.fail()
    play.accept()
    play.hear(SpeechStarted(0.0), interim("hello"))

    assert play.types().count("start_of_speech") == 1


def test_late_words_of_a_failed_provider_are_not_heard() -> None:
    play = Play().started()
    play.speak(1.0)
    play.fail()
    play.hear(final("Ghost."), number=1)

    assert play.finals() == []


@pytest.mark.parametrize(
    "kind",
    [Kind.UNREACHABLE, Kind.UPSTREAM_AUTH, Kind.RATE_LIMITED, Kind.TIMEOUT, Kind.BAD_REQUEST],
)
def test_the_client_notices_nothing_of_a_provider_that_refuses(kind: Kind) -> None:
    play = Play()
    play.say(play.create)
    play.fail(kind)
    play.accept()
    play.speak(0.5)
    play.hear(final("Fine.", 0, 0.5))

    assert play.providers == ["acme", "zeus"]
    assert play.types() == ["session.created", "final_transcript"]


def test_a_connection_that_breaks_off_is_opened_again_once_before_the_next_provider() -> None:
    play = Play().started()
    play.speak(0.5)
    play.close_upstream(1011)
    play.accept()
    play.close_upstream(1011)

    assert play.providers == ["acme", "acme", "zeus"]


def test_a_provider_that_served_gets_its_second_chance_each_time() -> None:
    play = Play().started()
    for _ in range(4):
        play.speak(0.5)
        play.hear(final("word", 0.0, 0.5))
        play.speak(0.5)
        play.close_upstream(1011)
        play.accept()

    assert play.providers == ["acme"] * 5


def test_a_provider_that_breaks_off_again_and_again_in_one_utterance_is_left() -> None:
    play = Play().started()
    for _ in range(2):
        play.speak(0.5)
        play.hear(interim(f"word at {play.now}"))
        play.close_upstream(1011)
        play.accept()

    assert play.providers == ["acme", "acme", "zeus"]


def test_an_error_message_is_a_failure() -> None:
    play = Play().started()
    play.speak(0.5)
    play.hear(Failed(Failure(Kind.UPSTREAM_QUOTA, "no credit")))

    assert play.providers == ["acme", "zeus"]
    assert play.dropped == [1]


def test_a_provider_that_does_not_open_in_time_is_left() -> None:
    play = Play(connection={"timeout": 2.0})
    play.say(play.create)
    assert play.opened[0].timeout_s == 2.0

    play.speak(3.2)
    assert play.providers == ["acme", "zeus"]


def test_a_provider_that_never_accepts_the_settings_is_left() -> None:
    play = Play(traits=GREETS)
    play.say(play.create)
    play.accept()
    play.speak(5.5)

    assert play.providers == ["acme", "zeus"]


def test_the_clients_retries_are_rounds_through_the_plan() -> None:
    play = Play(plan=(ACME,), connection={"retries": 2})
    play.say(play.create)
    for _ in range(3):
        assert play.ended is None
        play.fail()
        play.speak(3.0)

    assert play.providers == ["acme"] * 3
    assert play.types() == ["session.created", "error"]
    assert play.told[-1]["code"] == 503


def test_without_retries_the_plan_is_gone_through_once() -> None:
    play = Play(connection={"retries": 0})
    play.say(play.create)
    play.fail()
    play.fail()

    assert play.providers == ["acme", "zeus"]
    assert play.types()[-1] == "error"


def test_a_refused_key_is_not_tried_again() -> None:
    play = Play(plan=(ACME,))
    play.say(play.create)
    play.fail(Kind.UPSTREAM_AUTH)

    assert play.providers == ["acme"]
    assert play.told[-1]["code"] == 502
    assert isinstance(play.told[-1]["code"], int)


def test_the_last_words_of_a_session_that_fails_are_told() -> None:
    play = Play(plan=(ACME,), connection={"retries": 0}).started()
    play.speak(1.0)
    play.hear(interim("help me", 0.0, 0.9))
    play.fail(Kind.TIMEOUT)

    assert play.finals() == ["help me"]
    assert play.types()[-1] == "error"


def test_a_provider_that_others_found_dead_is_tried_last() -> None:
    health = Breaker()
    for _ in range(3):
        play = Play(plan=(ACME,), health=health, connection={"retries": 0})
        play.say(play.create)
        play.fail()
    play = Play(health=health)
    play.say(play.create)

    assert play.providers == ["zeus"]


def test_an_empty_final_does_not_take_the_beginning_of_a_word_with_it() -> None:
    play = Play().started()
    play.hush(0.7)
    play.speak(0.3)
    play.hear(FinalTranscript(Transcript("", start=0.0, end=1.0)))
    play.speak(0.5)
    play.close_upstream()
    play.accept()
    play.hush(0.5)
    play.hear(final("hello", 0.0, 0.8))

    assert play.finals() == ["hello"]
    assert play.of("final_transcript")[0]["start"] <= 0.7
    assert play.audio_s() >= 0.8


def test_a_finalize_during_a_failure_goes_to_the_next_provider() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello"))
    play.say({"type": "session.finalize"})
    play.fail()
    play.accept()
    assert play.asked(Flush, 2) == 1

    play.hear(final("Hello.", 0, 1), Flushed())
    assert play.types()[-2:] == ["final_transcript", "session.finalized"]


def test_a_final_that_comes_late_does_not_hide_that_the_next_never_comes() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hush(0.8)
    play.speak(0.5)
    play.hush(0.5)
    play.hear(final("one", 0.0, 1.0))
    play.say({"type": "session.finalize"})
    play.say({"type": "session.close"})
    play.close_upstream(1000)
    play.accept()
    play.hear(final("two", 0.8, 1.3), Ended())

    assert play.finals() == ["one", "two"]
    assert play.ended is not None


def crossed() -> Play:
    """The final of the first utterance was on its way when the last finals were asked for."""
    play = Play().started()
    play.speak(1.0)
    play.hush(0.8)
    play.speak(0.5)
    play.say({"type": "session.close"})
    play.hear(final("one", 0.0, 1.0), Ended())
    assert play.ended is None
    return play


def test_a_final_that_crosses_the_close_is_not_the_last_one() -> None:
    play = crossed()
    play.hear(final("two", 1.8, 2.3))

    assert play.finals() == ["one", "two"]
    assert play.ended is not None


def test_a_recogniser_that_has_ended_is_not_waited_for_long() -> None:
    play = crossed()
    play.wait(ENDED_S)
    assert play.ended is not None

    play = crossed()
    play.close_upstream(1000)
    assert play.ended is not None
    assert len(play.opened) == 1


def test_an_interim_without_times_is_not_taken_for_all_that_was_said() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hush(0.5)
    play.say({"type": "session.close"})
    play.hear(InterimTranscript(Transcript("one")))
    play.close_upstream(1000)
    play.accept()
    play.hear(final("one two", 0.0, 1.0), Ended())

    assert play.finals() == ["one two"]


def test_a_close_during_a_failure_still_brings_the_words() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello"))
    play.say({"type": "session.close"})
    play.fail()
    play.accept()
    assert play.asked(Finish, 2) == 1

    play.hear(final("Hello.", 0, 1), Ended())
    assert play.types()[-2:] == ["final_transcript", "session.closed"]


# -- stalls


def test_speech_without_any_sign_of_life_is_a_stall() -> None:
    play = Play().started()
    play.speak(5.2)

    assert play.providers == ["acme", "zeus"]
    play.accept()
    assert play.audio_s(2) == pytest.approx(5.2, abs=0.2)


def test_silence_is_no_stall() -> None:
    play = Play().started()
    play.hush(60.0)

    assert play.providers == ["acme"]


def test_a_provider_that_says_something_all_the_time_has_stalled_when_it_does_not() -> None:
    play = Play(traits=Capabilities(replay_rate=float("inf"), heartbeat_s=6.0)).started()
    play.hush(7.0)

    assert play.providers == ["acme", "zeus"]


def test_a_provider_that_talks_but_never_transcribes_is_left() -> None:
    play = Play().started()
    for _ in range(13):
        play.speak(1.0)
        play.hear()  # a message without words

    assert play.providers == ["acme", "zeus"]


def test_noise_that_no_provider_transcribes_does_not_switch_for_ever() -> None:
    play = Play(plan=(ACME, ZEUS), config=SttConfig(replay_s=10)).started()
    for _ in range(200):
        before = len(play.opened)
        play.speak(1.0)
        if len(play.opened) > before:
            play.accept()

    assert play.ended is None
    assert len(play.opened) <= 5


def test_an_upstream_that_only_starts_late_is_not_stalled() -> None:
    play = Play().started()
    for _ in range(10):
        play.speak(1.0)
        play.hear(interim(f"word at {play.now}"))

    assert play.providers == ["acme"]


def test_an_overdue_final_is_asked_for_before_the_provider_is_given_up() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0.0, 1.0))
    play.hush(3.2)
    assert play.asked(Flush) == 1
    assert play.providers == ["acme"]

    play.hear(final("Hello.", 0.0, 1.0), Flushed())
    play.hush(5.0)
    assert play.providers == ["acme"]
    assert "session.finalized" not in play.types()


def test_an_overdue_final_that_does_not_come_is_a_stall() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0.0, 1.0))
    play.hush(5.5)

    assert play.providers == ["acme", "zeus"]


def test_where_nobody_else_could_have_the_final_the_interim_becomes_one_at_once() -> None:
    play = Play(plan=(ACME,)).started()
    play.speak(1.0)
    play.hear(interim("hello"))
    play.hush(3.5)
    assert play.asked(Flush) == 1
    play.hush(2.1)

    assert play.finals() == ["hello"]
    assert play.providers == ["acme", "acme"]  # for what comes: that one may be dead


def test_where_speech_went_on_after_the_interim_the_same_provider_is_asked_again() -> None:
    play = Play(plan=(ACME,)).started()
    play.speak(2.0)
    play.hear(interim("hello", 0.0, 1.0))
    play.hush(5.6)
    assert play.finals() == []
    play.accept()
    play.hear(final("hello there", 0.0, 2.0))

    assert play.finals() == ["hello there"]


def test_when_no_provider_has_a_final_the_last_interim_becomes_one() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0.0, 1.0))
    play.hush(5.5)
    play.accept()
    play.hear(interim("hello you", 0.0, 1.0))
    play.hush(6.0)

    assert play.finals() == ["hello you"]
    assert play.providers == ["acme", "zeus"]


def test_a_caller_who_mutes_in_the_middle_still_gets_a_final() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0.0, 1.0))
    play.wait(3.2)

    assert play.asked(Flush) == 1


# -- quiet lines


def test_a_muted_callers_line_is_kept_alive() -> None:
    play = Play(traits=Capabilities(keepalive_s=4.0)).started()
    play.speak(0.2)
    play.wait(20.0)

    assert play.asked(KeepAlive) == 5
    assert play.audio_s() == pytest.approx(0.2)


def test_a_line_that_never_had_audio_gets_silence_first() -> None:
    play = Play(traits=Capabilities(keepalive_s=4.0, first_audio=True)).started()
    play.wait(9.0)

    assert play.asked(KeepAlive) == 2
    assert play.audio_s() == pytest.approx(0.1)


def test_silence_that_was_put_in_does_not_move_the_clock() -> None:
    play = Play(
        traits=Capabilities(replay_rate=float("inf"), keepalive_s=4.0, keepalive_by="silence")
    ).started()
    play.speak(1.0)
    play.hear(final("One.", 0, 1))
    play.wait(20.0)  # 5 times 0.1 s of silence
    play.speak(1.0)
    play.hear(final("Two.", 1.5, 2.5))

    message = play.of("final_transcript")[-1]
    assert (message["start"], message["duration"]) == (1.0, 1.0)


def test_an_open_turn_of_a_muted_caller_is_ended_with_silence() -> None:
    play = Play(
        traits=Capabilities(replay_rate=float("inf"), needs_audio_to_end_turn=True)
    ).started()
    play.speak(1.0)
    play.hear(SpeechStarted(0.0), interim("hello"))
    play.wait(2.0)

    assert play.audio_s() >= 2.0


def test_a_line_lost_in_a_long_silence_is_opened_when_there_is_something_to_hear() -> None:
    play = Play().started()
    play.speak(0.5)
    play.hear(final("Hi.", 0, 0.5))
    play.wait(60.0)
    play.close_upstream(1008)
    play.wait(60.0)
    assert len(play.opened) == 1

    play.speak(0.5)
    play.accept()
    assert play.audio_s() == pytest.approx(0.5)


def test_a_session_limit_is_met_by_a_connection_that_overlaps() -> None:
    play = Play(traits=Capabilities(replay_rate=float("inf"), session_s=600.0)).started()
    for _ in range(580):
        play.speak(0.5)
        play.hear(final("Yes.", play.audio_s() - 0.5, play.audio_s()), number=1)
        play.hush(0.5)
        if len(play.opened) == 2:
            break
    assert play.providers == ["acme", "acme"]
    assert play.now - 100.0 < 580.0

    play.accept(2)
    play.hush(1.0)
    assert play.asked(Finish, 1) == 1
    play.hear(Ended(), number=1)
    at = play.now - 100.0
    play.speak(1.0)
    play.hear(final("After.", play.audio_s(2) - 1.0, play.audio_s(2)), number=2)

    assert play.of("final_transcript")[-1]["start"] == pytest.approx(at, abs=0.1)
    total = play.audio_s(1) + play.audio_s(2)
    assert total == pytest.approx(play.now - 100.0, abs=0.1)  # nothing lost, nothing twice


def test_speech_at_the_limit_is_given_to_the_old_line_till_the_last_moment() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("I am", 0, 1), Expiring(10.0))
    play.accept(2)
    play.speak(4.0)
    play.hear(interim("I am still", 0, 5), number=1)
    play.speak(3.5)
    play.hear(interim("I am still speaking", 0, 8), number=1)
    assert play.audio_s(2) == 0.0

    play.speak(1.5)
    assert play.asked(Finish, 1) == 1
    play.hear(interim("new line", 0, 0.5), number=2)
    assert play.of("interim_transcript")[-1]["transcript"] == "I am still speaking"
    play.hear(final("I am still speaking.", 0, 8.9), Ended(), number=1)

    assert play.finals() == ["I am still speaking."]
    assert play.of("interim_transcript")[-1]["transcript"] == "new line"


def test_a_line_that_lags_behind_when_it_is_replaced_still_sends_its_part() -> None:
    config = SttConfig(stall_s=60)
    traits = Capabilities(replay_rate=1.0, deaf_after_s=60, final_within_s=60)
    play = Play(traits=traits, config=config).started()
    for _ in range(60):
        play.audio(TONE)  # 3 s at once
    play.hear(interim("a long story", 0, 0.5), Expiring(2.5))
    play.accept(2)
    for _ in range(20):
        play.wait(0.05)
        play.audio(TONE)
    play.wait(2.9)

    total = play.audio_s(1) + play.audio_s(2)
    assert play.asked(Finish, 1) == 1
    assert total == pytest.approx(4.0, abs=0.06)


def test_an_old_line_that_dies_before_its_last_final_leaves_its_words() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("keep this", 0, 1), Expiring(2.0))
    play.accept(2)
    play.speak(0.5)
    play.close_upstream(1006, number=1)

    assert play.finals() == ["keep this"]


def test_a_muted_caller_gets_no_new_connection_at_the_limit() -> None:
    play = Play(traits=Capabilities(session_s=600.0, keepalive_s=4.0)).started()
    play.hush(0.5)
    play.wait(700.0)

    assert len(play.opened) == 1
    assert play.dropped == [1]
    play.speak(0.5)
    assert len(play.opened) == 2


# -- updates


def test_an_update_that_the_provider_takes_live_costs_nothing() -> None:
    play = Play(lively=True).started()
    play.speak(0.5)
    play.say({"type": "session.update", "settings": {"extra": {"keyterm": ["Parley"]}}})

    assert play.sent[1][-1] == "changed"
    assert len(play.opened) == 1


def test_other_updates_change_lines_in_a_pause() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0, 1))
    play.say({"type": "session.update", "settings": {"language": "de"}})
    play.accept(2)
    play.speak(0.5)
    assert play.asked(Finish, 1) == 0

    play.hear(final("Hello you.", 0, 1.5), number=1)
    play.hush(0.8)
    assert play.asked(Finish, 1) == 1
    play.hear(Ended(), number=1)
    play.speak(0.5)
    play.hear(final("Hallo.", play.audio_s(2) - 0.5, play.audio_s(2)), number=2)

    assert play.of("final_transcript")[-1]["language"] == "de"
    assert "error" not in play.types()


def test_a_new_model_is_another_provider() -> None:
    play = Play().started()
    play.hush(1.0)
    play.say({"type": "session.update", "settings": {"model": "zeus/ear-2"}})
    play.accept(2)
    play.hush(0.1)

    assert play.providers == ["acme", "zeus"]
    assert play.asked(Finish, 1) == 1


def test_a_refused_live_update_is_made_by_a_new_connection() -> None:
    play = Play(lively=True).started()
    play.hush(1.0)
    play.say({"type": "session.update", "settings": {"extra": {"keyterm": ["x"]}}})
    play.hear(NotUpdated())

    assert play.providers == ["acme", "acme"]


def test_an_update_to_what_is_not_served_is_refused_and_the_session_goes_on() -> None:
    play = Play().started()
    play.say({"type": "session.update", "settings": {"model": "unknown"}})

    assert play.told[-1]["type"] == "session.update_refused"
    assert play.told[-1]["code"] == 404
    assert "unknown" in play.told[-1]["message"]
    assert play.ended is None
    play.speak(1.0)
    play.hear(final("hello"))
    assert play.finals() == ["hello"]


def test_an_update_that_changes_nothing_does_nothing() -> None:
    play = Play().started()
    play.speak(0.5)
    play.say({"type": "session.update", "settings": {}})

    assert len(play.opened) == 1


def test_a_failed_change_of_lines_leaves_the_old_one_in_service() -> None:
    play = Play(plan=(ACME,)).started()
    play.hush(1.0)
    play.say({"type": "session.update", "settings": {"language": "de"}})
    play.fail(number=2)
    play.speak(0.5)
    play.hear(final("Still here.", 1.0, 1.5), number=1)

    assert play.finals() == ["Still here."]
    assert play.ended is None


def test_a_line_that_fails_while_its_successor_opens_is_followed_by_it() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0, 1), Expiring(10.0))
    play.close_upstream(1006, number=1)
    play.accept(2)

    assert len(play.opened) == 2
    assert play.audio_s(2) == pytest.approx(1.0, abs=0.1)


# -- backpressure


def test_a_client_that_runs_ahead_is_slowed_and_nothing_is_lost() -> None:
    config = SttConfig(replay_s=10, stall_s=60)
    play = Play(traits=Capabilities(replay_rate=1.0, deaf_after_s=60), config=config).started()
    sent = 0
    while not play.paused:
        play.audio(TONE)
        sent += 1
        assert sent < 1000
    assert sent * FRAME_S <= 10.0

    play.wait(5.0)
    assert [play.paused] == [False]  # a list: mypy still holds it for what ended the loop
    play.wait(10.0)
    assert play.audio_s() == pytest.approx(sent * FRAME_S)


def test_frames_that_the_network_held_back_are_not_held_back_again() -> None:
    play = Play(traits=Capabilities(replay_rate=1.0)).started()
    play.hush(2.0)
    play.wait(1.5)
    for _ in range(30):
        play.audio(HUSH)

    assert play.audio_s() == pytest.approx(3.5)


def test_a_replay_is_no_faster_than_the_provider_allows() -> None:
    play = Play(traits=Capabilities(replay_rate=1.25)).started()
    play.speak(4.0)
    play.hear(interim("long", 0, 4))
    play.fail()
    play.accept()
    assert play.audio_s(2) <= 1.0

    play.speak(2.0)
    assert 2.5 <= play.audio_s(2) <= 3.2


def test_a_slow_replay_leaves_out_silence_and_keeps_the_clock() -> None:
    play = Play(traits=Capabilities(replay_rate=1.0)).started()
    play.speak(0.5)
    play.hush(3.0)
    play.speak(0.5)
    play.hear(interim("a", 0, 0.5))
    play.fail()
    play.accept()
    play.speak(2.0)
    sent = play.audio_s(2)
    assert sent <= 2.6
    play.wait(3.0)

    # 0.5 s of speech, 0.4 s of silence, then what came 3.5 s after the start
    play.hear(final("b", 0.9, 1.4))
    assert play.of("final_transcript")[-1]["start"] == pytest.approx(3.5, abs=0.15)


def test_short_pieces_are_merged_and_padded_for_a_provider_that_wants_longer_ones() -> None:
    play = Play(traits=Capabilities(replay_rate=float("inf"), frame_s_min=0.1)).started()
    play.speak(0.25)
    sizes = [len(one.pcm) / 2 / RATE for one in play.sent[1]]
    assert sizes == [0.1, 0.1]

    play.say({"type": "session.finalize"})
    sizes = [len(one.pcm) / 2 / RATE for one in play.sent[1] if not isinstance(one, Flush)]
    assert sizes == [0.1, 0.1, 0.1]


def test_audio_is_resampled_for_a_provider_with_another_rate() -> None:
    play = Play(traits=Capabilities(replay_rate=float("inf"), rates=(24_000,))).started()
    play.speak(2.0)

    assert play.audio_s() == pytest.approx(3.0, abs=0.1)  # 24 000 samples a second


# -- bad input


@pytest.mark.parametrize(
    ("message", "code", "names"),
    [
        ("{", 400, "JSON"),
        ("[]", 400, "object"),
        ({"type": "hello"}, 400, "type"),
        ({"type": "input_audio", "audio": "!!"}, 400, "base64"),
        ({"type": "input_audio"}, 400, "audio"),
        ({"type": "input_audio", "audio": "AAAA"}, 400, "16-bit"),
        ({"type": "input_audio", "audio": "AA" * 200_000 + "=="}, 413, "5 s"),
        ({"type": "session.update"}, 400, "settings"),
        ({"type": "session.update", "settings": {"language": 7}}, 400, "language"),
        ({"type": "session.update", "settings": {"extra": []}}, 400, "extra"),
        ({"type": "session.create"}, 400, "before"),
    ],
)
def test_bad_input_is_a_clear_error_and_the_end(message: Any, code: int, names: str) -> None:
    play = Play().started()
    if isinstance(message, dict) and str(message.get("audio", "")).endswith("=="):
        message = {**message, "audio": message["audio"].removesuffix("==")}
    play.say(message)

    assert play.told[-1]["type"] == "error"
    assert play.told[-1]["code"] == code
    assert names in play.told[-1]["message"]
    assert play.dropped == [1]
    assert play.ended is not None


@pytest.mark.parametrize(
    ("create", "names"),
    [
        ({"settings": {"sample_rate": "fast"}}, "settings.sample_rate"),
        ({"settings": {"sample_rate": "4000"}}, "settings.sample_rate"),
        ({"settings": {"encoding": "opus"}}, "settings.encoding"),
        ({"settings": {"num_channels": 2}}, "settings.num_channels"),
        ({"settings": []}, "settings"),
        ({"settings": {"language": "../x"}}, "settings.language"),
        ({"model": 7}, "model"),
        ({"model": "unknown"}, "model"),
        ({"fallback": {"models": "x"}}, "fallback.models"),
        ({"fallback": {"models": [{}]}}, "fallback.models.0.model"),
        ({"connection": {"timeout": -1}}, "connection.timeout"),
        ({"connection": {"retries": "x"}}, "connection.retries"),
    ],
)
def test_a_bad_create_names_the_field(create: dict[str, Any], names: str) -> None:
    play = Play(**create)
    play.say(play.create)

    assert play.types() == ["error"]
    assert play.told[0]["param"] == names
    assert play.opened == []


def test_audio_before_create_is_refused() -> None:
    play = Play()
    play.audio(HUSH)

    assert play.told[-1]["code"] == 400


def test_a_client_that_says_nothing_is_let_go() -> None:
    play = Play()
    play.wait(31.0)

    assert play.told[-1]["type"] == "error"


def test_an_idle_session_ends_with_a_reason() -> None:
    play = Play(config=SttConfig(idle_s=60)).started()
    play.wait(61.0)

    assert play.told[-1]["code"] == 2007
    assert "60 s" in play.told[-1]["message"]


def test_ten_thousand_frames_at_once_are_bounded() -> None:
    play = Play(config=SttConfig(replay_s=10))
    play.say(play.create)
    for _ in range(10_000):
        if play.paused:
            break
        play.audio(TONE)

    assert play.paused


# -- an end that the server wants


def test_it_may_end_when_nobody_speaks_and_the_client_has_its_final() -> None:
    play = Play().started()
    assert play.session.may_end(play.now + CALM_S)
    play.speak(1.0)
    play.hear(interim("Hello"))
    assert not play.session.may_end(play.now + 60)

    play.hear(final("Hello there"))
    assert not play.session.may_end(play.now)
    assert play.session.may_end(play.now + CALM_S)


# -- what is reported


def test_the_report_says_what_a_recogniser_took() -> None:
    play = Play().started()
    play.speak(0.5)
    play.hear(interim("hello"))
    play.hush(0.4)
    play.hear(final("hello"))

    first, last = play.session.report.latencies
    assert (first.kind, first.provider, first.model) == ("first_word", "acme", "ear-1")
    assert first.seconds == pytest.approx(0.5)
    assert last.kind == "final"
    assert last.seconds == pytest.approx(0.4)


def test_words_are_told_to_who_wants_to_know_of_them_with_the_time_that_they_were_said() -> None:
    play = Play(tells_words=True).started()
    play.speak(2.0)
    play.hear(interim("please wait", 0.5, 1.5))
    play.wait(1.0)  # a slow recogniser
    play.hear(final("please wait a moment now", 0.5, 2.0))
    first, last = play.words
    assert (first.words, last.words) == (2, 5)
    assert [first.since, first.until] == pytest.approx([100.5, 101.5])
    assert [last.since, last.until] == pytest.approx([100.5, 102.0])


def test_nobody_is_told_of_words_who_does_not_want_to_know() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello", 0.1, 0.5))
    assert play.words == []
