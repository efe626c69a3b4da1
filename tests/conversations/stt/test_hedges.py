"""A second recogniser is asked beside a doubted one."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.recognition import HEDGES_MAX
from gateway.conversations.stt.stall_detector import DOUBT_S, DOUBT_S_MAX, DOUBT_S_MIN
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import Capabilities, Ended, Finish
from tests.conversations.stt.play import ACME, Play, final, interim

UNHEDGED = SttConfig.model_validate({"hedge": {"enabled": False}})
SLOW = Capabilities(replay_rate=1.25)


def doubted() -> Play:
    """Somebody speaks, acme is silent, and zeus is asked beside it."""
    play = Play().started()
    play.talk(DOUBT_S + 0.4)
    assert play.providers == ["acme", "zeus"]
    play.accept()
    return play


def test_a_silent_recogniser_gets_company_within_two_seconds_of_speech() -> None:
    play = doubted()

    assert play.dropped == []
    assert play.audio_s(2) == pytest.approx(play.audio_s(1))


def test_both_hear_what_follows() -> None:
    play = doubted()
    before = play.audio_s(1), play.audio_s(2)
    play.talk(0.5)

    assert (play.audio_s(1), play.audio_s(2)) == pytest.approx((before[0] + 0.5, before[1] + 0.5))


def test_the_second_serves_if_it_speaks_first() -> None:
    play = doubted()
    play.hear(interim("hello", 0.0, 0.5), number=2)
    play.hear(final("hello there", 0.0, 1.0), number=2)

    assert play.dropped == [1]
    assert play.finals() == ["hello there"]
    first, second = play.session.report.tries
    assert first.failure is not None
    assert first.failure.kind is Kind.TIMEOUT
    assert second.hedge
    assert not second.lost


def test_the_first_serves_on_if_it_speaks_first() -> None:
    play = doubted()
    play.hear(interim("hello", 0.0, 0.5), number=1)

    assert play.dropped == [2]
    first, second = play.session.report.tries
    assert first.failure is None
    assert second.hedge
    assert second.lost
    play.talk(0.2)
    assert play.audio_s(1) == pytest.approx(DOUBT_S + 0.6)


def test_a_hum_raises_no_doubt() -> None:
    play = Play().started()
    play.speak(4.0)

    assert play.providers == ["acme"]


def test_a_second_one_that_is_silent_too_is_let_go_and_the_first_kept() -> None:
    play = doubted()
    for _ in range(HEDGES_MAX + 2):
        play.hush(2.1)

    assert 1 not in play.dropped
    assert 2 in play.dropped


def test_words_that_the_client_knows_do_not_make_the_second_serve() -> None:
    play = Play(traits=SLOW).started()
    play.talk(1.0)
    play.hear(interim("one two", 0.0, 1.0))
    play.talk(DOUBT_S + 0.4)
    play.accept(2)
    play.hear(interim("one", 0.0, 0.5), number=2)
    assert play.dropped == []
    play.hear(interim("one two three", 0.0, 2.0), number=2)

    assert play.dropped == [1]


def test_with_one_deployment_a_fresh_connection_to_it_is_the_second() -> None:
    play = Play(plan=(ACME,)).started()
    play.talk(DOUBT_S + 0.4)

    assert play.providers == ["acme", "acme"]


def test_a_second_one_that_cannot_be_reached_is_followed_by_a_third() -> None:
    play = Play().started()
    play.talk(DOUBT_S + 0.4)
    play.fail(number=2)

    assert play.providers == ["acme", "zeus", "acme"]


def test_if_the_first_breaks_off_the_second_has_its_place() -> None:
    play = doubted()
    play.close_upstream(number=1)
    play.hear(final("hello", 0.0, 1.0), number=2)

    assert play.providers == ["acme", "zeus"]
    assert play.finals() == ["hello"]


def test_the_share_of_hedges_is_bounded() -> None:
    play = Play().started()
    for _ in range(3):  # the first to be doubted speaks each time: no hedge was needed
        play.talk(DOUBT_S + 0.4)
        play.hear(final("hello", play.now - 101.0, play.now - 100.5), number=1)

    assert play.providers == ["acme", "zeus"]


def test_a_recogniser_that_was_quick_is_left_when_there_is_no_budget_for_a_second() -> None:
    play = Play().started()
    play.talk(DOUBT_S + 0.4)  # spends it
    play.hear(interim("a", 0.0, 0.1), number=1)
    for n in range(8):
        play.talk(0.3)
        play.hear(interim(f"a{n}", 0.0, 2.0 + 0.3 * n), number=1)
    play.talk(2 * DOUBT_S_MIN + 0.5)

    assert play.dropped == [2, 1]
    assert play.providers == ["acme", "zeus", "zeus"]


def test_nobody_is_hedged_where_it_is_switched_off() -> None:
    play = Play(config=UNHEDGED).started()
    play.talk(4.0)

    assert play.providers == ["acme"]


def test_what_a_deployment_usually_takes_is_measured() -> None:
    play = Play().started()
    for n in range(25):  # a second until each first word
        play.talk(1.1)
        play.hear(final(f"word{n}", play.now - 101.0, play.now - 100.5))
        play.hush(0.3)
    usual_s = play.health.ttft_p95_s(ACME)

    assert usual_s is not None
    assert 0.9 < usual_s < 1.3
    play.talk(DOUBT_S + 0.1)  # less than twice of it
    assert play.providers == ["acme"]


def test_a_recogniser_that_tells_whole_utterances_is_not_doubted() -> None:
    play = Play().started()
    for _ in range(25):
        play.health.record_ttft(ACME, DOUBT_S_MAX + 1.0)
    play.hear(final("hello", 0.0, 0.1))
    play.talk(4.5)

    assert play.providers == ["acme"]


def test_at_the_end_of_a_session_the_second_may_tell_the_last_words() -> None:
    play = Play().started()
    play.talk(1.0)
    play.hush(0.2)
    play.say({"type": "session.close"})
    play.wait(1.5)
    assert play.providers == ["acme", "zeus"]
    play.accept(2)
    assert play.asked(Finish, 2) == 1
    play.hear(final("bye", 0.0, 1.0), Ended(), number=2)

    assert play.finals() == ["bye"]
    assert play.types()[-1] == "session.closed"


def test_a_slow_replay_leaves_out_what_the_client_knows() -> None:
    play = Play(traits=SLOW, config=UNHEDGED).started()
    play.talk(4.0)
    play.hear(interim("one two three four", 0.0, 4.0))
    play.close_upstream(number=1)
    play.accept(2)

    assert play.finals() == ["one two three"]
    play.wait(2.0)
    assert play.audio_s(2) == pytest.approx(1.3, abs=0.1)
    play.hear(final("four", 0.0, 1.0), number=2)
    assert play.finals() == ["one two three", "four"]
