"""A second recogniser is asked beside a doubted one."""

from __future__ import annotations

import pytest

from gateway.conversations.stt.hedges import HEDGES_MAX, STEP_S
from gateway.conversations.stt.recognition import CLOSING_SILENT_S
from gateway.conversations.stt.stall_detector import (
    DOUBT_S,
    DOUBT_S_MIN,
    PATIENT_S,
    STEP_S_MIN,
    VERDICT_S,
)
from gateway.conversations.stt.states import OPEN_DOUBT_S
from gateway.routing.breaker import REPLAY_SAMPLES_MIN, Breaker
from gateway.routing.hedging import HedgeBudget
from gateway.settings.stt import SttConfig
from gateway.upstreams.errors import Kind
from gateway.upstreams.stt import Capabilities, Ended, Finish
from tests.conversations.stt.play import ACME, ZEUS, Play, final, interim

UNHEDGED = SttConfig.model_validate({"hedge": {"enabled": False}})
SLOW = Capabilities(replay_rate=1.25)


def doubted() -> Play:
    """Somebody speaks, acme is silent, and zeus is asked beside it."""
    play = Play(hedges=HedgeBudget(0.25, 5.0)).started()
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
    play.talk(1.4)  # less than it takes for doubt
    assert play.providers == ["acme"]


def test_a_recogniser_that_tells_whole_utterances_is_not_doubted() -> None:
    play = Play().started()
    for _ in range(25):
        play.health.record_ttft(ACME, PATIENT_S + 1.0)
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


# -- the race


def test_a_silent_second_one_is_joined_by_a_third_after_a_step() -> None:
    play = doubted()
    play.talk(STEP_S + 0.1)
    assert play.providers == ["acme", "zeus", "acme"]
    play.accept(3)
    play.hear(interim("hello", 0.0, 0.5), number=3)

    assert sorted(play.dropped) == [1, 2]
    assert [one.lost for one in play.session.report.tries] == [False, True, False]


def test_a_step_is_as_short_as_replays_usually_take() -> None:
    health = Breaker()
    for attempt in (ACME, ZEUS) * REPLAY_SAMPLES_MIN:
        health.record_replay(attempt, 0.1)
    play = Play(hedges=HedgeBudget(0.25, 5.0), health=health).started()
    play.talk(DOUBT_S + 0.4)
    play.accept(2)
    play.talk(STEP_S_MIN + 0.1)
    assert play.providers == ["acme", "zeus", "acme"]


def test_how_soon_a_replay_brings_words_is_kept() -> None:
    play = doubted()
    for _ in range(REPLAY_SAMPLES_MIN):
        assert play.health.replay_p95_s(ZEUS) is None
        play.talk(0.4)
        play.hear(interim("hello", 0.0, 0.5), number=play.opened[-1].number)
        play = Play(hedges=HedgeBudget(0.25, 5.0), health=play.health).started()
        play.talk(DOUBT_S + 0.4)
        play.accept()
    assert play.health.replay_p95_s(ZEUS) == pytest.approx(0.4, abs=0.1)


def test_hedges_that_were_needed_cost_nothing_of_the_budget() -> None:
    play = doubted()
    for n in range(2, 6):  # each falls silent once it serves
        play.hear(interim(f"word{n}", 0.0, 0.5 * n), number=n)
        play.talk(DOUBT_S + 0.1)
        assert len(play.opened) == n + 1
        play.accept(n + 1)


def test_when_the_first_breaks_off_the_race_goes_on() -> None:
    play = doubted()
    play.close_upstream(number=1)
    play.talk(STEP_S + 0.1)
    assert play.providers == ["acme", "zeus", "acme"]
    play.accept(3)
    play.hear(interim("hello", 0.0, 0.5), number=2)

    assert sorted(play.dropped) == [1, 3]


def test_what_a_second_one_was_not_told_again_is_a_final_when_it_takes_over() -> None:
    play = Play(traits=SLOW, hedges=HedgeBudget(0.25, 5.0)).started()
    play.talk(4.0)
    play.hear(interim("one two three four", 0.0, 4.0), number=1)
    before = len(play.opened)  # it was silent for 4 s
    play.talk(DOUBT_S + 0.6)
    second = play.opened[before].number
    play.accept(second)  # it hears the end of the utterance alone
    play.close_upstream(number=1)

    assert play.finals() == ["one two three"]
    play.hear(final("four five", 0.3, 2.0), number=second)
    assert play.finals() == ["one two three", "four five"]


def test_no_more_are_asked_than_a_race_has_places() -> None:
    play = doubted()
    for _ in range(3 * HEDGES_MAX):
        if play.opened[-1].number not in play.dropped:
            play.accept(play.opened[-1].number)
        play.hush(STEP_S)

    assert len(play.opened) <= 1 + HEDGES_MAX


def test_a_short_word_that_brings_nothing_is_doubted_when_it_is_over() -> None:
    play = Play().started()
    play.talk(0.5)
    assert play.providers == ["acme"]
    play.hush(DOUBT_S + 0.1)

    assert play.providers == ["acme", "zeus"]


def test_sounds_in_which_nobody_finds_words_raise_doubt_less_and_less() -> None:
    budget = HedgeBudget(1.0, 10.0)
    play = Play(hedges=budget).started()

    def cough() -> int:
        before = len(play.opened)
        play.talk(0.5)
        play.hush(HEDGES_MAX * (VERDICT_S + STEP_S) + DOUBT_S)
        for one in play.opened[before:]:
            assert one.number in play.dropped or play.session.deadline is not None
        return len(play.opened) - before

    assert cough() > 0
    assert cough() == 0


# -- a connection that does not open


def test_another_one_is_asked_while_a_connection_does_not_open() -> None:
    play = Play()
    play.say(play.create)
    play.talk(OPEN_DOUBT_S + 0.1)
    assert play.providers == ["acme", "zeus"]
    play.accept(2)
    play.hear(final("hello", 0.0, 0.5), number=2)

    assert play.dropped == [1]
    assert play.finals() == ["hello"]
    first = play.session.report.tries[0]
    assert first.failure is not None
    assert first.failure.kind is Kind.TIMEOUT


def test_a_connection_that_opens_after_all_is_kept() -> None:
    play = Play()
    play.say(play.create)
    play.wait(OPEN_DOUBT_S + 0.1)
    play.accept(1)

    assert play.dropped == [2]
    assert play.session.report.tries[0].failure is None


def test_nobody_is_asked_twice_where_there_is_nobody_else_to_open() -> None:
    play = Play(plan=(ACME,))
    play.say(play.create)
    play.wait(2 * OPEN_DOUBT_S)

    assert play.providers == ["acme"]


def test_retries_end_although_hedges_take_the_place_of_what_fails() -> None:
    play = Play(connection={"retries": 1}, hedges=HedgeBudget(1.0, 10.0))
    play.say(play.create)
    while play.ended is None and play.now < 200.0:
        play.speak(1.0)

    assert play.ended is not None
    assert len(play.opened) == 2 * (1 + HEDGES_MAX)
    assert play.types()[-1] == "error"


def test_a_session_in_which_everybody_is_silent_at_the_end_is_closed_in_time() -> None:
    play = Play(traits=Capabilities(replay_rate=1.25), hedges=HedgeBudget(1.0, 10.0)).started()
    play.talk(14.0)
    play.say({"type": "session.close"})
    closed_at = play.now
    while play.ended is None:
        for one in play.opened:
            if one.number not in play.dropped:
                play.accept(one.number)
        play.wait(0.25)

    assert play.now - closed_at <= CLOSING_SILENT_S + 0.25
    assert play.types()[-1] == "session.closed"
