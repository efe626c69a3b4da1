"""Which connection is in use, and what follows a failure: what no other test of a session shows."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.client_state import MUTED_S
from gateway.conversations.stt.handover import POLICY
from gateway.conversations.stt.recognition import CLOSING_S_MAX
from gateway.conversations.stt.stall_detector import DOUBT_S_MAX
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import (
    Capabilities,
    Ended,
    Expiring,
    FinalTranscript,
    Finish,
    Flushed,
    InterimTranscript,
    KeepAlive,
    NotUpdated,
    Ready,
    Transcript,
)
from tests.conversations.stt.play import ACME, HUSH, Play, final, interim

GERMAN = {"type": "session.update", "settings": {"language": "de"}}
NO_RETRIES = {"retries": 0}


def test_the_provider_after_which_no_other_comes_is_followed_by_the_first_again() -> None:
    play = Play(connection=NO_RETRIES)
    play.say(play.create)
    play.fail()
    play.accept()
    play.speak(0.5)
    play.hear(final("Served.", 0, 0.5))
    play.speak(0.5)
    play.fail(Kind.TIMEOUT)

    assert play.providers == ["acme", "zeus", "acme"]
    assert play.ended is None


@pytest.mark.parametrize("kind", [Kind.INTERNAL, Kind.BAD_REQUEST])
def test_no_failure_of_one_provider_ends_a_session_that_has_another(kind: Kind) -> None:
    play = Play(connection=NO_RETRIES)
    play.say(play.create)
    play.fail(kind)

    assert play.providers == ["acme", "zeus"]
    assert play.types() == ["session.created"]


def test_settings_that_wait_for_a_calm_moment_are_used_at_once_after_a_failure() -> None:
    play = Play(plan=(ACME,)).started()
    play.speak(1.0)
    play.hear(interim("hello"))
    play.say(GERMAN)
    play.fail(number=2)  # the successor is not there either: it is looked for without haste
    play.close_upstream(1011, number=1)
    play.accept()
    play.hush(2.0)

    assert len(play.opened) == 3
    play.hear(FinalTranscript(Transcript("Hallo.")))
    assert play.of("final_transcript")[-1]["language"] == "de"


def test_a_change_that_no_provider_takes_is_given_up_and_the_old_connection_serves_on() -> None:
    play = Play(plan=(ACME,)).started()
    play.hush(1.0)
    play.say(GERMAN)
    for _ in range(20):
        if len(play.opened) > 1 and play.opened[-1].number not in play.dropped:
            play.fail(Kind.UNREACHABLE)
        play.hush(POLICY.backoff_max_s)

    assert len(play.opened) == 1 + POLICY.rounds
    play.speak(0.5)
    play.hear(final("Still here."), number=1)
    assert play.finals() == ["Still here."]


def test_a_successor_that_waits_is_kept_alive_and_replaced_if_it_ends() -> None:
    play = Play(traits=Capabilities(replay_rate=float("inf"), keepalive_s=4.0)).started()
    play.speak(1.0)
    play.hear(interim("I am"), Expiring(30.0))
    play.accept(2)
    for _ in range(10):
        play.speak(1.0)
        play.hear(interim(f"I am still {play.now}"), number=1)
    assert play.asked(KeepAlive, 2) == 2

    play.hear(Ended(), number=2)
    assert len(play.opened) == 3
    assert 1 not in play.dropped


def test_a_notice_that_the_connection_expires_does_not_disturb_a_successor() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("hello"), NotUpdated(), Expiring(10.0))

    assert len(play.opened) == 2
    assert play.dropped == []


def test_words_of_the_successor_come_after_the_last_ones_of_the_old_connection() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("one"), Expiring(2.0))
    play.accept(2)
    play.speak(1.0)
    assert play.asked(Finish, 1) == 1

    play.speak(1.0)
    play.hear(final("two", 0, 0.5), number=2)
    assert play.finals() == []
    play.hear(final("one", 0, 1.0), Ended(), number=1)
    assert play.finals() == ["one", "two"]


@pytest.mark.parametrize("code", [1000, 1006])
@pytest.mark.parametrize("seconds", [1.0, DOUBT_S_MAX + 0.5])
def test_words_that_the_old_connection_does_not_tell_are_heard_by_another(
    code: int, seconds: float
) -> None:
    play = Play(config=SttConfig(hedge={"enabled": False})).started()
    play.talk(seconds)  # nobody tells what was said
    play.say(GERMAN)
    play.accept(2)
    play.hush(0.6)
    assert play.asked(Finish, 1) == 1
    play.say({"type": "session.finalize"})
    play.close_upstream(code, number=1)

    assert play.dropped == [1, 2]
    assert play.providers == ["acme", "acme", "zeus"]
    play.accept(3)
    assert play.audio_s(3) > seconds
    assert "session.finalized" not in play.types()
    play.hear(final("Yes.", 0.0, 0.9), Flushed(), number=3)
    assert play.finals() == ["Yes."]
    assert play.types().count("session.finalized") == 1


def test_an_interim_that_the_old_connection_leaves_open_is_heard_again_as_a_whole() -> None:
    play = Play().started()
    play.talk(0.5)
    play.hear(InterimTranscript(Transcript("one")), Expiring(2.0))
    play.accept(2)
    play.talk(0.8)
    assert play.asked(Finish, 1) == 1
    play.close_upstream(1000, number=1)
    assert play.finals() == []
    play.accept(3)
    play.hear(final("one two three", 0.0, 1.3), number=3)
    assert play.finals() == ["one two three"]


def test_long_noise_that_the_old_connection_tells_nothing_of_is_not_heard_again() -> None:
    play = Play().started()
    play.speak(DOUBT_S_MAX + 0.5)  # a tone
    play.say(GERMAN)
    play.accept(2)
    play.hush(0.6)
    play.close_upstream(1000, number=1)
    assert play.dropped == [1]


def test_a_muted_client_has_the_words_too_that_the_last_connection_did_not_tell() -> None:
    play = Play(config=SttConfig(stall_s=30.0, hedge={"enabled": False})).started()
    play.talk(1.0)
    play.wait(MUTED_S)
    play.hear(Expiring(0.0))  # it is not replaced: nobody is there to be heard
    assert play.providers == ["acme"]
    play.close_upstream(1000, number=1)

    play.accept(2)
    assert play.audio_s(2) == pytest.approx(1.0)


def test_what_a_flush_has_brought_is_not_heard_again_where_finals_have_no_times() -> None:
    play = Play().started()
    play.hush(0.3)  # the only pause that there is
    play.talk(1.0)
    play.say({"type": "session.finalize"})
    play.hear(FinalTranscript(Transcript("Yes.")), Flushed())
    play.talk(0.5)
    play.close_upstream(number=1)
    play.accept(2)
    assert play.audio_s(2) == pytest.approx(0.5, abs=0.1)


def test_a_flushs_final_without_times_does_not_answer_for_what_was_said_after_it() -> None:
    play = Play(config=SttConfig(hedge={"enabled": False})).started()
    play.talk(1.0)
    play.say({"type": "session.finalize"})
    play.talk(1.0)
    play.hear(FinalTranscript(Transcript("One.")), Flushed())
    play.say({"type": "session.close"})
    play.close_upstream(1000, number=1)

    play.accept(2)
    assert play.audio_s(2) == pytest.approx(1.0, abs=0.1)
    play.hear(FinalTranscript(Transcript("Two.")), Ended(), number=2)
    assert play.finals() == ["One.", "Two."]


def test_a_flush_that_brought_no_words_for_speech_leaves_it_to_others() -> None:
    play = Play().started()
    play.talk(1.0)
    play.say({"type": "session.finalize"})
    play.hear(Flushed())
    play.close_upstream(number=1)
    play.accept(2)
    assert play.audio_s(2) == pytest.approx(1.0)


def test_what_the_old_connection_told_is_not_heard_again_where_finals_have_no_times() -> None:
    play = Play().started()
    play.hush(0.3)
    play.talk(1.0)
    play.hear(interim("yes"), Expiring(2.0))
    play.accept(2)
    play.talk(0.5)
    assert play.asked(Finish, 1) == 1
    play.hear(FinalTranscript(Transcript("Yes.")), Ended(), number=1)
    play.close_upstream(number=2)
    play.accept(3)
    assert play.audio_s(3) == pytest.approx(0.5, abs=0.1)


def test_who_hears_everything_again_tells_it_alone() -> None:
    play = Play().started()
    play.talk(1.0)
    play.hear(interim("yes"), Expiring(2.0))
    play.accept(2)
    play.talk(0.5)
    assert play.asked(Finish, 1) == 1
    play.close_upstream(number=2)

    assert play.dropped == [2, 1]
    play.accept(3)
    play.hear(final("yes and no", 0.0, 1.4), number=3)
    assert play.finals() == ["yes and no"]


def test_the_end_waits_for_the_last_words_of_the_old_connection() -> None:
    play = Play().started()
    play.talk(1.0)
    play.say(GERMAN)
    play.accept(2)
    play.hush(0.6)
    play.say({"type": "session.close"})
    play.close_upstream(1000, number=2)
    assert play.ended is None
    play.hear(final("Yes.", 0.0, 0.9), number=1)
    play.close_upstream(1000, number=1)

    assert play.ended is not None
    assert play.finals() == ["Yes."]
    assert play.types()[-1] == "session.closed"


def test_a_finalize_before_a_handover_is_answered_when_the_old_connection_is_through() -> None:
    play = Play().started()
    play.speak(1.0)
    play.hear(interim("one"), Expiring(2.0))
    play.accept(2)
    play.say({"type": "session.finalize"})
    play.speak(1.0)
    assert "session.finalized" not in play.types()

    play.hear(final("one", 0, 1.0), Ended(), number=1)
    assert play.types()[-2:] == ["final_transcript", "session.finalized"]


def test_speech_after_a_flush_over_silence_is_not_held_against_the_provider() -> None:
    play = Play().started()
    play.hush(1.0)
    play.say({"type": "session.finalize"})
    play.speak(3.0)

    assert play.types().count("session.finalized") == 1
    assert play.providers == ["acme"]


def test_a_client_that_is_held_back_is_not_taken_for_muted() -> None:
    config = SttConfig(replay_s=10, stall_s=60)
    play = Play(traits=Capabilities(replay_rate=1.0), config=config).started()
    while not play.paused:
        play.audio(HUSH)
    play.wait(5.5)
    play.audio(HUSH)  # what was under way when it was paused
    while not play.paused:
        play.audio(HUSH)
    play.close_upstream()

    assert len(play.opened) == 2


def test_an_end_that_nobody_helps_with_comes_after_the_clients_longest_wait() -> None:
    play = Play(traits=Capabilities(replay_rate=1.0), connection={"retries": 10}).started()
    play.speak(5.0)
    play.hear(interim("good", 0.1, 0.4))
    play.say({"type": "session.close"})
    began = play.now
    while play.ended is None:
        play.wait(0.5)
        assert play.now - began <= CLOSING_S_MAX + 1.0

    assert play.finals() == ["good"]
    assert play.types()[-1] == "session.closed"


def test_a_provider_that_ends_before_it_was_asked_to_is_no_end_of_the_last_words() -> None:
    play = Play(traits=Capabilities(replay_rate=float("inf"), sends_ready=True))
    play.say(play.create)
    play.accept()
    play.speak(0.5)
    play.say({"type": "session.close"})
    play.hear(Ended())
    play.accept()
    play.hear(Ready())
    play.hear(final("bye", 0, 0.5), Flushed(), Ended())

    assert play.providers == ["acme", "zeus"]
    assert play.finals() == ["bye"]
